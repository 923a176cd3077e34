"""`prismhub predict`: what a saved adapter says of new videos, of long ones window by window."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_encoder.array_videos import ArrayVideo
from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.files.storage import write_text
from prismhub.answers import Predicted, gather_answers, sorted_answers
from prismhub.clips import find_inputs, sample_names
from prismhub.features import clip_source, feature_source
from prismhub.progress import SILENT, Show
from prismhub.saved import adapter_encoder, recorded_spec
from prismhub.settings import PredictSettings

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from adapters.predictions import Prediction, Truth
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
    if info.targets.kind == "boxes":
        from prismhub.box_answers import predict_boxes

        return predict_boxes(settings, videos, info, show)
    for name in ("boxes", "context", "every", "time_offset", "format"):
        if getattr(settings, name) is not None:
            raise InputError(f"{name} means nothing for an adapter that answers with {info.targets.kind}")
    spec = recorded_spec(info, settings.saved, show)
    lengths: Mapping[str, float] = info.training.get("clip_s") or {}
    asked = any(given is not None for given in (settings.window, settings.step, settings.vtt))
    window_s = lengths.get("median", _WINDOW_S) if settings.window is None else settings.window
    windows = ClipPlan.windows(spec.plan.num_frames, window_s, settings.step)
    if settings.vtt is not None and settings.vtt.exists() and not settings.vtt.is_dir():
        raise InputError(f"{settings.vtt}: is a file; --vtt wants a folder")
    if asked and isinstance(videos[0], ArrayVideo):
        raise InputError("window, step and vtt count seconds, which an array does not know; give the video as a file")

    from adapters.predicting import predict_clips
    from adapters.predictions import Truth
    from core_encoder.clip_bounds import describe_overruns

    adapter = load_adapter(settings.saved.adapter)
    encoder = adapter_encoder(adapter, settings.saved, spec)
    reading = settings.reading
    size = reading.clips_per_batch
    truths = [Truth(name) for name in sample_names(videos)]
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
    if settings.vtt is not None:
        _write_vtt(settings.vtt, [found[clip] for clip in clips])
    return sorted_answers(found[clip] for clip in clips)


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
    with show.bar("predicting") as bar:
        answers = predict_clips(adapter, list(known), list(known.values()), source, size)
        for done, (clip, answer) in enumerate(zip(known, answers, strict=True), start=1):
            found[clip] = answer
            bar.update(done, len(known))
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


def _write_vtt(folder: Path, answers: Sequence[Any]) -> None:
    """One file a video, called like it; of two videos of one name the second has a number."""
    from adapters.windows import Windows

    taken: dict[str, int] = {}
    for answer in answers:
        if isinstance(answer, Windows):
            stem = Path(answer.sample_id).stem
            taken[stem] = taken.get(stem, 0) + 1
            name = stem if taken[stem] == 1 else f"{stem}-{taken[stem]}"
            write_text(folder / f"{name}.vtt", answer.webvtt())
