"""Videos of two actors: they stay inside, do what is said of them, and are annotated in AVA's own form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core_encoder.errors import InputError
from core_encoder.video.decoders import read_facts
from pretrain.world.actor_videos import ACTOR_MOTIONS, actor_video, label_names, write_actor_videos
from pretrain.world.drawing import COLOURS
from pretrain.world.world_objects import WorldObject

SCENE = 16  # frames


@pytest.mark.parametrize("index", range(6))
def test_two_actors_stay_inside_and_do_different_things(index: int) -> None:
    video = actor_video(0, "train", index)
    first, second = video.actors
    assert video.frames.shape == (2 * SCENE, 96, 96, 3) and video.frames.dtype == np.uint8
    assert first.thing.shape != second.thing.shape
    for scene in range(2):
        assert first.motions[scene] != second.motions[scene]
    for actor in video.actors:
        assert actor.boxes.min() >= 0 and actor.boxes.max() <= 96
        for scene, motion in enumerate(actor.motions):
            boxes = actor.boxes[scene * SCENE : (scene + 1) * SCENE]
            before, after = boxes[0], boxes[-1]
            moved = (after[:2] + after[2:] - before[:2] - before[2:]) / 2
            grown = (after[2:] - after[:2]).prod() / (before[2:] - before[:2]).prod()
            expected = {
                "moving left": moved[0] < -15,
                "moving right": moved[0] > 15,
                "moving up": moved[1] < -15,
                "moving down": moved[1] > 15,
                "approaching": grown > 2,
                "receding": grown < 0.5,
                "shaking": np.abs(np.diff(boxes[:, 0])).sum() > 15,
            }
            assert expected[motion], (motion, moved, grown)


def test_boxes_are_tight_around_what_is_drawn() -> None:
    things = (WorldObject("red", "star"), WorldObject("cyan", "bar"))
    video = actor_video(3, "train", 0, things)
    for actor in video.actors:
        colour = np.array(COLOURS[actor.thing.colour]) * 255 * 0.92
        for frame in (0, 10, 31):
            near = np.abs(video.frames[frame].astype(float) - colour).sum(-1) < 120
            rows, columns = np.nonzero(near)
            left, top, right, bottom = actor.boxes[frame]
            inside = (columns > left - 2) & (columns < right + 1) & (rows > top - 2) & (rows < bottom + 1)
            assert inside.mean() > 0.95
            found = columns[inside].min(), rows[inside].min(), columns[inside].max() + 1, rows[inside].max() + 1
            np.testing.assert_allclose(found, actor.boxes[frame], atol=2.5)


def test_the_same_arguments_give_the_same_video() -> None:
    one, same, other = (actor_video(1, "val", index, size=48, scenes=1) for index in (0, 0, 1))
    np.testing.assert_array_equal(one.frames, same.frames)
    assert not np.array_equal(one.frames, other.frames)


def test_the_files_are_those_of_ava_and_mot(tmp_path: Path) -> None:
    from tasks.readers.box_rows import read_label_map
    from tasks.readers.boxes import Moments, box_samples, read_box_rows

    seen: list[tuple[int, int]] = []
    folder = write_actor_videos(tmp_path, {"train": 2, "test": 1}, size=48, progress=lambda *at: seen.append(at))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert read_facts(folder / "clips" / "train-000.mp4").num_frames == 2 * SCENE
    labels = read_label_map(folder / "labels.pbtxt")
    assert labels.names == label_names() and labels.ids[0] == 1
    samples = box_samples(read_box_rows(folder / "ava_train.csv"), folder / "clips", labels, Moments())
    assert [sample.id for sample in samples] == ["train-000@1", "train-000@3", "train-001@1", "train-001@3"]
    for sample in samples:
        assert [len([box for box in sample.actors if box.track == person]) for person in "12"] == [3, 3]
        assert {box.label for box in sample.actors if box.label in ACTOR_MOTIONS} <= set(ACTOR_MOTIONS)
    tracks = box_samples(read_box_rows(folder / "tracks"), folder / "clips", labels, Moments(every_s=1.0))
    at_one = {sample.id: sample for sample in tracks}["train-000@1"]
    for track, person in zip(at_one.asked, samples[0].asked, strict=True):
        np.testing.assert_allclose(track.at([1.0])[0], person.at([1.0])[0], atol=2e-3)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="need an even size"):
        write_actor_videos(tmp_path, {"train": 1}, size=47)
    with pytest.raises(InputError, match="split 'new' has no objects"):
        write_actor_videos(tmp_path, {"new": 1})
    with pytest.raises(InputError, match="at least two motions"):
        actor_video(0, "train", 0, motions=("shaking",))
    with pytest.raises(InputError, match="cannot be told by a box"):
        actor_video(0, "train", 0, motions=("shaking", "spinning clockwise"))
