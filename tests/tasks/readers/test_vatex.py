"""VATEX's JSON files, its splits, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.vatex import read_vatex
from tests.tasks.miniatures import vatex
from tests.tasks.miniatures.clips import with_windows_ends


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return vatex.write(tmp_path)


def test_every_split_with_all_ten_captions(folder: Path) -> None:
    data = DatasetFolder(folder)
    for split in vatex.FILES:
        samples = read_vatex(data, split)
        assert [one.id for one in samples] == vatex.ids_of(split, 4)
        assert all(len(one.captions) == 10 and len(set(one.captions)) == 9 for one in samples)
        assert all(Path(one.clip.path).is_file() for one in samples)
    assert [one.id for one in read_vatex(data, "validation_half")] == vatex.ids_of("validation", 2)


def test_clips_named_by_their_film_and_files_from_windows(folder: Path) -> None:
    for clip in (folder / "videos" / "public_test").iterdir():
        clip.rename(clip.with_name(f"{clip.stem.rsplit('_', 2)[0]}.mp4"))
    with_windows_ends(folder / vatex.FILES["public_test"])
    with_windows_ends(folder / "test_list.txt")
    data = DatasetFolder(folder)
    assert all(Path(one.clip.path).is_file() for one in read_vatex(data, "public_test"))
    assert len(read_vatex(data, "validation_half")) == 2


def test_damage_is_named(folder: Path) -> None:
    file = folder / vatex.FILES["validation"]
    good = json.loads(file.read_text(encoding="utf-8"))
    for damaged, complaint in (
        ([good[0], good[0]], r"v1.0.json: entry 2: videoID .* comes twice"),
        ([{"videoID": "a_000000_000001"}], r"v1.0.json: entry 1: there is no field 'enCap'"),
        ([good[0] | {"enCap": ["a", " "]}], r"v1.0.json: entry 1: enCap 2 ' ' is empty or no text"),
        ([good[0] | {"enCap": []}], r"v1.0.json: entry 1: enCap is empty"),
        ({"videos": good}, r"v1.0.json: must be a list of objects"),
        (good[1:], r"test_list.txt: line 1: .* is not in vatex_validation_v1.0.json"),
    ):
        file.write_text(json.dumps(damaged))
        with pytest.raises(InputError, match=complaint):
            read_vatex(DatasetFolder(folder), "validation_half")
    file.write_bytes(b'[{"videoID": "\xe9"}]')
    with pytest.raises(InputError, match=r"v1.0.json: line 1: byte 0xe9 is not UTF-8"):
        read_vatex(DatasetFolder(folder), "validation")
    file.unlink()
    with pytest.raises(InputError, match=r"there is no vatex_validation_v1.0.json in it"):
        read_vatex(DatasetFolder(folder), "validation")
