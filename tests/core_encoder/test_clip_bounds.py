"""Times that are no seconds: told, with the likely unit, and never cut in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_encoder.clip_bounds import Overrun, describe_overruns, likely_unit
from core_encoder.clip_plan import Clip, ClipPlan, VideoFacts
from core_encoder.encoder import Encoder
from core_encoder.errors import UnreadableVideo
from core_encoder.extraction import extract, spec_for
from core_encoder.features.feature_source import FeatureSource

TEN_S = VideoFacts.constant_rate(250, 25)


def overruns(spans: list[tuple[float, float | None]], facts: VideoFacts = TEN_S) -> list[Overrun]:
    found = [Overrun.of(Clip("a.mp4", start, end), facts) for start, end in spans]
    return [one for one in found if one is not None]


def test_rounding_is_no_overrun() -> None:
    assert overruns([(0, 10), (0, 11), (9.9, 10.5), (0, None), (9, None)]) == []
    minutes = VideoFacts.constant_rate(25 * 600, 25)
    assert overruns([(0, 629)], minutes) == [] and len(overruns([(0, 631)], minutes)) == 1
    assert len(overruns([(0, 11.1), (10, 10.5), (12, None)])) == 3, "nothing of the video is in the last two"


@pytest.mark.parametrize(
    ("spans", "unit"),
    [
        ([(0, 50), (50, 125), (100, 250)], "frames"),
        ([(0, 2000), (2000, 4500), (4000, 9000)], "milliseconds"),
        ([(500.5, 4000.25)], "milliseconds"),
        ([(100, None)], "frames or milliseconds"),
        ([(0, 100000), (5, 99999)], None),
        ([(0, 40.5)], None),
        ([(0, 60), (30, 120), (5, 10**6)], "frames"),
    ],
)
def test_the_unit_is_what_most_clips_fit_in(spans: list[tuple[float, float | None]], unit: str | None) -> None:
    assert likely_unit(overruns(spans)) == unit


@given(st.data())
def test_frames_and_milliseconds_are_recognized(data: st.DataObject) -> None:
    facts = VideoFacts.constant_rate(data.draw(st.integers(250, 1000)), data.draw(st.sampled_from([24.0, 25.0, 30.0])))
    whole = data.draw(st.lists(st.integers(1, facts.num_frames - 50), min_size=1, max_size=9))
    as_frames = overruns([(first, first + 50) for first in whole], facts)
    assert likely_unit(as_frames) == "frames" or not as_frames
    as_ms = overruns([(1000 * first / facts.fps, 1000 * (first + 50) / facts.fps) for first in whole], facts)
    assert "milliseconds" in (likely_unit(as_ms) or "")


def test_one_line_tells_how_many_by_how_much_and_why() -> None:
    cut = overruns([(0, 5000), (5, 4990)])
    assert describe_overruns(cut, 40) == (
        "2 of 40 clips end after their video, by up to 4990 s (2 cut there); "
        "are the times milliseconds? They are read as seconds"
    )
    both = overruns([(0, 12.25), (75, 125)])
    assert describe_overruns(both[:1], 1).startswith("1 of 1 clips ends after its video, by up to 2.2 s (1 cut there);")
    assert "by up to 115 s (1 cut there, 1 failed, starting after it)" in describe_overruns(both, 2)
    assert describe_overruns(both[1:], 2).endswith(
        "(1 failed, starting after it); are the times frames? They are read as seconds"
    )


def test_a_run_tells_of_clips_that_are_cut_and_that_fail(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    path, spec = videos[0].path, spec_for(nano)  # 24 frames at 16 a second: 1.5 s
    clips = [Clip(path, 0, 1500), Clip(path, 500, 1500), Clip(path, 0, 1.6), Clip(path)]
    report = extract(nano, clips, spec, tmp_path)
    assert {one.clip for one in report.overruns} == set(clips[:2])
    assert (report.n_encoded, [failure.clip for failure in report.failures]) == (3, [clips[1]])
    assert report.failures[0].reason == (
        "the clip starts at 500 s but the video lasts 1.5 s; are the times milliseconds? They are read as seconds"
    )
    again = extract(nano, clips, spec, tmp_path)
    assert {one.clip for one in again.overruns} == {clips[1]}, "cut clips were told when they were encoded"
    source = FeatureSource(nano, spec, tmp_path / "none")
    source.records(clips)
    assert set(source.overruns) == set(clips[:2])
    streaming = FeatureSource(nano, spec, tmp_path / "none")
    assert len(list(streaming.stream(clips[0]))) == 1 and set(streaming.overruns) == set(clips[:1])


def test_a_clip_outside_says_the_likely_unit() -> None:
    for span, unit in (((75, 125), "frames"), ((7500, 9500), "milliseconds")):
        with pytest.raises(UnreadableVideo, match=rf"lasts 10 s; are the times {unit}\?"):
            ClipPlan(4).views_of(TEN_S, Clip("a.mp4", *span))
    with pytest.raises(UnreadableVideo, match="lasts 10 s; check the times, they are read as seconds"):
        ClipPlan(4).views_of(TEN_S, Clip("a.mp4", 10**7))
