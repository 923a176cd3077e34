"""The retrieval family: what it reads, splits without labels, and how it judges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adapters.context import TargetSchema
from adapters.predictions import Embedding
from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from tasks.families.retrieval import RetrievalTask
from tasks.judges import judge
from tasks.own_data import evaluation_split, read_task
from tasks.readers.captions import CaptionedSample
from tasks.sample import Sample


def samples_of(count: int, split: str | None = "test") -> list[CaptionedSample]:
    return [CaptionedSample(f"v{k}", Clip(f"{k}.mp4"), (), split, (f"text {k}", f"other {k}")) for k in range(count)]


def exact(task: RetrievalTask, split: str = "test") -> list[Embedding]:
    """Every video and its texts lie on an axis of their own."""
    eye = torch.eye(len(task.samples(split)))
    return [Embedding(s.id, eye[k], eye[[k, k]]) for k, s in enumerate(task.samples(split))]


def test_perfect_and_shifted_answers() -> None:
    task = RetrievalTask.from_samples(samples_of(12), "pairs")
    scores = task.judge(exact(task))
    assert {name: one.value for name, one in scores.values.items() if name.endswith("r1")} == {"t2v_r1": 1, "v2t_r1": 1}
    assert scores.main_metric == "t2v_r1" and scores.values["t2v_median_rank"].unit == "rank"
    assert str(scores.values["v2t_mean_rank"]) == "1 [1, 1] (rank)" and str(scores.main) == "100.0 [100.0, 100.0]"
    given = exact(task)
    shifted = [Embedding(one.sample_id, one.values, given[k - 1].texts) for k, one in enumerate(given)]
    assert task.judge(shifted).main.value == 0
    assert task.metric().name == "t2v_r1" and task.schema == TargetSchema("pairs")


@pytest.mark.parametrize("texts", [1, 2])
def test_ties_as_clip4clip_counts_them(texts: int, tmp_path: Path) -> None:
    """Against the judge of files, which is its evaluator; coarse vectors tie often."""
    samples = [
        CaptionedSample(f"v{k}", Clip(f"{k}.mp4"), (), "test", tuple(f"{k} {i}" for i in range(texts)))
        for k in range(9)
    ]
    task = replace(RetrievalTask.from_samples(samples, "pairs"), ties="clip4clip")
    drawn = torch.Generator().manual_seed(texts)
    videos, words = (torch.randint(0, 2, (9, *more, 3), generator=drawn).float() for more in ((), (texts,)))
    scores = task.judge([Embedding(s.id, v, w) for s, v, w in zip(samples, videos, words, strict=True)])
    np.savez(tmp_path / "said.npz", sim=np.asarray(words.flatten(0, 1) @ videos.T, dtype=np.float64))
    np.savez(tmp_path / "truth.npz", owner=np.repeat(np.arange(9), texts))
    judged = judge("retrieval", tmp_path / "truth.npz", tmp_path / "said.npz", ties="clip4clip").metrics
    for way in ("t2v", "v2t"):
        assert scores.values[f"{way}_r5"].value == pytest.approx(judged[f"{way}_R@5"] / 100)  # type: ignore[operator]
        assert scores.values[f"{way}_median_rank"].value == judged[f"{way}_MedR"]
        assert scores.values[f"{way}_mean_rank"].value == pytest.approx(judged[f"{way}_MeanR"])
    plain = RetrievalTask.from_samples(samples, "pairs").judge(
        [Embedding(s.id, v, w) for s, v, w in zip(samples, videos, words, strict=True)]
    )
    assert plain.values["t2v_r1"].value != scores.values["t2v_r1"].value and scores.main.interval is None


def test_samples_without_a_prediction_are_counted_and_not_searched() -> None:
    task = RetrievalTask.from_samples(samples_of(4), "pairs")
    scores = task.judge(exact(task)[:3])
    assert (scores.n_evaluated, scores.n_total, scores.missing) == (3, 4, ("v3",))
    with pytest.raises(InputError, match="none of the 4 samples"):
        task.judge([])
    with pytest.raises(InputError, match="'v9' is no sample"):
        task.judge([Embedding("v9", torch.ones(3), torch.ones(2, 3))])


def test_splits_are_drawn_whatever_the_captions() -> None:
    """Each caption is met once: were it a class, no split could be drawn."""
    task = RetrievalTask.from_samples(samples_of(40, None), "pairs")
    assert {name: len(some) for name, some in task.splits.items()} == {"train": 28, "val": 6, "test": 6}
    again = RetrievalTask.from_samples(samples_of(40, None)[::-1], "pairs")
    assert again.digest("test") == task.digest("test") and task.warnings == []
    other = RetrievalTask.from_samples(
        [CaptionedSample(s.id, s.clip, (), s.split, ("x",)) for s in samples_of(40, None)], "pairs"
    )
    assert other.digest("test") != task.digest("test")


def test_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="v: has no caption"):
        RetrievalTask.from_samples([Sample("v", Clip("v.mp4"), ("label",), "test")])
    with pytest.raises(InputError, match="no metric 'r1' of retrieval; did you mean"):
        RetrievalTask("x", {"test": samples_of(2)}, (), ("r1",), "r1", "p")


def test_own_data_of_pairs(tmp_path: Path) -> None:
    for k in range(8):
        (tmp_path / f"{k}.mp4").touch()
    (tmp_path / "list.csv").write_text("video,caption\n" + "".join(f"{k}.mp4,text {k}\n" for k in range(8)))
    task = read_task(tmp_path / "list.csv", "pairs", val_fraction=0.25, test_fraction=0.25, seed=0)
    assert isinstance(task, RetrievalTask) and len(task.samples("val")) == 2
    record = {"split_seed": 0, "val_fraction": 0.25, "test_fraction": 0.25, "data_digest": task.digest("train")}
    chosen = evaluation_split(tmp_path / "list.csv", TargetSchema("pairs"), record)
    assert chosen.split == "test" and "evaluating its test split" in chosen.note
    assert chosen.task.digest("test") == task.digest("test")
    assert task.describe_target(task.samples("val")[0]) == list(task.targets(task.samples("val"))[0])
