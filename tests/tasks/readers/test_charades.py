"""Charades' CSV: several actions a video, and the official rule for videos without any."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adapters.predictions import ClassScores
from core_encoder.errors import InputError
from tasks.readers.charades import charades_classes, read_charades
from tasks.readers.dataset_folder import DatasetFolder
from tasks.registry import find_benchmark
from tests.tasks.miniatures import charades
from tests.tasks.miniatures.clips import in_latin1, with_windows_ends


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return charades.write(tmp_path)


def official_map(scores: np.ndarray, truth: np.ndarray) -> float:
    """Charades_v1_classify.m, by loops: videos without an action sink to the bottom of every class."""
    scores = np.where(truth.any(1, keepdims=True), scores, -np.inf)
    values = []
    for k in range(truth.shape[1]):
        hits, precisions = 0, []
        for seen, video in enumerate(sorted(range(len(scores)), key=lambda v: -scores[v, k]), start=1):
            if truth[video, k]:
                hits += 1
                precisions.append(hits / seen)
        values.append(sum(precisions) / len(precisions))
    return sum(values) / len(values)


def test_the_official_files_are_read_as_they_are(folder: Path) -> None:
    for _ in range(2):
        task = find_benchmark("charades").open(folder)
        assert task.label_names == charades.CLASSES
        assert [(one.id, one.labels) for one in task.samples("test")] == [
            ("YSKX3", charades.CLASSES[:2]),
            ("2AN3Q", charades.CLASSES[2:]),
        ]
        assert all(Path(sample.clip.path).is_file() for split in task.splits for sample in task.samples(split))
        with_windows_ends(folder / "Charades_v1_test.csv")
        with_windows_ends(folder / "Charades_v1_classes.txt")


def test_leaving_out_videos_without_an_action_gives_the_official_map(folder: Path) -> None:
    rng = np.random.default_rng(0)
    names = [f"V{number:04d}" for number in range(60)]
    truth = rng.random((60, 3)) < 0.3
    scores = rng.random((60, 3))
    rows = []
    for name, row in zip(names, truth, strict=True):
        actions = ";".join(f"c{k:03d} 0.00 1.00" for k in np.flatnonzero(row))
        rows.append(f"{name},,,,,,,,,{actions},1.00\n")
    (folder / "Charades_v1_test.csv").write_text(charades.HEADER + "".join(rows))
    task = find_benchmark("charades").open(folder)
    at = dict(zip(names, scores, strict=True))
    answers = [ClassScores(one.id, at[one.id], task.label_names) for one in task.samples("test")]  # type: ignore[arg-type]
    assert not truth.any(1).all()
    assert task.judge(answers, num_draws=2).main.value == pytest.approx(official_map(scores, truth), abs=1e-12)


def test_damage_is_named(folder: Path) -> None:
    file = folder / "Charades_v1_train.csv"
    good = file.read_text()
    file.write_text(good.replace("c001 0.10", "c003 0.10"))
    with pytest.raises(InputError, match=r"train.csv: line 3: actions: 'c003 0.10 0.90' is no 'c000 start end' of one"):
        read_charades(DatasetFolder(folder), "train")
    file.write_text(good.replace(",actions,", ",action,"))
    with pytest.raises(InputError, match=r"train.csv: line 1: there is no column 'actions'"):
        read_charades(DatasetFolder(folder), "train")
    file.write_text(good)
    in_latin1(file)
    with pytest.raises(InputError, match=r"train.csv: line 2: byte 0xe9 is not UTF-8"):
        read_charades(DatasetFolder(folder), "train")
    for content, message in (("c000 A\nc002 B\n", "line 2: expected 'c001 name of the class'"), ("", "holds no class")):
        (folder / "Charades_v1_classes.txt").write_text(content)
        with pytest.raises(InputError, match=message):
            charades_classes(DatasetFolder(folder))
