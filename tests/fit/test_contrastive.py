"""The contrastive loss against plain loops, its gradients over two processes, and the spread of embeddings."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fit.contrastive import belonging_of, contrastive_loss, gather, sigmoid_loss, spread, uniformity
from tests.pretrain.processes import in_processes


def unit_rows(count: int, seed: int) -> Tensor:
    rows = torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))
    return rows / rows.norm(dim=1, keepdim=True)


def plain_loss(video: Tensor, text: Tensor, temperature: float) -> float:
    """Minus the log-probability of the right text for each video and of the right video for each text, averaged."""
    count, total = len(video), 0.0
    similarity = [[float(v @ t) / temperature for t in text] for v in video]
    for i in range(count):
        of_texts = sum(math.exp(similarity[i][j]) for j in range(count))
        of_videos = sum(math.exp(similarity[j][i]) for j in range(count))
        total -= math.log(math.exp(similarity[i][i]) / of_texts) + math.log(math.exp(similarity[i][i]) / of_videos)
    return total / (2 * count)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_the_loss_equals_plain_loops(temperature: float) -> None:
    video, text = unit_rows(5, 0), unit_rows(5, 1)
    loss = contrastive_loss(video, text, torch.tensor(1 / temperature))
    assert math.isclose(loss.item(), plain_loss(video, text, temperature), rel_tol=1e-5)
    assert contrastive_loss(video, video, torch.tensor(1e3)).item() < 1e-6
    assert math.isclose(contrastive_loss(video, text, torch.tensor(0.0)).item(), math.log(5), rel_tol=1e-6)


DRAWN = torch.tensor([7, 8, 7, 9, 5])  # texts 0 and 2 are equal
KNOWN = torch.tensor([[7, 7], [8, 9], [7, 7], [9, 9], [5, 5]])  # text 3 is another caption of video 1


def is_negative(i: int, j: int) -> bool:
    """Whether text j is one of video i."""
    return i != j and DRAWN[j] not in KNOWN[i]


def test_texts_that_belong_to_a_video_are_no_negatives_of_it() -> None:
    video, text, scale = unit_rows(5, 0), unit_rows(5, 1), 7.0
    similarity = [[scale * float(v @ t) for t in text] for v in video]
    total = 0.0
    for i in range(5):
        of_texts = [similarity[i][j] for j in range(5) if j == i or is_negative(i, j)]
        of_videos = [similarity[j][i] for j in range(5) if j == i or is_negative(j, i)]
        for several in (of_texts, of_videos):
            total -= similarity[i][i] - math.log(sum(map(math.exp, several)))
    belonging = belonging_of(DRAWN, KNOWN)
    assert belonging.texts.sum() == 5 + 3 and not is_negative(1, 3) and is_negative(3, 1)
    loss = contrastive_loss(video, text, torch.tensor(scale), belonging)
    assert math.isclose(loss.item(), total / 10, rel_tol=1e-5)


@pytest.mark.parametrize("known", [None, KNOWN])
def test_the_sigmoid_loss_equals_plain_loops(known: Tensor | None) -> None:
    video, text, scale, bias = unit_rows(5, 0), unit_rows(5, 1), 7.0, -2.0
    total = 0.0
    for i in range(5):
        for j in range(5):
            if i == j or known is None or is_negative(i, j):
                logit = scale * float(video[i] @ text[j]) + bias
                total += math.log1p(math.exp(-logit if i == j else logit))
    belonging = None if known is None else belonging_of(DRAWN, known)
    loss = sigmoid_loss(video, text, torch.tensor(scale), torch.tensor(bias), belonging)
    assert math.isclose(loss.item(), total / 5, rel_tol=1e-5)


def losses_of_a_share(rank: int, world: int) -> dict[str, Tensor]:
    mine = slice(2 * rank, 2 * rank + 2)
    video, text = unit_rows(4, 0)[mine].requires_grad_(), unit_rows(4, 1)[mine].requires_grad_()
    belonging, scale = belonging_of(DRAWN[mine], KNOWN[mine]), torch.tensor(7.0)
    softmax = contrastive_loss(video, text, scale, belonging)
    sigmoid = sigmoid_loss(video, text, scale, torch.tensor(-2.0), belonging)
    (softmax + sigmoid).backward()
    assert video.grad is not None and text.grad is not None
    return {"softmax": softmax.detach(), "sigmoid": sigmoid.detach(), "video": video.grad, "text": text.grad}


@pytest.mark.slow
def test_two_processes_have_the_losses_and_gradients_of_one(tmp_path: Path) -> None:
    video, text = unit_rows(4, 0).requires_grad_(), unit_rows(4, 1).requires_grad_()
    belonging, scale = belonging_of(DRAWN[:4], KNOWN[:4]), torch.tensor(7.0)
    softmax = contrastive_loss(video, text, scale, belonging)
    sigmoid = sigmoid_loss(video, text, scale, torch.tensor(-2.0), belonging)
    (softmax + sigmoid).backward()
    found = in_processes(losses_of_a_share, 2, tmp_path)
    for name, whole in {"softmax": softmax, "sigmoid": sigmoid}.items():
        torch.testing.assert_close(sum(one[name] for one in found) / 2, whole.detach())
    for name, whole in {"video": video.grad, "text": text.grad}.items():
        torch.testing.assert_close(torch.cat([one[name] for one in found]) / 2, whole)


def test_logits_are_not_rounded_to_half_precision() -> None:
    """At temperature 0.01 bfloat16 would tell logits apart in steps of 0.25 to 0.5."""
    rows = unit_rows(64, 0), (unit_rows(64, 0) + 0.3 * unit_rows(64, 1)).requires_grad_()
    gradients = {}
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype, enabled=dtype is torch.bfloat16):
            loss = contrastive_loss(*rows, torch.tensor(100.0))
        (gradients[dtype],) = torch.autograd.grad(loss, rows[1])
    torch.testing.assert_close(gradients[torch.bfloat16], gradients[torch.float32])


def test_uniformity_equals_plain_loops_and_drives_close_texts_apart() -> None:
    rows = unit_rows(6, 0)
    rows[4] = rows[1]  # an equal text is no other text
    potentials = [math.exp(-2 * float((x - y).square().sum())) for i, x in enumerate(rows) for y in rows[:i]]
    potentials = [one for one in potentials if one < 1 - 1e-6]
    assert math.isclose(uniformity(rows).item(), math.log(sum(potentials) / len(potentials)), rel_tol=1e-4)
    assert uniformity(rows[:1].expand(3, -1)).item() == 0.0
    close = torch.nn.functional.normalize(torch.ones(2, 6) + 0.01 * unit_rows(2, 1)).requires_grad_()
    (grad,) = torch.autograd.grad(uniformity(close), close)
    moved = torch.nn.functional.normalize(close - 0.1 * grad)
    assert moved[0] @ moved[1] < close[0] @ close[1]


def test_spread_is_zero_for_identical_rows_and_one_at_most() -> None:
    assert spread(unit_rows(1, 0).expand(7, -1)).item() < 1e-12
    assert math.isclose(spread(torch.eye(4) * torch.tensor([[1.0], [2.0], [3.0], [4.0]])).item(), 0.75, rel_tol=1e-6)
    assert math.isclose(spread(torch.tensor([[1.0, 0.0], [-5.0, 0.0]])).item(), 1.0, rel_tol=1e-6)
    rows = unit_rows(9, 3)
    assert math.isclose(spread(rows).item(), 1 - rows.mean(0).square().sum().item(), rel_tol=1e-5)
    assert spread(unit_rows(1, 0)).item() == 1.0  # one row says nothing about a collapse


def test_one_process_gathers_its_own_rows() -> None:
    rows = unit_rows(3, 0)
    assert gather(rows) is rows


def gathered(rank: int, world: int) -> dict[str, Tensor]:
    rows = unit_rows(4, rank).requires_grad_()
    whole = gather(rows)
    (whole * unit_rows(8, 10 + rank)).square().sum().backward()
    assert rows.grad is not None
    return {"rows": whole.detach(), "gradient": rows.grad}


@pytest.mark.slow
def test_two_processes_gather_rows_in_order_and_sum_their_gradients(tmp_path: Path) -> None:
    whole = torch.cat([unit_rows(4, 0), unit_rows(4, 1)]).requires_grad_()
    sum((whole * unit_rows(8, 10 + rank)).square().sum() for rank in range(2)).backward()  # type: ignore[union-attr]
    assert whole.grad is not None
    for rank, found in enumerate(in_processes(gathered, 2, tmp_path)):
        assert torch.equal(found["rows"], whole)
        torch.testing.assert_close(found["gradient"], whole.grad[4 * rank : 4 * rank + 4], atol=1e-6, rtol=0)
