"""Which tokens of a clip an encoder sees while it is pretrained: tubes in stage 1, blocks and shuffles in stage 2.

A mask is a bool array (T, N), frames by patches of a frame, True where the token is visible. Every sample of every step
draws from random numbers of its own, so a mask depends neither on the rank that computes it nor on where a run resumed.

Sources: tubes, VideoMAE (arXiv 2203.12602); blocks, BEVT (arXiv 2112.01529) after BEiT (arXiv 2106.08254).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

BoolArray = NDArray[np.bool_]

# Of a frame's patches, the share that the smallest and the largest block cover (BEiT: 16 to 75 patches of 196), the
# most that one side of a block exceeds the other by, and the shortest run of frames as a share of the clip.
SMALLEST_BLOCK, LARGEST_BLOCK = 1 / 12, 0.4
MAX_ASPECT = 1 / 0.3
SHORTEST_RUN = 1 / 4
_BLOCKS_AT_ONCE = 32


def sample_rng(seed: int, stage: int, step: int, position: int, use: int = 0) -> np.random.Generator:
    """Random numbers of the sample at `position` of the global batch of one step (about 20 microseconds).

    Counter-based: each (seed, stage, step, position, use) has its own stretch of numbers. `use` tells apart what one
    sample needs several streams for, as its mask (0) and its shuffling (1).
    """
    counter = (position << 128) | (step << 192)  # the generator counts in the lower half
    return np.random.Generator(np.random.Philox(key=seed | (stage << 64) | (use << 96), counter=counter))


def visible_patches(patches: int, drop: float) -> int:
    """Patch places that dropping leaves of so many; 0 also for a share outside [0, 1)."""
    return round(patches * (1.0 - drop)) if 0.0 <= drop < 1.0 else 0


def hidden_tokens(tokens: int, ratio: float) -> int:
    """Tokens that masking hides of so many; all also for a ratio outside [0, 1)."""
    return round(ratio * tokens) if 0.0 <= ratio < 1.0 else tokens


def tube_mask(frames: int, patches: int, drop: float, rng: np.random.Generator) -> BoolArray:
    """The same `visible_patches(patches, drop)` patch places visible in every frame: bool (T, N).

    Raises:
        ValueError: `drop` is outside [0, 1), or would leave nothing visible.
    """
    visible = visible_patches(patches, drop)
    if not visible:
        raise ValueError(f"dropping a share of {drop} leaves none of {patches} patches visible: lower it")
    places = np.zeros(patches, dtype=bool)
    places[rng.permutation(patches)[:visible]] = True
    return np.repeat(places[None], frames, axis=0)  # (T, N)


def block_mask(frames: int, rows: int, columns: int, ratio: float, rng: np.random.Generator) -> BoolArray:
    """Rectangles of patches, each hidden through a run of frames, until exactly `hidden_tokens(T * N, ratio)` are.

    Rectangles have random areas and aspect ratios and may overlap; of the last one only the first frames are hidden,
    and of the last of these only the first rows, as far as the count asks for. Returns bool (T, N), N = rows * columns.

    Raises:
        ValueError: `ratio` is outside [0, 1), or would leave nothing visible.
    """
    tokens = frames * rows * columns
    target = hidden_tokens(tokens, ratio)
    if target == tokens:
        raise ValueError(f"masking a share of {ratio} leaves none of {tokens} tokens visible: lower it")
    hidden = np.zeros((frames, rows, columns), dtype=bool)
    count = 0
    while count < target:
        for front, back, top, bottom, left, right in _random_blocks(frames, rows, columns, rng):
            block = hidden[front:back, top:bottom, left:right]
            missing = target - count
            count += block.size - int(np.count_nonzero(block))
            if count >= target:
                frame, row, column = (places[:missing] for places in (~block).nonzero())
                block[frame, row, column] = True
                break
            block[...] = True
    return ~hidden.reshape(frames, rows * columns)  # (T, N)


def _random_blocks(frames: int, rows: int, columns: int, rng: np.random.Generator) -> list[list[int]]:
    """Boxes as [front, back, top, bottom, left, right], fronts included and backs not."""
    patches = rows * columns
    uniform = rng.random((6, _BLOCKS_AT_ONCE))
    side = np.sqrt(patches * (SMALLEST_BLOCK + (LARGEST_BLOCK - SMALLEST_BLOCK) * uniform[0]))
    stretch = np.exp(0.5 * math.log(MAX_ASPECT) * (2.0 * uniform[1] - 1.0))
    shortest = max(1, round(frames * SHORTEST_RUN))
    spans = np.stack([shortest + uniform[2] * (frames - shortest + 1) - 0.5, side * stretch, side / stretch])
    limits = np.array([[frames], [rows], [columns]])
    spans = np.minimum(np.maximum(np.rint(spans), 1), limits)  # (3, blocks)
    # Drawn beyond the edges and pushed inside: on a 6 x 6 grid at 0.65 corners are hidden in half of the clips, else in
    # a fifth.
    starts = np.minimum(np.maximum(np.floor(uniform[3:] * (limits + spans + 1)) - spans, 0), limits - spans)
    boxes: list[list[int]] = np.stack([starts, starts + spans], axis=1).reshape(6, -1).T.astype(int).tolist()
    return boxes


def shuffle_order(length: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """A random order (length,) of a sequence's tokens: slot i takes token `order[i]`."""
    return rng.permutation(length)


def batch_masks(
    draw: Callable[[np.random.Generator], BoolArray], seed: int, stage: int, step: int, positions: Sequence[int]
) -> Tensor:
    """The masks that `draw` makes for the samples at `positions` of a global batch: bool (B, T, N), True = visible.

    Example: `batch_masks(lambda rng: tube_mask(8, 36, 0.5, rng), seed=0, stage=1, step=7, positions=batch.positions)`.
    """
    import torch

    return torch.from_numpy(np.stack([draw(sample_rng(seed, stage, step, position)) for position in positions]))


def batch_orders(length: int, seed: int, stage: int, step: int, positions: Sequence[int]) -> Tensor:
    """A `shuffle_order` for each of the samples at `positions` of a global batch: int64 (B, length)."""
    import torch

    orders = [shuffle_order(length, sample_rng(seed, stage, step, position, use=1)) for position in positions]
    return torch.from_numpy(np.stack(orders))
