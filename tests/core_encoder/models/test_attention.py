"""Soft-capped attention, over whole and over packed tokens, against slow, obvious formulas."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core_encoder.models import attention
from core_encoder.models.attention import TokenGroups, soft_capped_attention
from tests.core_encoder.models.random_tensors import random, random_mask


def obvious_attention(q: Tensor, k: Tensor, v: Tensor, cap: float | None, mask: Tensor | None) -> Tensor:
    """One query at a time, from the definition."""
    batch, heads, queries, width = q.shape
    mask = torch.ones(1, 1, 1, 1, dtype=torch.bool) if mask is None else mask
    mask = mask.broadcast_to(batch, heads, queries, k.shape[2])
    rows = []
    for b in range(batch):
        for h in range(heads):
            for i in range(queries):
                allowed = mask[b, h, i].nonzero()[:, 0]
                if len(allowed) == 0:
                    rows.append(0.0 * (q[b, h, i] + k[b, h].sum() + v[b, h].sum()))
                    continue
                logits = k[b, h, allowed] @ q[b, h, i] / width**0.5
                logits = logits if cap is None else cap * torch.tanh(logits / cap)
                rows.append(logits.softmax(0) @ v[b, h, allowed])
    return torch.stack(rows).view(batch, heads, queries, width)


@pytest.fixture(params=["one block", "many blocks"])
def block_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tensors fit one block; a block of a few logits drives the same tensors through all the slicing."""
    if request.param == "many blocks":
        monkeypatch.setattr(attention, "_CORE_BLOCK_BYTES", 64)


MASKS = {
    "none": None,
    "keys": random_mask(2, 1, 1, 7, seed=1),
    "pairs": random_mask(2, 1, 5, 7, seed=2, share=0.3),  # some queries are left without any key
    "heads": random_mask(2, 3, 5, 7, seed=3),
    "shared": random_mask(1, 1, 5, 7, seed=4),
    "two axes": random_mask(5, 7, seed=5),
    "nothing": torch.zeros(1, 1, 1, 1, dtype=torch.bool),
}


@pytest.mark.usefixtures("block_size")
@pytest.mark.parametrize("cap", [50.0, 2.0, 300.0, None])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_attention_equals_the_definition_with_gradients(cap: float | None, mask: Tensor | None) -> None:
    inputs = [random(2, 3, n, 4, seed=n + i, dtype=torch.float64, scale=3.0) for i, n in enumerate((5, 7, 7))]
    inputs = [x.requires_grad_() for x in inputs]
    ours, expected = soft_capped_attention(*inputs, cap, mask), obvious_attention(*inputs, cap, mask)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(soft_capped_attention(*inputs, cap, mask), expected, rtol=0, atol=1e-12)
    direction = random(*ours.shape, seed=9, dtype=torch.float64)
    for got, want in zip(
        torch.autograd.grad(ours, inputs, direction), torch.autograd.grad(expected, inputs, direction), strict=True
    ):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-11)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 3), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.integers(1, 8), st.integers(4, 4096)
)
def test_attention_of_any_shape_and_block_size(b: int, h: int, lq: int, lk: int, hd: int, block: int) -> None:
    q, k, v = (random(b, h, n, hd, seed=n + i) for i, n in enumerate((lq, lk, lk)))
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(attention, "_CORE_BLOCK_BYTES", block)
        ours = soft_capped_attention(q, k, v, 5.0, random_mask(b, 1, lq, lk))
    logits = (5.0 * torch.tanh(q @ k.transpose(2, 3) / hd**0.5 / 5.0)).masked_fill(
        ~random_mask(b, 1, lq, lk), -torch.inf
    )
    torch.testing.assert_close(ours, logits.softmax(-1).nan_to_num() @ v, rtol=0, atol=1e-5)


def test_attention_survives_logits_far_beyond_the_cap() -> None:
    q, k, v = (random(1, 2, 6, 8, seed=i) for i in range(3))
    for sign in (1.0, -1.0):  # every logit at the cap, or every one at minus the cap: the weights are uniform
        huge = soft_capped_attention(q.abs() * 1e9, sign * k.abs() * 1e9, v, 50.0)
        torch.testing.assert_close(huge, v.mean(2, keepdim=True).expand_as(v), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_attention_in_half_precision(dtype: torch.dtype) -> None:
    inputs = [random(2, 3, 20, 16, seed=i, dtype=dtype).requires_grad_() for i in range(3)]
    wide = [x.detach().double().requires_grad_() for x in inputs]
    ours, expected = soft_capped_attention(*inputs, 50.0), obvious_attention(*wide, 50.0, None)
    assert ours.dtype is dtype
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=0.03)
    for x, y in zip(torch.autograd.grad(ours.sum(), inputs), torch.autograd.grad(expected.sum(), wide), strict=True):
        torch.testing.assert_close(x.double(), y, rtol=0.03, atol=0.06)


def test_attention_leaves_its_arguments_alone() -> None:
    inputs = [random(2, 3, 20, 16, seed=i) for i in range(3)]
    before = [x.clone() for x in inputs]
    with torch.no_grad():
        soft_capped_attention(*inputs, 50.0, random_mask(20, 20))
    for x, y in zip(inputs, before, strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize(
    ("shapes", "mask", "says"),
    [
        (((1, 2, 5, 4), (1, 2, 7, 4), (1, 2, 6, 4)), None, "k, v"),
        (((2, 5, 4), (2, 5, 4), (2, 5, 4)), None, "B, H, Lq, hd"),
        (((1, 2, 5, 4),) * 3, torch.ones(5, 6, dtype=torch.bool), "does not broadcast"),
        (((1, 2, 5, 4),) * 3, torch.ones(5, 5), "boolean"),
    ],
)
def test_attention_refuses_what_does_not_fit(shapes: list[tuple[int, ...]], mask: Tensor | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        soft_capped_attention(*(torch.zeros(shape) for shape in shapes), 50.0, mask)


@pytest.mark.slow
@pytest.mark.parametrize("backward", [False, True])
def test_attention_memory_does_not_grow_with_the_square_of_the_length(backward: bool) -> None:
    """All the logits of 1 x 4 x 4096 x 4096 would take 256 MiB (and several times that with gradients)."""
    program = f"""
import resource, torch
from core_encoder.models.attention import soft_capped_attention
torch.set_num_threads(1)
def run(length):
    x = [torch.ones(1, 4, length, 16, requires_grad={backward}) for _ in range(3)]
    y = soft_capped_attention(*x, 50.0)
    if {backward}: y.sum().backward()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
run(64); before = peak(); run(4096); print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 64, f"grew by {done.stdout.strip()} MiB"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-3, 9), max_size=40), st.integers(1, 5))
def test_groups_of_any_ids(ids: list[int], max_buckets: int) -> None:
    tokens = torch.tensor(ids, dtype=torch.long)
    groups = TokenGroups.from_ids(tokens, max_buckets)
    assert len(groups.buckets) <= max_buckets
    q, k, v = (random(len(ids), 2, 4, seed=i) for i in range(3))
    together = tokens[:, None] == tokens
    q4, k4, v4 = (x.transpose(0, 1)[None] for x in (q, k, v))
    expected = soft_capped_attention(q4, k4, v4, 5.0, together)[0].transpose(0, 1)
    torch.testing.assert_close(groups.attend(q, k, v, 5.0), expected, rtol=0, atol=1e-5)


def test_tubes_need_no_padding_and_frames_in_order_no_gathering() -> None:
    tube = torch.arange(8).repeat_interleave(5)
    groups = TokenGroups.from_ids(tube)
    assert groups.order is None and [real for _, real in groups.buckets] == [None]
    places = torch.arange(5).repeat(8)
    assert [real for _, real in TokenGroups.from_ids(places).buckets] == [None]
    with pytest.raises(ValueError, match=r"\(V,\)"):
        TokenGroups.from_ids(torch.zeros(2, 2))
