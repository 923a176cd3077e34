from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from adapters.reweighting import EQL_DROP, ClassificationLoss


def loss_of(reweighting: str, counts: list[int], multi_label: bool = False, smoothing: float = 0.0, n: int = 0):
    loss = ClassificationLoss(len(counts), multi_label, reweighting, smoothing)  # type: ignore[arg-type]
    loss.set_counts(torch.tensor(counts), n or sum(counts))
    return loss


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_reweighting_it_is_cross_entropy(smoothing: float) -> None:
    logits, targets = torch.randn(5, 3), torch.tensor([0, 1, 2, 2, 1])
    expected = F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(loss_of("none", [5, 1, 1], smoothing=smoothing)(logits, targets), expected)


def test_without_reweighting_it_is_binary_cross_entropy() -> None:
    logits, targets = torch.randn(5, 3), torch.randint(0, 2, (5, 3)).float()
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
    torch.testing.assert_close(loss_of("none", [5, 1, 1], multi_label=True)(logits, targets), expected)


def test_balanced_gives_every_class_the_same_say() -> None:
    counts = [80, 15, 5]
    loss = loss_of("balanced", counts)
    totals = loss.weight * torch.tensor(counts)
    torch.testing.assert_close(totals, totals.mean().expand(3))
    assert math.isclose(float(totals.sum()), 100, rel_tol=1e-5), "a sample weighs 1 on average"


def test_balanced_survives_a_class_without_samples() -> None:
    for multi_label in (False, True):
        weight = loss_of("balanced", [1000, 10, 0], multi_label).weight
        assert weight.isfinite().all() and weight.max() / weight.min() <= 100.001 * (100 if multi_label else 1)


def test_eql_spares_rare_classes_only() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5]], requires_grad=True)
    loss = loss_of("eql", [100, 90, 3])
    loss(logits, torch.tensor([0])).sum().backward()
    spared = logits.grad.clone()  # type: ignore[union-attr]
    weight = torch.tensor([1.0, 1.0, 1 - EQL_DROP])
    p = (logits.exp() * weight / (logits.exp() * weight).sum()).detach()
    torch.testing.assert_close(spared, p - torch.tensor([[1.0, 0.0, 0.0]]))
    plain = torch.softmax(logits, -1).detach() - torch.tensor([[1.0, 0.0, 0.0]])
    assert spared[0, 2] < 0.2 * plain[0, 2], "a frequent sample pushes the rare class less"
    logits.grad = None
    loss(logits, torch.tensor([2])).sum().backward()
    torch.testing.assert_close(logits.grad, torch.softmax(logits, -1).detach() - torch.tensor([[0.0, 0.0, 1.0]]))


def test_eql_multi_label_scales_negative_gradients() -> None:
    logits = torch.zeros(1, 3, requires_grad=True)
    loss = loss_of("eql", [100, 90, 3], multi_label=True)
    loss(logits, torch.tensor([[1.0, 0.0, 0.0]])).sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad * 3, torch.tensor([[-0.5, 0.5, 0.5 * (1 - EQL_DROP)]]))


def test_the_loss_of_a_sample_does_not_depend_on_its_batch() -> None:
    """Batches are split over processes: weights must not be normalized inside a batch, as torch's own are."""
    logits, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 0, 0])
    for reweighting in ("balanced", "eql"):
        loss = loss_of(reweighting, [40, 4, 4])
        torch.testing.assert_close(loss(logits, targets)[:2], loss(logits[:2], targets[:2]))
