"""What `prismhub predict --boxes` answers: what those in given boxes do, moment by moment or along their tracks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_encoder.array_videos import ArrayVideo
from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from prismhub.progress import Show
from prismhub.questions import Question
from prismhub.settings import PredictSettings

if TYPE_CHECKING:
    from adapters.boxes import BoxScores
    from adapters.card import AdapterInfo
    from adapters.hub import Answers, Hub
    from adapters.predictions import Prediction
    from core_encoder.features.failures import Failure
    from tasks.readers.boxes import BoxSample


def asked_moments(question: Question, videos: Sequence[Clip] | Sequence[ArrayVideo], show: Show) -> list[BoxSample]:
    """The moments at which there are boxes in the videos, each with those that an adapter is asked about. No torch.

    Raises:
        InputError: no boxes, boxes that are none or at times without a frame, or videos that know no seconds.
    """
    from tasks.readers.box_rows import LabelMap
    from tasks.readers.boxes import Moments, box_samples, read_box_rows

    settings = question.settings
    if settings.boxes is None:
        raise InputError(
            f"adapter {question.ref!r} says what those in given boxes do: give the boxes with --boxes FILE"
        )
    context_s = settings.context or question.info.training.get("context_s", Moments.context_s)
    moments = Moments(context_s, settings.every, settings.time_offset or 0.0)
    given = [clip.path for clip in videos if isinstance(clip, Clip) and not clip.start_s and clip.end_s is None]
    if len(given) < len(videos):
        raise InputError("boxes have times of whole videos: give files or folders, not arrays or clips")
    rows = [replace(row, label=None) for row in read_box_rows(settings.boxes)]  # labels that it may have are not asked
    samples = box_samples(rows, [Path(path) for path in given], LabelMap((), ()), moments)
    asked = [sample for sample in samples if sample.clip.path in given]
    if len(asked) < len(samples):
        others = len({sample.video for sample in samples} - {sample.video for sample in asked})
        show.note(f"note: {settings.boxes} has boxes of {others} videos that were not given; they are left out")
    if without := sorted(set(given) - {sample.clip.path for sample in asked}):
        show.note(f"note: {len(without)} of {len(given)} videos have no boxes, e.g. {without[0]}")
    return asked


def answer_boxes(
    hub: Hub, moments: Mapping[str, Sequence[BoxSample]], show: Show
) -> dict[str, list[Prediction | Failure]]:
    """What each adapter says of its moments, all of a video in one, and which videos could not be read.

    Moments that several are asked about are encoded once.
    """
    from core_encoder.features.failures import Failure

    alike: dict[tuple[Clip, ...], list[str]] = defaultdict(list)
    for name, samples in moments.items():
        alike[tuple(sample.clip for sample in samples)].append(name)
    found: dict[str, list[Prediction | Failure]] = {}
    for clips, names in alike.items():
        given = [{"boxes": one.asked, "time_s": one.time_s, "picture": one.picture} for one in moments[names[0]]]
        said: dict[str, list[Answers]] = {}
        failures: dict[str, Failure] = {}
        with show.bar("predicting") as bar:
            asked = hub.answers(clips, names=names, given=given)
            for done, (clip, one) in enumerate(zip(clips, asked, strict=True), start=1):
                if isinstance(one, Failure):
                    failures.setdefault(clip.path, Failure.of(Clip(clip.path), one.reason))
                else:
                    said.setdefault(clip.path, []).append(one)
                bar.update(done, len(clips))
        for name in names:
            merge = hub.adapters[name].merge
            merged = [merge([one[name] for one in several], [None] * len(several)) for several in said.values()]
            found[name] = [*merged, *failures.values()]
    return found


def box_text(settings: PredictSettings, info: AdapterInfo, answers: Sequence[BoxScores]) -> str:
    """The answers as another program reads them, in the format that was asked for."""
    if settings.format == "segments":
        return "".join(f"{row}\n" for row in segment_rows(answers))
    label_ids = info.training.get("label_ids") or range(1, len(info.label_names) + 1)
    return "".join(f"{row}\n" for row in ava_rows(answers, label_ids, settings.time_offset or 0.0))


def ava_rows(answers: Sequence[BoxScores], label_ids: Sequence[int], time_offset_s: float = 0.0) -> Iterator[str]:
    """Lines `video_id,timestamp,x1,y1,x2,y2,action_id,score`, one for each box and class, as AVA's evaluator reads."""
    from tasks.readers.boxes import stamp_text

    for answer in answers:
        video = Path(answer.sample_id).stem
        for row in sorted(range(len(answer.times_s)), key=lambda i: answer.times_s[i]):
            time_s = answer.times_s[row] + time_offset_s
            stamp = f"{time_s:04.0f}" if abs(time_s - round(time_s)) < 5e-4 else stamp_text(time_s)
            corners = ",".join(f"{edge:.3f}" for edge in answer.corners[row])
            for label_id, score in zip(label_ids, answer.scores[row].tolist(), strict=True):
                yield f"{video},{stamp},{corners},{label_id},{score:.6f}"


def segment_rows(answers: Sequence[BoxScores]) -> Iterator[str]:
    """Lines `video,track,start,end,label,score`: what each individual does from when to when, in seconds."""
    yield "video,track,start,end,label,score"
    for answer in answers:
        for track, segments in answer.segments.items():
            for one in segments:
                span = f"{one.start_s:.3f},{one.end_s:.3f}"
                yield f"{Path(answer.sample_id).name},{track},{span},{_quoted(one.label)},{one.score:.4f}"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"') else text
