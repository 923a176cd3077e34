"""AVA's official files, with the detected boxes that are asked about, and AVA-Kinetics."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.readers.boxes import BoxSample
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.official_ava import AVA_IDS, ava_labels, read_ava_split
from tasks.registry import find_benchmark
from tests.tasks.miniatures import ava
from tests.tasks.miniatures.clips import write_clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return ava.write(tmp_path)


def boxes(sample: object) -> list[tuple[float, ...]]:
    assert isinstance(sample, BoxSample)
    return [track.corners[0] for track in sample.asked]


def test_the_official_files_are_read_as_they_are(folder: Path) -> None:
    task = find_benchmark("ava").open(folder)
    assert len(task.label_names) == 60 and task.record["label_ids"] == list(AVA_IDS)  # type: ignore[attr-defined]
    assert ava_labels(DatasetFolder(folder)).ids == AVA_IDS
    train, test = task.samples("train"), task.samples("test")
    assert [one.id for one in train] == [
        *("-5KQ66BBWC4@902", "-5KQ66BBWC4@903", "1j20qq1JyX4@902", "1j20qq1JyX4@904"),
    ]
    assert train[0].labels == ("action 80", "action 9") and boxes(train[0]) == [(0.077, 0.151, 0.283, 0.811)]
    assert train[3].labels == ()  # a class that does not count: the moment stays, where an answer is a false alarm
    assert (train[0].clip.start_s, train[0].clip.end_s) == (pytest.approx(2 - 32 / 30, abs=1e-3), 3.067)
    assert [one.id for one in test] == ["2FIHyVgcIXc@902", "2FIHyVgcIXc@903"]  # 904 is excluded
    sure = [(0.11, 0.21, 0.5, 0.89), (0.69, 0.21, 0.9, 0.89), (0.1, 0.2, 0.3, 0.7)]
    assert boxes(test[0]) == sure  # detected, and sure enough
    assert boxes(test[1]) == []
    assert task.describe_target(test[0])[0] == {"box": [0.1, 0.2, 0.5, 0.9], "label": "action 80"}


def test_a_whole_film_begins_at_second_0(folder: Path) -> None:
    video = next(folder.rglob("2FIHyVgcIXc.mp4"))
    cut = read_ava_split(DatasetFolder(folder), "val")[0]
    write_clip(video.with_name("long.mp4"), 1300.0, fps=1).rename(video)
    whole = read_ava_split(DatasetFolder(folder), "val")[0]
    assert (cut.time_s, whole.time_s) == (2.0, 902.0) and cut.id == whole.id


def test_kinetics_clips_are_found_by_the_second(tmp_path: Path) -> None:
    task = find_benchmark("ava-kinetics").open(ava.write_with_kinetics(tmp_path))
    assert (len(task.samples("train")), len(task.samples("test"))) == (5, 4)
    one = task.samples("test")[2]
    assert isinstance(one, BoxSample) and (one.id, one.time_s) == ("zz9TyPpr0bE@6.5", 2.5)
    assert one.clip.path.endswith("zz9TyPpr0bE_000004_000014.mp4") and boxes(one) == [(0.2, 0.2, 0.7, 0.9)]
    nobody = task.samples("test")[3]
    assert (nobody.id, nobody.labels, boxes(nobody)) == ("yyNobody123@104", (), [])
    next(tmp_path.rglob("yyNobody123*.mp4")).unlink()
    again = find_benchmark("ava-kinetics").open(tmp_path).samples("test")[3]
    assert again.id == nobody.id and not Path(again.clip.path).exists()


def test_clips_of_kinetics_are_not_opened_before_their_picture_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core_encoder.video import decoders

    opened: list[str] = []
    real = decoders.read_facts
    monkeypatch.setattr(decoders, "read_facts", lambda path, *more: opened.append(str(path)) or real(path, *more))
    task = find_benchmark("ava-kinetics").open(ava.write_with_kinetics(tmp_path))
    one = task.samples("test")[2]
    assert opened and not any("zz9TyPpr0bE" in path or "yyNobody" in path for path in opened)
    assert isinstance(one, BoxSample) and one.clip.end_s == pytest.approx(2.5 + 32 / 30, abs=1e-3)
    facts = real(one.clip.path)
    assert tuple(task.inputs(one)["picture"]) == (facts.width, facts.height)


def test_what_was_judged_is_known_by_its_annotations_alone(folder: Path) -> None:
    digests = [find_benchmark("ava").open(folder).digest("test")]
    for video in folder.rglob("*.mp4"):
        video.unlink()
    digests.append(find_benchmark("ava").open(folder).digest("test"))
    file = folder / "ava_val_predicted_boxes.csv"
    file.write_text(file.read_text().replace("0.110", "0.111"))
    digests.append(find_benchmark("ava").open(folder).digest("test"))
    assert digests[0] == digests[1] != digests[2]


def test_damage_is_named(folder: Path) -> None:
    file = folder / "ava_val_v2.2.csv"
    good = file.read_text()
    for old, new, message in (
        ("0.100,0.200", "0.100", r"ava_val_v2.2.csv: line 1: 7 fields, expected 8, as in most rows with a box"),
        ("0.900,80,0", "0.900,81,0", r"ava_val_v2.2.csv: line 1: action_id '81' is none of 1 to 80"),
        ("0.900,80,0", "0.900,,0", r"ava_val_v2.2.csv: line 1: action_id is empty"),
        ("0.500,0.900,80", "50,0.900,80", r"ava_val_v2.2.csv: line 1: box 0.1 0.2 50 0.9 seems to be in pixels"),
        ("0902,0.100", "09x2,0.100", r"ava_val_v2.2.csv: line 1: timestamp '09x2' is not a time in seconds"),
        ("0902,0.100", "0990,0.100", r"ava_val_v2.2.csv: line 1: there is no frame at 90 s"),
        ("0.200,0.500", "x,0.500", r"ava_val_v2.2.csv: line 1: y1 'x' is not a number"),
    ):
        file.write_text(good.replace(old, new, 1))
        with pytest.raises(InputError, match=message):
            read_ava_split(DatasetFolder(folder), "val")
    file.write_text(good)
    (folder / "ava_val_predicted_boxes.csv").write_text("2FIHyVgcIXc,0902,0.110,0.210,0.500,0.890,,0.5\n")
    with pytest.raises(InputError, match=r"none of its boxes has a score of 0.8 or more"):
        read_ava_split(DatasetFolder(folder), "val")
    (folder / "ava_val_predicted_boxes.csv").unlink()
    with pytest.raises(InputError, match=r"there is no ava_val_predicted_boxes.csv or .* get it from research.google"):
        find_benchmark("ava").open(folder).samples("test")
    (folder / "ava_action_list_v2.2_for_activitynet_2019.pbtxt").write_text('item { name: "bend" id: 2 }')
    with pytest.raises(InputError, match=r"is not the map of the 60 classes that are evaluated: they differ in 1"):
        find_benchmark("ava").open(folder)
