"""CalMS21's frames become clips; the background is no class."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from adapters.predictions import ClassScores
from core_encoder.errors import InputError
from tasks.readers.calms21 import BEHAVIOURS, read_calms21
from tasks.readers.dataset_folder import DatasetFolder
from tasks.registry import find_benchmark
from tests.tasks.miniatures import calms21


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return calms21.write(tmp_path)


def test_the_official_files_are_read_as_they_are(folder: Path) -> None:
    task = find_benchmark("calms21").open(folder)
    assert task.label_names == BEHAVIOURS and (len(task.samples("train")), len(task.samples("test"))) == (40, 20)
    train = task.samples("train")
    assert (train[4].id, train[4].labels, train[3].labels) == ("mouse001_task1_annotator1@4", ("attack",), ())
    assert train[0].clip.path == str(folder / "task1_videos_mp4" / "train" / "mouse001_task1_annotator1.mp4")


def test_the_map_is_that_of_scikit_learn_over_the_three_behaviours(folder: Path) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    task = find_benchmark("calms21").open(folder)
    samples = task.samples("test")
    scores = np.random.default_rng(0).random((len(samples), 3))
    answers = [ClassScores(one.id, row, task.label_names) for one, row in zip(samples, scores, strict=True)]
    truth = np.eye(4)[calms21.ANNOTATIONS["test"]["mouse071_task1_annotator1"]][:, :3]
    expected = metrics.average_precision_score(truth, scores, average=None).mean()
    assert task.judge(answers, num_draws=2).main.value == pytest.approx(expected, abs=1e-9)


def test_damage_is_named(folder: Path) -> None:
    file = folder / "task1_classic_classification" / "calms21_task1_train.json"
    good = json.loads(file.read_text())
    for given, message in (
        (
            [3, 4],
            r"train.json: annotator-id_0: task1/train/mouse001\S*: annotations: frame 1: 4 is no class from 0 to 3",
        ),
        ("x", r"annotations must be a list, not 'x'"),
        ([3] * 19, r"train.json: annotator-id_0: task1/train/mouse001\S*: annotations has 19 frames, keypoints 20"),
        ([], r"mouse001_task1_annotator1: annotations is empty"),
    ):
        content = json.loads(json.dumps(good))
        content["annotator-id_0"]["task1/train/mouse001_task1_annotator1"]["annotations"] = given
        file.write_text(json.dumps(content))
        with pytest.raises(InputError, match=message):
            read_calms21(DatasetFolder(folder), "train")
    sequence = {"annotations": [3] * 23}
    file.write_text(json.dumps({"annotator-id_0": {"task1/train/mouse001_task1_annotator1": sequence}}))
    with pytest.raises(InputError, match=r"labels 23 frames, but .*mouse001_task1_annotator1.mp4 has 20"):
        read_calms21(DatasetFolder(folder), "train")
    file.write_text('{"annotator-id_0": {}}')
    with pytest.raises(InputError, match=r"train.json: holds no sequence"):
        read_calms21(DatasetFolder(folder), "train")
