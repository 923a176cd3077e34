"""A pyramid over time: transformer blocks with local attention, each level half as long as the one below.

    vectors (B, W, D) -> level 0 (B, W, H) -> level 1 (B, W/2, H) -> ... ; masks (B, W), (B, W/2), ...

Whatever lies in padding is zero after every layer, so how much of it there is changes nothing. Time and memory grow
linearly with W. ActionFormer (Zhang et al., ECCV 2022), with a learned bias for the distance of two vectors.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Level(NamedTuple):
    """One level of the pyramid: `values (B, T, H)`, and which of its places are real, `mask (B, T)`."""

    values: Tensor
    mask: Tensor


class MaskedConv(nn.Module):
    """A convolution of three places over `(B, T, C)` with every `step`-th kept, and zeros in padding."""

    def __init__(self, width: int, out: int, step: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, out, 3, stride=step, padding=1, bias=bias)
        self.step = step

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        kept, shown = mask[:, :: self.step], (x * mask[..., None]).transpose(1, 2)  # (B, T / step), (B, C, T)
        if torch.compiler.is_exporting():  # as long as the mask also by the rules of a length that stays open
            out = F.conv1d(shown, self.conv.weight, self.conv.bias, padding=1)[..., :: self.step].transpose(1, 2)
        else:
            out = self.conv(shown).transpose(1, 2)  # (B, T / step, out)
        return out * kept[..., None], kept


class LocalAttention(nn.Module):
    """Self-attention of `(B, T, H)` in which each place sees `reach` places on either side."""

    def __init__(self, width: int, heads: int, reach: int) -> None:
        super().__init__()
        self.heads, self.reach = heads, reach
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.distance_bias = nn.Parameter(torch.zeros(heads, 2 * reach + 1))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            return self._traced(x, mask)
        length = x.shape[1]
        block = self.reach  # queries come in blocks: each sees its own block and the two beside it
        blocks = -(-length // block)
        spare = blocks * block - length
        q, k, v = F.pad(self.qkv(x), (0, 0, 0, spare)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        known = F.pad(mask, (0, spare))  # (B, L)
        q = q.unflatten(2, (blocks, block))  # (B, h, n, block, d)
        k, v = (
            F.pad(one, (0, 0, block, block)).unfold(2, 3 * block, block).mT for one in (k, v)
        )  # (B, h, n, 3 block, d)
        seen = F.pad(known, (block, block)).unfold(1, 3 * block, block)[:, None, :, None]  # (B, 1, n, 1, 3 block)
        place = torch.arange(3 * block, device=x.device)
        apart = place - block - torch.arange(block, device=x.device)[:, None]  # (block, 3 block)
        near = apart.abs() <= self.reach
        bias = self.distance_bias[:, apart.clamp(-self.reach, self.reach) + self.reach]  # (h, block, 3 block)
        allowed = near & seen
        allowed = allowed | ~allowed.any(-1, keepdim=True)  # a place in padding sees anything: it is zeroed below
        logits = bias[None, :, None].masked_fill(~allowed, -torch.inf)  # (B, h, n, block, 3 block)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=logits.to(q.dtype))
        mixed = mixed.flatten(2, 3)[:, :, :length].transpose(1, 2).flatten(2)  # (B, T, H)
        return self.out(mixed) * mask[..., None]

    def _traced(self, x: Tensor, mask: Tensor) -> Tensor:
        """The same, each place with a copy of its neighbours: how many blocks there are would fix the length."""
        length, reach = x.shape[1], self.reach
        near = torch.arange(length)[:, None] + torch.arange(2 * reach + 1)  # (T, 2 reach + 1), from `reach` before on
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, h, T, d) each
        k, v = (F.pad(one, (0, 0, reach, reach))[:, :, near] for one in (k, v))  # (B, h, T, 2 reach + 1, d)
        seen = F.pad(mask.to(x.dtype), (reach, reach))[:, near] > 0  # (B, T, 2 reach + 1)
        seen = (seen | ~mask[..., None])[:, None]  # a place in padding sees anything: it is zeroed below
        logits = (q[..., None, :] * k).sum(-1) * q.shape[-1] ** -0.5 + self.distance_bias[:, None]
        weights = logits.masked_fill(~seen, -torch.inf).softmax(-1)  # (B, h, T, 2 reach + 1)
        mixed = (weights[..., None] * v).sum(-2)  # (B, h, T, d)
        return self.out(mixed.transpose(1, 2).flatten(2)) * mask[..., None]


class Block(nn.Module):
    """A pre-norm transformer block with local attention."""

    def __init__(self, width: int, heads: int, reach: int, dropout: float) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = LocalAttention(width, heads, reach)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm_attention(x), mask))
        return x + self.dropout(self.mlp(self.norm_mlp(x))) * mask[..., None]


class Pyramid(nn.Module):
    """Vectors `(B, W, D)` with their mask `(B, W)` -> `levels` levels of width H."""

    def __init__(self, dim: int, width: int, heads: int, reach: int, levels: int, dropout: float) -> None:
        super().__init__()
        self.embed = MaskedConv(dim, width, bias=False)
        self.mix = MaskedConv(width, width, bias=False)
        self.norm_embed, self.norm_mix = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads, reach, dropout) for _ in range(levels))
        self.halve = nn.ModuleList(MaskedConv(width, width, step=2) for _ in range(levels - 1))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(levels))
        self.dropout = nn.Dropout(dropout)

    def forward(self, vectors: Tensor, mask: Tensor) -> list[Level]:
        whole = 2 ** len(self.halve)  # padded until each level is half of the one below
        spare = -vectors.shape[1] % whole
        x, mask = F.pad(vectors, (0, 0, 0, spare)), F.pad(mask, (0, spare))
        x = self.dropout(F.relu(self.norm_embed(self.embed(x, mask)[0])))
        x = F.relu(self.norm_mix(self.mix(x, mask)[0])) * mask[..., None]
        levels = []
        for number, (block, norm) in enumerate(zip(self.blocks, self.norms, strict=True)):
            if number:
                x, mask = self.halve[number - 1](x, mask)  # (B, T / 2, H)
            x = block(x, mask)
            levels.append(Level(norm(x) * mask[..., None], mask))
        return levels
