"""Seconds of video done, of how many: on views as the encoder gives them."""

from __future__ import annotations

import pytest

from core_encoder.clip_plan import Clip, ClipPlan, VideoFacts
from core_encoder.features.encoding import ViewEncoded
from core_encoder.features.feature_spec import ClipKey
from core_encoder.features.video_clock import VideoClock
from core_encoder.video.decoding import Source


def encoded(plan: ClipPlan, digest: str, seconds: float, start_s: float = 0.0) -> list[ViewEncoded]:
    facts = VideoFacts.constant_rate(round(seconds * 10), 10.0)
    clip = Clip(digest, start_s)
    views = plan.views_of(facts, clip)
    source = Source(clip, ClipKey.of(clip, digest), facts, len(views))
    return [ViewEncoded(source, source.key.view(view.index), (), source.info(view)) for view in views]


def test_dense_windows_move_through_a_clip() -> None:
    clock = VideoClock(dense=True)
    views = encoded(ClipPlan(4, "dense", fps=2, window_stride=2), "a", seconds=5, start_s=1)
    assert clock.total_s(clips_left=2) is None
    seen = []
    for view in views:
        clock.view(view)
        seen.append(clock.done_s)
    assert seen == [2, 3, 4]
    assert clock.total_s(clips_left=2) == 8  # another as long is guessed
    clock.close(views[0].source.key)
    assert (clock.done_s, clock.encoded_s, clock.total_s(1), clock.total_s(0)) == (4, 4, 8, 4)


def test_what_an_earlier_run_did_counts_as_done_and_not_in_the_rate() -> None:
    clock = VideoClock(dense=True)
    views = encoded(ClipPlan(4, "dense", fps=2, window_stride=2), "a", seconds=10)
    clock.view(views[5])
    assert (clock.done_s, clock.encoded_s) == (7, 2)


def test_several_views_of_a_whole_clip_share_its_seconds() -> None:
    clock = VideoClock(dense=False)
    for view in encoded(ClipPlan(4, views=4), "a", seconds=8)[:3]:
        clock.view(view)
    assert clock.done_s == pytest.approx(6)
    clock.close(ClipKey("unknown", 0, -1))
    clock.close(None)
    assert clock.done_s == pytest.approx(6)
