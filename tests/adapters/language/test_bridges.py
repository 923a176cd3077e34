"""Bridges against plain loops, with padding, other grids and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from adapters.language.bridges import Bridge, PooledTokens, Resampler
from adapters.language.embedding_space import EmbeddingScale

DIM, WIDTH, GRID = 6, 8, (2, 3)
EMBEDDINGS = 0.3 + 0.1 * torch.randn(50, WIDTH, generator=torch.Generator().manual_seed(7))


def like_embeddings(y: Tensor) -> Tensor:
    """A vector `(H,)` with the mean and spread of the embeddings, whatever its size."""
    return EMBEDDINGS.mean(0) + EMBEDDINGS.std(0, correction=0) * y / y.square().mean().sqrt()


def resampler(positions: bool = True) -> Resampler:
    torch.manual_seed(0)
    return Resampler(DIM, 5, heads=2, mlp_ratio=2.0, positions=positions, like=EmbeddingScale(EMBEDDINGS))


def pooled() -> PooledTokens:
    torch.manual_seed(0)
    return PooledTokens(DIM, 2, EmbeddingScale(EMBEDDINGS))


def tokens_of(batch: int = 3, frames: int = 4) -> Tensor:
    return torch.randn(batch, frames, 6, DIM, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("positions", [False, True])
def test_the_resampler_equals_a_loop_over_heads_and_queries(positions: bool) -> None:
    bridge, tokens = resampler(positions), tokens_of(2)
    out, real = bridge(tokens, None, GRID)
    assert out.shape == (2, 5, WIDTH) and real.all()
    for b in range(2):
        rows = []
        for t in range(4):
            for n in range(6):
                x = tokens[b, t, n]
                if positions:
                    assert bridge.time_positions is not None and bridge.space_positions is not None
                    time = torch.nn.functional.interpolate(bridge.time_positions.T[None], size=4, mode="linear")[0].T
                    image = bridge.space_positions.T.reshape(1, DIM, 16, 16)
                    space = torch.nn.functional.interpolate(image, size=GRID, mode="bilinear")[0].reshape(DIM, 6).T
                    x = x + time[t] + space[n]
                rows.append(bridge.norm_keys(x))
        keys, values = bridge.kv(torch.stack(rows)).split(WIDTH, -1)
        for q in range(5):
            query, parts = bridge.q(bridge.norm_queries(bridge.queries[q])), []
            for head in (slice(0, 4), slice(4, 8)):
                weights = torch.softmax(keys[:, head] @ query[head] / math.sqrt(4), 0)
                parts.append(weights @ values[:, head])
            y = bridge.queries[q] + bridge.o(torch.cat(parts))
            y = y + bridge.fc2(torch.nn.functional.gelu(bridge.fc1(bridge.norm_mlp(y))))
            torch.testing.assert_close(out[b, q], like_embeddings(y), atol=1e-6, rtol=1e-4)


def test_pooling_is_the_mean_of_cells() -> None:
    bridge, tokens = pooled(), tokens_of(2)
    out, real = bridge(tokens, None, GRID)
    assert out.shape == (2, 4 * 4, WIDTH) and real.all()
    image = tokens[1, 2].reshape(2, 3, DIM)  # the cells of one row of three patches: of 0 and 1, of 1 and 2
    cells = torch.stack([image[row, at : at + 2].mean(0) for row in range(2) for at in range(2)])
    expected = torch.stack([*map(like_embeddings, bridge.fc2(torch.nn.functional.gelu(bridge.fc1(cells))))])
    torch.testing.assert_close(out[1, 8:12], expected, atol=1e-6, rtol=1e-4)
    few, _ = bridge(tokens[:, :, :1], None, (1, 1))
    assert few.shape == (2, 4, WIDTH)


@pytest.mark.parametrize("make", [resampler, pooled])
def test_padding_frames_and_neighbours_do_not_matter(make: type[Bridge]) -> None:
    bridge, tokens = make(), tokens_of()  # type: ignore[call-arg]
    mask = torch.tensor([[True] * 4, [True] * 3 + [False], [True, False, False, False]])
    out, real = bridge(tokens, mask, GRID)
    other = tokens.clone()
    other[~mask] = 900.0
    again, _ = bridge(other, mask, GRID)
    assert torch.equal(out[real], again[real])
    alone, _ = bridge(tokens[1:2], mask[1:2], GRID)
    torch.testing.assert_close(alone[0][real[1]], out[1][real[1]], atol=1e-6, rtol=1e-5)
    out[real].square().sum().backward()
    silent = [name for name, one in bridge.named_parameters() if one.grad is None or not one.grad.abs().sum() > 0]
    assert not silent


@pytest.mark.parametrize("make", [resampler, pooled])
def test_the_scale_of_the_features_does_not_matter(make: type[Bridge]) -> None:
    bridge, tokens = make(), tokens_of()  # type: ignore[call-arg]
    bridge.scale.measure([tokens.flatten(0, -2)])
    expected, _ = bridge(tokens, None, GRID)
    other = 40.0 * tokens + 1000.0 * torch.arange(DIM)
    bridge.scale.measure([other.flatten(0, -2)])
    torch.testing.assert_close(bridge(other, None, GRID)[0], expected, atol=1e-3, rtol=1e-3)
