"""Rates against the formulas that heads and pretraining were trained with."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fit.schedule import Schedule, scheduled_rate


def rate_of_heads(lr: float, warmup: int, step: int, total: int) -> float:
    if step < warmup:
        return lr * (step + 1) / warmup
    return lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(total - warmup, 1)))


def rate_of_pretraining(lr: float, final: float, warmup: int, step: int, steps: int, schedule: str) -> float:
    if step < warmup:
        return lr * (step + 1) / warmup
    if schedule == "constant":
        return lr
    done = (step - warmup) / max(steps - 1 - warmup, 1)
    left = 0.5 * (1 + math.cos(math.pi * done)) if schedule == "cosine" else 1 - done
    return final + (lr - final) * left


@given(st.integers(1, 300), st.integers(0, 400), st.floats(1e-6, 1.0), st.data())
def test_heads_get_the_rates_of_before(total: int, warmup: int, lr: float, data: st.DataObject) -> None:
    step = data.draw(st.integers(0, total - 1))
    rate = scheduled_rate(step, lr=lr, warmup_steps=warmup, end_step=total)
    before = rate_of_heads(lr, warmup, step, total)
    assert rate == pytest.approx(before, rel=1e-12, abs=1e-15), "the angle is rounded in another order, nothing else"


@given(
    st.integers(1, 300),
    st.integers(0, 400),
    st.floats(1e-6, 1.0),
    st.floats(0, 1e-3),
    st.sampled_from(["cosine", "linear", "constant"]),
    st.data(),
)
def test_pretraining_gets_the_rates_of_before(
    steps: int, warmup: int, lr: float, final: float, schedule: Schedule, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, steps - 1))
    rate = scheduled_rate(step, lr=lr, warmup_steps=warmup, end_step=steps - 1, final_lr=final, schedule=schedule)
    assert rate == rate_of_pretraining(lr, final, warmup, step, steps, schedule)
