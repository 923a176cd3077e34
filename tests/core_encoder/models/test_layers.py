"""The transformer layer and its norm, against slow, obvious formulas and against the `transformers` classes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from transformers import VideoPrismTextConfig, VideoPrismVisionConfig
from transformers.models.videoprism.modeling_videoprism import VideoPrismLayer

from core_encoder.models.attention import TokenGroups
from core_encoder.models.layers import LayerNorm, TransformerLayer
from tests.core_encoder.models.random_tensors import random, random_mask, randomize


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


def test_only_the_visible_tokens_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    linear = F.linear
    monkeypatch.setattr(F, "linear", lambda x, *args: (rows.append(x.shape[:-1].numel()), linear(x, *args))[1])
    ids = torch.tensor([0, 0, 0, 1, 2, 2])
    TransformerLayer(16, 2, 32)(random(6, 16), groups=TokenGroups.from_ids(ids))
    assert rows == [6, 6, 6, 6]
