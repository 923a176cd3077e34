"""Every layout reads to the same samples; every mistake ends in one line that says where and what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from tasks.readers.annotations import is_multi_label, label_names, name_labels, read_class_list, read_samples
from tasks.sample import Sample
from tests import ROOT


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def brief(samples: list[Sample]) -> list[tuple[str, tuple[str, ...], str | None]]:
    return [(sample.id, sample.labels, sample.split) for sample in samples]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder with four (empty) video files: reading annotations opens none."""
    return touch(tmp_path, "a.mp4", "b.mp4", "sub/c d.mp4", "sub/é.webm")


# Layouts -------------------------------------------------------------------------------------------------------------


def test_class_folders(tmp_path: Path) -> None:
    touch(tmp_path, "walk/b.mp4", "walk/deep/a.MP4", "sit down/é ü.webm")
    touch(tmp_path, "walk/notes.txt", ".cache/x.mp4", "run/.x.mp4")
    samples = read_samples(tmp_path)
    assert brief(samples) == [
        ("sit down/é ü.webm", ("sit down",), None),
        ("walk/b.mp4", ("walk",), None),
        ("walk/deep/a.MP4", ("walk",), None),
    ]
    assert samples[1].clip == Clip(str(tmp_path / "walk" / "b.mp4"))


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "valid", "testing"), ("train", "validation")])
def test_class_folders_in_split_folders(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        touch(tmp_path, f"{name}/walk/{name}.mp4", f"{name}/run/{name}.mp4")
    found = {sample.split: sample for sample in read_samples(tmp_path)}
    assert list(found) == sorted(found, key=lambda split: names[["train", "val", "test"].index(split or "")])
    assert set(found) == {"train", "val", "test"} if len(names) == 3 else {"train", "val"}
    assert found["train"].id == f"{names[0]}/walk/{names[0]}.mp4"


def test_a_class_may_be_called_like_a_split(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.mp4", "bus/b.mp4")
    assert brief(read_samples(tmp_path)) == [("bus/b.mp4", ("bus",), None), ("train/a.mp4", ("train",), None)]


def test_a_relative_folder_and_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "real", "walk/a.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    (sample,) = read_samples("link")
    assert sample.id == "walk/a.mp4"
    assert sample.clip.path == str(tmp_path / "link" / "walk" / "a.mp4")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", "path,label\na.mp4,walk\nsub/c d.mp4,sit down\n"),
        ("list.csv", "label;path\r\nwalk;a.mp4\r\nsit down;sub/c d.mp4\r\n"),
        ("list.tsv", "file_name\tclass\n./a.mp4\twalk\nsub/c d.mp4\tsit down\n"),
        ("list.csv", "\ufeffPath,Label\n\na.mp4,walk\n\nsub/c d.mp4,sit down"),
        ("list.csv", 'path,label,note\na.mp4,walk,"x, ""y""\nz"\n"sub/c d.mp4",sit down,\n'),
        ("list.csv", "a.mp4,walk\nsub/c d.mp4,sit down\n"),
        ("list.txt", "a.mp4\twalk\nsub/c d.mp4\tsit down\n"),
        ("list.txt", "path,label\na.mp4,walk\nsub/c d.mp4,sit down\n"),
        ("list.jsonl", '{"video": "a.mp4", "label": "walk"}\n\n{"video": "sub/c d.mp4", "label": "sit down"}\n'),
        ("metadata.csv", "file_name,label\na.mp4,walk\nsub/c d.mp4,sit down\n"),
        ("metadata.jsonl", '{"file_name":"a.mp4","label":"walk"}\n{"file_name":"sub/c d.mp4","label":["sit down"]}\n'),
    ],
)
def test_manifests_read_alike(videos: Path, name: str, text: str) -> None:
    manifest = write(videos / name, text)
    samples = read_samples(manifest)
    assert brief(samples) == [("a.mp4", ("walk",), None), ("sub/c d.mp4", ("sit down",), None)]
    assert [sample.clip.path for sample in samples] == [str(videos / "a.mp4"), str(videos / "sub" / "c d.mp4")]
    if name.startswith("metadata"):
        assert read_samples(videos) == samples


@pytest.mark.parametrize("name", ["list.txt", "list.csv", "list.list"])
@pytest.mark.parametrize("header", ["", "path label\n"])
def test_space_separated_label_is_the_last_field(videos: Path, name: str, header: str) -> None:
    manifest = write(videos / name, header + "a.mp4 3\nsub/c d.mp4   12 \n\nsub/é.webm 3\n")
    samples = read_samples(manifest)
    assert brief(samples) == [("a.mp4", ("3",), None), ("sub/c d.mp4", ("12",), None), ("sub/é.webm", ("3",), None)]
    assert label_names(samples) == ("3", "12")


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt"])
def test_one_manifest_a_split(videos: Path, suffix: str) -> None:
    def lines(path: str, label: str) -> str:
        csv, text = f"path,label\n{path},{label}\n", f"{path} {label}\n"
        return {"csv": csv, "txt": text, "jsonl": json.dumps({"video": path, "label": label}) + "\n"}[suffix]

    write(videos / f"train.{suffix}", lines("a.mp4", "x"))
    write(videos / f"validation.{suffix}", lines("b.mp4", "x"))
    write(videos / f"test.{suffix}", lines("sub/c d.mp4", "y"))
    assert {sample.id: sample.split for sample in read_samples(videos)} == {
        "a.mp4": "train",
        "b.mp4": "val",
        "sub/c d.mp4": "test",
    }


def test_metadata_in_split_folders_and_splits_from_leading_folders(tmp_path: Path) -> None:
    touch(tmp_path, "one/train/a.mp4", "one/test/a.mp4", "two/train/a.mp4", "two/val/b.mp4")
    write(tmp_path / "one/train/metadata.csv", "file_name,label\na.mp4,x\n")
    write(tmp_path / "one/test/metadata.jsonl", '{"file_name": "a.mp4", "label": "y"}')
    assert brief(read_samples(tmp_path / "one")) == [("test/a.mp4", ("y",), "test"), ("train/a.mp4", ("x",), "train")]
    write(tmp_path / "two/metadata.csv", "file_name,label\ntrain/a.mp4,x\nval/b.mp4,y\n")
    assert [sample.split for sample in read_samples(tmp_path / "two")] == ["train", "val"]


def test_times_splits_and_ids(videos: Path) -> None:
    text = "id,path,start,end,label,split\n,a.mp4,1.5,3,walk,train\n,a.mp4,3,,run,training\nmine,b.mp4,,2.25,7,VAL\n"
    samples = read_samples(write(videos / "list.csv", text))
    assert brief(samples) == [
        ("a.mp4#1.5-3", ("walk",), "train"),
        ("a.mp4#3-", ("run",), "train"),
        ("mine", ("7",), "val"),
    ]
    assert [sample.clip for sample in samples] == [
        Clip(str(videos / "a.mp4"), 1.5, 3.0),
        Clip(str(videos / "a.mp4"), 3.0),
        Clip(str(videos / "b.mp4"), 0.0, 2.25),
    ]


def test_columns_of_any_name(videos: Path) -> None:
    manifest = write(videos / "list.csv", "clip;klass;from;to;part;name\na.mp4;walk;1;2;test;first\n")
    (sample,) = read_samples(
        manifest,
        path_column="clip",
        label_column="klass",
        start_column="from",
        end_column="to",
        split_column="part",
        id_column="name",
    )
    assert sample == Sample("first", Clip(str(videos / "a.mp4"), 1.0, 2.0), ("walk",), "test")


def test_paths_outside_of_the_manifest_folder(videos: Path) -> None:
    rows = f"path,label\n../a.mp4,x\n{videos}/b.mp4,x\n{videos}/lists/q.mp4,x\n"
    manifest = write(videos / "lists" / "list.csv", rows)
    assert [sample.id for sample in read_samples(manifest)] == ["../a.mp4", f"{videos}/b.mp4", "q.mp4"]


def test_several_labels(videos: Path) -> None:
    def labels(name: str, text: str, **options: str) -> list[tuple[str, ...]]:
        return [sample.labels for sample in read_samples(write(videos / name, text), **options)]

    assert labels("a.csv", "path,labels\na.mp4,x|y\nb.mp4,z; x ;z\n") == [("x", "y"), ("z", "x")]
    assert labels("b.csv", "path,label\na.mp4,x|y\n") == [("x|y",)]
    assert labels("b.csv", "path,label\na.mp4,x+y\n", label_separator="+") == [("x", "y")]
    rows = '{"video":"a.mp4","label":["x",3]}\n{"video":"b.mp4","label":[]}\n{"video":"sub/c d.mp4","label":4}\n'
    assert labels("c.jsonl", rows) == [("x", "3"), (), ("4",)]
    assert is_multi_label(read_samples(videos / "c.jsonl"))
    assert not is_multi_label(read_samples(videos / "b.csv"))


def test_videos_may_be_missing_but_not_all_of_them(videos: Path) -> None:
    assert len(read_samples(write(videos / "list.csv", "path,label\ngone.mp4,x\na.mp4,x\n"))) == 2
    with pytest.raises(InputError, match=r"none of its 1 videos exists.*relative paths are relative to the manifest"):
        read_samples(write(videos / "list.csv", "path,label\nvideos/a.mp4,x\n"))


# Labels --------------------------------------------------------------------------------------------------------------


def samples_of(*labels: str) -> list[Sample]:
    return [Sample(str(i), Clip(f"{i}.mp4"), (label,)) for i, label in enumerate(labels)]


def test_label_names_are_sorted_by_number_or_by_letter() -> None:
    assert label_names(samples_of("10", "9", "-1", "9")) == ("-1", "9", "10")
    assert label_names(samples_of("10", "9", "b")) == ("10", "9", "b")
    assert label_names([]) == ()


def test_a_class_list_names_the_numbers(tmp_path: Path) -> None:
    names = read_class_list(write(tmp_path / "classes.txt", "\ufeffwalk\nsit down\n\n"))
    assert names == read_class_list(write(tmp_path / "classes.json", '["walk", "sit down"]')) == ("walk", "sit down")
    named = name_labels(samples_of("1", "walk"), names)
    assert [sample.labels for sample in named] == [("sit down",), ("walk",)]
    with pytest.raises(InputError, match="'walks' is not in the class list; did you mean 'walk'"):
        name_labels(samples_of("walks"), names)
    with pytest.raises(InputError, match="'2' is not in the class list"):
        name_labels(samples_of("2"), names)
    with pytest.raises(InputError, match="'1' is not in the class list"):  # a name that is a number is no index
        name_labels(samples_of("1"), ("10", "20"))
    for text, words in [("a\na\n", "'a' is listed twice"), ("\n", "holds no class name")]:
        with pytest.raises(InputError, match=words):
            read_class_list(write(tmp_path / "classes.txt", text))
    with pytest.raises(InputError, match="must be a JSON list"):
        read_class_list(write(tmp_path / "classes.json", '{"a": 1}'))
    with pytest.raises(InputError, match="cannot be read"):
        read_class_list(tmp_path / "none.txt")


def test_times_on_a_clock(videos: Path) -> None:
    rows = "a.mp4,x,1:02,00:01:04.5\nb.mp4,x,0,90:00\nc.mp4,x,1.5,1:00:00\n"
    samples = read_samples(write(videos / "l.csv", "path,label,start,end\n" + rows))
    assert [(one.clip.start_s, one.clip.end_s) for one in samples] == [(62.0, 64.5), (0.0, 5400.0), (1.5, 3600.0)]


def test_comments_before_a_table(videos: Path) -> None:
    for name, text in (
        ("l.csv", "# made by hand\n\n  # twice\npath,label\na.mp4,#1\n"),
        ("l.txt", "# path label\na.mp4 #1\n"),
        ("l.csv", "#\na.mp4,#1\n"),
    ):
        (sample,) = read_samples(write(videos / name, text))
        assert sample.labels == ("#1",) and sample.clip.path.endswith("a.mp4")


def test_names_that_only_look_empty_stay_labels(videos: Path) -> None:
    samples = read_samples(write(videos / "l.csv", "path,label\na.mp4,none\nb.mp4,null\nc.mp4,Nan bread\n"))
    assert [one.labels for one in samples] == [("none",), ("null",), ("Nan bread",)]


def test_paths_written_on_windows(videos: Path) -> None:
    touch(videos, "clips/d.mp4")
    (odd := videos / "odd\\name.mp4").touch()  # a name of its own here
    text = "path,label\nclips\\d.mp4,x\nodd\\name.mp4,y\n"
    samples = read_samples(write(videos / "l.csv", text))
    assert [one.clip.path for one in samples] == [str(videos / "clips" / "d.mp4"), str(odd)]
    assert samples[0].id == "clips/d.mp4"
    (sample,) = read_samples(write(videos / "l.jsonl", '{"video": "clips\\\\d.mp4", "label": "x"}\n'))
    assert sample.clip.path == str(videos / "clips" / "d.mp4")


# Mistakes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("l.csv", "path,lable\na.mp4,x\n", r"l\.csv: line 1: no label column; did you mean 'lable'.*label_column"),
        ("l.csv", "clip,label\na,x\n", r"line 1: no path column; known: 'clip', 'label'; name it with path_column"),
        ("l.csv", "path,label\n,x\n", "line 2: path is empty"),
        ("l.csv", "path,label\na.mp4,\n", "line 2: label is empty"),
        ("l.csv", "path,labels\na.mp4,x||y\n", "line 2: labels is empty"),
        ("l.csv", "path,label\na.mp4,x\n\n./a.mp4,y\n", r"line 4: the same clip as line 2 \(a.mp4\); remove one"),
        ("l.csv", "path,label,id\na.mp4,x,1\nb.mp4,y,1\n", r"line 3: the same id as line 2 \(1\)"),
        ("l.csv", "path,label,start,end\na.mp4,x,2,1\n", "line 2: end 1 is not after start 2"),
        ("l.csv", "path,label,start,end\na.mp4,x,,0\n", "line 2: end 0 is not after start 0"),
        ("l.csv", "path,label,start\na.mp4,x,0:99\n", "line 2: start '0:99' is not a time; give seconds"),
        ("l.csv", "path,label,start\na.mp4,x,1:60:00\n", "line 2: start '1:60:00' is not a time"),
        ("l.csv", "path,label,start\na.mp4,x,1:2:3:4\n", "line 2: start '1:2:3:4' is not a time"),
        ("l.csv", "path,label\na.mp4,NaN\n", "line 2: label is empty; give a label or remove the row"),
        ("l.csv", "path,labels\na.mp4,x|nan\n", "line 2: labels is empty"),
        ("l.jsonl", '{"video": "a.mp4", "label": NaN}\n', "line 1: label is empty"),
        ("l.csv", "# from a tool\n\n# of ours\npath,label\na.mp4,\n", "line 5: label is empty"),
        ("l.csv", "path,label,start\na.mp4,x,-1\n", "line 2: start '-1' is not a time"),
        ("l.csv", "path,label,end\na.mp4,x,nan\n", "line 2: end 'nan' is not a time"),
        ("l.csv", "path,label,split\na.mp4,x,trian\n", "line 2: split 'trian' is unknown; did you mean 'train'"),
        ("l.csv", "path,label,split\na.mp4,x,\n", "line 2: split '' is unknown"),
        ("l.csv", "path,label\na.mp4,x,y\n", "line 2: 3 fields where the header has 2; put quotes around"),
        ("l.csv", "path,label\na.mp4\n", "line 2: 1 fields where the header has 2"),
        ("l.csv", 'path,label\n"a.mp4,x\n', "line 2: not valid CSV"),
        ("l.csv", "path,label,label\na.mp4,x,y\n", "two columns are called 'label'"),
        ("l.csv", "a.mp4,x,y\n", "line 1: no header line"),
        ("l.csv", "path,label\n", "holds no samples"),
        ("l.csv", "", "holds no samples"),
        ("l.txt", "a.mp4 x\nb.mp4\n", "line 2: 'b.mp4' is not `path label`"),
        ("l.jsonl", '{"video": "a.mp4", "label": "x"}\n{"video": \n', "line 2: not valid JSON"),
        ("l.jsonl", "[1]\n", "line 1: must be an object such as"),
        ("l.jsonl", '{"video": "a.mp4", "label": "x"}\n{"video": "b.mp4", "lbl": "x"}\n', "line 2: no label column"),
        ("l.jsonl", '{"video": null, "label": "x"}\n', "line 1: video is empty"),
        ("l.jsonl", '{"video": "a.mp4", "label": null}\n', "line 1: label is empty"),
        ("l.jsonl", '{"video": "a.mp4", "label": 1.5}\n', "line 1: label 1.5 is not a label"),
        ("l.jsonl", '{"video": "a.mp4", "label": true}\n', "line 1: label True is not a label"),
        ("l.jsonl", '{"video": "a.mp4", "label": "x", "start": true}\n', "line 1: start True is not a time"),
        ("l.jsonl", '{"video": "a.mp4", "label": "x", "end": [1]}\n', "line 1: end \\[1\\] is not a time"),
        ("l.xlsx", "path,label\n", "not a manifest; take a folder of videos or a file ending in .csv"),
    ],
)
def test_mistakes_in_a_manifest(videos: Path, name: str, text: str, words: str) -> None:
    manifest = write(videos / name, text)
    with pytest.raises(InputError, match=words) as caught:
        read_samples(manifest)
    assert str(caught.value).startswith(str(manifest))
    assert "\n" not in str(caught.value)


def test_mistakes_in_columns_asked_for(videos: Path) -> None:
    manifest = write(videos / "l.csv", "path,label,activity\na.mp4,x,y\n")
    with pytest.raises(InputError, match="no column 'activities'; did you mean 'activity'"):
        read_samples(manifest, label_column="activities")
    with pytest.raises(InputError, match="label_separator is empty"):
        read_samples(manifest, label_separator="")
    with pytest.raises(InputError, match="no column 'klass'; known: 'label', 'path'"):
        read_samples(write(videos / "l.txt", "a.mp4 x\n"), label_column="klass")
    touch(videos / "folders", "x/a.mp4")
    with pytest.raises(InputError, match="holds no manifest"):
        read_samples(videos / "folders", label_column="klass")


def test_other_encodings_are_refused(videos: Path) -> None:
    manifest = write(videos / "l.csv", "path,label\na.mp4,x\nb.mp4,é\n", encoding="latin-1")
    with pytest.raises(InputError, match=r"l\.csv: line 3: byte 0xe9 is not UTF-8; save the file as UTF-8"):
        read_samples(manifest)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "no video.*expected <class>/<video>"),
        (("notes.csv",), r"no video.*give the file itself \(notes.csv\)"),
        (("a.mp4", "x/b.mp4"), r"a\.mp4: lies in no class folder; expected .*/<class>/a\.mp4"),
        (("train/a.mp4", "val/b.mp4"), "lies in no class folder; expected train/<class>/"),
        (("train/x/a.mp4", "train/b.mp4"), r"b\.mp4: lies in no class folder"),
        (("train/x/a.mp4", "extra/b.mp4"), "extra: lies beside split folders"),
        (("train/x/a.mp4", "val/x/b.txt"), "val: this split holds no videos; fill it or remove it"),
        (("train/x/a.mp4", "val/x/b.mp4", "validation/x/b.mp4"), "holds both val/ and validation/"),
        (("metadata.csv", "metadata.jsonl"), r"holds both metadata\.csv and metadata\.jsonl"),
        (("train.csv", "training.txt"), r"holds both train\.csv and training\.txt"),
    ],
)
def test_mistakes_in_a_folder(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_samples(touch(tmp_path / "data dir", ".keep", *names))
    assert "\n" not in str(caught.value)


def test_a_missing_source_and_a_clip_in_two_splits(videos: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such file or folder"):
        read_samples(videos / "nowhere")
    write(videos / "train.csv", "path,label\na.mp4,x\n")
    write(videos / "test.csv", "path,label\na.mp4,x\n")
    with pytest.raises(InputError, match=r"line 2: the same clip as line 2 of test\.csv \(a\.mp4\)"):
        read_samples(videos)


def test_reading_needs_no_torch() -> None:
    code = "import sys, tasks.readers.annotations, tasks.task; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
