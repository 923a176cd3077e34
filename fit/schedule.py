"""The learning rate of each step: a linear warm-up, then down to a final rate along a curve."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["cosine", "linear", "constant"]


def scheduled_rate(
    step: int, *, lr: float, warmup_steps: int, end_step: int, final_lr: float = 0.0, schedule: Schedule = "cosine"
) -> float:
    """The rate of `step` (from 0): up to `lr` over the warm-up, then down to `final_lr`, which `end_step` gets.

    Whoever wants the last of n steps to have the final rate passes n - 1; n leaves the last step a little above it.
    """
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    if schedule == "constant":
        return lr
    done = (step - warmup_steps) / max(end_step - warmup_steps, 1)
    left = 0.5 * (1 + math.cos(math.pi * done)) if schedule == "cosine" else 1 - done
    return final_lr + (lr - final_lr) * left
