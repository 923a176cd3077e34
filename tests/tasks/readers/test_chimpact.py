"""ChimpACT's boxes by frame, all of which count."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from adapters.boxes import BoxScores
from core_encoder.errors import InputError
from tasks.readers.boxes import BoxSample
from tasks.readers.chimpact import BEHAVIOURS, read_chimpact
from tasks.readers.dataset_folder import DatasetFolder
from tasks.registry import find_benchmark
from tests.tasks.miniatures import chimpact


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return chimpact.write(tmp_path)


def test_the_official_files_are_read_as_they_are(folder: Path) -> None:
    task = find_benchmark("chimpact").open(folder)
    assert len(task.label_names) == 23 and list(task.splits) == ["train", "val", "test"]
    one, two = task.samples("test")
    assert isinstance(one, BoxSample) and isinstance(two, BoxSample)
    assert (one.labels, one.time_s) == (("moving", "touching", "resting"), 0.0)
    assert (two.labels, two.time_s, two.asked[0].id) == (("playing",), 1.0, "4")
    assert len(one.asked) == 2 and Path(one.clip.path).is_file()


def test_all_rows_of_a_frame_count(folder: Path) -> None:
    """Four strays with 23 classes each are more than the 50 rows that AVA's evaluator reads."""
    task = find_benchmark("chimpact").open(folder)
    answers = []
    for sample in task.samples("test"):
        assert isinstance(sample, BoxSample)
        corners = [box.corners for box in sample.actors] + [(0.0, 0.0, 0.05, 0.05 + k / 100) for k in range(4)]
        scores = torch.zeros(len(corners), 23)
        scores[-4:] = 0.9
        for row, box in enumerate(sample.actors):
            scores[row, BEHAVIOURS.index(box.label)] = 0.5
        rows = len(corners)
        spans, tracks = ((0.0, 1.0),) * rows, ("",) * rows
        answers.append(
            BoxScores(sample.id, (sample.time_s,) * rows, spans, tuple(corners), tracks, scores, BEHAVIOURS, True)
        )
    assert task.judge(answers, num_draws=2).main.value == pytest.approx(1 / 9)  # eight strays before each right one
    metric = task.metric()
    metric.update(answers, task.truths(task.samples("test")))
    assert metric.compute() == pytest.approx(1 / 9)
    capped = dataclasses.replace(task, most_rows=50)  # type: ignore[call-arg]
    assert capped.judge(answers, num_draws=2).main.value == 0


def test_damage_is_named(folder: Path) -> None:
    file = folder / "test_action.csv"
    good = file.read_text()
    for old, new, message in (
        (",1,4\n", ",24,4\n", r"test_action.csv: line 1: behaviour '24' is none of 1 to 23"),
        (",0,0.1", ",0.5,0.1", r"test_action.csv: line 1: frame 0.5 is no whole number"),
        (",25,0.12", ",250,0.12", r"test_action.csv: line 4: there is no frame 250, counted from 0: .* has 50"),
        (",0,0.1,0.2", ",0,0.1,1.2", r"test_action.csv: line 1: box"),
    ):
        file.write_text(good.replace(old, new, 1))
        with pytest.raises(InputError, match=message):
            read_chimpact(DatasetFolder(folder), "test")
