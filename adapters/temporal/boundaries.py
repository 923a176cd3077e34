"""What each place of a pyramid says of the segment around it: class scores, and how far start and end are.

Distances are in units of the level's stride, so one head serves all levels. `direct` regresses them (ActionFormer);
`tridet` reads them off the scores of a start, or an end, at each of the places beside it: the distance is the mean over
the places up to `bins` away, weighted by the softmax of those scores and an offset of its own (TriDet, Shi et al., CVPR
2023; here all classes share the scores of starts and ends).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapters.temporal.pyramid import Level, MaskedConv

PRIOR = 0.01  # the probability of a class at a place before anything is learned, as focal loss wants it


class Said(NamedTuple):
    """What all N places say: `logits (B, N, K)`, `distances (B, N, 2)` in strides of the level, `mask (B, N)`."""

    logits: Tensor
    distances: Tensor
    mask: Tensor


class Tower(nn.Module):
    """Two convolutions with norm and ReLU, then one to `out` numbers a place; shared by all levels."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(MaskedConv(width, width, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.last = MaskedConv(width, out)

    def forward(self, level: Level) -> Tensor:
        x = level.values
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x, level.mask)[0]))
        return self.last(x, level.mask)[0]  # (B, T, out)


class DirectDistances(nn.Module):
    """Distances to start and end as two numbers that cannot be negative, with a learned scale a level."""

    def __init__(self, width: int, levels: int) -> None:
        super().__init__()
        self.tower = Tower(width, 2)
        self.scales = nn.Parameter(torch.ones(levels))

    def forward(self, level: Level, number: int) -> Tensor:
        return F.softplus(self.tower(level) * self.scales[number])  # (B, T, 2)


class RelativeDistances(nn.Module):
    """Distances as the mean place of a boundary among the places beside, relative to each place."""

    def __init__(self, width: int, bins: int) -> None:
        super().__init__()
        self.bins = bins
        self.boundaries = Tower(width, 2)
        self.offsets = Tower(width, 2 * (bins + 1))

    def forward(self, level: Level, number: int) -> Tensor:
        scores = self.boundaries(level).masked_fill(~level.mask[..., None], -1e4)  # (B, T, start and end)
        own = self.offsets(level).unflatten(-1, (2, self.bins + 1))  # (B, T, 2, bins + 1)
        before = _windows(F.pad(scores[..., 0], (self.bins, 0), value=-1e4), self.bins + 1).flip(-1)  # t, t - 1, ...
        after = _windows(F.pad(scores[..., 1], (0, self.bins), value=-1e4), self.bins + 1)  # t, t + 1, ...
        weights = (torch.stack([before, after], 2) + own).softmax(-1)  # (B, T, 2, bins + 1)
        return weights @ torch.arange(self.bins + 1, device=weights.device, dtype=weights.dtype)  # (B, T, 2)


def _windows(row: Tensor, size: int) -> Tensor:
    """Every window of so many neighbours: `(B, T)` -> `(B, T - size + 1, size)`."""
    if torch.compiler.is_exporting():  # ONNX has no `unfold` for a length that stays open
        return row[:, torch.arange(row.shape[1] - size + 1)[:, None] + torch.arange(size)]
    return row.unfold(1, size, 1)


class BoundaryHead(nn.Module):
    """The levels of a pyramid -> what their places say, level after level."""

    def __init__(self, width: int, classes: int, levels: int, bins: int | None) -> None:
        super().__init__()
        self.classify = Tower(width, classes)
        bias = self.classify.last.conv.bias
        assert bias is not None
        nn.init.constant_(bias, -math.log((1 - PRIOR) / PRIOR))
        self.locate = DirectDistances(width, levels) if bins is None else RelativeDistances(width, bins)

    def forward(self, levels: Sequence[Level]) -> Said:
        return Said(
            torch.cat([self.classify(level) for level in levels], 1),
            torch.cat([self.locate(level, number) for number, level in enumerate(levels)], 1),
            torch.cat([level.mask for level in levels], 1),
        )


class Places(NamedTuple):
    """Where the N places of all levels are, in units of the vectors' stride, from the first vector on.

    `at (N,)`; `step (N,)` is the stride of the level; `least` and `most (N,)` bound the distances that it looks after.
    """

    at: Tensor
    step: Tensor
    least: Tensor
    most: Tensor


def places_of(lengths: Sequence[int], reach: float, device: torch.device) -> Places:
    """The places of levels of these lengths; the first looks after segments up to `reach` vectors from a place."""
    at, step, least, most = [], [], [], []
    for number, length in enumerate(lengths):
        stride = 2.0**number
        at.append(torch.arange(length, device=device) * stride)
        step.append(torch.full((length,), stride, device=device))
        least.append(torch.full((length,), reach * stride / 2 if number else 0.0, device=device))
        last = number + 1 == len(lengths)
        most.append(torch.full((length,), math.inf if last else reach * stride, device=device))
    return Places(*(torch.cat(one) for one in (at, step, least, most)))


class Wanted(NamedTuple):
    """What the N places of one video should say: `classes (N, K)` zeros and ones, `distances (N, 2)`, `inside (N,)`."""

    classes: Tensor
    distances: Tensor
    inside: Tensor


def assign(places: Places, segments: Tensor, labels: Tensor, classes: int, radius: float, count: int) -> Wanted:
    """Give segments `(G, 2)`, in units of the vectors' stride, to the places near their middle.

    A place belongs to the segments around it whose middle is at most `radius` of its steps away and whose size its
    level looks after: to all of their classes, and to the boundaries of the shortest. A segment that no place would
    take belongs to the lowest place nearest to its middle, among the first `count` (real) ones.
    """
    device = segments.device
    classes_of = torch.zeros(len(places.at), classes, device=device)
    distances, inside = torch.zeros(len(places.at), 2, device=device), torch.zeros(len(places.at), device=device).bool()
    if not len(segments):
        return Wanted(classes_of, distances, inside)
    middle = segments.mean(-1)  # (G,)
    place, segment = _central(places, middle, radius)  # (E,) each: only so many pairs, and never all
    before, after = places.at[place] - segments[segment, 0], segments[segment, 1] - places.at[place]
    size = torch.maximum(before, after)
    mine = (torch.minimum(before, after) > 0) & (size >= places.least[place]) & (size <= places.most[place])
    lost = torch.ones(len(segments), device=device).bool()
    lost[segment[mine]] = False
    nearest = (middle[lost] - 0.5).ceil().clamp(0, count - 1).long()
    place, segment = torch.cat([place[mine], nearest]), torch.cat([segment[mine], lost.nonzero()[:, 0]])
    classes_of[place, labels[segment]] = 1.0
    inside[place] = True
    order = (segments[segment, 1] - segments[segment, 0]).argsort(stable=True)
    order = order[place[order].argsort(stable=True)]  # by place, and of each place the shortest first
    place, segment = place[order], segment[order]
    first = torch.cat([place.new_ones(1), place.diff()]).bool()
    place, (start, end) = place[first], segments[segment[first]].unbind(-1)
    apart = torch.stack([places.at[place] - start, end - places.at[place]], -1).clamp(min=0)
    distances[place] = apart / places.step[place, None]
    return Wanted(classes_of, distances, inside)


def _central(places: Places, middle: Tensor, radius: float) -> tuple[Tensor, Tensor]:
    """The places at most `radius` of their steps away from the middles `(G,)`: pairs of place and segment, `(E,)`."""
    steps, lengths = places.step.unique_consecutive(return_counts=True)  # (levels,)
    near = torch.arange(-int(radius + 0.5), int(radius + 0.5) + 1, device=middle.device)
    index = (middle / steps[:, None]).round().long()[..., None] + near  # (levels, G, 2 * radius + 1)
    steps, lengths, starts = steps[:, None, None], lengths[:, None, None], (lengths.cumsum(0) - lengths)
    central = (index * steps - middle[:, None]).abs() <= radius * steps
    taken = central & (index >= 0) & (index < lengths)
    level, segment, _ = taken.nonzero(as_tuple=True)
    return starts[level] + index[taken], segment


def focal_loss(logits: Tensor, wanted: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """The focal loss of each class at each place (Lin et al., ICCV 2017), not reduced."""
    plain = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    p = logits.sigmoid()
    hit = p * wanted + (1 - p) * (1 - wanted)
    return plain * (1 - hit) ** gamma * (alpha * wanted + (1 - alpha) * (1 - wanted))


def distance_iou_loss(found: Tensor, wanted: Tensor) -> Tensor:
    """1 - tIoU plus the squared distance of the middles over that of the hull, of distances `(M, 2)` -> `(M,)`."""
    shared = torch.minimum(found, wanted).sum(-1)
    union = found.sum(-1) + wanted.sum(-1) - shared
    hull = torch.maximum(found, wanted).sum(-1).clamp(min=1e-6)
    middles = ((found[:, 1] - found[:, 0]) - (wanted[:, 1] - wanted[:, 0])) / 2
    return 1 - shared / union.clamp(min=1e-6) + (middles / hull).square()
