"""ATP-Hard: rows of NExT-QA's val.csv, by a list in the folder or by the one of the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.readers import next_qa as reader
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.next_qa import read_atp_hard
from tests.tasks.miniatures import next_qa
from tests.tasks.miniatures.clips import with_windows_ends


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return next_qa.write(tmp_path)


def test_rows_of_the_list_in_the_folder(folder: Path) -> None:
    samples = read_atp_hard(DatasetFolder(folder), "val")
    assert [(one.id, one.kind) for one in samples] == [
        ("4010069381_0", "CW"),
        ("4010069381_2", "CH"),
        ("2909445186_3", "TN"),
        ("4010069381_6", "TN"),  # a TP question
    ]
    assert samples[1].options == next_qa.OPTIONS and samples[1].answer == "unwrap it"
    assert all(Path(one.clip.path).is_file() for one in samples)


def test_a_flat_folder_without_a_map(folder: Path) -> None:
    flat = folder / "flat"
    flat.mkdir()
    (folder / "NExT-QA/dataset/nextqa/val.csv").rename(flat / "val.csv")
    (folder / "NExT-QA/dataset/nextqa/atp-hard-ct4.txt").rename(flat / "atp-hard-ct4.txt")
    for name, place in next_qa.MAP.items():
        (folder / "NExTVideo" / f"{place}.mp4").rename(flat / f"{name}.mp4")
    with_windows_ends(flat / "val.csv")
    with_windows_ends(flat / "atp-hard-ct4.txt")
    samples = read_atp_hard(DatasetFolder(flat), "val")
    assert len(samples) == 4 and all(Path(one.clip.path).is_file() for one in samples)


def test_the_list_of_the_package_is_for_the_whole_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [int(row) for row in Path(reader.__file__).with_name("next_qa_atp_hard.txt").read_text().split()]
    assert (len(rows), len(set(rows)), sorted(rows) == rows, rows[-1] < reader.ROWS) == (2269, 2269, True, True)
    (folder / "NExT-QA/dataset/nextqa/atp-hard-ct4.txt").unlink()
    with pytest.raises(InputError, match=r"val.csv: holds 8 questions, not the 4,996 whose numbers ATP-Hard lists"):
        read_atp_hard(DatasetFolder(folder), "val")
    monkeypatch.setattr(reader, "ROWS", 8)
    with pytest.raises(InputError, match=r"atp_hard.txt: line 4: row 4 of .*val.csv is no causal or temporal"):
        read_atp_hard(DatasetFolder(folder), "val")


def test_damage_is_named(folder: Path) -> None:
    rows = folder / "NExT-QA/dataset/nextqa/atp-hard-ct4.txt"
    for damaged, complaint in (
        ("0\n8\n", r"ct4.txt: line 2: '8' is no row of val.csv, which holds 8, from 0"),
        ("0\n-1\n", r"ct4.txt: line 2: '-1' is no row"),
        ("1\n", r"ct4.txt: line 1: row 1 of .*val.csv is no causal or temporal question: its type in line 3 is 'DO'"),
        ("0\n0\n", r"ct4.txt: line 2: '0' is in line 1 already"),
        ("", r"ct4.txt: holds no name"),
    ):
        rows.write_text(damaged)
        with pytest.raises(InputError, match=complaint):
            read_atp_hard(DatasetFolder(folder), "val")
    rows.write_text("0\n")
    file = folder / "NExT-QA/dataset/nextqa/val.csv"
    good = file.read_text()
    file.write_text(good.replace(",0,0,CW", ",7,0,CW"))
    with pytest.raises(InputError, match=r"val.csv: line 2: answer '7' is no index of the 5 options"):
        read_atp_hard(DatasetFolder(folder), "val")
    (folder / "NExT-OE/dataset/nextqa/val.csv").replace(file)  # the same name, without options
    with pytest.raises(InputError, match=r"val.csv: line 1: has no options a0 to a4: it is NExT-OE's; get NExT"):
        read_atp_hard(DatasetFolder(folder), "val")
