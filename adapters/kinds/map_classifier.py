"""`map_classifier`: multi-head attention pooling (MAP) over all tokens, as VideoPrism's frozen evaluations do.

    tokens (B, T*N, D) --scale--> cross attention from one class query -> (B, 1, H) -> + MLP(norm) -> dropout -> linear

With `layers=(-4, -3, -2, -1)` it is MLAP: one such round a layer, from the first named to the last, each with its own
weights, and the query of a round is what the round before made of it (VideoGLUE, arXiv 2307.03166, eq. 2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapters.classifier import Classifier, FeatureScale
from adapters.context import Context
from adapters.features import Batch
from adapters.head_options import MapClassifierConfig
from core_encoder.errors import InputError
from core_encoder.features.feature_spec import FeatureKind
from core_encoder.models.pooling import Positions, attention_pool
from core_encoder.models.resampling import resampling_weights

DEFAULT_HEADS = 12
POSITIONS = (16, 16, 16)  # learned in time, height and width, those of Base; stretched to other clips


class PoolingRound(nn.Module):
    """One cross-attention transformer layer whose queries `(1 or B, H)` read tokens `(B, L, D)` -> `(B, H)`.

    Of one sample, tokens `(1, L, D)`, any number of queries `(Q, H)` may be asked at once -> `(Q, H)`; of several, in a
    traced graph, queries `(B, Q, H)` -> `(B, Q, H)`.
    """

    def __init__(self, dim: int, hidden: int, heads: int, mlp_ratio: float, positions: bool) -> None:
        super().__init__()
        self.heads = heads
        self.scale = FeatureScale(dim)
        self.norm_query = nn.LayerNorm(hidden)
        self.q = nn.Linear(hidden, hidden)
        self.k = nn.Linear(dim, hidden, bias=False)  # a key bias cancels in the softmax
        self.v = nn.Linear(dim, hidden)
        self.o = nn.Linear(hidden, hidden)
        self.norm_mlp = nn.LayerNorm(hidden)
        self.fc1 = nn.Linear(hidden, round(hidden * mlp_ratio))
        self.fc2 = nn.Linear(self.fc1.out_features, hidden)
        self.time_positions: nn.Parameter | None = None  # (16, D), in units of the features' scale
        self.space_positions: nn.Parameter | None = None  # (256, D)
        if positions:  # at random but smooth: neighbouring places start alike, and the head sees places at once
            self.time_positions, self.space_positions = map(nn.Parameter, fresh_positions(dim))
        for layer in (self.q, self.k, self.v, self.o):  # logits of unit scale: the query looks at something at once
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        for layer in (self.q, self.v, self.o, self.fc1, self.fc2):
            nn.init.zeros_(layer.bias)

    def forward(self, query: Tensor, tokens: Tensor, grid: tuple[int, int, int], mask: Tensor | None) -> Tensor:
        """`grid` counts the tokens in time, height and width; only positions read it."""
        with torch.autocast(tokens.device.type, enabled=False):  # the folded mean would drown in bfloat16
            pooled = self._pool(query.float(), tokens, grid, mask)
        x = query + self.o(pooled)  # (B, H)
        return x + self.fc2(F.gelu(self.fc1(self.norm_mlp(x))))  # (B, H)

    def _pool(self, query: Tensor, tokens: Tensor, grid: tuple[int, int, int], mask: Tensor | None) -> Tensor:
        scaled = self.q(self.norm_query(query)) * (query.shape[-1] // self.heads) ** -0.5  # (1 or B, H)
        # (token - mean) / std never happens: the division goes into both weights, the mean into the value bias.
        key, value = self.k.weight / self.scale.std, self.v.weight / self.scale.std  # (H, D)
        bias = self.v.bias - value @ self.scale.mean  # (H,)
        place = self._positions(*grid)
        if torch.compiler.is_exporting():  # one form, however many samples and queries there are
            several = scaled if scaled.ndim == 3 else scaled[:, None]  # (B or 1, Q, H)
            pooled = attention_pool(tokens, several, key, value, bias, self.heads, mask, place)  # (B, Q, H)
            return pooled if scaled.ndim == 3 else pooled[:, 0]
        if len(tokens) == 1:
            return attention_pool(tokens, scaled, key, value, bias, self.heads, mask, place)[0]  # (Q, H)
        if len(query) == 1:
            return attention_pool(tokens, scaled, key, value, bias, self.heads, mask, place)[:, 0]  # (B, H)
        masks = [None] * len(tokens) if mask is None else list(mask[:, None])
        parts = [  # every sample has its own query
            attention_pool(tokens[b, None], scaled[b, None], key, value, bias, self.heads, masks[b], place)[:, 0]
            for b in range(len(tokens))
        ]
        return torch.cat(parts)  # (B, H)

    def _positions(self, frames: int, rows: int, columns: int) -> Positions | None:
        """The positions in units of the features, stretched where a clip has more or fewer frames or patches."""
        if self.time_positions is None or self.space_positions is None:
            return None
        time, space = self.time_positions * self.scale.std, self.space_positions * self.scale.std
        return stretched_positions(Positions(time, space), (frames, rows, columns))


class MapClassifier(Classifier):
    """Attention pooling over all tokens, an MLP, and a linear classifier: the default head."""

    kind: ClassVar[str] = "map_classifier"
    Config: ClassVar[type] = MapClassifierConfig
    feature_kind: ClassVar[FeatureKind] = "tokens"
    answers_together: ClassVar[bool] = True
    input_names = ()
    config: MapClassifierConfig

    def __init__(self, config: MapClassifierConfig, context: Context) -> None:
        super().__init__(config, context)
        dim = context.dim
        hidden = config.hidden or dim
        heads = config.heads or nearest_divisor(hidden, DEFAULT_HEADS)
        if hidden % heads:
            raise InputError(f"heads {heads} do not divide the hidden width {hidden}")
        self.query = nn.Parameter(torch.randn(1, hidden))
        self.rounds = nn.ModuleList(
            PoolingRound(dim, hidden, heads, config.mlp_ratio, config.positions) for _ in range(len(config.layers) or 1)
        )
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(hidden, len(self.label_names))
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)

    def measure_scale(self, batches: Sequence[Batch]) -> None:
        for index, pooling in enumerate(self.rounds):
            assert isinstance(pooling, PoolingRound)
            parts = []
            for batch in batches:
                tokens = self._by_layer(batch.features)[:, index]  # (B, T, N, D)
                parts.append((tokens if _all_real(batch.mask) else tokens[batch.mask]).flatten(0, -2))
            pooling.scale.measure(parts)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Logits `(B, K)` of tokens `(B, T, N, D)`, or `(B, layers, T, N, D)` where the config names layers."""
        by_layer = self._by_layer(features)
        frames, patches = by_layer.shape[2:4]
        token_mask = None if mask is None else mask.repeat_interleave(patches, 1)  # (B, T*N)
        rows, columns = self._patch_grid(patches)
        x = self.query
        for index, pooling in enumerate(self.rounds):
            x = pooling(x, by_layer[:, index].flatten(1, 2), (frames, rows, columns), token_mask)  # (B, H)
        return self.classifier(self.dropout(self.norm(x)))  # (B, K)

    def load_weights(self, tensors: Mapping[str, Tensor], where: str) -> None:
        """Positions of 0.1, which were waves over the clip, are taken over: they too were apart in time and space."""
        taken: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            head, is_waves, _ = name.partition("position.weight")
            if is_waves:
                taken |= {f"{head}{key}_positions": table for key, table in _from_waves(tensor)._asdict().items()}
            else:
                taken[name] = tensor
        super().load_weights(taken, where)

    def _patch_grid(self, patches: int) -> tuple[int, int]:
        """Rows and columns of patches; without positions it does not matter where they are."""
        return self.context.grid_or_row(patches) if self.config.positions else (1, patches)

    def _by_layer(self, features: Tensor) -> Tensor:
        """Features as `(B, layers, T, N, D)`."""
        layers = len(self.config.layers)
        wanted = f"(B, {layers}, T, N, {self.dim})" if layers else f"(B, T, N, {self.dim})"
        whole = features if layers else features.unsqueeze(1)
        if whole.ndim != 5 or whole.shape[1] != (layers or 1) or whole.shape[-1] != self.dim:
            raise InputError(f"map_classifier wants features {wanted}, not {tuple(features.shape)}")
        return whole


def _all_real(mask: Tensor | None) -> bool:
    return mask is None or bool(mask.all())


def _from_waves(weight: Tensor) -> Positions:
    """Sines and cosines of 1, 2, 4 and 8 half periods in time, height and width, mixed by `weight (D, 3 * 8)`.

    So 0.1 computed its positions.
    """
    time, rows, columns = (
        torch.cat([angles.sin(), angles.cos()], -1) @ part.T  # (count, D)
        for count, part in zip(POSITIONS, weight.split(8, 1), strict=True)
        for angles in [math.pi * (torch.arange(count)[:, None] + 0.5) / count * torch.tensor([1, 2, 4, 8])]
    )
    return Positions(time, (rows[:, None] + columns).flatten(0, 1))


def fresh_positions(dim: int) -> Positions:
    """Positions in time `(16, D)` and space `(256, D)` at random but smooth, for tokens of unit scale."""
    return _from_waves(nn.init.uniform_(torch.empty(dim, 24), -0.2, 0.2))


def stretched_positions(learned: Positions, grid: tuple[int, int, int]) -> Positions:
    """Learned positions stretched to the frames, rows and columns of a clip: `(frames, D)`, `(rows * columns, D)`."""
    time, space = learned
    if torch.compiler.is_exporting():  # also for clips like the learned ones: the graph is one for all
        frames, rows, columns = map(resampling_weights, POSITIONS, grid)
        image = space.unflatten(0, POSITIONS[1:])  # (16, 16, D)
        return Positions(frames @ time, torch.einsum("rg,ch,ghd->rcd", rows, columns, image).flatten(0, 1))
    if grid[0] != POSITIONS[0]:
        time = F.interpolate(time.T[None], size=grid[0], mode="linear")[0].T  # (frames, D)
    if grid[1:] != POSITIONS[1:]:
        image = space.T.unflatten(1, POSITIONS[1:])[None]  # (1, D, 16, 16)
        space = F.interpolate(image, size=grid[1:], mode="bilinear")[0].flatten(1).T
    return Positions(time, space)


def nearest_divisor(number: int, wanted: int) -> int:
    """The divisor of `number` nearest to `wanted`, the smaller one of two."""
    return min((d for d in range(1, number + 1) if number % d == 0), key=lambda d: (abs(d - wanted), d))
