"""MSR-VTT's public splits, from the files of two projects and from the data set's own."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.msr_vtt_splits import read_msr_vtt, read_msr_vtt_1k
from tests.tasks.miniatures import msr_vtt
from tests.tasks.miniatures.clips import in_latin1, reordered, with_windows_ends, without_column


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return msr_vtt.write(tmp_path)


def pairs(folder: Path) -> dict[str, tuple[str, ...]]:
    samples = read_msr_vtt_1k(DatasetFolder(folder), "1k-a")
    assert all(Path(sample.clip.path).is_file() and sample.clip.end_s is None for sample in samples)
    return {sample.id: sample.captions for sample in samples}


def test_the_table_of_1k_a(folder: Path) -> None:
    wanted = {name: (msr_vtt.captions_of(name)[0],) for name in msr_vtt.TEST}
    assert pairs(folder) == wanted
    with_windows_ends(folder / "MSRVTT_JSFUSION_test.csv")
    assert pairs(folder) == wanted
    entries = [{"video": f"{name}.mp4", "caption": caption} for name, (caption,) in wanted.items()]
    (folder / "MSRVTT_JSFUSION_test.csv").unlink()
    (folder / "msrvtt_test1k.json").write_text(json.dumps(entries))
    assert pairs(folder) == wanted


def test_a_list_says_which_caption_each_video_is_asked_for_with(folder: Path) -> None:
    places = msr_vtt.as_frozen_in_time(folder)
    assert pairs(folder) == {name: (msr_vtt.captions_of(name)[place],) for name, place in places.items()}
    msr_vtt.write_json(folder / "annotation" / "MSR_VTT.json")  # the data set's own format holds the same
    assert pairs(folder) == {name: (msr_vtt.captions_of(name)[place],) for name, place in places.items()}


def test_columns_in_another_order(folder: Path) -> None:
    file = folder / "MSRVTT_JSFUSION_test.csv"
    file.write_text("key,vid_key,video_id,sentence\nret0,msr7010,video7010,a man talks\n")
    reordered(file)
    assert pairs(folder) == {"video7010": ("a man talks",)}


def test_official_splits_with_all_captions(folder: Path) -> None:
    data = DatasetFolder(folder)
    by_split = {
        split: {one.id: one.captions for one in read_msr_vtt(data, split)} for split in ("train", "val", "test")
    }
    assert {split: tuple(found) for split, found in by_split.items()} == {
        "train": ("video0", "video6512"),
        "val": ("video6513",),
        "test": msr_vtt.TEST,
    }
    assert by_split["test"] == {name: tuple(msr_vtt.captions_of(name)) for name in msr_vtt.TEST}
    assert len(set(by_split["test"]["video7011"])) == 2  # a caption that is written twice counts twice


def test_splits_by_number_where_none_is_written(folder: Path) -> None:
    msr_vtt.write_json(folder / "MSRVTT_data.json", splits=False)
    assert [one.id for one in read_msr_vtt(DatasetFolder(folder), "val")] == ["video6513"]
    (folder / "MSRVTT_data.json").rename(folder / "test_videodatainfo.json")
    assert [one.id for one in read_msr_vtt(DatasetFolder(folder), "test")] == list(msr_vtt.TEST)


def test_damage_is_named(folder: Path) -> None:
    file = folder / "MSRVTT_JSFUSION_test.csv"
    good = file.read_text()
    for damaged, complaint in (
        (good.replace("video7011", "video7010"), r"test.csv: line 3: video 'video7010' comes twice"),
        (good.replace('"a little girl does gymnastics"', ""), r"test.csv: line 2: sentence is empty"),
    ):
        file.write_text(damaged)
        with pytest.raises(InputError, match=complaint):
            pairs(folder)
    file.write_text(good)
    in_latin1(file)
    with pytest.raises(InputError, match=r"test.csv: line 2: byte 0xe9 is not UTF-8"):
        pairs(folder)
    file.write_text("key,vid_key,video_id,sentence\nret0,msr7010,video7010,a man talks\n")
    without_column(file, "sentence")
    with pytest.raises(InputError, match=r"test.csv: line 1: there is no column 'sentence'"):
        pairs(folder)
    file.unlink()
    with pytest.raises(InputError, match=r"there is no MSRVTT_JSFUSION_test.csv or msrvtt_test1k.json in it or below"):
        pairs(folder)


def test_damage_of_the_listed_form_is_named(folder: Path) -> None:
    places = msr_vtt.as_frozen_in_time(folder)
    lists = folder / "structured-symlinks"
    numbers = lists / "jsfusion_val_caption_idx.pkl"
    for content, complaint in (
        (pickle.dumps(places | {"video7010": 3}), r"line 1: .*names none of the 3 captions of video 'video7010'"),
        (pickle.dumps({"video7010": 0}), r"line 2: .*names none of the 3 captions of video 'video7011'"),
        (pickle.dumps(list(places)), r"caption_idx.pkl: not a dictionary.*EMPTY_LIST.*get MSRVTT_JSFUSION_test.csv"),
        (pickle.dumps({"video7010": Path("x")}), r"caption_idx.pkl: not a dictionary.*get MSRVTT_JSFUSION"),
        (b"\x80\x03}q", r"caption_idx.pkl: not a dictionary"),
    ):
        numbers.write_bytes(content)
        with pytest.raises(InputError, match=complaint):
            pairs(folder)
    numbers.write_bytes(pickle.dumps(places))
    (lists / "val_list_jsfusion.txt").write_text("video7010\n\nvideo1\n")
    with pytest.raises(InputError, match=r"jsfusion.txt: line 3: video 'video1' is not in MSR_VTT.json"):
        pairs(folder)
    (lists / "val_list_jsfusion.txt").write_text("video7010\nvideo7010\n")
    with pytest.raises(InputError, match=r"jsfusion.txt: line 2: 'video7010' is in line 1 already"):
        pairs(folder)


def test_a_pickle_is_never_run(folder: Path, tmp_path: Path) -> None:
    msr_vtt.as_frozen_in_time(folder)
    trace = tmp_path / "trace"
    harmful = f"cpathlib\nPath\n(V{trace}\ntRctouch\n.".encode()
    (folder / "structured-symlinks" / "jsfusion_val_caption_idx.pkl").write_bytes(harmful)
    with pytest.raises(InputError, match="it holds GLOBAL"):
        pairs(folder)
    assert not trace.exists()


def test_a_file_without_the_split_is_refused(folder: Path) -> None:
    msr_vtt.write_json(folder / "MSRVTT_data.json", ("video0",))
    with pytest.raises(InputError, match=r"MSRVTT_data.json: no video of it is of split 'test'"):
        read_msr_vtt(DatasetFolder(folder), "test")
