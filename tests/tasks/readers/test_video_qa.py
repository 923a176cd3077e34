"""MSRVTT-QA and MSVD-QA: questions, the videos they are about, frequent answers, and what is wrong with the files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.video_qa import frequent_answers, read_msrvtt_qa, read_msvd_qa
from tests.tasks.miniatures import video_qa
from tests.tasks.miniatures.clips import with_windows_ends


def test_questions_of_msr_vtt(tmp_path: Path) -> None:
    data = DatasetFolder(video_qa.write_msrvtt_qa(tmp_path))
    samples = read_msrvtt_qa(data, "test")
    assert len(samples) == 9 and samples[0].question == "what is a person doing?"
    assert samples[0].id == "video7010_15" and samples[0].texts == ("talk",) and samples[-1].texts == ("guitar",)
    assert [Path(one.clip.path).name for one in samples[::3]] == ["video7010.mp4", "video7011.mp4", "video9770.mp4"]
    assert all(Path(one.clip.path).is_file() for split in ("train", "val") for one in read_msrvtt_qa(data, split))


def test_questions_of_msvd_find_their_clip_by_the_mapping(tmp_path: Path) -> None:
    folder = video_qa.write_msvd_qa(tmp_path)
    for name in ("youtube_mapping.txt", "MSVD-QA/test_qa.json"):
        with_windows_ends(folder / name)
    samples = read_msvd_qa(DatasetFolder(folder), "test")
    assert [one.id for one in samples] == ["vid1201_9", "vid1201_10", "vid1201_11"]
    assert Path(samples[0].clip.path).name == "-7KMZQEsJW4_205_208.mp4" and Path(samples[0].clip.path).is_file()


def test_the_most_frequent_answers_of_one_word(tmp_path: Path) -> None:
    folder = video_qa.write_msrvtt_qa(tmp_path)
    assert frequent_answers(DatasetFolder(folder)) == ("man", "talk", "couch", "two", "square")
    assert frequent_answers(DatasetFolder(folder), most=2) == ("man", "talk")
    file = folder / "MSRVTT-QA" / "val_qa.json"
    more = [{"answer": answer, "id": k, "question": "who?", "video_id": 1} for k, answer in enumerate(["Two"] * 9)]
    more += [{"answer": "two men", "id": 99 + k, "question": "who?", "video_id": 1} for k in range(20)]
    file.write_text(json.dumps(more))
    assert frequent_answers(DatasetFolder(folder))[:2] == ("two", "man")


def test_damage_is_named(tmp_path: Path) -> None:
    folder = video_qa.write_msvd_qa(tmp_path)
    file, mapping = folder / "MSVD-QA" / "test_qa.json", folder / "youtube_mapping.txt"
    good, clips = json.loads(file.read_text()), mapping.read_text()
    for damaged, complaint in (
        ([good[0] | {"video_id": "x"}], r"test_qa.json: entry 1: video_id 'x' is no whole number"),
        ([good[0], good[1] | {"video_id": 7}], r"test_qa.json: entry 2: video_id: vid7 is not in youtube_mapping.txt"),
        ([good[0] | {"answer": None}], r"test_qa.json: entry 1: answer None is empty or no text"),
        ([{"answer": "man", "video_id": 1}], r"test_qa.json: entry 1: there is no field 'id'"),
        ({"a": 1}, r"test_qa.json: must be a list of objects"),
    ):
        file.write_text(json.dumps(damaged))
        with pytest.raises(InputError, match=complaint):
            read_msvd_qa(DatasetFolder(folder), "test")
    file.write_text(json.dumps(good))
    for text, complaint in (
        ("-4wsuPCjDBc_5_15\n", r"mapping.txt: line 1: '-4wsuPCjDBc_5_15' is not a clip and a new 'vid'"),
        (clips + "\nother_1_2 vid1\n", r"mapping.txt: line 4: 'other_1_2 vid1' is not a clip and a new 'vid'"),
    ):
        mapping.write_text(text)
        with pytest.raises(InputError, match=complaint):
            read_msvd_qa(DatasetFolder(folder), "test")
    mapping.unlink()
    with pytest.raises(InputError, match=r"there is no youtube_mapping.txt in it"):
        read_msvd_qa(DatasetFolder(folder), "test")
