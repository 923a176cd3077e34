"""Bridges from the tokens of a video to a few vectors in front of a language model's prompt.

B batch, T frames, N patches, D width of the features, P vectors, H width of the language model.

    resampler  tokens (B, T*N, D) --one Perceiver layer with Q learned queries--> (B, Q, H)
    pool       tokens (B, T, rows, columns, D) --mean of cells--> (B, T*cells, D) --two-layer MLP--> (B, T*cells, H)

What goes in is standardized by channel, what comes out has the size, mean and spread of the language model's own
embeddings: neither the encoder's scale nor a large learning rate takes it where no word ever is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapters.classifier import FeatureScale
from adapters.kinds.map_classifier import fresh_positions, stretched_positions
from adapters.language.embedding_space import EmbeddingScale
from core_encoder.models.pooling import Positions

Grid = tuple[int, int]
"""Rows and columns of the patches."""


class Bridge(nn.Module, ABC):
    """Tokens `(B, T, N, D)` -> vectors `(B, P, H)` like a language model's embeddings, and which are real `(B, P)`.

    `like` is what they are to be like. A subclass turns standardized tokens into vectors of any size (`look`).
    """

    def __init__(self, dim: int, like: EmbeddingScale) -> None:
        super().__init__()
        self.scale = FeatureScale(dim)
        self.like = like

    def forward(self, tokens: Tensor, mask: Tensor | None, grid: Grid) -> tuple[Tensor, Tensor]:
        y, real = self.look(self.scale(tokens), mask, grid)
        return self.like.matched(y), real

    @abstractmethod
    def look(self, tokens: Tensor, mask: Tensor | None, grid: Grid) -> tuple[Tensor, Tensor]: ...


class Resampler(Bridge):
    """One Perceiver layer: learned queries attend to all tokens, and nothing but the tokens are keys.

    Queries and keys have LayerNorms of their own, the queries skip the attention. As VideoPrism's language adapter has
    it; the MLP behind the attention is that of Perceiver (Jaegle et al., arXiv 2103.03206). `positions` adds a token's
    learned place in time and space first, which the paper does not.
    """

    def __init__(
        self, dim: int, queries: int, heads: int, mlp_ratio: float, positions: bool, like: EmbeddingScale
    ) -> None:
        super().__init__(dim, like)
        width = like.width
        self.heads = heads
        self.queries = nn.Parameter(torch.randn(queries, width))
        self.norm_queries = nn.LayerNorm(width)
        self.norm_keys = nn.LayerNorm(dim)
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(dim, 2 * width)
        self.o = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, round(width * mlp_ratio))
        self.fc2 = nn.Linear(self.fc1.out_features, width)
        self.time_positions: nn.Parameter | None = None
        self.space_positions: nn.Parameter | None = None
        if positions:
            self.time_positions, self.space_positions = map(nn.Parameter, fresh_positions(dim))
        for layer in (self.q, self.kv):  # logits of unit scale: a query looks at something at once
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        for layer in (self.q, self.kv, self.o, self.fc1, self.fc2):
            nn.init.zeros_(layer.bias)

    def look(self, tokens: Tensor, mask: Tensor | None, grid: Grid) -> tuple[Tensor, Tensor]:
        """The number of vectors is that of the queries, whatever the clip."""
        x, (batch, frames, patches, _) = tokens, tokens.shape
        if self.time_positions is not None and self.space_positions is not None:
            learned = Positions(self.time_positions, self.space_positions)
            time, space = stretched_positions(learned, (frames, *grid))
            x = x + time[:, None] + space
        keys, values = self.kv(self.norm_keys(x.flatten(1, 2))).chunk(2, -1)  # (B, T*N, H) each
        queries = self.q(self.norm_queries(self.queries)).expand(batch, -1, -1)  # (B, Q, H)
        allowed = None if mask is None else mask.repeat_interleave(patches, 1)[:, None, None]  # (B, 1, 1, T*N)
        q, k, v = map(self._by_head, (queries, keys, values))
        seen = F.scaled_dot_product_attention(q, k, v, allowed)  # (B, heads, Q, H / heads)
        y = self.queries + self.o(seen.transpose(1, 2).flatten(2))  # (B, Q, H)
        y = y + self.fc2(F.gelu(self.fc1(self.norm_mlp(y))))
        return y, torch.ones(y.shape[:2], dtype=torch.bool, device=y.device)

    def _by_head(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, L, H / heads)


class PooledTokens(Bridge):
    """The mean of `side` x `side` cells of each frame's patches, then a two-layer MLP, as small modern models have it.

    Cells of padding frames are not real.
    """

    def __init__(self, dim: int, side: int, like: EmbeddingScale) -> None:
        super().__init__(dim, like)
        self.side, width = side, like.width
        self.fc1 = nn.Linear(dim, width)
        self.fc2 = nn.Linear(width, width)
        nn.init.normal_(self.fc1.weight, std=dim**-0.5)
        nn.init.normal_(self.fc2.weight, std=width**-0.5)
        for layer in (self.fc1, self.fc2):
            nn.init.zeros_(layer.bias)

    def look(self, tokens: Tensor, mask: Tensor | None, grid: Grid) -> tuple[Tensor, Tensor]:
        """The number of vectors is that of the frames times the cells."""
        batch, frames = tokens.shape[:2]
        image = tokens.flatten(0, 1).mT.unflatten(-1, grid)  # (B*T, D, rows, columns)
        cells = F.adaptive_avg_pool2d(image, (min(self.side, grid[0]), min(self.side, grid[1])))
        x = cells.flatten(2).mT.unflatten(0, (batch, frames))  # (B, T, cells, D)
        real = torch.ones(batch, frames, dtype=torch.bool, device=x.device) if mask is None else mask
        y = self.fc2(F.gelu(self.fc1(x.flatten(1, 2))))  # (B, T*cells, H)
        return y, real.repeat_interleave(x.shape[2], 1)
