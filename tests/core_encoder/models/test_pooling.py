"""Attention pooling against the textbook, `torch.nn.MultiheadAttention` and the head of `transformers`."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import VideoPrismVisionConfig
from transformers.models.videoprism.modeling_videoprism import VideoPrismMultiheadAttentionPoolingHead

from core_encoder.models import pooling
from core_encoder.models.pooling import AttentionPooling, Positions, attention_pool
from tests.core_encoder.models.random_tensors import random, random_mask, randomize


def textbook_pool(
    tokens: Tensor,
    query: Tensor,
    key: tuple[Tensor, Tensor],
    value: tuple[Tensor, Tensor],
    heads: int,
    mask: Tensor | None = None,
) -> Tensor:
    """Project every token to keys and values, then attend."""
    keys, values = (F.linear(tokens, *weights).unflatten(-1, (heads, -1)).transpose(1, 2) for weights in (key, value))
    queries = query.unflatten(-1, (heads, -1)).transpose(0, 1)  # (H, Q, hd)
    logits = queries @ keys.transpose(2, 3)  # (B, H, Q, L)
    if mask is not None:
        logits = logits.masked_fill(~mask[:, None, None], -torch.inf)
    return (logits.softmax(-1) @ values).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("with_positions", [False, True])
@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_pooling_equals_the_textbook_with_all_gradients(
    queries: int, masked: bool, with_positions: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    b, length, dim, heads, inner, inner_v = 3, 21, 12, 4, 8, 16
    monkeypatch.setattr(pooling, "_CPU_BLOCK_BYTES", 4 * length * dim * at_once)
    leaves = {
        "tokens": random(b, length, dim, seed=1),
        "query": random(queries, inner, seed=2),
        "key": random(inner, dim, seed=3),
        "key bias": random(inner, seed=4),
        "value": random(inner_v, dim, seed=5),
        "value bias": random(inner_v, seed=6),
        "time": random(3, dim, seed=7),
        "space": random(7, dim, seed=10),
    }
    leaves = {name: x.double().requires_grad_() for name, x in leaves.items()}
    tokens, query, key, key_bias, value, value_bias, time, space = leaves.values()
    mask = random_mask(b, length, seed=8) if masked else None
    added = Positions(time, space) if with_positions else None
    places = torch.stack([time[place // 7] + space[place % 7] for place in range(length)])  # (L, D)
    ours = attention_pool(tokens, query, key, value, value_bias, heads, mask, added)
    theirs = textbook_pool(
        tokens + places if with_positions else tokens, query, (key, key_bias), (value, value_bias), heads, mask
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    with torch.no_grad():
        assert torch.equal(attention_pool(tokens, query, key, value, value_bias, heads, mask, added), ours)
    direction = random(*ours.shape, seed=9, dtype=torch.float64)
    mine = torch.autograd.grad(ours, list(leaves.values()), direction, allow_unused=True)
    other = torch.autograd.grad(theirs, list(leaves.values()), direction, allow_unused=True)
    for name, got, want in zip(leaves, mine, other, strict=True):
        if name == "key bias":  # it cancels in the softmax
            assert got is None and want.abs().max() < 1e-12
        elif name in ("time", "space") and not with_positions:
            assert got is None
        else:
            torch.testing.assert_close(got, want, rtol=0, atol=1e-11)


def test_pooling_passes_gradcheck() -> None:
    shapes = [(2, 6, 6), (2, 4), (4, 6), (8, 6), (2, 6), (3, 6)]
    leaves = [random(*shape, seed=i, dtype=torch.float64).requires_grad_() for i, shape in enumerate(shapes)]
    mask = random_mask(2, 6)
    assert torch.autograd.gradcheck(lambda *x: attention_pool(*x[:4], None, 2, mask, Positions(*x[4:])), leaves)
    assert torch.autograd.gradcheck(lambda *x: attention_pool(*x, None, 2, mask), leaves[:4])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("with_positions", [False, True])
def test_pooling_reads_half_precision_caches_with_float32_parameters(dtype: torch.dtype, with_positions: bool) -> None:
    tokens = random(2, 9, 12, dtype=dtype)
    before = tokens.clone()
    places = Positions(random(3, 12, seed=3), random(3, 12, seed=4)) if with_positions else None
    query, key, value = (random(*shape, seed=i).requires_grad_() for i, shape in enumerate([(1, 8), (8, 12), (8, 12)]))
    ours = attention_pool(tokens, query, key, value, None, 2, positions=places)
    expected = attention_pool(tokens.float(), query, key, value, None, 2, positions=places)
    assert ours.dtype is torch.float32 and torch.equal(ours, expected) and torch.equal(tokens, before)
    for x, y in zip(
        torch.autograd.grad(ours.sum(), (query, key, value)),
        torch.autograd.grad(expected.sum(), (query, key, value)),
        strict=True,
    ):
        assert torch.equal(x, y)


def test_pooling_over_nothing_gives_the_value_bias() -> None:
    mask = torch.tensor([[True, False, True], [False] * 3])
    query, key, value, bias = random(1, 4).requires_grad_(), random(4, 6, seed=1), random(4, 6, seed=2), random(4)
    pooled = attention_pool(random(2, 3, 6), query, key, value, bias, 2, mask)
    torch.testing.assert_close(pooled[1, 0], bias)
    pooled.sum().backward()
    assert query.grad is not None and query.grad.isfinite().all()


def test_pooling_ignores_masked_tokens_whatever_they_hold() -> None:
    tokens, mask = random(1, 4, 6), torch.tensor([[True, True, False, True]])
    query, key, value = random(1, 4).requires_grad_(), random(4, 6, seed=1), random(4, 6, seed=2)
    changed = tokens.clone()
    changed[:, 2] = 1e4
    torch.testing.assert_close(
        attention_pool(tokens, query, key, value, None, 2, mask),
        attention_pool(changed, query, key, value, None, 2, mask),
    )


def test_pooling_refuses_what_does_not_fit() -> None:
    tokens, query, weight = torch.zeros(2, 3, 6), torch.zeros(1, 4), torch.zeros(4, 6)
    with pytest.raises(ValueError, match="key_weight"):
        attention_pool(tokens, torch.zeros(1, 5), weight, weight, None, 2)
    with pytest.raises(ValueError, match="mask"):
        attention_pool(tokens, query, weight, weight, None, 2, mask=torch.ones(2, 3))
    with pytest.raises(ValueError, match="positions"):
        attention_pool(
            tokens, query, weight, weight, None, 2, positions=Positions(torch.zeros(2, 6), torch.zeros(1, 6))
        )
    with pytest.raises(ValueError, match="do not divide"):
        AttentionPooling(6, 4)


def test_pooling_module_equals_multihead_attention() -> None:
    theirs = torch.nn.MultiheadAttention(12, 3, batch_first=True)
    randomize(theirs)
    ours = AttentionPooling(12, 3)
    query = random(1, 1, 12, seed=3)
    with torch.no_grad():
        ours.query.copy_(query)
        for i, part in enumerate((ours.q, ours.k, ours.v)):
            part.weight.copy_(theirs.in_proj_weight[12 * i : 12 * (i + 1)])
            part.bias.copy_(theirs.in_proj_bias[12 * i : 12 * (i + 1)])
        ours.o.load_state_dict(theirs.out_proj.state_dict())
    tokens, mask = random(2, 9, 12), random_mask(2, 9, share=0.7)
    expected, _ = theirs(query.expand(2, 1, 12), tokens, tokens, key_padding_mask=~mask)
    pooled = ours(tokens, mask)
    torch.testing.assert_close(pooled, expected[:, 0], rtol=0, atol=1e-5)
    direction = random(*pooled.shape, seed=4)
    pooled.backward(direction)
    expected[:, 0].backward(direction)
    for i, part in enumerate((ours.q, ours.k, ours.v)):
        rows = slice(12 * i, 12 * (i + 1))
        torch.testing.assert_close(part.weight.grad, theirs.in_proj_weight.grad[rows], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(part.bias.grad, theirs.in_proj_bias.grad[rows], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_pooling_module_equals_the_videoprism_head(masked: bool) -> None:
    config = VideoPrismVisionConfig(hidden_size=24, num_attention_heads=3, intermediate_size=96)
    config._attn_implementation = "eager"
    theirs = VideoPrismMultiheadAttentionPoolingHead(config).eval()
    randomize(theirs)
    ours = AttentionPooling(24, 3, inner_dim=96, per_dim_scale=True)
    names = {
        "query": "pooling_attention_query",
        "per_dim_scale": "per_dim_scale",
        **{f"{short}.{kind}": f"{short}_proj.{kind}" for short in "qkvo" for kind in ("weight", "bias")},
    }
    weights = theirs.state_dict()
    ours.load_state_dict({name: weights[theirs_name] for name, theirs_name in names.items()})
    tokens = random(2, 11, 24)
    mask = random_mask(2, 11, share=0.7) if masked else None
    bias = None if mask is None else torch.zeros(2, 1, 1, 11).masked_fill(~mask[:, None, None], -1e30)
    torch.testing.assert_close(ours(tokens, mask), theirs(tokens, bias)[0][:, 0], rtol=0, atol=1e-5)
