"""What a head on boxes is compared with: a constant answer scores the share of each class, and groups are parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.pretraining.box_baselines import constant_answers, group_scores, head_answers
from pretrain.world.actor_videos import write_actor_videos
from tasks.families.spatiotemporal import SpatiotemporalTask


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> SpatiotemporalTask:
    world = write_actor_videos(tmp_path_factory.mktemp("actors"), {"train": 6, "val": 2, "test": 4}, size=48)
    files = {"val": world / "ava_val.csv", "test": world / "ava_test.csv", "labels": world / "labels.pbtxt"}
    samples = SpatiotemporalTask.read_samples(world / "ava_train.csv", videos=world / "clips", **files)
    return SpatiotemporalTask.from_samples(samples, "actors")


def test_a_constant_answer_scores_the_share_of_each_class(task: SpatiotemporalTask) -> None:
    boxes = [box for sample in task.samples("test") for box in task.targets([sample])[0]]
    people = 2 * len(task.samples("test"))
    shares = [sum(box.label == name for box in boxes) / people for name in task.label_names]
    present = [share for share in shares if share]
    answers = constant_answers(task, "test")
    assert task.judge(answers, "test").main.value == pytest.approx(sum(present) / len(present), abs=1e-6)
    assert list(group_scores(task, answers, {"motion": task.label_names[:7]})) == ["all", "motion"]


@pytest.mark.slow
def test_the_head_is_trained_and_answers_for_every_moment(task: SpatiotemporalTask, tmp_path: Path) -> None:
    from adapters.training.training_config import TrainingConfig
    from benchmarks.pretraining.box_baselines import _Aloud
    from core_encoder import load_encoder

    training = TrainingConfig(epochs=1, batch_size=6, accelerator="cpu")
    answers = head_answers(task, load_encoder("nano"), training, tmp_path / "store", tmp_path / "run", _Aloud())
    assert [answer.sample_id for answer in answers] == [sample.id for sample in task.samples("test")]
