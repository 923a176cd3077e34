"""How much of a clip the server looks at, and how little is decoded before its batch begins."""

from __future__ import annotations

from core_encoder.clip_plan import Clip, ClipPlan, VideoFacts
from core_encoder.errors import InputError
from core_encoder.features.feature_spec import FeatureSpec

MOST_FRAMES_A_SECOND = 240  # of a clip: more shows nobody more
MOST_WINDOWS = 20_000  # of one answer, which would be megabytes long, and take minutes
_AHEAD_BYTES = 16 << 20  # of a clip whose frames are kept until a batch begins


def seconds_of(clip: Clip, facts: VideoFacts) -> float:
    """How long a clip is in a file of these facts."""
    return _end_s(clip, facts) - clip.start_s


def check_length(name: str, clip: Clip, facts: VideoFacts, limit_s: float) -> None:
    """Refuse what is too long to look at.

    Raises:
        InputError: more than `limit_s` seconds, or more frames in them than a video has.
    """
    seconds = seconds_of(clip, facts)
    if seconds > limit_s:
        raise InputError(
            f"{name}: {seconds:.1f} s are more than the {limit_s:g} s that this server looks at: give start and end"
        )
    frames = _frames(clip, facts)
    if frames > MOST_FRAMES_A_SECOND * max(seconds, 1.0):
        raise InputError(f"{name}: {frames} frames in {seconds:.1f} s are more than {MOST_FRAMES_A_SECOND} a second")


def check_windows(name: str, clip: Clip, facts: VideoFacts, plan: ClipPlan) -> None:
    """Refuse a question about more windows than an answer holds.

    Raises:
        InputError: there would be more than `MOST_WINDOWS`.
    """
    if plan.window_stride is None or plan.fps is None:
        return
    seconds, step_s = seconds_of(clip, facts), plan.window_stride / plan.fps
    if seconds > MOST_WINDOWS * step_s:
        raise InputError(
            f"{name}: a window every {step_s:.2g} s of {seconds:.1f} s are more than {MOST_WINDOWS:,} windows: "
            "give a longer step, or start and end"
        )


def is_little(clip: Clip, facts: VideoFacts, spec: FeatureSpec) -> bool:
    """Whether the frames that a spec shows of a clip may be kept.

    Raises:
        UnreadableVideo: the clip starts after the end of the video.
    """
    views = spec.plan.views_of(facts, clip)
    return sum(len(view.frame_indices) for view in views) * 3 * spec.preprocessing.image_size**2 <= _AHEAD_BYTES


def is_soon_decoded(clip: Clip, facts: VideoFacts, spec: FeatureSpec, longest_s: float) -> bool:
    """Whether a clip of at most `longest_s` seconds would not be refused, and its frames be kept."""
    seconds = seconds_of(clip, facts)
    usual = _frames(clip, facts) <= MOST_FRAMES_A_SECOND * max(seconds, 1.0)
    return usual and 0 < seconds <= longest_s and is_little(clip, facts, spec)


def _end_s(clip: Clip, facts: VideoFacts) -> float:
    return facts.duration_s if clip.end_s is None else min(clip.end_s, facts.duration_s)


def _frames(clip: Clip, facts: VideoFacts) -> int:
    return int(((facts.timestamps >= clip.start_s) & (facts.timestamps < _end_s(clip, facts))).sum())
