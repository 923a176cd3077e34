"""What `prismhub predict --boxes` answers: what those in given boxes do, moment by moment or along their tracks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_encoder.array_videos import ArrayVideo
from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from prismhub.answers import Predicted, sorted_answers
from prismhub.features import clip_source
from prismhub.progress import Show
from prismhub.saved import adapter_encoder, recorded_spec
from prismhub.settings import PredictSettings

if TYPE_CHECKING:
    from adapters.boxes import BoxScores
    from adapters.card import AdapterInfo
    from adapters.predictions import Prediction
    from core_encoder.features.failures import Failure
    from tasks.readers.boxes import BoxSample


def predict_boxes(
    settings: PredictSettings, videos: Sequence[Clip] | Sequence[ArrayVideo], info: AdapterInfo, show: Show
) -> Predicted:
    """An answer for every video that has boxes, all of its moments in one; those that cannot be read are failures.

    Raises:
        InputError: no boxes, boxes that are none or at times without a frame, or options that mean nothing here.
    """
    from tasks.readers.box_rows import LabelMap
    from tasks.readers.boxes import Moments, box_samples, read_box_rows

    if settings.boxes is None:
        raise InputError("this adapter says what those in given boxes do: give the boxes with --boxes FILE")
    for name in ("window", "step", "vtt"):
        if getattr(settings, name) is not None:
            raise InputError(f"{name} means nothing with boxes: --every chooses the moments")
    context_s = settings.context or info.training.get("context_s", Moments.context_s)
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
    return _answer(asked, settings, info, show)


def _answer(samples: Sequence[BoxSample], settings: PredictSettings, info: AdapterInfo, show: Show) -> Predicted:
    from adapters.predicting import predict_clips
    from adapters.predictions import Truth
    from adapters.registry import load_adapter
    from core_encoder.features.failures import Failure

    spec = recorded_spec(info, settings.saved, show)
    adapter = load_adapter(settings.saved.adapter)
    source = clip_source(adapter_encoder(adapter, settings.saved, spec), spec, settings.reading)
    truths = [
        Truth(one.clip.path, None, {"boxes": one.asked, "time_s": one.time_s, "picture": one.picture})
        for one in samples
    ]
    by_video: dict[str, list[Prediction]] = {}
    failures: dict[str, Failure] = {}
    with show.bar("predicting") as bar:
        size = settings.reading.clips_per_batch
        answers = predict_clips(adapter, [sample.clip for sample in samples], truths, source, size)
        for done, (sample, answer) in enumerate(zip(samples, answers, strict=True), start=1):
            path = sample.clip.path
            if isinstance(answer, Failure):
                failures.setdefault(path, Failure.of(Clip(path), answer.reason))
            else:
                by_video.setdefault(path, []).append(answer)
            bar.update(done, len(samples))
    merged = [adapter.merge(several, [None] * len(several)) for several in by_video.values()]
    return sorted_answers([*merged, *failures.values()])


def box_text(settings: PredictSettings, info: AdapterInfo, answers: Sequence[Any]) -> str:
    """The answers as another program reads them, in the format that was asked for."""
    if settings.format == "segments":
        return "\n".join(segment_rows(answers))
    label_ids = info.training.get("label_ids") or range(1, len(info.label_names) + 1)
    return "\n".join(ava_rows(answers, label_ids, settings.time_offset or 0.0))


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
