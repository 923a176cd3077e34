"""Benchmarks as declarations: read lazily, checked when asked for, found by name and by entry points."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from adapters.predictions import ClassScores
from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.errors import InputError
from tasks import registry
from tasks.benchmark import Benchmark
from tasks.catalog import SUITES, catalog_names, from_catalog
from tasks.families.classification import ClassificationTask
from tasks.readers.dataset_folder import DatasetFolder
from tasks.registry import benchmark_names, find_benchmark, register_benchmark
from tasks.sample import Sample
from tasks.task import LazySplits
from tests import ROOT

ONE_HOT = {"ant": [1.0, 0.0], "bee": [0.0, 1.0]}


def read_lists(data: DatasetFolder, split: str) -> Sequence[Sample]:
    """An official list: `name class` a line."""
    rows = [line.split() for line in data.file(f"{split}list.txt").read_text().splitlines()]
    return [Sample(name, Clip(data.video(name)), (label,), split) for name, label in rows]


def read_names(data: DatasetFolder) -> Sequence[str]:
    return data.file("classInd.txt").read_text().split()


INSECTS = Benchmark(
    name="insects",
    suite="zoo",
    family=ClassificationTask,
    reader=read_lists,
    splits={"train": "train", "test": "final"},
    metric="top1",
    metrics=("mean_class_accuracy",),
    protocol="classification-v1",
    plan=ClipPlan(16),
    classes=read_names,
    licence="CC BY 4.0",
    citation="Nobody et al., 2026",
    annotations="insects.example",
    published={"top1": {"VideoPrism-B": 87.5}},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "classInd.txt").write_text("ant\nbee\n")
    (tmp_path / "trainlist.txt").write_text("a ant\nb bee\n")
    (tmp_path / "finallist.txt").write_text("c ant\nd bee\ne bee\n")
    return tmp_path


def test_a_split_is_read_when_it_is_asked_for(folder: Path) -> None:
    (folder / "trainlist.txt").write_text("no list at all")
    task = INSECTS.open(folder)
    assert isinstance(task.splits, LazySplits) and not task.splits.was_read("test")
    assert repr(task) == "ClassificationTask('insects': 2 classes; train (not read), test (not read); top1)"
    assert [sample.id for sample in task.samples("test")] == ["c", "d", "e"]
    assert task.splits.was_read("test") and not task.splits.was_read("train")
    assert task.schema.label_names == ("ant", "bee") and task.metrics == ("top1", "mean_class_accuracy")
    with pytest.raises(ValueError, match="unpack"):
        task.samples("train")
    (folder / "trainlist.txt").unlink()
    with pytest.raises(InputError, match="task insects: the train split cannot be read: .*trainlist.txt"):
        task.samples("train")


def test_it_is_judged_like_any_task(folder: Path) -> None:
    import torch

    task = INSECTS.open(folder)
    answers = [ClassScores(name, torch.tensor(ONE_HOT["bee"]), task.label_names) for name in "cde"]
    scores = task.judge(answers, "test")
    assert scores.main.value == pytest.approx(2 / 3) and scores.values["mean_class_accuracy"].value == 0.5


def test_a_wrong_sample_is_refused_when_its_split_is_read(folder: Path) -> None:
    (folder / "finallist.txt").write_text("c ant\nd bea\n")
    task = INSECTS.open(folder)
    task.samples("train")
    assert "test" in task.splits and not task.splits.was_read("test")  # type: ignore[attr-defined]
    for _ in range(2):
        with pytest.raises(InputError, match="d: label 'bea' is not a class; did you mean 'bee'?"):
            task.samples("test")
    with pytest.raises(InputError, match="no 'tset' split; did you mean 'test'"):
        task.samples("tset")


def test_declarations_that_cannot_be(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no such folder; put the annotation files and videos of the data set there"):
        INSECTS.open(folder / "none")
    (folder / "classInd.txt").unlink()
    with pytest.raises(InputError, match=r"no classInd.txt in it or below it; get it from insects.example"):
        INSECTS.open(folder)
    with pytest.raises(InputError, match="benchmark '../x' cannot be used"):
        dataclasses.replace(INSECTS, name="../x")
    with pytest.raises(InputError, match="folder of a benchmark '../x' cannot be used"):
        dataclasses.replace(INSECTS, folder="../x")
    with pytest.raises(InputError, match="names no split 'test'"):
        dataclasses.replace(INSECTS, splits={"train": "train"})
    (folder / "classInd.txt").write_text("ant\nbee\n")
    with pytest.raises(InputError, match="no metric 'tpo1' for these labels; did you mean 'top1'"):
        dataclasses.replace(INSECTS, metric="tpo1").open(folder)
    with pytest.raises(dataclasses.FrozenInstanceError):
        INSECTS.name = "other"  # type: ignore[misc]


def test_benchmarks_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_registered", {})
    with pytest.raises(InputError, match="unknown benchmark 'insects'"):
        find_benchmark("insects")
    assert register_benchmark(INSECTS) is register_benchmark(INSECTS) is find_benchmark("insects")
    with pytest.raises(InputError, match="unknown benchmark 'insect'; did you mean 'insects'?"):
        find_benchmark("insect")
    for name in ("insects", "kinetics400"):
        with pytest.raises(InputError, match=f"{name!r} exists already"):
            register_benchmark(dataclasses.replace(INSECTS, name=name, suite="other"))


def test_the_catalog_is_imported_by_suite_and_whole() -> None:
    script = "import sys; from tasks.registry import benchmark_names; benchmark_names(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "tasks.catalog.videoglue" not in loaded.stdout.split() and "torch" not in loaded.stdout.split()
    assert len(set(catalog_names())) == len(catalog_names())
    for suite, names in SUITES.items():
        for name in names:
            found = find_benchmark(name)
            assert found is from_catalog(name) and (found.name, found.suite) == (name, suite)
            assert found.annotations and found.videos and found.licence and found.citation
            assert set(found.sizes) <= set(found.splits) and found.zero_shot == (not found.head)
    assert from_catalog("insects") is None


def test_plug_ins_are_imported_only_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    about = tmp_path / "plug-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: plug\nVersion: 1.0\n")
    points = "[prismhub.tasks]\nbeetles = plug_good:BEETLES\nmisnamed = plug_good:BEETLES\nbroken = plug_bad:X\n"
    (about / "entry_points.txt").write_text(points)
    (tmp_path / "plug_bad.py").write_text("raise RuntimeError('no luck today')")
    good = """
        import dataclasses
        from tests.tasks.test_benchmark import INSECTS

        BEETLES = dataclasses.replace(INSECTS, name="beetles")
    """
    (tmp_path / "plug_good.py").write_text(textwrap.dedent(good))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {"beetles", "misnamed", "broken"} <= set(benchmark_names())
    assert "plug_good" not in sys.modules and "plug_bad" not in sys.modules
    assert find_benchmark("beetles").name == "beetles"
    with pytest.raises(InputError, match="'misnamed' of plug-in 'plug' is no Benchmark of that name"):
        find_benchmark("misnamed")
    with pytest.raises(InputError, match="'broken' of plug-in 'plug' cannot be imported: no luck today"):
        find_benchmark("broken")
