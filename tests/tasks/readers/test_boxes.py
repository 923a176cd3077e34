"""Boxes and tracks from AVA CSV, COCO-style JSON and MOT text, over real videos; and everything wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core_encoder.errors import InputError
from tasks.readers.ava import read_ava, read_excluded
from tasks.readers.box_rows import LabelMap, read_label_map
from tasks.readers.boxes import BoxSample, Moments, asked_about, box_samples, read_box_rows
from tests.videos import moving_square, write_video

LABELS = LabelMap(("walk", "sit"), (12, 11))
PBTXT = 'item {\n  name: "sit"\n  id: 11\n}\n# a comment { }\nitem { label_id: 12 name: "walk" }\n'


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`a.mp4` and `b.mp4`, 4 s at 8 fps, 64 x 32 pixels; read only."""
    folder = tmp_path_factory.mktemp("clips")
    for seed, name in enumerate("ab"):
        write_video(folder / f"{name}.mp4", moving_square(32, 32, 64, seed), fps=8)
    return folder


def read(clips: Path, file: Path, moments: Moments | None = None, **more: object) -> list[BoxSample]:
    return box_samples(read_box_rows(file), clips, LABELS, moments or Moments(), **more)  # type: ignore[arg-type]


def written(folder: Path, text: str, name: str = "ava.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_ava_rows_become_moments_with_people(clips: Path, tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "a,0001,0.1,0.2,0.3,0.8,12,1\na,0001,0.1,0.2,0.3,0.8,11,1\na,0001,0.5,0.2,0.9,0.8,80,2\n"
        "a,0003,0.2,0.2,0.4,0.8,12,1\nb,2.5,0.1,0.1,0.2,0.2,11,1\nb,0003\n",
    )
    samples = {sample.id: sample for sample in read(clips, file)}
    assert list(samples) == ["a@1", "a@3", "b@2.5", "b@3"]
    first = samples["a@1"]
    assert (first.clip.path, first.clip.start_s, first.clip.end_s) == (str(clips / "a.mp4"), 0.0, 2.0)
    assert first.labels == ("walk", "sit") and first.picture == (64, 32)
    assert [(box.label, box.track, box.corners) for box in first.actors] == [
        ("walk", "1", (0.1, 0.2, 0.3, 0.8)),
        ("sit", "1", (0.1, 0.2, 0.3, 0.8)),
    ]
    assert [track.id for track in first.asked] == ["1", "2"]  # 80 is not evaluated, but somebody is there
    assert first.asked[0].times_s == (1.0, 3.0)  # it walks on: the next box is just after the clip
    np.testing.assert_allclose(first.asked[0].at([2.0])[0], (0.15, 0.2, 0.35, 0.8))
    assert samples["b@3"].asked == () and samples["b@3"].actors == ()


def test_excluded_moments_are_left_out(clips: Path, tmp_path: Path) -> None:
    file = written(tmp_path, "a,0001,0.1,0.2,0.3,0.8,12,1\na,0003,0.1,0.2,0.3,0.8,12,1\n")
    excluded = read_excluded(written(tmp_path, "a,0003\n", "excluded.csv"))
    assert [sample.id for sample in read(clips, file, excluded=excluded)] == ["a@1"]
    with pytest.raises(InputError, match="all of its moments are excluded"):
        read(clips, file, excluded={("a", 1000), ("a", 3000)})


def test_times_of_a_film_are_those_of_its_cut(clips: Path, tmp_path: Path) -> None:
    file = written(tmp_path, "a,0902,0.1,0.2,0.3,0.8,12,1\n")
    (sample,) = read(clips, file, Moments(offset_s=900))
    assert sample.id == "a@902" and sample.time_s == 2.0 and sample.clip.start_s == 1.0
    with pytest.raises(InputError, match=r"line 1: there is no frame at 902 s: .*a.mp4 lasts 4 s; .*--time-offset 900"):
        read(clips, file)


def test_context_and_every_choose_moments_and_clips(clips: Path, tmp_path: Path) -> None:
    file = written(tmp_path, "".join(f"a,{i / 4:.2f},0.1,0.2,0.3,0.8,12,1\n" for i in range(15)))
    samples = read(clips, file, Moments(context_s=1.0, every_s=1.0))
    assert [sample.time_s for sample in samples] == [0.0, 1.0, 2.0, 3.0]
    assert [(s.clip.start_s, s.clip.end_s) for s in samples[:2]] == [(0.0, 0.5), (0.5, 1.5)]
    assert samples[1].asked[0].times_s == (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    for name in ("context_s", "every_s"):
        with pytest.raises(InputError, match="must be above 0 seconds"):
            Moments(**{name: 0.0})


def test_mot_tracks_are_pixels_of_frames_from_one(clips: Path, tmp_path: Path) -> None:
    rows = [f"{frame},7,{6.4 + frame - 1},3.2,12.8,16,1,12,1" for frame in range(1, 33)]
    rows += ["1,8,0,0,64,32,0,11,1"]  # not considered
    file = written(tmp_path, "\n".join(rows), "a.txt")
    samples = read(clips, file, Moments(every_s=1.0))
    assert [sample.time_s for sample in samples] == [0.0, 1.0, 2.0, 3.0]
    np.testing.assert_allclose(samples[0].actors[0].corners, (0.1, 0.1, 0.3, 0.6))
    assert [track.id for track in samples[0].asked] == ["7"] and samples[0].labels == ("walk",)
    np.testing.assert_allclose(samples[1].asked[0].at([1.0])[0][0], (6.4 + 8) / 64)
    folder = tmp_path / "mot" / "b" / "gt"
    folder.mkdir(parents=True)
    (folder / "gt.txt").write_text("\n".join(rows[:3]))
    assert {sample.video for sample in read(clips, tmp_path / "mot")} == {"b"}


def coco(**changes: object) -> dict[str, object]:
    return {
        "videos": [{"id": 1, "name": "a.mp4"}],
        "images": [
            {"id": 5, "video_id": 1, "frame_id": 8, "width": 640, "height": 320},
            {"id": 6, "video_id": 1, "time_s": 2.0, "width": 640, "height": 320},
        ],
        "annotations": [
            {"image_id": 5, "bbox": [64, 32, 128, 160], "category_id": 2, "track_id": 4},
            {"image_id": 5, "bbox": [-10, 32, 74, 160], "category_ids": [1, 2]},
        ],
        "categories": [{"id": 1, "name": "sit"}, {"id": 2, "name": "walk"}],
    } | changes


def test_coco_boxes_are_pixels_of_their_image(clips: Path, tmp_path: Path) -> None:
    first, second = read(clips, written(tmp_path, json.dumps(coco()), "boxes.json"))
    assert (first.time_s, second.time_s) == (1.0, 2.0) and second.asked == ()
    assert [(box.label, box.track) for box in first.actors] == [("walk", "4"), ("sit", ""), ("walk", "")]
    np.testing.assert_allclose([box.corners for box in first.actors[:2]], [(0.1, 0.1, 0.3, 0.6), (0.0, 0.1, 0.1, 0.6)])
    videos = [{"id": 1, "name": "a.mp4", "fps": 16}]
    first, _ = read(clips, written(tmp_path, json.dumps(coco(videos=videos)), "fps.json"))
    assert first.time_s == 0.5


def test_detections_are_asked_about_instead(clips: Path, tmp_path: Path) -> None:
    samples = read(clips, written(tmp_path, "a,0001,0.1,0.2,0.3,0.8,12,1\na,0003,0.1,0.2,0.3,0.8,12,1\n"))
    found = read(clips, written(tmp_path, "a,1,0.1,0.2,0.31,0.8,,0.98\na,1,0.5,0.2,0.7,0.8,,0.91\n", "found.csv"))
    first, second = asked_about(samples, found, "found.csv")
    assert [track.score for track in first.asked] == [0.98, 0.91] and first.source == "found.csv"
    assert first.actors == samples[0].actors and second.asked == ()
    with pytest.raises(InputError, match="has boxes at none of the 2 moments"):
        asked_about(samples, read(clips, written(tmp_path, "b,1,0.1,0.2,0.31,0.8\n", "b.csv")), "b.csv")


def test_label_maps(tmp_path: Path) -> None:
    assert read_label_map(written(tmp_path, PBTXT, "labels.pbtxt")) == LabelMap(("sit", "walk"), (11, 12))
    assert read_label_map(written(tmp_path, "sit\nwalk\n", "labels.txt")) == LabelMap(("sit", "walk"), (1, 2))
    for text, says in (
        ('item { name: "sit" }', "item 1 has no id"),
        ("item { id: 3 }", "item 1 has no name"),
        (PBTXT + 'item { name: "stand" id: 11 }', "id 11 is there twice"),
        ("sit\n", "holds no label map"),
    ):
        with pytest.raises(InputError, match=says):
            read_label_map(written(tmp_path, text, "wrong.pbtxt"))
    with pytest.raises(InputError, match=r"none\.pbtxt: no such file$"):
        read_label_map(tmp_path / "none.pbtxt")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a,1,0.1,0.2,1.3,0.8,12,1", "line 1: box 0.1 0.2 1.3 0.8 reaches outside the picture"),
        ("a,1,-0.2,0.2,0.3,0.8,12,1", "line 1: box -0.2 0.2 0.3 0.8 reaches outside the picture"),
        ("a,1,0.3,0.2,0.3,0.8,12,1", "line 1: box 0.3 0.2 0.3 0.8 has no area"),
        ("a,1,0.3,0.8,0.5,0.2,12,1", "has no area"),
        ("a,1,10,20,110,220,12,1", "line 1: box 10 20 110 220 seems to be in pixels; give fractions"),
        ("a,1,nan,0.2,0.5,0.8,12,1", "is not finite"),
        ("a,5,0.1,0.2,0.3,0.8,12,1", "line 1: there is no frame at 5 s: .*a.mp4 lasts 4 s; are the times frames"),
        ("a,4.5,0.1,0.2,0.3,0.8,12,1", "there is no frame at 4.5 s: .*check the times"),
        ("a,x,0.1,0.2,0.3,0.8,12,1", "line 1: timestamp 'x' is not a time"),
        ("a,1,0.1,b,0.3,0.8,12,1", "line 1: y1 'b' is not a number"),
        ("a,1,0.1,0.2", "line 1: 4 fields, expected"),
        (",1,0.1,0.2,0.3,0.8,12,1", "line 1: video_id is empty"),
        ("a,1,0.1,0.2,0.3,0.8,wolk,1", "line 1: label 'wolk' is not a class; did you mean 'walk'"),
        ("c,1,0.1,0.2,0.3,0.8,12,1", "none of its 1 videos is in .*; say where they are with --videos"),
        ("a,1,0.1,0.2,0.3,0.8,12,one", "neither a person's number nor a score"),
        ("", "holds no rows"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_in_one_line(row: str, says: str, clips: Path, tmp_path: Path) -> None:
    file = written(tmp_path, row)
    with pytest.raises(InputError, match=says) as error:
        read(clips, file)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("33,1,0,0,10,10,1", "line 1: there is no frame 32, counted from 0: .*a.mp4 has 32"),
        ("0,1,0,0,10,10,1", "frame 0 is no frame; MOT counts them from 1"),
        ("1,1,5,5,0,10,1", "line 1: box 5 5 0 10 has no area"),
        ("1,1,70,5,10,10,1", "line 1: box 70 5 10 10 lies outside the picture of 64 x 32 pixels"),
        ("1,1,0,0,640,320,1", "lies outside the picture"),
        ("1,1,a,0,640,320,1", "line 1: '1,1,a,0,640,320,1' is not frame,id"),
        ("1,1,5,5,9,10,0", "holds no boxes"),
    ],
)
def test_what_is_wrong_with_a_track_is_said_in_one_line(row: str, says: str, clips: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=says) as error:
        read(clips, written(tmp_path, row, "a.txt"))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": 3}, "is no COCO-style file"),
        ({"annotations": [{"image_id": 9, "bbox": [0, 0, 1, 1]}]}, "annotation 0: image_id 9 is none of its images"),
        ({"annotations": [{"image_id": 5, "bbox": [0, 0, 1]}]}, "annotation 0: bbox .* is not"),
        ({"annotations": [{"image_id": 5, "bbox": [9, 9, 0, 4]}]}, "annotation 0: box 9 9 0 4 has no area"),
        ({"annotations": [{"image_id": 5, "bbox": [0, 0, 4, 4], "category_id": 9}]}, "category_id 9 is none"),
        ({"images": [{"id": 5, "video_id": 1}]}, "image 0: has no moment"),
        ({"images": [{"id": 5, "frame_id": 1}]}, "image 0: is of no video"),
        ({"images": [{"id": 5, "video_id": 1, "frame_id": -1}]}, "frame_id -1 is not a number of at least 0"),
        ({"images": [{"id": 5, "video_id": 1, "frame_id": float("inf")}]}, "image 0: frame_id inf is not a number"),
        ({"images": [{"video_id": 1, "frame_id": 1}]}, "image 0: id must be a number or a text, not None"),
        ({"images": ["a.png"]}, "image 0: must be an object, not 'a.png'"),
        ({"videos": [{"name": "a.mp4"}]}, "video 0: id must be a number or a text"),
        ({"categories": {"1": "sit"}}, "categories must be a list of objects"),
        ({"categories": ["sit", "walk"]}, "category 0: must be an object, not 'sit'"),
        ({"annotations": [{"image_id": [5], "bbox": [0, 0, 4, 4]}]}, "annotation 0: image_id must be a number"),
        ({"annotations": [{"image_id": 5, "bbox": [0, 0, 4, 4], "score": "high"}]}, "score 'high' is not a number"),
        ({"annotations": [{"image_id": 5, "bbox": [0, 0, 4, 4], "category_ids": 2}]}, "its categories must be numbers"),
    ],
)
def test_what_is_wrong_with_a_coco_file_is_said(
    changes: dict[str, object], says: str, clips: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=says) as error:
        read(clips, written(tmp_path, json.dumps(coco(**changes)), "boxes.json"))
    assert "\n" not in str(error.value)


def test_other_files_and_folders_are_refused(clips: Path, tmp_path: Path) -> None:
    for path, says in (
        (tmp_path / "none.csv", "no such file or folder"),
        (written(tmp_path, "x", "boxes.xml"), "boxes are read from"),
        (tmp_path, "holds no tracks"),
    ):
        with pytest.raises(InputError, match=says):
            read_box_rows(path)
    rows = read_ava(written(tmp_path, "a,1,0.1,0.2,0.3,0.8,12,1\n"))
    with pytest.raises(InputError, match="is no folder of videos"):
        box_samples(rows, tmp_path / "none", LABELS, Moments())
    with pytest.raises(InputError, match=r"may be .*; give one of them another name"):
        box_samples(rows, [clips / "a.mp4", tmp_path / "a.mp4"], LABELS, Moments())


def test_a_video_that_cannot_be_read_is_left_to_whoever_encodes(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    rows = read_ava(written(tmp_path, "a,1,0.1,0.2,0.3,0.8,12,1\nbroken,99,0.1,0.2,0.3,0.8,12,1\n"))
    samples = box_samples(rows, [clips / "a.mp4", tmp_path / "broken.mp4"], LABELS, Moments())
    assert [sample.id for sample in samples] == ["a@1", "broken@99"]
