"""NExT-OE's questions with their types and second references, beside NExT-QA's files of the same names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.next_oe import read_next_oe
from tests.tasks.miniatures import next_qa
from tests.tasks.miniatures.clips import with_windows_ends


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return next_qa.write(tmp_path)


def test_questions_with_both_references(folder: Path) -> None:
    for name in ("test.csv", "add_reference_answer_test.json"):
        with_windows_ends(folder / "NExT-OE/dataset/nextqa" / name)
    samples = read_next_oe(DatasetFolder(folder), "test")
    assert [one.kind for one in samples] == list(next_qa.TYPES) and [one.id for one in samples][1] == "2909445186_1"
    assert samples[1].texts == ("approach lady, sitting there", "unwrap it") and not samples[1].candidates
    assert samples[1].question == "what is on the table" and all(Path(one.clip.path).is_file() for one in samples)
    assert all(len(one.texts) == 1 for one in read_next_oe(DatasetFolder(folder), "val"))


def test_a_question_without_a_second_reference(folder: Path) -> None:
    file = folder / "NExT-OE/dataset/nextqa/add_reference_answer_test.json"
    file.write_text(json.dumps({"4010069381": {"0": "to play"}}))
    samples = read_next_oe(DatasetFolder(folder), "test")
    assert (
        samples[0].texts == ("share with the girl", "to play") and len(samples[1].texts) == len(samples[2].texts) == 1
    )


def test_damage_is_named(folder: Path) -> None:
    inner = folder / "NExT-OE/dataset/nextqa"
    references, file = inner / "add_reference_answer_test.json", inner / "test.csv"
    references.write_text(json.dumps({"4010069381": {"0": ""}}))
    with pytest.raises(InputError, match=r"answer_test.json: 4010069381: 0 '' is empty or no text"):
        read_next_oe(DatasetFolder(folder), "test")
    references.write_text("[]")
    with pytest.raises(InputError, match=r"answer_test.json: must be an object"):
        read_next_oe(DatasetFolder(folder), "test")
    references.write_text(json.dumps({"x": {}}))
    good = file.read_text()
    file.write_text(good.replace(f',"{next_qa.OPTIONS[0]}",0,CW', f',"{next_qa.OPTIONS[0]}",2,CW'))
    with pytest.raises(InputError, match=r"test.csv: line 4: video and qid are those of .*line 2"):
        read_next_oe(DatasetFolder(folder), "test")
    file.write_text((folder / "NExT-QA/dataset/nextqa/test.csv").read_text())
    with pytest.raises(InputError, match=r"test.csv: has options to choose from: it is NExT-QA's"):
        read_next_oe(DatasetFolder(folder), "test")
    references.unlink()
    with pytest.raises(InputError, match=r"there is no add_reference_answer_test.json in it"):
        read_next_oe(DatasetFolder(folder), "test")
