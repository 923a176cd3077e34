"""Short videos with captions and questions: seeded, real H.264 files, annotated as MSR-VTT and NExT-QA are."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from core_encoder.errors import InputError
from core_encoder.video.decoders import read_facts
from pretrain.world.captioned_videos import captioned_video, write_captioned_videos
from pretrain.world.synthetic_world import DEMO_MOTIONS, DEMO_OBJECTS, SyntheticWorld
from pretrain.world.world_objects import HELD_OUT_OBJECTS

WORLD = SyntheticWorld(3, size=48, num_frames=8, objects=DEMO_OBJECTS["train"], motions=DEMO_MOTIONS)


def test_a_video_depends_on_the_world_and_its_index_alone() -> None:
    one, again, other = captioned_video(WORLD, 4), captioned_video(WORLD, 4), captioned_video(WORLD, 5)
    assert one.questions == again.questions and np.array_equal(one.frames, again.frames)
    assert one.captions != other.captions


def test_captions_and_right_answers_say_what_the_clip_shows() -> None:
    places: Counter[int] = Counter()
    for index in range(60):
        clip, video = WORLD.clip(index), captioned_video(WORLD, index)
        assert all(clip.object_name in text and text.endswith(clip.motion) for text in video.captions)
        assert len(set(video.captions)) == len(video.captions) > 1
        doing, colour, shape = (one.options[one.right] for one in video.questions)
        assert doing == clip.motion and f"{colour} {shape}" in clip.object_name
        for one in video.questions:
            assert len(set(one.options)) == 5
            places[one.right] += 1
    assert set(places) == set(range(5)) and max(places.values()) < 60, "the place of the right answer tells nothing"


def test_files_are_laid_out_as_msr_vtts_and_next_qas(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    counts = {"train": 3, "val": 1, "test": 2}
    file = write_captioned_videos(tmp_path, counts, size=48, num_frames=8, progress=lambda *now: told.append(now))
    assert told[-1] == (6, 6)
    whole = json.loads(file.read_text())
    assert [one["split"] for one in whole["videos"]] == ["train"] * 3 + ["validate"] + ["test"] * 2
    assert [one["sen_id"] for one in whole["sentences"]] == list(range(len(whole["sentences"])))
    assert {one["video_id"] for one in whole["sentences"]} == {one["video_id"] for one in whole["videos"]}
    for one in whole["videos"]:
        facts = read_facts(tmp_path / "videos" / f"{one['video_id']}.mp4")
        assert facts.width == 48 and facts.duration_s == pytest.approx(one["end time"])
    names = json.loads((tmp_path / "nextqa" / "map_vid_vidorID.json").read_text())
    asked: dict[str, int] = {}
    for split, count in counts.items():
        with (tmp_path / "nextqa" / f"{split}.csv").open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        assert ",".join(rows[0]) == "video,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4"
        assert all((row["frame_count"], row["width"], row["type"]) == ("8", "48", "DO") for row in rows)
        asked[split] = len({names[row["video"]] for row in rows})
        assert asked[split] == count
    with (tmp_path / "labels.csv").open(newline="") as lines:
        labels = {row["video"]: (row["label"], row["split"]) for row in csv.DictReader(lines)}
    assert Counter(split for _, split in labels.values()) == counts
    assert all((tmp_path / video).is_file() for video in labels)
    moving = [row for row in rows if row["question"].startswith("what does")]
    for row in moving:  # of the last split
        assert labels[f"videos/{names[row['video']]}.mp4"] == (row["a" + row["answer"]], "test")
    shown = {row["a" + row["answer"]] for row in moving}
    assert shown <= set(DEMO_MOTIONS)


def test_the_test_split_shows_objects_that_no_other_does(tmp_path: Path) -> None:
    file = write_captioned_videos(tmp_path, {"train": 4, "test": 4}, size=16, num_frames=2)
    whole = json.loads(file.read_text())
    held_out = {thing.name for thing in HELD_OUT_OBJECTS}
    for video in whole["videos"]:
        texts = [one["caption"] for one in whole["sentences"] if one["video_id"] == video["video_id"]]
        plain = min(texts, key=len).split(" ", 1)[1]  # without its article
        named = next(plain.removesuffix(f" {motion}") for motion in DEMO_MOTIONS if plain.endswith(motion))
        assert (named in held_out) == (video["split"] == "test")


def test_fewer_questions_are_asked_in_turn(tmp_path: Path) -> None:
    write_captioned_videos(tmp_path, {"train": 6}, size=16, num_frames=2, questions=1)
    with (tmp_path / "nextqa" / "train.csv").open(newline="") as lines:
        asked = [(row["video"], row["qid"]) for row in csv.DictReader(lines)]
    assert asked == [(str(k), str(k % 3)) for k in range(6)]


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown split 'tests'; did you mean 'test'"):
        write_captioned_videos(tmp_path, {"tests": 1})
    with pytest.raises(InputError, match="even size"):
        write_captioned_videos(tmp_path, {"test": 1}, size=47)
    with pytest.raises(InputError, match="asked 1 to 3 questions, not 4"):
        write_captioned_videos(tmp_path, {"test": 1}, questions=4)
    assert not list(tmp_path.iterdir())
