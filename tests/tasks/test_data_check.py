"""The data of every benchmark is checked whole, with a video less, and with annotations that nobody can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.catalog import SUITES
from tasks.data_check import check_data
from tasks.registry import find_benchmark
from tests.tasks.miniatures.clips import with_windows_ends
from tests.tasks.miniatures.every import write_data_of

NAMES = [name for names in SUITES.values() for name in names]
READ_WHOLE = [name for suite in ("videoglue", "science") for name in SUITES[suite]]  # each reads all of its files
OF_OTHERS = ("charades_sta_", "eval_ssv2_", "train.json", "val_1.json", "val_2.json")  # that lie in the same folders


@pytest.mark.parametrize("name", NAMES)
def test_every_miniature_is_whole_until_a_video_is_taken_away(name: str, tmp_path: Path) -> None:
    benchmark = find_benchmark(name)
    folder = write_data_of(benchmark, tmp_path)
    found = check_data(benchmark, folder)
    assert not found.errors and not found.lacks_videos
    assert [one.split for one in found.splits] == list(benchmark.splits)
    assert all(one.samples >= one.videos == one.opened > 0 for one in found.splits)
    assert (found.classes >= 2 or not benchmark.classes) and found.protocol == benchmark.protocol
    task = benchmark.open(folder)
    task.check_targets()
    gone = Path(task.samples("test")[0].clip.path)
    gone.unlink()
    again = next(one for one in check_data(benchmark, folder).splits if one.split == "test")
    assert [Path(path).stem for path in again.missing] in (
        [gone.stem],
        [gone.stem.rsplit("_", 2)[0]],
        [f"v_{gone.stem}"],
    )
    assert again.samples == next(one.samples for one in found.splits if one.split == "test")


@pytest.mark.parametrize("name", NAMES)
def test_files_from_windows_mean_the_same(name: str, tmp_path: Path) -> None:
    benchmark = find_benchmark(name)
    folder = write_data_of(benchmark, tmp_path)
    plain = benchmark.open(folder)
    digests = {split: plain.digest(split) for split in plain.splits}
    for file in folder.rglob("*"):
        if file.suffix in (".csv", ".json", ".txt", ".pbtxt"):
            with_windows_ends(file)
    task = benchmark.open(folder)
    assert {split: task.digest(split) for split in task.splits} == digests


@pytest.mark.parametrize("name", NAMES)
def test_an_annotation_file_that_is_no_text_is_named(name: str, tmp_path: Path) -> None:
    benchmark = find_benchmark(name)
    folder = write_data_of(benchmark, tmp_path)
    noticed = 0
    files = [path for path in folder.rglob("*") if path.suffix in (".csv", ".json", ".txt", ".mat", ".pbtxt")]
    for file in files:
        if file.stat().st_size and "train_excluded" not in file.name:
            good = file.read_bytes()
            file.write_bytes(good[:20] + b"\xff\xfe\xe9" + good[20:])
            try:
                errors = check_data(benchmark, folder, most_opened=0).errors
            except ValueError as error:  # an InputError: the class names cannot be read
                errors = [str(error)]
            read = name in READ_WHOLE and not file.name.startswith(OF_OTHERS)
            assert (errors or not read) and all(len(one.splitlines()) == 1 for one in errors), file.name
            assert not errors or any(file.name in one for one in errors), (file.name, errors)
            noticed += bool(errors)
            file.write_bytes(good)
    assert noticed


def test_a_further_split_may_be_absent_but_none_that_is_trained_or_judged_on(tmp_path: Path) -> None:
    benchmark = find_benchmark("vatex-t2v")
    folder = write_data_of(benchmark, tmp_path)
    next(folder.rglob("vatex_public_test*.json")).unlink()
    found = check_data(benchmark, folder)
    further = next(one for one in found.splits if one.split == "public_test")
    assert not found.errors and "there is no vatex_public_test_english_v1.1.json" in further.absent
    next(folder.rglob("vatex_validation_v1.0.json")).unlink()
    assert "there is no vatex_validation_v1.0.json" in check_data(benchmark, folder).errors[0]
