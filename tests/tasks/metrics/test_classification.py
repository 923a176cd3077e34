"""Metrics against slow, obvious references and torchmetrics' own, whatever the batches, ranks and padding."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_confusion_matrix,
    multilabel_average_precision,
)

from adapters.predictions import ClassScores, Truth
from core_encoder.errors import InputError
from tasks.metrics.bootstrap import bootstrap_interval, value_of
from tasks.metrics.class_statistics import RunningScore, average_views, behaviour_map
from tasks.metrics.classification import (
    METRICS,
    ConfusionMatrix,
    MacroAccuracy,
    MeanClassAccuracy,
    MultiLabelMAP,
    SampleMetric,
    Top5Accuracy,
    TopKAccuracy,
    sample_keys,
)

quick = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 2**31)


def single_label(seed: int, tied: bool = False) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(1, 40)), int(rng.integers(1, 12))
    scores = rng.integers(0, 4, (n, k)) / 4 if tied else rng.permutation(n * k).reshape(n, k) / (n * k)
    return (
        torch.from_numpy(scores.astype(np.float32)),
        torch.from_numpy(rng.integers(0, k, n)),
        [f"video {i}.mp4" for i in range(n)],
    )


def several_labels(seed: int, tied: bool = False) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    scores, _, ids = single_label(seed, tied)
    targets = (np.random.default_rng(seed + 1).random(scores.shape) < 0.3).astype(np.int64)
    targets[0, 0] = 1  # some ground truth
    return scores, torch.from_numpy(targets), ids


def judged(scores: torch.Tensor, targets: torch.Tensor, ids: Any) -> tuple[list[ClassScores], list[Truth]]:
    """Rows of scores and targets as predictions and what is known of their samples."""
    names = tuple(f"class {k}" for k in range(scores.shape[1]))
    predictions = [ClassScores(str(one), row, names) for one, row in zip(ids, scores, strict=True)]
    return predictions, [Truth(str(one), target) for one, target in zip(ids, targets, strict=True)]


def value(metric: SampleMetric, scores: torch.Tensor, targets: torch.Tensor, ids: Any, **more: Any) -> float:
    metric.update(*judged(scores, targets, ids), **more)
    return float(metric.compute())


def slow_top_k(scores: np.ndarray, targets: np.ndarray, k: int) -> float:
    hits = 0
    for row, target in zip(scores.tolist(), targets.tolist(), strict=True):
        as_high = [c for c in range(len(row)) if c != target and row[c] >= row[target]]
        hits += len(as_high) < k
    return hits / len(targets)


def slow_recalls(scores: np.ndarray, targets: np.ndarray) -> dict[int, float]:
    """Share of each true class that scores strictly highest."""
    recalls = {}
    for c in set(targets.tolist()):
        rows = [row for row, target in zip(scores.tolist(), targets.tolist(), strict=True) if target == c]
        recalls[c] = sum(all(row[c] > row[o] for o in range(len(row)) if o != c) for row in rows) / len(rows)
    return recalls


def slow_average_precision(scores: list[float], positive: list[int]) -> float:
    """The mean over positives of the precision among all samples that score at least as high."""
    precisions = []
    for score, is_positive in zip(scores, positive, strict=True):
        if is_positive:
            above = [p for s, p in zip(scores, positive, strict=True) if s >= score]
            precisions.append(sum(above) / len(above))
    return sum(precisions) / len(precisions)


def charades_reference(scores: np.ndarray, targets: np.ndarray) -> float:
    """The official steps: unlabelled videos to the bottom, a plain descending sort, no interpolation."""
    scores = scores.copy()
    scores[targets.sum(axis=1) == 0] = -np.inf
    values = []
    for c in range(scores.shape[1]):
        hits = targets[np.argsort(-scores[:, c]), c] == 1
        if hits.any():
            precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
            values.append(precision[hits].mean())
    return float(np.mean(values))


@quick
@given(seeds, st.integers(1, 7), st.booleans())
def test_top_k_counts_ties_against_the_prediction(seed: int, k: int, tied: bool) -> None:
    scores, targets, ids = single_label(seed, tied)
    metric = TopKAccuracy(scores.shape[1], k=k)
    assert value(metric, scores, targets, ids) == pytest.approx(slow_top_k(scores.numpy(), targets.numpy(), k))


@quick
@given(seeds)
def test_top_k_agrees_with_torchmetrics_on_untied_scores(seed: int) -> None:
    scores, targets, ids = single_label(seed)
    classes = scores.shape[1]
    for k in (1, 5):
        if k < classes:
            expected = multiclass_accuracy(scores, targets, num_classes=classes, top_k=k, average="micro")
            assert value(TopKAccuracy(classes, k=k), scores, targets, ids) == pytest.approx(float(expected))
    if classes <= 5:
        assert value(Top5Accuracy(classes), scores, targets, ids) == 1.0


@quick
@given(seeds, st.booleans())
def test_mean_class_accuracy_is_the_mean_recall_of_true_classes(seed: int, tied: bool) -> None:
    scores, targets, ids = single_label(seed, tied)
    recalls = slow_recalls(scores.numpy(), targets.numpy())
    expected = sum(recalls.values()) / len(recalls)
    assert value(MeanClassAccuracy(scores.shape[1]), scores, targets, ids) == pytest.approx(expected)


@quick
@given(seeds)
def test_macro_accuracy_is_that_of_torchmetrics(seed: int) -> None:
    scores, targets, ids = single_label(seed)
    classes = scores.shape[1]
    if classes > 1:
        expected = multiclass_accuracy(scores, targets, num_classes=classes, average="macro")
        assert value(MacroAccuracy(classes), scores, targets, ids) == pytest.approx(float(expected))


def test_macro_and_mean_class_accuracy_differ_by_the_classes_only_predicted() -> None:
    scores = torch.tensor([[0.8, 0.2, 0.0], [0.1, 0.2, 0.7]])
    targets = torch.tensor([0, 0])
    assert value(MeanClassAccuracy(3), scores, targets, ["a", "b"]) == 0.5
    assert value(MacroAccuracy(3), scores, targets, ["a", "b"]) == 0.25


@pytest.mark.filterwarnings("ignore:No positive samples")
@quick
@given(seeds, st.booleans())
def test_map_is_that_of_the_slow_formula_and_of_torchmetrics(seed: int, tied: bool) -> None:
    scores, targets, ids = several_labels(seed, tied)
    per_class = [
        slow_average_precision(scores[:, c].tolist(), targets[:, c].tolist())
        for c in range(scores.shape[1])
        if targets[:, c].any()
    ]
    found = value(MultiLabelMAP(scores.shape[1]), scores, targets, ids)
    assert found == pytest.approx(np.mean(per_class))
    present = targets.any(dim=0)
    if scores.shape[1] > 1:  # theirs needs two classes
        theirs = multilabel_average_precision(scores, targets, num_labels=scores.shape[1], average="none")
        assert found == pytest.approx(float(theirs[present].mean()), abs=1e-6)


@quick
@given(seeds)
def test_map_is_that_of_charades(seed: int) -> None:
    scores, targets, ids = several_labels(seed)
    expected = charades_reference(scores.numpy(), targets.numpy())
    assert value(MultiLabelMAP(scores.shape[1], unlabelled="last"), scores, targets, ids) == pytest.approx(expected)


def test_unlabelled_samples_are_negatives_unless_asked() -> None:
    scores, targets = torch.tensor([[0.9], [0.5]]), torch.tensor([[0], [1]])
    assert value(MultiLabelMAP(1), scores, targets, ["a", "b"]) == 0.5
    assert value(MultiLabelMAP(1, unlabelled="last"), scores, targets, ["a", "b"]) == 1.0


@quick
@given(seeds, st.booleans())
def test_confusion_matrix(seed: int, tied: bool) -> None:
    scores, targets, ids = single_label(seed, tied)
    classes = scores.shape[1]
    metric = ConfusionMatrix(classes)
    metric.update(*judged(scores, targets, ids))
    matrix = metric.compute().reshape(classes, classes)  # torchmetrics squeezes a single number
    top1 = value(TopKAccuracy(classes), scores, targets, ids)
    assert float(matrix.diagonal().sum()) / len(ids) == pytest.approx(top1)
    assert matrix.sum(dim=1).tolist() == torch.bincount(targets, minlength=classes).tolist()
    if not tied and classes > 1:
        assert torch.equal(matrix, multiclass_confusion_matrix(scores, targets, num_classes=classes))


@quick
@given(seeds, st.sampled_from(sorted(METRICS)), st.data())
def test_batches_order_and_padding_change_nothing(seed: int, name: str, data: st.DataObject) -> None:
    make = several_labels if METRICS[name].multi_label else single_label
    scores, targets, ids = make(seed, True)
    expected = value(METRICS[name](scores.shape[1]), scores, targets, ids)
    order = data.draw(st.permutations(range(len(ids))))
    padded = order + data.draw(st.lists(st.sampled_from(order), max_size=5))
    metric = METRICS[name](scores.shape[1])
    cut = data.draw(st.integers(0, len(padded)))
    for part in (padded[:cut], padded[cut:]):
        if part:
            metric.update(*judged(scores[part], targets[part], [ids[i] for i in part]))
    assert float(metric.compute()) == expected
    metric.reset()
    assert value(metric, scores, targets, ids) == expected


@quick
@given(seeds, st.sampled_from(sorted(METRICS)), st.integers(1, 3))
def test_the_running_score_is_that_of_torchmetrics(seed: int, name: str, views: int) -> None:
    make = several_labels if METRICS[name].multi_label else single_label
    scores, targets, ids = make(seed, True)
    metric, running = METRICS[name](scores.shape[1]), RunningScore(name)
    for view in range(views):
        rows = judged(scores.roll(view, 1), targets, ids)
        metric.update(*rows)
        running.update(*rows)
    assert running.compute() == pytest.approx(float(metric.compute()), abs=1e-6)


def test_views_are_averaged_and_padded_views_count_once() -> None:
    views = torch.tensor([[0.9, 0.1], [0.4, 0.6], [0.4, 0.6], [0.0, 1.0]])
    targets = torch.tensor([0, 0, 0, 1])
    ids = ["a", "a", "a", "b"]
    averaged = TopKAccuracy(2)
    averaged.update(*judged(views, targets, ids))
    assert averaged.rows().scores.tolist()[averaged.rows().targets.tolist().index(0)] == pytest.approx(
        [1.7 / 3, 1.3 / 3]
    )
    keyed = TopKAccuracy(2)
    keyed.update(*judged(views, targets, ids), views=[0, 1, 1, 0])
    assert keyed.rows().scores.tolist()[keyed.rows().targets.tolist().index(0)] == pytest.approx([0.65, 0.35])
    names, means = average_views(["b", "a", "a"], np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]))
    assert names == ["a", "b"]
    assert means.tolist() == [[0.75, 0.25], [0.0, 1.0]]


@pytest.mark.parametrize(
    ("metric", "scores", "targets", "ids", "words"),
    [
        (TopKAccuracy(2), [[0.5, 0.5]], [2], ["a"], "between 0 and 1"),
        (TopKAccuracy(2), [[0.5, 0.5]], [-1], ["a"], "between 0 and 1"),
        (TopKAccuracy(2), [[0.5, float("nan")]], [0], ["a"], "not finite"),
        (TopKAccuracy(3), [[0.5, 0.5]], [0], ["a"], "'a': 2 scores, not 3"),
        (TopKAccuracy(2), [[0.5, 0.5]], [[0, 1]], ["a"], "do not fit"),
        (MultiLabelMAP(2), [[0.5, 0.5]], [0], ["a"], "do not fit"),
        (MultiLabelMAP(2), [[0.5, 0.5]], [[0, 2]], ["a"], "between 0 and 1"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    metric: SampleMetric, scores: Any, targets: Any, ids: Any, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        metric.update(*judged(torch.tensor(scores), torch.tensor(targets), ids))


def test_the_running_score_refuses_the_same() -> None:
    for metric, scores, targets, words in (
        ("top1", [[0.5, 0.5]], [2], "between 0 and 1"),
        ("top1", [[0.5, float("nan")]], [0], "not finite"),
        ("top1", [[0.5, 0.5]], [[0, 1]], "do not fit"),
        ("map", [[0.5, 0.5]], [[0, 2]], "between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=words):
            RunningScore(metric).update(*judged(torch.tensor(scores), torch.tensor(targets), ["a"]))
    running = RunningScore("top1")
    with pytest.raises(ValueError, match="no sample was scored"):
        running.compute()
    running.update(*judged(torch.rand(2, 2), torch.tensor([0, 1]), ["a", "a"]))
    with pytest.raises(ValueError, match="different targets"):
        running.compute()
    with pytest.raises(ValueError, match="'b': 3 scores, not 2"):
        running.update(*judged(torch.rand(1, 3), torch.tensor([0]), ["b"]))
    with pytest.raises(ValueError, match="1 predictions need 1 samples"):
        running.update(judged(torch.rand(1, 2), torch.tensor([0]), ["b"])[0], [])
    with pytest.raises(InputError, match="unknown metric 'tpo1'; did you mean 'top1'"):
        RunningScore("tpo1")


def test_predictions_and_samples_must_go_together() -> None:
    predictions, samples = judged(torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([0, 1]), ["a", "b"])
    with pytest.raises(ValueError, match="2 predictions need 2 samples and views"):
        TopKAccuracy(2).update(predictions, samples[:1])
    with pytest.raises(ValueError, match="the prediction of 'a' stands beside sample 'b'"):
        TopKAccuracy(2).update(predictions, samples[::-1])


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_no_sample_no_ground_truth_and_clashing_ids_are_errors() -> None:
    with pytest.raises(ValueError, match="no sample"):
        TopKAccuracy(2).compute()
    with pytest.raises(ValueError, match="no class has ground truth"):
        value(MultiLabelMAP(2), torch.rand(3, 2), torch.zeros(3, 2), ["a", "b", "c"])
    with pytest.raises(ValueError, match="different targets"):
        value(TopKAccuracy(2), torch.rand(2, 2), torch.tensor([0, 1]), ["a", "a"])
    with pytest.raises(ValueError, match="k must be"):
        TopKAccuracy(2, k=0)


def test_keys_tell_ids_apart() -> None:
    ids = [f"{i}" for i in range(20_000)] + ["a b", "a  b", "ä", "a\u0308", ""]
    assert len(torch.unique(sample_keys(ids), dim=0)) == len(ids)
    assert torch.equal(sample_keys(["7"]), sample_keys([7]))


def _rank(rank: int, folder: Path, shares: list[list[int]], answer: Callable[[object], None]) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(shares))
    found = []
    for name in ("mean_class_accuracy", "map"):
        make = several_labels if METRICS[name].multi_label else single_label
        scores, targets, ids = make(5)
        metric = METRICS[name](scores.shape[1])
        mine = shares[rank]
        if mine:
            metric.update(*judged(scores[mine], targets[mine], [ids[i] for i in mine]))
        found.append(float(metric.compute()))
    answer((rank, found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("padded", [True, False])
def test_ranks_merge_whatever_each_of_them_saw(tmp_path: Path, padded: bool) -> None:
    count = len(single_label(5)[2])
    everything = list(range(count))
    shares = [everything[: count // 2 + 1], everything[count // 2 :]] if padded else [everything, []]
    context = multiprocessing.get_context("fork")
    answers: Any = context.SimpleQueue()
    ranks = [context.Process(target=_rank, args=(rank, tmp_path, shares, answers.put)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout=60)
        if process.is_alive():
            process.kill()
            pytest.fail("a rank hangs in the gather")
        assert process.exitcode == 0
    found = dict(answers.get() for _ in ranks)
    expected = [
        value(MeanClassAccuracy(single_label(5)[0].shape[1]), *single_label(5)),
        value(MultiLabelMAP(several_labels(5)[0].shape[1]), *several_labels(5)),
    ]
    assert found[0] == found[1] == pytest.approx(expected)


@quick
@given(seeds, st.sampled_from(sorted(set(METRICS) - {"map"})))
def test_weights_are_repeated_samples(seed: int, name: str) -> None:
    """A bootstrap draw by weights equals the metric of the samples actually repeated."""
    scores, targets, ids = single_label(seed, True)
    drawn = np.random.default_rng(seed).integers(0, len(ids), len(ids))
    weights = np.bincount(drawn, minlength=len(ids))[None].astype(np.float32)
    found = METRICS[name](scores.shape[1]).resampled(scores.numpy().astype(np.float64), targets.numpy(), weights)
    repeated = [f"copy {i}" for i in range(len(drawn))]
    assert float(found[0]) == pytest.approx(
        value(METRICS[name](scores.shape[1]), scores[drawn], targets[drawn], repeated)
    )


@quick
@given(seeds)
def test_copies_of_a_sample_do_not_lift_its_own_precision(seed: int) -> None:
    scores, targets, ids = several_labels(seed, True)
    drawn = np.random.default_rng(seed).integers(0, len(ids), len(ids))
    drawn[0] = 0  # keeps some ground truth
    weights = np.bincount(drawn, minlength=len(ids)).astype(np.float32)
    per_class = []
    for c in range(scores.shape[1]):
        column, positive = scores[:, c].tolist(), targets[:, c].tolist()
        precisions = []
        for i in drawn:
            if positive[i]:
                others = [j for j in drawn if j != i and column[j] >= column[i]]
                precisions.append((1 + sum(positive[j] for j in others)) / (1 + len(others)))
        if precisions:
            per_class.append(np.mean(precisions))
    found = MultiLabelMAP(scores.shape[1]).resampled(scores.numpy(), targets.numpy(), weights[None])
    assert float(found[0]) == pytest.approx(np.mean(per_class))


def test_map_interval_holds_the_value_even_at_chance() -> None:
    rng = np.random.default_rng(0)
    scores, targets = rng.random((400, 40)), (rng.random((400, 40)) < 0.04).astype(np.int64)
    statistic = MultiLabelMAP(40).statistic(scores, targets)
    low, high = bootstrap_interval(statistic, 400, num_draws=200)
    assert low < value_of(statistic, 400) < high


@quick
@given(seeds)
def test_behaviours_of_interest_leave_the_background_out_of_the_mean(seed: int) -> None:
    from sklearn.metrics import average_precision_score

    rng = np.random.default_rng(seed)
    scores, targets = rng.integers(0, 6, (20, 4)) / 5, (rng.random((20, 4)) < 0.3).astype(np.int64)
    targets[:, 1] = 0  # never occurs
    targets[0, [0, 2]] = 1
    expected = [average_precision_score(targets[:, k], scores[:, k]) for k in (0, 2)]
    assert behaviour_map(scores, targets, [3]) == pytest.approx((expected[0] + expected[1] + 0) / 3)
    with pytest.raises(ValueError, match="every class is background"):
        behaviour_map(scores, targets, range(4))
