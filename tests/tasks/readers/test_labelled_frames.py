"""Clips around labelled frames show the frames that they are meant to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core_encoder.clip_plan import ClipPlan
from core_encoder.errors import InputError
from core_encoder.video.decoders import read_facts
from tasks.readers.labelled_frames import Windows, frame_samples
from tests.tasks.miniatures.clips import write_clip


@pytest.mark.parametrize("fps", [24, 25, 30])
@pytest.mark.parametrize("stride", [1, 3])
def test_each_clip_shows_the_frames_around_its_own(tmp_path: Path, fps: int, stride: int) -> None:
    path = str(write_clip(tmp_path / "a.mp4", 90 / fps, fps))
    labels = [(str(frame),) for frame in range(90)]
    samples = frame_samples("a", path, labels, "x", Windows(8, stride))
    assert [sample.id for sample in samples] == [f"a@{frame}" for frame in range(90)]
    facts, plan = read_facts(path), ClipPlan(8, "stride", stride=stride)
    for frame, sample in enumerate(samples):
        first = frame - 4 * stride
        shown = list(range(max(first, 0), min(first + 8 * stride, 90)))
        (view,) = plan.views_of(facts, sample.clip)
        real = np.array(view.frame_indices[: view.num_real])
        assert set(real) <= set(shown) and (np.diff(real) == stride).all()
        if len(shown) == 8 * stride:
            assert view.num_real == 8 and abs(real.mean() - frame) <= stride / 2 + 0.5


def test_frames_that_do_not_count_have_no_clip(tmp_path: Path) -> None:
    path = str(write_clip(tmp_path / "a.mp4", 10 / 25, 25))
    labels = [("a",), None, (), *[("b",)] * 7]
    assert [sample.id for sample in frame_samples("v", path, labels, "x", Windows(4))][:3] == ["v@0", "v@2", "v@3"]
    assert [sample.id for sample in frame_samples("v", path, labels, "x", Windows(4, every=4))] == ["v@2", "v@6"]
    gone = frame_samples("v", str(tmp_path / "b.mp4"), labels, "x", Windows(4), fps=10.0)
    assert gone[5].id == "v@6" and gone[5].clip.start_s == pytest.approx(0.425)  # a quarter into frame 4


def test_more_labels_than_frames_are_refused(tmp_path: Path) -> None:
    path = str(write_clip(tmp_path / "a.mp4", 10 / 25, 25))
    assert frame_samples("v", path, [("a",)] * 12, "x.json", Windows(4))
    with pytest.raises(InputError, match=r"x.json: labels 13 frames, but .*a.mp4 has 10; is it another video"):
        frame_samples("v", path, [("a",)] * 13, "x.json", Windows(4))
