"""`prismhub predict`: what a saved adapter says of new videos, of long ones window by window."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.prompt_templates import text_lines
from core_encoder.array_videos import ArrayVideo
from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.files.storage import write_text
from prismhub.answer_files import check_output, write_timelines
from prismhub.answers import Predicted, gather_answers, sorted_answers
from prismhub.clips import find_inputs, sample_names
from prismhub.features import clip_source, feature_source
from prismhub.progress import SILENT, Show
from prismhub.proposals import check_classifier, classify_proposals
from prismhub.saved import adapter_encoder, recorded_spec
from prismhub.settings import PredictSettings

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from adapters.predictions import Prediction, Segments, Truth
    from adapters.windows import Windows
    from core_encoder.features.failures import Failure
    from core_encoder.features.feature_source import FeatureSource

MUCH_LONGER = 4.0  # times the longest clip of the training: from there on a video is asked about window by window
_WINDOW_S = 2.0  # where an adapter does not record how long its training clips were


def predict(settings: PredictSettings, show: Show = SILENT) -> Predicted:
    """Answer for new videos; those that cannot be read are returned as failures.

    Of videos much longer than the clips of the training, and of all where `window`, `step` or `vtt` is given, the
    answer is a `Windows`.

    Raises:
        InputError: no such adapter or video, the encoder is not the one the adapter was trained on, or windows that its
            frames cannot show, or of arrays.
    """
    from adapters.registry import describe_adapter, load_adapter

    videos = find_inputs(settings.videos)
    info = describe_adapter(settings.saved.adapter)
    check_output(settings, info)
    if info.targets.kind == "boxes":
        from prismhub.box_answers import predict_boxes

        return predict_boxes(settings, videos, info, show)
    for name in ("boxes", "context", "every", "time_offset"):
        if getattr(settings, name) is not None:
            raise InputError(f"{name} means nothing for an adapter that answers with {info.targets.kind}")
    spec = recorded_spec(info, settings.saved, show)
    lengths: Mapping[str, float] = info.training.get("clip_s") or {}
    check_classifier(settings.classifier, info)
    when = info.targets.kind == "segments"  # such an answer has its own times
    asked = any(given is not None for given in (settings.window, settings.step, None if when else settings.vtt))
    window_s = lengths.get("median", _WINDOW_S) if settings.window is None else settings.window
    windows = ClipPlan.windows(spec.plan.num_frames, window_s, settings.step)
    if settings.vtt is not None and settings.vtt.exists() and not settings.vtt.is_dir():
        raise InputError(f"{settings.vtt}: is a file; --vtt wants a folder")
    given = _question(settings.question, info.targets.kind) | _candidates(settings.candidates, info.targets.kind)
    if asked and isinstance(videos[0], ArrayVideo):
        raise InputError("window, step and vtt count seconds, which an array does not know; give the video as a file")

    from adapters.predicting import predict_clips
    from adapters.predictions import Segments, Truth
    from core_encoder.clip_bounds import describe_overruns

    adapter = load_adapter(settings.saved.adapter)
    encoder = adapter_encoder(adapter, settings.saved, spec)
    reading = settings.reading
    size = reading.clips_per_batch
    truths = [Truth(name, None, given) for name in sample_names(videos)]
    if isinstance(videos[0], ArrayVideo):
        in_memory = feature_source(encoder, spec, reading, videos)
        return gather_answers(predict_clips(adapter, videos, truths, in_memory, size), len(videos), show)
    clips, known = videos, dict(zip(videos, truths, strict=True))
    source = clip_source(encoder, spec, reading)
    if asked:
        long = clips
    else:
        long = _much_longer(source, clips, lengths.get("longest"))
        if long:
            show.note(
                f"note: {len(long)} of {len(clips)} videos are much longer than the clips of the training "
                f"(up to {lengths['longest']:g} s): answering for every {window_s:g} s; --window and --step choose"
            )
    found: dict[Clip, Prediction | Failure] = {}
    short = [clip for clip in clips if clip not in set(long)]
    found |= _answer_whole(adapter, source, {clip: known[clip] for clip in short}, size, show)
    by_window = clip_source(encoder, replace(spec, plan=windows), reading)
    found |= _answer_long(adapter, by_window, {clip: known[clip] for clip in long}, size, show)
    if overruns := source.overruns | by_window.overruns:
        show.note(f"note: {describe_overruns(list(overruns.values()), len(clips))}")
    if when:
        by_id = {truth.id: clip for clip, truth in known.items()}
        found |= _finished(
            settings, {clip: one for clip, one in found.items() if isinstance(one, Segments)}, by_id, show
        )
    if settings.vtt is not None:
        _write_vtt(settings.vtt, [found[clip] for clip in clips])
    return sorted_answers(found[clip] for clip in clips)


def _question(question: str | None, target_kind: str) -> dict[str, Any]:
    """The question beside every video, where there is one.

    Raises:
        InputError: the adapter does not answer with texts, or it is empty.
    """
    if question is None:
        return {}
    if target_kind != "text":
        raise InputError(f"question is for adapters that answer with texts; this one learned {target_kind}")
    if not question.strip():
        raise InputError("question is empty: ask something, or leave it out for a caption")
    return {"question": question}


def _candidates(file: Path | None, target_kind: str) -> dict[str, Any]:
    """What is given beside every video: the texts to choose from, where there are any.

    Raises:
        InputError: the adapter does not choose among texts, or the file holds fewer than two different ones.
    """
    if file is None:
        return {}
    if target_kind not in ("pairs", "text"):
        raise InputError(f"candidates are for adapters of texts; this one learned {target_kind}")
    texts = tuple(text_lines(file))
    if len(texts) < 2 or len(set(texts)) < len(texts):
        raise InputError(f"{file}: candidates must be at least two different texts, one a line")
    return {"candidates": texts}


def _much_longer(source: FeatureSource, clips: Sequence[Clip], longest_s: float | None) -> list[Clip]:
    """The clips that last many times as long as any of the training; of cached ones the store knows how long."""
    from core_encoder.video.decoders import read_facts

    if longest_s is None or source.spec.plan.sampling == "dense":
        return []
    long = []
    for clip in clips:
        try:
            keys = source.cached_keys(clip)
            if keys and source.spec.plan.sampling == "uniform":
                known = source.store.info(keys[0])
                seconds = known.end_s - known.start_s
            else:
                duration_s = read_facts(clip.path, source.spec.decoder.partition("-")[0]).duration_s
                seconds = min(clip.end_s or duration_s, duration_s) - clip.start_s
        except UnreadableVideo:
            continue  # it will be said where it is encoded
        if seconds > MUCH_LONGER * longest_s:
            long.append(clip)
    return long


def _answer_whole(
    adapter: Adapter, source: FeatureSource, known: Mapping[Clip, Truth], size: int, show: Show
) -> dict[Clip, Prediction | Failure]:
    from adapters.predicting import predict_clips

    found: dict[Clip, Prediction | Failure] = {}
    if not known:
        return found
    if adapter.reads_whole_clips:
        return _answer_streamed(adapter, source, known, show)
    with show.bar("predicting") as bar:
        answers = predict_clips(adapter, list(known), list(known.values()), source, size)
        for done, (clip, answer) in enumerate(zip(known, answers, strict=True), start=1):
            found[clip] = answer
            bar.update(done, len(known))
    return found


def _answer_streamed(
    adapter: Adapter, source: FeatureSource, known: Mapping[Clip, Truth], show: Show
) -> dict[Clip, Prediction | Failure]:
    """The answers of an adapter that looks at whole videos, with a bar that counts the seconds of each."""
    from adapters.predicting import answer_records
    from core_encoder.features.failures import Failure
    from core_encoder.video.decoders import read_facts

    found: dict[Clip, Prediction | Failure] = {}
    for clip, truth in known.items():
        try:
            duration_s = read_facts(clip.path, source.spec.decoder.partition("-")[0]).duration_s
            end_s = duration_s if clip.end_s is None else min(clip.end_s, duration_s)
            records = []
            with show.bar("predicting", in_seconds=True) as bar:
                for record in source.stream(clip):
                    records.append(record)
                    bar.update(record.end_s - clip.start_s, end_s - clip.start_s)
            found[clip] = answer_records(adapter, records, truth)
        except UnreadableVideo as error:
            found[clip] = Failure.of(clip, str(error))
    return found


def _answer_long(
    adapter: Adapter, source: FeatureSource, known: Mapping[Clip, Truth], size: int, show: Show
) -> dict[Clip, Windows | Failure]:
    from adapters.windows import Window, Windows, answer_windows
    from benchmarks.encoding import pace_text
    from core_encoder.features.failures import Failure
    from core_encoder.video.decoders import read_facts

    found: dict[Clip, Windows | Failure] = {}
    for clip, truth in known.items():
        windows: list[Window] = []
        try:
            duration_s = read_facts(clip.path, source.spec.decoder.partition("-")[0]).duration_s
            end_s = duration_s if clip.end_s is None else min(clip.end_s, duration_s)
            started = time.monotonic()
            with show.bar("predicting", in_seconds=True) as bar:
                for window in answer_windows(adapter, source, clip, truth, size):
                    windows.append(window)
                    done_s = window.end_s - clip.start_s
                    rate = done_s / max(time.monotonic() - started, 1e-9)
                    bar.update(done_s, end_s - clip.start_s, pace_text(rate, (end_s - window.end_s) / rate))
            found[clip] = Windows(truth.id, tuple(windows))
        except UnreadableVideo as error:
            found[clip] = Failure.of(clip, str(error))
    return found


def _finished(
    settings: PredictSettings, found: Mapping[Clip, Segments], by_id: Mapping[str, Clip], show: Show
) -> dict[Clip, Segments]:
    """Segments with the threshold and the classes that were asked for, and their pictures written."""
    answers = list(found.values())
    if settings.threshold is not None:
        answers = [replace(one, threshold=settings.threshold) for one in answers]
    if settings.classifier is not None:
        asked = settings.saved, settings.reading, show
        answers = classify_proposals(answers, by_id, settings.classifier, *asked, all_scores=settings.all_scores)
    if settings.timeline is not None:
        write_timelines(settings.timeline, answers, settings)
    return dict(zip(found, answers, strict=True))


def _write_vtt(folder: Path, answers: Sequence[Any]) -> None:
    """One file a video, called like it; of two videos of one name the second has a number."""
    from adapters.predictions import Segments
    from adapters.windows import Windows
    from tasks.writers.segments import vtt_text

    taken: dict[str, int] = {}
    for answer in answers:
        if isinstance(answer, Windows | Segments):
            stem = Path(answer.sample_id).stem
            taken[stem] = taken.get(stem, 0) + 1
            name = stem if taken[stem] == 1 else f"{stem}-{taken[stem]}"
            text = answer.webvtt() if isinstance(answer, Windows) else vtt_text(answer)
            write_text(folder / f"{name}.vtt", text)
