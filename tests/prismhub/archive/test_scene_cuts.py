"""Scenes of a video: where its shots change, in windows, or as listed; against PySceneDetect's own pipeline."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_encoder.clip_plan import Clip, VideoFacts
from core_encoder.errors import InputError
from core_encoder.video.decoders import open_video
from prismhub.archive.scene_cuts import GivenScenes, SceneCuts, Shots, read_spans, windows
from tests.videos import moving_square, write_video

HUES = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40), (40, 200, 200))


def edited(path: Path, lengths: list[int], fps: int = 10, height: int = 64, width: int = 96) -> Path:
    """A video of shots of so many frames, each in a colour of its own."""
    shots = []
    for place, length in enumerate(lengths):
        tint = np.array(HUES[place % len(HUES)]) / 255
        shots.append((moving_square(length, height, width, seed=place) * tint).astype(np.uint8))
    return write_video(path, np.concatenate(shots), fps=fps)


def cut(path: Path, cuts: SceneCuts, decoder: str = "pyav") -> list[tuple[float, float | None]]:
    with open_video(path, decoder) as video:
        cutter = cuts.cutter(str(path), video.facts)
        if cutter.clips is not None:
            return [(clip.start_s, clip.end_s) for clip in cutter.clips]
        found: list[Clip] = []
        for index in range(video.facts.num_frames):
            settled = cutter.see(index, video.decode(index))
            found += settled
            assert not settled or cutter.open_s == pytest.approx(settled[-1].end_s, abs=1e-3)
        found += cutter.end()
    return [(clip.start_s, clip.end_s) for clip in found]


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_shots_are_found(tmp_path: Path, decoder: str) -> None:
    path = edited(tmp_path / "a.mp4", [20, 15, 30, 25])
    assert cut(path, SceneCuts(), decoder) == [(0, 2), (2, 3.5), (3.5, 6.5), (6.5, 9)]


def test_short_shots_join_the_one_before(tmp_path: Path) -> None:
    """Also the first one, which has none before it, and the last."""
    path = edited(tmp_path / "a.mp4", [4, 20, 3, 20, 30, 5])
    assert cut(path, SceneCuts(min_scene_s=1.0)) == [(0, 2.4), (2.4, 4.7), (4.7, 8.2)]
    assert len(cut(path, SceneCuts(min_scene_s=0.0))) == 6


def test_long_shots_are_cut(tmp_path: Path) -> None:
    path = edited(tmp_path / "a.mp4", [105, 30, 45])
    scenes = cut(path, SceneCuts(max_scene_s=4.0))
    assert scenes == [(0, 4), (4, 8), (8, 10.5), (10.5, 13.5), (13.5, 15.75), (15.75, 18)]


@pytest.mark.parametrize("size", [(64, 96), (288, 512)], ids=["as it is", "shrunk"])
@pytest.mark.parametrize("threshold", [27.0, 12.0])
def test_cuts_are_those_of_pyscenedetect(tmp_path: Path, size: tuple[int, int], threshold: float) -> None:
    """Its own reader, its own shrinking, its own detector and filter on the same file."""
    from scenedetect import ContentDetector, SceneManager
    from scenedetect import open_video as open_with_theirs
    from scenedetect.detector import FlashFilter

    path = edited(tmp_path / "a.mp4", [20, 12, 7, 30, 5, 25, 40], height=size[0], width=size[1])
    manager = SceneManager()
    manager.add_detector(ContentDetector(threshold, min_scene_len=1.0, filter_mode=FlashFilter.Mode.SUPPRESS))
    manager.detect_scenes(open_with_theirs(str(path)))
    theirs = [round(start.seconds, 3) for start, _ in manager.get_scene_list(start_in_scene=True)]
    ours = cut(path, SceneCuts(threshold=threshold, min_scene_s=1.0, max_scene_s=100.0))
    assert [start_s for start_s, _ in ours] == theirs and len(theirs) > 4


def test_the_score_is_that_of_pyscenedetect() -> None:
    from scenedetect import ContentDetector, FrameTimecode

    from prismhub.archive.content_detector import QuickContentDetector

    rng = np.random.default_rng(0)
    ours, theirs = QuickContentDetector(), ContentDetector()
    for index in range(6):
        frame = rng.integers(0, 256, (33, 47, 3), dtype=np.uint8)
        at = FrameTimecode(index, 25.0)
        assert ours._calculate_frame_score(at, frame) == pytest.approx(theirs._calculate_frame_score(at, frame))
        assert index == 0 or theirs._calculate_frame_score(at, frame) == 0


class Told(Shots):
    """Shots whose cuts are told instead of detected."""

    def __init__(self, facts: VideoFacts, cuts: SceneCuts, frames: set[int]) -> None:
        super().__init__("a.mp4", facts, cuts)
        self._told = frames

    def _is_cut(self, index: int, frame: object) -> bool:
        return index in self._told


@given(
    num_frames=st.integers(1, 400),
    fps=st.sampled_from([5.0, 24000 / 1001, 30.0]),
    frames=st.sets(st.integers(0, 399)),
    shortest=st.sampled_from([0.0, 0.5, 1.0]),
    longest=st.sampled_from([2.0, 3.7, 10.0]),
)
def test_scenes_tile_the_video(num_frames: int, fps: float, frames: set[int], shortest: float, longest: float) -> None:
    """No gap and no overlap, none too long, none too short, and all that is settled stays behind the open second."""
    facts = VideoFacts.constant_rate(num_frames, fps)
    shots = Told(facts, SceneCuts(min_scene_s=shortest, max_scene_s=longest), frames)
    found: list[Clip] = []
    frame: object = object()
    for index in range(num_frames):
        found += shots.see(index, frame)  # type: ignore[arg-type]
        held_s = facts.timestamps[index] - shots.open_s
        assert held_s <= longest + shortest + 2 / fps, "frames are held no longer than this"
    found += shots.end()
    assert found[0].start_s == 0 and found[-1].end_s == pytest.approx(facts.duration_s, abs=1e-3)
    assert all(one.end_s == other.start_s for one, other in pairwise(found))
    for clip in found:
        assert clip.end_s is not None
        length_s = clip.end_s - clip.start_s
        assert length_s <= longest + 2e-3
        assert length_s >= min(shortest, facts.duration_s) - 2e-3


@given(num_frames=st.integers(1, 300), window_s=st.floats(0.05, 40))
def test_windows_tile_the_video(num_frames: int, window_s: float) -> None:
    facts = VideoFacts.constant_rate(num_frames, 10.0)
    found = windows("a.mp4", facts, window_s)
    assert found[0].start_s == 0 and found[-1].end_s == pytest.approx(facts.duration_s, abs=1e-3)
    assert all(one.end_s == other.start_s for one, other in pairwise(found))
    for clip in found[:-1]:
        assert clip.end_s - clip.start_s == pytest.approx(window_s, abs=2e-3)  # type: ignore[operator]
    last = found[-1]
    assert last.end_s is not None
    assert last.end_s - last.start_s <= 1.5 * window_s + 2e-3 and (len(found) == 1 or last.start_s < last.end_s)


def test_listed_scenes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        write_video(tmp_path / "v" / name, moving_square(30))
    listed = tmp_path / "scenes.csv"
    listed.write_text("video,start,end\nv/a.mp4,1.0004,1.5\nv/a.mp4,0,0.5\nv/a.mp4,0,0.5\nv/b.mp4,00:00:00.5,\n")
    cuts = SceneCuts(spans=read_spans(listed))
    assert cut(tmp_path / "v" / "a.mp4", cuts) == [(0, 0.5), (1.0, 1.5)]
    assert cut(tmp_path / "v" / "b.mp4", cuts) == [(0.5, None)]
    assert cuts.spans_of(str(tmp_path / "v" / "c.mp4")) == ()
    before = {name: cuts.digest(str(tmp_path / "v" / name)) for name in ("a.mp4", "b.mp4")}
    listed.write_text(listed.read_text().replace("0.5,\n", "0.7,\n"))
    after = {name: SceneCuts(spans=read_spans(listed)).digest(str(tmp_path / "v" / name)) for name in before}
    assert before["a.mp4"] == after["a.mp4"] and before["b.mp4"] != after["b.mp4"], "only what changed is cut again"
    assert isinstance(cuts.cutter(str(tmp_path / "v" / "a.mp4"), VideoFacts.constant_rate(2, 1.0)), GivenScenes)


def test_what_is_recorded_comes_back() -> None:
    for cuts in (SceneCuts(), SceneCuts(threshold=20.0, min_scene_s=0.5, max_scene_s=7.0), SceneCuts(window_s=2.5)):
        assert SceneCuts.from_record(cuts.describe()) == cuts
    digests = {one.digest("a.mp4") for one in (SceneCuts(), SceneCuts(max_scene_s=9.0), SceneCuts(window_s=9.0))}
    assert len(digests) == 3


@pytest.mark.parametrize(
    ("given_options", "problem"),
    [
        ({"max_scene_s": 1.5, "min_scene_s": 1.0}, "more than half of max_scene=1.5"),
        ({"max_scene_s": 0.0}, "max_scene"),
        ({"threshold": math.nan}, "threshold"),
        ({"window_s": -1.0}, "window"),
    ],
)
def test_cuts_that_make_no_sense(given_options: dict[str, float], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        SceneCuts(**given_options)  # type: ignore[arg-type]


def test_without_the_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'prismhub\[archive\]'"):
        SceneCuts().check()
    SceneCuts(window_s=2.0).check()
