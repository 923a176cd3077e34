"""Which videos `predict` asks about window by window, in which windows, and the bar that counts their seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.errors import UnreadableVideo
from prismhub.progress import Bar, Show
from prismhub.questions import Question

if TYPE_CHECKING:
    from adapters.card import AdapterInfo
    from adapters.hub import Hear
    from core_encoder.features.feature_source import FeatureSource
    from core_encoder.features.feature_spec import FeatureSpec

MUCH_LONGER = 4.0  # times the longest clip of the training: from there on a video is asked about window by window
_WINDOW_S = 2.0  # where an adapter does not record how long its training clips were

_SETTLED_S = 0.5  # earlier nothing is said of how fast it goes


def asks_windows(question: Question) -> bool:
    """Whether windows were asked for, of every video; segments have times of their own to write."""
    asked = question.settings
    subtitles = None if question.targets == "segments" else asked.vtt
    return any(given is not None for given in (asked.window, asked.step, subtitles))


def window_of(question: Question, spec: FeatureSpec) -> float:
    """How many seconds a window has: as asked for, or as long as the middle one of the clips of the training.

    Raises:
        InputError: windows, or steps between them, that the frames of a clip cannot show.
    """
    return window_seconds(question.info, spec, question.settings.window, question.settings.step)


def window_seconds(info: AdapterInfo, spec: FeatureSpec, window_s: float | None, step_s: float | None) -> float:
    """`window_of` for an adapter that is loaded."""
    known = info.training.get("clip_s") or {}
    window_s = known.get("median", _WINDOW_S) if window_s is None else window_s
    ClipPlan.windows(spec.plan.num_frames, window_s, step_s)
    return float(window_s)


def is_much_longer(seconds: float, spec: FeatureSpec, longest_s: float | None) -> bool:
    """Whether a clip lasts many times as long as any of the training; adapters of dense windows take any length."""
    return longest_s is not None and spec.plan.sampling != "dense" and seconds > MUCH_LONGER * longest_s


def much_longer(source: FeatureSource, clips: Sequence[Clip], longest_s: float | None) -> list[Clip]:
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
        if is_much_longer(seconds, source.spec, longest_s):
            long.append(clip)
    return long


@contextmanager
def bar_of_seconds(show: Show, what: str) -> Iterator[Hear]:
    """While the block runs, a bar for each clip that is heard of: its seconds, how fast they pass, and what is left."""
    from benchmarks.encoding import pace_text
    from core_encoder.video.decoders import read_facts

    now: Clip | None = None
    bar, end_s, first_s, began = Bar(), 0.0, 0.0, 0.0
    with ExitStack() as shown:

        def hear(clip: Clip, at_s: float) -> None:
            nonlocal now, bar, end_s, first_s, began
            if clip != now:
                shown.close()
                now, first_s, began = clip, at_s, time.monotonic()
                bar = shown.enter_context(show.bar(what, in_seconds=True))
                duration_s = read_facts(clip.path).duration_s
                end_s = duration_s if clip.end_s is None else min(clip.end_s, duration_s)
            passed_s, note = time.monotonic() - began, ""
            if at_s > first_s and passed_s > _SETTLED_S:
                rate = (at_s - first_s) / passed_s
                note = pace_text(rate, max(end_s - at_s, 0.0) / rate)
            bar.update(at_s - clip.start_s, end_s - clip.start_s, note)

        yield hear
