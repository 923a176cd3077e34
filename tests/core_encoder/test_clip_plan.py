"""Sampling is pure arithmetic: held against its own definition on hand-made and on random timelines."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_encoder.clip_plan import Clip, ClipPlan, VideoFacts, View
from core_encoder.errors import InputError, UnreadableVideo

WHOLE = Clip("a.mp4")


def indices(plan: ClipPlan, facts: VideoFacts, clip: Clip = WHOLE) -> list[tuple[int, ...]]:
    return [view.frame_indices for view in plan.views_of(facts, clip)]


@st.composite
def plans(draw: st.DrawFn) -> ClipPlan:
    num_frames = draw(st.integers(1, 20))
    sampling = draw(st.sampled_from(["uniform", "fps", "stride", "dense"]))
    given: dict[str, Any] = {"num_frames": num_frames, "sampling": sampling}
    if sampling != "uniform":
        by_fps = sampling == "fps" or (sampling == "dense" and draw(st.booleans()))
        given |= {"fps": draw(st.floats(0.3, 70))} if by_fps else {"stride": draw(st.integers(1, 9))}
    if sampling == "dense":
        given["window_stride"] = draw(st.integers(max(1, num_frames // 4), num_frames))
    else:
        given["views"] = draw(st.integers(1, 5))
    return ClipPlan(**given)


@st.composite
def timelines(draw: st.DrawFn) -> VideoFacts:
    """Constant and variable rates, from a single frame to a few hundred."""
    num_frames = draw(st.integers(1, 200))
    if draw(st.booleans()):
        return VideoFacts.constant_rate(num_frames, draw(st.floats(1, 120)))
    gaps = draw(st.lists(st.floats(0.005, 2), min_size=num_frames, max_size=num_frames))
    times = np.concatenate([[0.0], np.cumsum(gaps)])
    return VideoFacts(num_frames, num_frames / times[-1], float(times[-1]), 96, 64, times[:-1])


@st.composite
def clips_of(draw: st.DrawFn, facts: VideoFacts) -> Clip:
    start_s = draw(st.floats(0, 0.9)) * facts.duration_s
    length_s = draw(st.one_of(st.none(), st.floats(0.01, 1.5)))
    return Clip("a.mp4", start_s, None if length_s is None else start_s + length_s * facts.duration_s + 1e-3)


@settings(deadline=None, max_examples=300)
@given(data=st.data(), plan=plans(), facts=timelines())
def test_every_plan_gives_whole_sorted_views_inside_the_clip(
    data: st.DataObject, plan: ClipPlan, facts: VideoFacts
) -> None:
    clip = data.draw(clips_of(facts))
    views = plan.views_of(facts, clip)
    assert views == plan.views_of(facts, clip), "the same arguments must give the same frames"
    assert [view.index for view in views] == list(range(len(views)))
    end_s = min(clip.end_s or facts.duration_s, facts.duration_s)
    tolerance = facts.tolerance_s
    for view in views:
        assert len(view.frame_indices) == plan.num_frames
        assert 1 <= view.num_real <= plan.num_frames
        assert list(view.frame_indices) == sorted(view.frame_indices)
        assert set(view.frame_indices[view.num_real :]) <= {view.frame_indices[view.num_real - 1]}
        first, last = view.frame_indices[0], view.frame_indices[-1]
        gone = facts.timestamps[first + 1] if first + 1 < facts.num_frames else facts.duration_s
        assert gone >= clip.start_s - tolerance, "the first frame is no longer on screen when the clip starts"
        assert last == first or facts.timestamps[last] < end_s + tolerance
        assert clip.start_s - 1e-9 <= view.start_s < view.end_s <= end_s + 1e-9
    if plan.sampling != "dense":
        assert len(views) == plan.views


@settings(deadline=None, max_examples=200)
@given(
    num_frames=st.integers(1, 16),
    extra=st.integers(0, 200),
    fps=st.sampled_from([10.0, 23.976, 25.0, 29.97, 30.0, 60.0]),
)
def test_uniform_on_a_constant_rate_takes_the_centres_of_the_segments(num_frames: int, extra: int, fps: float) -> None:
    total = num_frames + extra
    [taken] = indices(ClipPlan(num_frames), VideoFacts.constant_rate(total, fps))
    centres = [int((i + Fraction(1, 2)) * total / num_frames) for i in range(num_frames)]  # exact, in whole frames
    assert list(taken) == centres


@settings(deadline=None, max_examples=100)
@given(facts=timelines(), num_frames=st.integers(1, 16))
def test_uniform_shows_what_is_on_screen_at_each_centre(facts: VideoFacts, num_frames: int) -> None:
    if facts.num_frames < num_frames:
        return
    [taken] = indices(ClipPlan(num_frames), facts)
    for i, index in enumerate(taken):
        centre_s = (i + 0.5) * facts.duration_s / num_frames
        assert facts.timestamps[index] <= centre_s + facts.tolerance_s
        assert index + 1 == facts.num_frames or facts.timestamps[index + 1] > centre_s + facts.tolerance_s * 0.99


def test_presentation_times_decide_on_a_variable_rate() -> None:
    times = np.array([0.0, 0.1, 0.2, 0.3, 4.0, 9.0])  # frame 3 stays on screen for 3.7 s, frame 4 for 5
    facts = VideoFacts(6, 0.6, 10.0, 96, 64, times)
    assert indices(ClipPlan(5), facts) == [(3, 3, 4, 4, 5)]  # at 1, 3, 5, 7, 9 s
    assert indices(ClipPlan(3, "fps", fps=1), facts, Clip("a", 3.0, 6.0)) == [(3, 4, 4)]  # at 3.5, 4.5, 5.5 s


def test_milliseconds_of_matroska_do_not_shift_frames() -> None:
    exact = VideoFacts.constant_rate(90, 30)
    rounded = VideoFacts(90, 30.0, 3.0, 96, 64, np.round(exact.timestamps, 3))
    for plan in (ClipPlan(9), ClipPlan(45), ClipPlan(16, "fps", fps=15), ClipPlan(8, "dense", fps=10)):
        assert indices(plan, rounded) == indices(plan, exact)


def test_uniform_views_interleave_to_one_finer_sampling() -> None:
    facts = VideoFacts.constant_rate(96, 24)
    views = indices(ClipPlan(8, views=3), facts)
    assert sorted(i for view in views for i in view) == list(*indices(ClipPlan(24), facts))


@pytest.mark.parametrize("views", [1, 2, 3, 5])
def test_stride_takes_every_sth_source_frame(views: int) -> None:
    facts = VideoFacts.constant_rate(100, 25)
    taken = indices(ClipPlan(8, "stride", stride=4, views=views), facts)
    assert all(np.diff(view).tolist() == [4] * 7 for view in taken)
    if views == 1:
        left, right = taken[0][0], 99 - taken[0][-1]
        assert abs(left - right) <= 1, "one view is centred"
    else:
        assert (taken[0][0], taken[-1][-1]) == (0, 99), "views reach both ends"
        assert np.ptp(np.diff([view[0] for view in taken])) <= 1, "views are evenly spread"


def test_fps_takes_frames_a_fixed_time_apart() -> None:
    facts = VideoFacts.constant_rate(100, 25)
    [view] = ClipPlan(8, "fps", fps=5).views_of(facts, WHOLE)
    assert view == View(0, (32, 37, 42, 47, 52, 57, 62, 67), 8, pytest.approx(1.2), pytest.approx(2.8))
    first, last = ClipPlan(8, "fps", fps=25, views=2).views_of(facts, WHOLE)
    assert first.frame_indices == tuple(range(8)) and last.frame_indices == tuple(range(92, 100))


@pytest.mark.parametrize(
    ("plan", "expected", "real"),
    [
        (ClipPlan(8), (0, 1, 2, 3, 4, 4, 4, 4), 5),
        (ClipPlan(8, "fps", fps=5), (1, 3, 4, 4, 4, 4, 4, 4), 2),  # 0.5 s hold slots at 0.1, 0.3, and half of 0.5
        (ClipPlan(8, "stride", stride=2), (0, 2, 4, 4, 4, 4, 4, 4), 3),
        (ClipPlan(8, "dense", stride=1), (0, 1, 2, 3, 4, 4, 4, 4), 5),
    ],
)
def test_short_clips_repeat_their_last_frame(plan: ClipPlan, expected: tuple[int, ...], real: int) -> None:
    [view] = plan.views_of(VideoFacts.constant_rate(5, 10), WHOLE)
    assert view.num_real == real
    assert view.frame_indices[:real] == expected[:real]
    assert set(view.frame_indices[real:]) == {expected[real - 1]}


@settings(deadline=None, max_examples=100)
@given(plan=plans())
def test_a_single_frame_is_enough(plan: ClipPlan) -> None:
    views = plan.views_of(VideoFacts.constant_rate(1, 25), WHOLE)
    assert {view.frame_indices for view in views} == {(0,) * plan.num_frames}
    if plan.fps is None or plan.fps <= 25:  # above, several slots show the one frame
        assert {view.num_real for view in views} == {1}


@settings(deadline=None, max_examples=200)
@given(plan=plans().filter(lambda plan: plan.sampling == "dense"), facts=timelines())
def test_dense_windows_hop_evenly_and_reach_the_end(plan: ClipPlan, facts: VideoFacts) -> None:
    views = plan.views_of(facts, WHOLE)
    hop = plan.window_stride
    assert hop is not None
    for one, two in pairwise(views):
        assert one.num_real == plan.num_frames, "only the last window may be padded"
        shared = min(plan.num_frames - hop, two.num_real)
        assert one.frame_indices[hop : hop + shared] == two.frame_indices[:shared], "windows share frames exactly"
        assert one.frame_indices[0] <= two.frame_indices[0]
    if plan.stride is not None:
        seen = {i for view in views for i in view.frame_indices}
        assert seen == set(range(0, facts.num_frames, plan.stride))
    else:
        assert plan.fps is not None
        assert views[-1].end_s >= facts.duration_s - 0.5 / plan.fps - 1e-6, "less than half a slot may be left over"


def test_dense_rows_tell_their_time() -> None:
    views = ClipPlan(4, "dense", fps=8, window_stride=2).views_of(VideoFacts.constant_rate(48, 24), WHOLE)
    assert [(view.start_s, view.end_s) for view in views] == [(k / 4, k / 4 + 0.5) for k in range(7)]
    assert ClipPlan(4, "dense", fps=8).window_stride == 4, "windows side by side unless asked otherwise"


def test_clips_are_cut_at_the_end_of_the_video() -> None:
    facts = VideoFacts.constant_rate(50, 25)
    [view] = ClipPlan(4).views_of(facts, Clip("a.mp4", 1.0, 99.0))
    assert view.frame_indices == (28, 34, 40, 46)
    assert (view.start_s, view.end_s) == (1.0, 2.0)
    for start_s in (2.0, 7.0):
        with pytest.raises(UnreadableVideo, match=r"my clip\.mp4: the clip starts at . s but the video lasts 2 s"):
            ClipPlan(4).views_of(facts, Clip("my clip.mp4", start_s))


@settings(deadline=None, max_examples=100)
@given(plan=plans())
def test_a_plan_survives_json(plan: ClipPlan) -> None:
    again = ClipPlan.from_dict(json.loads(json.dumps(plan.describe())))
    assert again == plan and hash(again) == hash(plan)


def test_equal_plans_are_equal_however_written() -> None:
    assert ClipPlan(np.int64(16), "fps", fps=8) == ClipPlan(16, "fps", fps=8.0)
    assert json.dumps(ClipPlan(16, "fps", fps=8).describe()) == json.dumps(ClipPlan(16, "fps", fps=8.0).describe())
    assert len({ClipPlan(), ClipPlan(16), ClipPlan(8)}) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_frames": 0}, "num_frames must be a whole number of at least 1, not 0"),
        ({"num_frames": 4.5}, "num_frames must be"),
        ({"num_frames": True}, "num_frames must be"),
        ({"views": -1}, "views must be"),
        ({"sampling": "unifrom"}, "did you mean 'uniform'"),
        ({"sampling": "fps"}, "sampling 'fps' needs fps"),
        ({"sampling": "stride"}, "needs stride"),
        ({"sampling": "dense"}, "needs either fps or stride"),
        ({"sampling": "dense", "fps": 4, "stride": 2}, "needs either fps or stride"),
        ({"num_frames": 10**15}, "num_frames must be at most 65536"),
        ({"views": 10**15}, "views must be at most 65536"),
        ({"sampling": "fps", "fps": 0}, "fps must be a finite number above 0"),
        ({"sampling": "fps", "fps": float("nan")}, "fps must be"),
        ({"sampling": "fps", "fps": "8"}, "fps must be"),
        ({"sampling": "stride", "stride": 0}, "stride must be"),
        ({"fps": 8}, "fps means nothing with sampling 'uniform'"),
        ({"sampling": "fps", "fps": 8, "window_stride": 2}, "window_stride means nothing"),
        ({"sampling": "dense", "stride": 1, "views": 2}, "views must be 1"),
        ({"sampling": "dense", "stride": 1, "window_stride": 17}, "window_stride=17 is greater than num_frames=16"),
        ({"window_strid": 4}, "did you mean 'window_stride'"),
    ],
)
def test_a_plan_is_checked_at_birth(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        ClipPlan.from_dict(fields)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ((-1.0, None), "start_s"),
        ((0.0, float("inf")), "end_s"),
        ((2.0, 2.0), "above"),
        ((float("nan"), 1.0), "start_s"),
    ],
)
def test_a_clip_is_checked_at_birth(bounds: tuple[float, float | None], message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        Clip("folder/a.mp4", *bounds)
    assert str(raised.value).startswith("folder/a.mp4: ")


@pytest.mark.parametrize("times", [[0.0, 0.2, 0.1], [0.1, 0.2, 0.3], [0.0, 0.1], [0.0, 0.1, 9.0]])
def test_facts_are_checked_at_birth(times: list[float]) -> None:
    with pytest.raises(ValueError, match="timestamps"):
        VideoFacts(3, 10.0, 0.3, 96, 64, np.array(times))


def test_planning_needs_neither_torch_nor_a_decoder() -> None:
    code = "import sys, core_encoder.clip_plan as v; v.ClipPlan(); print({'torch', 'av', 'decord'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_windows_of_seconds_are_dense_windows_of_whole_frames() -> None:
    plan = ClipPlan.windows(8, 2.0, 0.5)
    assert plan == ClipPlan(8, "dense", fps=4, window_stride=2)
    views = plan.views_of(VideoFacts.constant_rate(100, 25.0), WHOLE)
    assert [(view.start_s, view.end_s) for view in views] == [(0.5 * i, 0.5 * i + 2) for i in range(5)]
    assert ClipPlan.windows(8) == ClipPlan.windows(8, 2.0, 1.0)
    assert ClipPlan.windows(8, 2.0, 2.0).window_stride == 8


@pytest.mark.parametrize(
    ("window_s", "step_s", "line"),
    [
        (0.0, None, "window"),
        (2.0, 0.0, "step"),
        (2.0, 2.5, "step=2.5 is above window=2"),
        (2.0, 0.3, r"step=0.3 is no whole number of frames.*one every 0.25 s; take 0.25 or 0.5$"),
        (2.0, 0.1, "take 0.25$"),
    ],
)
def test_windows_refuse_what_no_frames_can_show(window_s: float, step_s: float | None, line: str) -> None:
    with pytest.raises(InputError, match=line):
        ClipPlan.windows(8, window_s, step_s)
