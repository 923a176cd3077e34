"""Adafactor for sharded parameters against torch's own; on really sharded ones it runs in test_processes.py."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.stages.sharded_adafactor import ShardedAdafactor

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=3)


@given(shapes=st.lists(SHAPES, min_size=1, max_size=3), decay=st.sampled_from([0.0, 0.1]), lr=st.floats(1e-4, 1.0))
@settings(deadline=None, max_examples=25)
def test_it_takes_the_steps_of_torchs_own(shapes: list[list[int]], decay: float, lr: float) -> None:
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    optimizers = []
    for kind in (torch.optim.Adafactor, ShardedAdafactor):
        parameters = [torch.nn.Parameter(value.clone()) for value in start]
        optimizers.append(kind(parameters, lr=lr, weight_decay=decay))
    for _ in range(4):
        grads = [torch.randn(shape, generator=generator) for shape in shapes]
        for optimizer in optimizers:
            for parameter, grad in zip(optimizer.param_groups[0]["params"], grads, strict=True):
                parameter.grad = grad.clone()
            optimizer.step()
    theirs, ours = optimizers
    for one, other in zip(theirs.param_groups[0]["params"], ours.param_groups[0]["params"], strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
        assert ours.state[other].keys() == theirs.state[one].keys()
        for name, value in theirs.state[one].items():
            torch.testing.assert_close(ours.state[other][name], value, rtol=1e-4, atol=1e-6)
