"""The moments of Charades-STA, and what is wrong with its files."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.readers.charades_sta import read_moments
from tasks.readers.dataset_folder import DatasetFolder
from tasks.registry import find_benchmark
from tests.tasks.miniatures import charades_sta
from tests.tasks.miniatures.clips import in_latin1, with_windows_ends


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return charades_sta.write(tmp_path)


def test_moments_choose_among_the_sentences_of_their_video(folder: Path) -> None:
    samples = read_moments(DatasetFolder(folder), "test")
    assert [(one.id, one.kind, len(one.options)) for one in samples] == [
        ("YSKX3_1", "several", 2),
        ("YSKX3_2", "several", 2),
        ("YSKX3_3", "several", 2),
        ("6RE8D_1", "single", 1),
        ("2AN3Q_1", "several", 2),
        ("2AN3Q_2", "several", 2),
    ]
    assert samples[2].answer == "person puts the clothes on a shelf."
    assert (samples[2].clip.start_s, samples[2].clip.end_s) == (0.5, 1.2)
    assert samples[4].options == samples[5].options and samples[4].answer != samples[5].answer
    assert all(Path(one.clip.path).is_file() for one in samples)


def test_damage_of_the_moments_is_named(folder: Path) -> None:
    file = folder / "charades_sta_test.txt"
    plain = read_moments(DatasetFolder(folder), "test")
    with_windows_ends(file)
    assert read_moments(DatasetFolder(folder), "test") == plain
    for damaged, complaint in (
        ("YSKX3 0.0 0.9 a person opens a door.\n", r"sta_test.txt: line 1: .* is not 'video start end##sentence'"),
        ("YSKX3 0.0##a person opens a door.\n", r"sta_test.txt: line 1: .* is not 'video start end##sentence'"),
        ("YSKX3 0.0 x##a person opens a door.\n", r"sta_test.txt: line 1: 'x' is not a time; times are seconds"),
        ("\nYSKX3 0.9 0.9##a person opens a door.\n", r"sta_test.txt: line 2: end 0.9 is not after start 0.9"),
        ("\n", r"sta_test.txt: holds no moment"),
    ):
        file.write_text(damaged)
        with pytest.raises(InputError, match=complaint):
            read_moments(DatasetFolder(folder), "test")
    file.write_text("\n".join(charades_sta.MOMENTS))
    in_latin1(file)
    with pytest.raises(InputError, match=r"sta_test.txt: line 2: byte 0xe9 is not UTF-8"):
        read_moments(DatasetFolder(folder), "test")
    file.unlink()
    with pytest.raises(InputError, match=r"there is no charades_sta_test.txt in it"):
        read_moments(DatasetFolder(folder), "test")


def test_moments_that_move_are_other_data(folder: Path) -> None:
    file = folder / "charades_sta_test.txt"
    digest = find_benchmark("charades-sta-mc").open(folder).digest("test")
    assert find_benchmark("charades-sta-mc").open(folder).digest("test") == digest
    file.write_text(file.read_text().replace("0.9", "0.8", 1))
    assert find_benchmark("charades-sta-mc").open(folder).digest("test") != digest
