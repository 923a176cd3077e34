"""A later try of the two-stage experiment: every token's place is told once more, before the temporal half."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from core_encoder.models.vivit import ViViT, patch_grid


@contextmanager
def positions_again() -> Iterator[None]:
    """Let every ViViT of this process add its spatial positions to what its spatial half gives, while the block runs.

    Weights and their names stay as they are; `transformers` has no model that computes so, which is why this is an
    experiment and no option of the encoder.
    """
    dense, sparse = ViViT._spatial, ViViT._spatial_visible

    def dense_again(self: ViViT, video: Tensor, *rest: Any) -> Tensor:
        return dense(self, video, *rest) + _positions(self, video)  # (B, T, N, D)

    def sparse_again(self: ViViT, video: Tensor, places: Any, *rest: Any) -> Tensor:
        told = _positions(self, video)[places.patch].unflatten(0, (len(video), -1))  # (B, V, D)
        return sparse(self, video, places, *rest) + told

    ViViT._spatial, ViViT._spatial_visible = dense_again, sparse_again  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        ViViT._spatial, ViViT._spatial_visible = dense, sparse  # type: ignore[method-assign]


def _positions(model: ViViT, video: Tensor) -> Tensor:
    _, _, rows, columns = patch_grid(video, model.config.patch_size)
    return model._spatial_positions(rows, columns)  # (N, D)
