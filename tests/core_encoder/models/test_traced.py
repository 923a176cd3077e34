"""Traced graphs of encoders: one graph for any batch and number of frames gives what the model gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim

from core_encoder.encoder import Encoder, load_encoder
from core_encoder.models.attention import soft_capped_attention
from core_encoder.models.pooling import attention_pool
from core_encoder.models.resampling import resampling_weights
from tests.core_encoder.foreign_models import foreign_folder


class Seeing(nn.Module):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, video: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        seen = self.encoder(video, mask, layers=(0,), embed=self.encoder.embedding_dim is not None)
        return tuple(one for one in (seen.tokens, seen.hidden[0], seen.embedding) if one is not None)


def videos(encoder: Encoder, batch: int, steps: int) -> tuple[Tensor, ...]:
    """Random videos, and where time steps are single frames a mask under which the first has padding."""
    side, frames = encoder.preprocessing.image_size, steps * encoder.tubelet
    video = torch.rand(batch, frames, 3, side, side, generator=torch.Generator().manual_seed(steps))
    mask = torch.ones(batch, frames, dtype=torch.bool)
    mask[0, max(1, frames - 3) :] = False
    return (video, mask) if encoder.tubelet == 1 else (video,)


def traced(module: nn.Module, inputs: tuple[Tensor, ...], axes: tuple[dict[int, object], ...]) -> nn.Module:
    with torch.no_grad():
        return torch.export.export(module, inputs, dynamic_shapes=axes).module()  # type: ignore[arg-type]


def assert_same(given: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> None:
    for one, other in zip(given, wanted, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["nano", "clip", "videomae"])
def test_one_graph_fits_every_batch_and_number_of_frames(family: str, tmp_path: Path) -> None:
    encoder = load_encoder("nano" if family == "nano" else foreign_folder(family, tmp_path / family))
    frames = Dim("frames") if encoder.tubelet == 1 else encoder.tubelet * Dim("steps")
    axes = {0: Dim("batch"), 1: frames}
    first = videos(encoder, 2, 3)
    graph = traced(Seeing(encoder), first, (axes,) * len(first))
    for batch, steps in ((2, 3), (1, encoder.num_frames // encoder.tubelet), (3, 11), (1, 2)):
        inputs = videos(encoder, batch, steps)
        assert_same(graph(*inputs), Seeing(encoder)(*inputs))


@pytest.mark.slow
def test_another_size_than_trained_is_traced_too() -> None:
    encoder = load_encoder("nano")
    video = torch.rand(2, 3, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    graph = traced(Seeing(encoder), (video,), ({0: Dim("batch"), 1: Dim("frames")},))
    assert_same(graph(video[:, :2]), Seeing(encoder)(video[:, :2]))


@pytest.mark.slow
def test_texts_of_any_length_fit_one_graph() -> None:
    encoder = load_encoder("nano")
    assert encoder.tokenizer is not None

    class Reading(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            return self.encoder.embed_token_ids(ids, mask)

    axes = {0: Dim("batch"), 1: Dim("length", max=encoder.model.config.text.max_length)}
    graph = traced(Reading(), encoder.tokenizer(["a red circle", "moves"]), (axes, axes))
    for texts in (["a"], ["a red circle moves left", "b", ""]):
        ids, mask = encoder.tokenizer(texts)
        padded = F.pad(ids, (0, 3)), F.pad(mask, (0, 3))
        assert_same((graph(ids, mask), graph(*padded)), (encoder.embed_text(texts),) * 2)


def test_a_query_without_a_key_gets_zeros_in_a_graph() -> None:
    class Attention(nn.Module):
        def forward(self, q: Tensor, mask: Tensor) -> Tensor:
            return soft_capped_attention(q, q, q, 50.0, mask)

    q = torch.rand(2, 2, 5, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    mask[1, :, 2] = False
    found = traced(Attention(), (q, mask), ({}, {}))(q, mask)
    assert torch.equal(found[1, :, 2], torch.zeros(2, 4))
    torch.testing.assert_close(found, Attention()(q, mask))


def test_pooling_in_a_graph_takes_queries_of_each_sample() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens, queries = torch.rand(3, 7, 8, generator=generator), torch.rand(3, 2, 8, generator=generator)
    key, value = torch.rand(8, 8, generator=generator), torch.rand(8, 8, generator=generator)
    mask = torch.ones(3, 7, dtype=torch.bool)
    mask[2] = False

    class Pool(nn.Module):
        def forward(self, tokens: Tensor, queries: Tensor, mask: Tensor) -> Tensor:
            return attention_pool(tokens, queries, key, value, None, 2, mask)

    found = traced(Pool(), (tokens, queries, mask), ({}, {}, {}))(tokens, queries, mask)
    alone = [attention_pool(tokens[b, None], queries[b], key, value, None, 2, mask[b, None]) for b in range(3)]
    torch.testing.assert_close(found, torch.cat(alone))
    with pytest.raises(ValueError, match="attention_pool wants"):
        attention_pool(tokens, queries, key, value, None, 2)


@pytest.mark.parametrize(("count", "wanted"), [(8, 8), (8, 3), (8, 21), (1, 4), (5, 1), (16, 7)])
def test_resampling_is_that_of_torch(count: int, wanted: int) -> None:
    rows = torch.rand(count, 6, generator=torch.Generator().manual_seed(count))
    plain = F.interpolate(rows.T[None], size=wanted, mode="linear")[0].T
    torch.testing.assert_close(resampling_weights(count, wanted) @ rows, plain)
    smooth = F.interpolate(rows[None, None], size=(wanted, 6), mode="bilinear", antialias=True)[0, 0]
    torch.testing.assert_close(resampling_weights(count, wanted, antialias=True) @ rows, smooth)
