"""`prismhub tasks check` of every benchmark with a file that is wrong, and with a video that is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from prismhub.cli import run
from tasks.catalog import catalog_names
from tasks.registry import find_benchmark
from tests.tasks.miniatures.damage import damages_of
from tests.tasks.miniatures.every import write_data_of
from tests.tasks.miniatures.readings import content_of, files_read, reading


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("all data sets")


@pytest.mark.parametrize("name", catalog_names())
def test_wrong_annotations_are_one_line(name: str, root: Path, says: Callable[..., str]) -> None:
    benchmark = find_benchmark(name)
    folder = write_data_of(benchmark, root)
    for file in files_read(benchmark, folder):
        damage = next(damage for damage in damages_of(file) if damage.right == "error")
        with content_of(file, damage.content):
            line = says(2, "tasks", "check", name, "--root", str(root), "--open", "0")
        assert str(file) in line, (file, line)


@pytest.mark.parametrize("name", catalog_names())
def test_a_missing_video_is_named(name: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With where it was looked for and where one gets it; everything else stays as it was."""
    benchmark = find_benchmark(name)
    folder = write_data_of(benchmark, root)
    names, whole = reading(benchmark, folder)
    video = Path(whole["test"][0].clip.path)
    away = video.rename(folder / ".away")
    try:
        assert run(["tasks", "check", name, "--root", str(root), "--open", "0"]) == 3
        out, err = capsys.readouterr()
        names_then, then = reading(benchmark, folder)
    finally:
        away.rename(video)
    place = next(sample.clip.path for sample in then["test"] if sample.id == whole["test"][0].id)
    assert f"test: missing: {place}\n" in err and "Traceback" not in out + err
    assert Path(place).parent.is_relative_to(folder) and video.stem.startswith(Path(place).stem)
    assert f"looked for by name anywhere below {folder}; they are: {benchmark.videos}" in err
    assert names_then == names and [one.id for one in then["test"]] == [one.id for one in whole["test"]]
    assert [one.labels for one in then["test"]] == [one.labels for one in whole["test"]]
