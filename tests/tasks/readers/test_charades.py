"""Charades' CSV files and the moments of Charades-STA."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.readers.charades import charades_classes, read_charades
from tasks.readers.charades_sta import read_moments
from tasks.readers.dataset_folder import DatasetFolder
from tests.tasks.miniatures import charades
from tests.tasks.miniatures.clips import in_latin1, with_windows_ends


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return charades.write(tmp_path)


def test_a_video_has_the_classes_of_its_actions(folder: Path) -> None:
    data = DatasetFolder(folder)
    assert charades_classes(data) == charades.CLASSES
    samples = read_charades(data, "test")
    assert {one.id: one.labels for one in samples} == {
        "46GP8": ("Putting clothes somewhere", "Opening a door"),
        "N11GT": ("Holding some clothes",),
        "0IH69": (),
        "YSKX3": ("Taking some clothes from somewhere", "Holding some clothes"),
    }
    assert all(Path(one.clip.path).is_file() for one in samples)
    assert [one.id for one in read_charades(data, "train")] == [f"T{name}" for name in charades.ACTIONS]


def test_files_from_windows(folder: Path) -> None:
    plain = read_charades(DatasetFolder(folder), "test"), read_moments(DatasetFolder(folder), "test")
    for name in ("Charades/Charades_v1_test.csv", "Charades/Charades_v1_classes.txt", "charades_sta_test.txt"):
        with_windows_ends(folder / name)
    assert (read_charades(DatasetFolder(folder), "test"), read_moments(DatasetFolder(folder), "test")) == plain


def test_moments_choose_among_the_sentences_of_their_video(folder: Path) -> None:
    samples = read_moments(DatasetFolder(folder), "test")
    assert [(one.id, one.kind, len(one.options)) for one in samples] == [
        ("46GP8_1", "several", 2),
        ("46GP8_2", "several", 2),
        ("46GP8_3", "several", 2),
        ("N11GT_1", "single", 1),
        ("YSKX3_1", "several", 2),
        ("YSKX3_2", "several", 2),
    ]
    assert samples[2].answer == "person puts the clothes on a shelf."
    assert (samples[2].clip.start_s, samples[2].clip.end_s) == (1.2, 2.4)
    assert samples[4].options == samples[5].options and samples[4].answer != samples[5].answer
    assert all(Path(one.clip.path).is_file() for one in samples)


def test_damage_of_the_csv_is_named(folder: Path) -> None:
    file, classes = folder / "Charades" / "Charades_v1_test.csv", folder / "Charades" / "Charades_v1_classes.txt"
    good, known = file.read_text(), classes.read_text()
    for damaged, complaint in (
        (good.replace("c003 0.00", "c157 0.00"), r"test.csv: line 2: actions: 'c157 0.00 0.90' begins with no class"),
        (good.replace("N11GT", "46GP8"), r"test.csv: line 3: video '46GP8' comes twice"),
        (good.replace(",actions,", ",deeds,"), r"test.csv: line 1: there is no column 'actions'"),
        (good.replace(",2.0\n", "\n", 1), r"test.csv: line 2: has 10 fields instead of 11: length is missing"),
    ):
        file.write_text(damaged)
        with pytest.raises(InputError, match=complaint):
            read_charades(DatasetFolder(folder), "test")
    file.write_text(good)
    for damaged, complaint in (
        (known.replace("c001 Putting clothes somewhere", "c001"), r"classes.txt: line 2: 'c001' is not a new number"),
        (known.replace("c001 P", "c000 P"), r"classes.txt: line 2: 'c000 Putting clothes somewhere' is not a new"),
        ("\n", r"classes.txt: holds no class"),
    ):
        classes.write_text(damaged)
        with pytest.raises(InputError, match=complaint):
            charades_classes(DatasetFolder(folder))


def test_damage_of_the_moments_is_named(folder: Path) -> None:
    file = folder / "charades_sta_test.txt"
    for damaged, complaint in (
        ("46GP8 0.0 0.9 a person opens a door.\n", r"sta_test.txt: line 1: .* is not 'video start end##sentence'"),
        ("46GP8 0.0##a person opens a door.\n", r"sta_test.txt: line 1: .* is not 'video start end##sentence'"),
        ("46GP8 0.0 x##a person opens a door.\n", r"sta_test.txt: line 1: 'x' is not a time; times are seconds"),
        ("\n46GP8 0.9 0.9##a person opens a door.\n", r"sta_test.txt: line 2: end 0.9 is not after start 0.9"),
        ("\n", r"sta_test.txt: holds no moment"),
    ):
        file.write_text(damaged)
        with pytest.raises(InputError, match=complaint):
            read_moments(DatasetFolder(folder), "test")
    file.write_text("\n".join(charades.MOMENTS))
    in_latin1(file)
    with pytest.raises(InputError, match=r"sta_test.txt: line 2: byte 0xe9 is not UTF-8"):
        read_moments(DatasetFolder(folder), "test")
    file.unlink()
    with pytest.raises(InputError, match=r"there is no charades_sta_test.txt in it"):
        read_moments(DatasetFolder(folder), "test")
