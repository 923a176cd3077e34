"""Attention, layers and pooling against slow, obvious formulas and against the `transformers` classes."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import VideoPrismTextConfig, VideoPrismVisionConfig
from transformers.models.videoprism.modeling_videoprism import (
    VideoPrismLayer,
    VideoPrismMultiheadAttentionPoolingHead,
)

from core_encoder.models import attention, pooling
from core_encoder.models.attention import TokenGroups, soft_capped_attention
from core_encoder.models.layers import LayerNorm, TransformerLayer
from core_encoder.models.pooling import AttentionPooling, attention_pool


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype) * scale


def random_mask(*shape: int, seed: int = 0, share: float = 0.6) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share


def randomize(module: torch.nn.Module, seed: int = 0) -> None:
    """Every parameter random, also those that start at zero and would hide a mistake."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        with torch.no_grad():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


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
from core_encoder.models.layers import soft_capped_attention
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


def test_layer_norm_multiplies_by_one_plus_weight() -> None:
    norm, x = LayerNorm(8), random(3, 8)
    randomize(norm)
    expected = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(norm(x), expected * (1 + norm.weight) + norm.bias)
    torch.testing.assert_close(LayerNorm(8)(x), expected)


def test_layer_norm_reads_bf16_weights_without_rounding_their_sum() -> None:
    norm, x = LayerNorm(8), random(3, 8)
    torch.nn.init.constant_(norm.weight, 0.003)
    expected = norm(x)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(norm.bfloat16()(x), expected, rtol=1e-4, atol=1e-5)
    assert norm(x.bfloat16()).dtype == torch.bfloat16
    torch.compile(norm, backend="eager", fullgraph=True)(x.bfloat16())  # nothing that tracing stops at


def layer_pair(dim: int, heads: int, mlp: int, activation: str, cap: float) -> tuple[TransformerLayer, VideoPrismLayer]:
    """Our layer and the one of `transformers`, with the same random weights."""
    sizes = {"hidden_size": dim, "num_attention_heads": heads, "intermediate_size": mlp}
    if activation == "relu":
        config = VideoPrismTextConfig(**sizes, attn_logit_softcapping=cap)
    else:
        config = VideoPrismVisionConfig(**sizes, attn_logit_softcapping=cap)
    config._attn_implementation = "eager"
    theirs = VideoPrismLayer(config).eval()
    randomize(theirs)
    ours = TransformerLayer(dim, heads, mlp, activation, cap).eval()
    block = theirs.attention
    with torch.no_grad():
        for name in ("weight", "bias"):
            parts = [getattr(part, name) for part in (block.q_proj, block.k_proj, block.v_proj)]
            getattr(ours.qkv, name).copy_(torch.cat(parts))
            for mine, other in [
                (ours.norm1, theirs.layernorm_before),
                (ours.norm2, theirs.layernorm_after),
                (ours.out, block.o_proj),
                (ours.fc1, theirs.mlp.fc1),
                (ours.fc2, theirs.mlp.fc2),
            ]:
                getattr(mine, name).copy_(getattr(other, name))
    return ours, theirs


@pytest.mark.parametrize("activation", ["gelu", "relu"])
@pytest.mark.parametrize(("dim", "heads", "mlp", "length"), [(24, 3, 40, 7), (64, 4, 256, 33), (768, 12, 3072, 16)])
def test_layer_equals_transformers_with_gradients(
    dim: int, heads: int, mlp: int, length: int, activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "core_encoder.models.layers._TEMPORARY_BYTES", 4 * max(3 * dim, mlp) * length * 2
    )  # two samples
    ours, theirs = layer_pair(dim, heads, mlp, activation, cap=3.0)
    x = random(3, length, dim)
    real = random_mask(3, length, share=0.7)
    real[:, 0] = True
    additive = torch.zeros(3, 1, 1, length).masked_fill(~real[:, None, None], torch.finfo(torch.float32).min)
    tolerance = 1e-5 * theirs(x).abs().max().item()
    for mask, bias in ((None, None), (real, additive), (real[:, None, None], additive)):
        expected = theirs(x, bias)
        torch.testing.assert_close(ours(x, mask), expected, rtol=0, atol=tolerance)
        with torch.no_grad():
            torch.testing.assert_close(ours(x, mask), expected, rtol=0, atol=tolerance)
    direction = random(*x.shape, seed=5)
    ours(x, real).backward(direction)
    theirs(x, additive).backward(direction)
    block, rows = theirs.attention, slice(dim, 2 * dim)
    gradients = [
        (ours.fc1.weight.grad, theirs.mlp.fc1.weight.grad),
        (ours.norm1.weight.grad, theirs.layernorm_before.weight.grad),
        (ours.out.weight.grad, block.o_proj.weight.grad),
        (ours.qkv.weight.grad[rows], block.k_proj.weight.grad),
    ]
    for got, want in gradients:
        torch.testing.assert_close(got, want, rtol=0, atol=1e-4 * want.abs().max().item())


def test_causal_layer_does_not_see_the_future() -> None:
    layer = TransformerLayer(16, 2, 32)
    x = random(2, 6, 16)
    changed = x.clone()
    changed[:, 4:] += 1.0
    before, after = layer(x, causal=True), layer(changed, causal=True)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4], after[:, 4])
    for i in range(6):  # a token sees exactly its past and itself
        torch.testing.assert_close(layer(x, causal=True)[:, i], layer(x[:, : i + 1])[:, i])
    real = torch.tensor([[True] * 6, [True, True, False, True, True, False]])
    past = torch.ones(6, 6, dtype=torch.bool).tril()
    torch.testing.assert_close(layer(x, real, causal=True), layer(x, real[:, None, None] & past))


def test_frozen_weights_still_pass_gradients_to_the_input() -> None:
    layer = TransformerLayer(16, 2, 32).requires_grad_(False)
    x = random(2, 6, 16).requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


def test_layer_refuses_contradictions() -> None:
    layer, groups = TransformerLayer(16, 2, 32), TokenGroups.from_ids(torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match="together with groups"):
        layer(torch.zeros(4, 16))
    with pytest.raises(ValueError, match="together with groups"):
        layer(torch.zeros(1, 4, 16), groups=groups)
    with pytest.raises(ValueError, match="neither mask nor causal"):
        layer(torch.zeros(4, 16), causal=True, groups=groups)
    with pytest.raises(ValueError, match="do not divide"):
        TransformerLayer(16, 3, 32)
    with pytest.raises(ValueError, match="activation"):
        TransformerLayer(16, 2, 32, activation="silu")  # type: ignore[arg-type]


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("kind", ["all", "tube", "general", "one token per group", "uneven"])
def test_packed_tokens_equal_the_dense_layer_under_a_mask(kind: str, grad: bool) -> None:
    """Both halves of a factorized encoder: tokens of one frame attend, then tokens of one place."""
    layer = TransformerLayer(16, 2, 32, cap=3.0)
    randomize(layer)
    b, t, n = 2, 4, 6
    visible = {
        "all": torch.ones(b, t, n, dtype=torch.bool),
        "tube": random_mask(b, 1, n, seed=3).expand(b, t, n),
        "general": random_mask(b, t, n, seed=4),
        "one token per group": torch.eye(n, dtype=torch.bool)[None, :t].expand(b, t, n),
        "uneven": torch.arange(n) < torch.tensor([[1], [3], [6], [5]])[None].expand(b, t, 1),
    }[kind]
    grid = random(b, t, n, 16)
    sample, frame, place = (torch.arange(size) for size in (b, t, n))
    spatial_ids = (sample[:, None, None] * t + frame[:, None]).expand(b, t, n)[visible]
    temporal_ids = (sample[:, None, None] * n + place).expand(b, t, n)[visible]
    with torch.set_grad_enabled(grad):
        packed = layer(grid[visible], groups=TokenGroups.from_ids(spatial_ids))
        dense = layer(grid.flatten(0, 1), visible.flatten(0, 1)).view_as(grid)[visible]
        torch.testing.assert_close(packed, dense, rtol=0, atol=1e-5)
        packed = layer(grid[visible], groups=TokenGroups.from_ids(temporal_ids))
        columns, shown = grid.transpose(1, 2), visible.transpose(1, 2)
        dense = layer(columns.flatten(0, 1), shown.flatten(0, 1)).view_as(columns).transpose(1, 2)[visible]
        torch.testing.assert_close(packed, dense, rtol=0, atol=1e-5)


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


def test_only_the_visible_tokens_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda x, *args: (rows.append(x.shape[:-1].numel()), linear(x, *args))[1])
    ids = torch.tensor([0, 0, 0, 1, 2, 2])
    TransformerLayer(16, 2, 32)(random(6, 16), groups=TokenGroups.from_ids(ids))
    assert rows == [6, 6, 6, 6]


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
        "positions": random(length, dim, seed=7),
    }
    leaves = {name: x.double().requires_grad_() for name, x in leaves.items()}
    tokens, query, key, key_bias, value, value_bias, positions = leaves.values()
    mask = random_mask(b, length, seed=8) if masked else None
    added = positions if with_positions else None
    ours = attention_pool(tokens, query, key, value, value_bias, heads, mask, added)
    theirs = textbook_pool(
        tokens + positions if with_positions else tokens, query, (key, key_bias), (value, value_bias), heads, mask
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
        elif name == "positions" and not with_positions:
            assert got is None
        else:
            torch.testing.assert_close(got, want, rtol=0, atol=1e-11)


def test_pooling_passes_gradcheck() -> None:
    leaves = [
        random(*shape, seed=i, dtype=torch.float64) for i, shape in enumerate([(2, 5, 6), (2, 4), (4, 6), (8, 6)])
    ]
    leaves = [x.requires_grad_() for x in leaves]
    assert torch.autograd.gradcheck(lambda *x: attention_pool(*x, None, 2, random_mask(2, 5)), leaves)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("with_positions", [False, True])
def test_pooling_reads_half_precision_caches_with_float32_parameters(dtype: torch.dtype, with_positions: bool) -> None:
    tokens = random(2, 9, 12, dtype=dtype)
    before, places = tokens.clone(), random(9, 12, seed=3) if with_positions else None
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
        attention_pool(tokens, query, weight, weight, None, 2, positions=torch.zeros(2, 6))
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
