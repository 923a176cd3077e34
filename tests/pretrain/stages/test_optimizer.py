"""Which parameters decay, learning rates against the plain formula, and that optimizers optimize."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from core_encoder.errors import InputError
from pretrain.recipe import ContrastiveConfig, MaskedConfig, PartConfig
from pretrain.stages.contrastive_stage import ContrastiveStage
from pretrain.stages.masked_stage import MaskedStage
from pretrain.stages.optimizer import build_optimizer, learning_rate, set_learning_rates
from tests.pretrain.tiny_models import LetterTokenizer, tiny_model


def stages() -> list[nn.Module]:
    masked = MaskedConfig(num_frames=4, decoder_layers=1, decoder_width=16, decoder_heads=2, decoder_mlp=32)
    return [
        ContrastiveStage(tiny_model(auxiliary_layers=1), LetterTokenizer(), ContrastiveConfig(), "stage1", 0),
        MaskedStage(tiny_model().vision, tiny_model(), masked, 0),
    ]


def linear_weights(stage: nn.Module) -> set[int]:
    return {id(part.weight) for part in stage.modules() if isinstance(part, nn.Linear)}


def test_only_the_weights_of_linear_maps_decay() -> None:
    seen = set()
    for stage in stages():
        stage.requires_grad_(True)
        groups = build_optimizer(stage, PartConfig(weight_decay=0.3)).param_groups
        assert {id(p) for group in groups if group["weight_decay"] for p in group["params"]} == linear_weights(stage)
        seen |= {name.rpartition(".")[2] for name, _ in stage.named_parameters()}
    spared = {"bias", "spatial_positions", "temporal_positions", "slot_positions", "query", "class_embedding"}
    assert spared | {"mask_token", "log_scale", "per_dim_scale", "weight"} <= seen


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_groups_hold_what_is_trainable_and_decay_as_asked(name: str) -> None:
    for stage in stages():
        next(stage.parameters()).requires_grad_(False)
        optimizer = build_optimizer(stage, PartConfig(optimizer=name, weight_decay=0.3, lr=0.01))  # type: ignore[arg-type]
        assert isinstance(optimizer, torch.optim.AdamW if name == "adamw" else torch.optim.Adafactor)
        decay_of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        assert sum(len(group["params"]) for group in optimizer.param_groups) == len(decay_of)
        trainable = {id(p): id(p) in linear_weights(stage) for p in stage.parameters() if p.requires_grad}
        assert decay_of == {key: 0.3 if decayed else 0.0 for key, decayed in trainable.items()}
        assert all(group["lr"] == 0.01 for group in optimizer.param_groups)


def test_the_spatial_half_has_its_share_of_the_rate() -> None:
    stage = stages()[0].requires_grad_(True)
    groups = build_optimizer(stage, ContrastiveConfig(spatial_lr=0.1)).param_groups
    share_of = {id(parameter): group["share"] for group in groups for parameter in group["params"]}
    for name, parameter in stage.named_parameters():
        spatial = "vision." in name and "temporal_" not in name
        assert share_of[id(parameter)] == (0.1 if spatial else 1.0), name
    for begins, ends in ((0, None), (5, None), (0, 5), (4, 5)):
        config = ContrastiveConfig(spatial_lr=0.1, lr=0.01, warmup_steps=0, schedule="constant")
        config = replace(config, spatial_lr_from=begins, spatial_lr_until=ends)
        optimizer = build_optimizer(stage, config)
        for step in (3, 4, 5):
            set_learning_rates(optimizer, config, step)
            shared = begins <= step < (ends or 9)
            assert {group["lr"] for group in optimizer.param_groups} == {0.01, 0.001 if shared else 0.01}
    plain = build_optimizer(stage, ContrastiveConfig()).param_groups
    assert {group["share"] for group in plain} == {1.0} and len(plain) == 2, "the groups of runs of before"


def test_a_student_has_its_share_of_the_rate_and_the_decoders_all_of_it() -> None:
    stage = stages()[1]
    groups = build_optimizer(stage, MaskedConfig(student_lr=0.1)).param_groups
    share_of = {id(parameter): group["share"] for group in groups for parameter in group["params"]}
    names = [name for name, parameter in stage.named_parameters() if parameter.requires_grad]
    assert any(name.startswith("student.") for name in names) and not all(name.startswith("student.") for name in names)
    for name, parameter in stage.named_parameters():
        if parameter.requires_grad:
            assert share_of[id(parameter)] == (0.1 if name.startswith("student.") else 1.0), name


def test_beta2_and_a_module_without_matrices() -> None:
    optimizer = build_optimizer(nn.LayerNorm(4), PartConfig(beta2=0.9, weight_decay=0.1))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.0]
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.9)


@pytest.mark.parametrize(("name", "lr"), [("adamw", 0.05), ("adafactor", 0.1)])
@pytest.mark.parametrize("shape", [(6,), (6, 5)])
def test_optimizers_reduce_a_quadratic(name: str, lr: float, shape: tuple[int, ...]) -> None:
    module = nn.Module()
    module.weight = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 3.0)
    optimizer = build_optimizer(module, PartConfig(optimizer=name, lr=lr, weight_decay=0.0))  # type: ignore[arg-type]
    first = float(module.weight.detach().square().sum())
    for _ in range(150):
        optimizer.zero_grad()
        module.weight.square().sum().backward()
        optimizer.step()
    assert float(module.weight.detach().square().sum()) < 0.05 * first


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_decay_alone_shrinks_matrices_only(name: str) -> None:
    module = nn.Linear(3, 2)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    optimizer = build_optimizer(module, PartConfig(optimizer=name, lr=0.1, weight_decay=0.5))  # type: ignore[arg-type]
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(module.weight.data, before["weight"] * (1 - 0.1 * 0.5))
    assert torch.equal(module.bias.data, before["bias"])


def plain_rate(config: PartConfig, step: int) -> float:
    """The rate, thought of as a line up and a curve down between two places."""
    if step < config.warmup_steps:
        return sum(config.lr / config.warmup_steps for _ in range(step + 1))
    first, last = config.warmup_steps, config.steps - 1
    if config.schedule == "constant" or last <= first:
        return config.lr
    share = (step - first) / (last - first)
    if config.schedule == "linear":
        return config.lr * (1 - share) + config.final_lr * share
    middle, swing = (config.lr + config.final_lr) / 2, (config.lr - config.final_lr) / 2
    return middle + swing * math.cos(math.pi * share)


@settings(deadline=None)
@given(
    steps=st.integers(1, 300),
    warmup=st.integers(0, 400),
    schedule=st.sampled_from(["linear", "cosine", "constant"]),
    final=st.floats(0, 1e-3),
    data=st.data(),
)
def test_rates_equal_the_plain_formula(
    steps: int, warmup: int, schedule: str, final: float, data: st.DataObject
) -> None:
    config = PartConfig(steps=steps, warmup_steps=warmup, schedule=schedule, lr=1e-3, final_lr=final)  # type: ignore[arg-type]
    step = data.draw(st.integers(0, steps - 1))
    assert math.isclose(learning_rate(config, step), plain_rate(config, step), rel_tol=1e-9, abs_tol=1e-15)
    assert 0 < learning_rate(config, 0) <= config.lr or not final


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_where_rates_begin_peak_and_end(schedule: str) -> None:
    config = PartConfig(steps=50, warmup_steps=10, schedule=schedule, lr=0.2, final_lr=0.003)  # type: ignore[arg-type]
    rates = [learning_rate(config, step) for step in range(50)]
    assert rates[0] == 0.2 / 10
    assert rates[9] == rates[10] == 0.2 == max(rates)
    assert rates[-1] == 0.003 == min(rates[10:])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert learning_rate(PartConfig(steps=5, warmup_steps=0, lr=0.2, final_lr=0.0), 4) == 0.0


@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.integers(0, 70))
def test_each_cycle_is_a_schedule_of_its_own(lengths: list[int], warmup: int) -> None:
    ends = list(itertools.accumulate(lengths))
    whole = PartConfig(steps=ends[-1], restarts=tuple(ends[:-1]), warmup_steps=warmup)
    cycles = [[learning_rate(PartConfig(steps=n, warmup_steps=warmup), step) for step in range(n)] for n in lengths]
    assert [learning_rate(whole, step) for step in range(ends[-1])] == list(itertools.chain(*cycles))


@pytest.mark.parametrize("restarts", [(5, 5), (7, 3), (0,), (10,)])
def test_restarts_lie_in_order_inside_a_part(restarts: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="restarts are steps between 0 and 10, in order"):
        PartConfig(steps=10, restarts=restarts)


@given(st.integers(2, 400), st.integers(0, 100), st.floats(1e-9, 1.0), st.floats(0, 1.0))
def test_the_last_rate_is_exactly_the_final_one(steps: int, warmup: int, lr: float, final: float) -> None:
    if warmup >= steps - 1:
        return
    for schedule in ("linear", "cosine"):
        config = PartConfig(steps=steps, warmup_steps=warmup, lr=lr, final_lr=final, schedule=schedule)  # type: ignore[arg-type]
        assert learning_rate(config, steps - 1) == final
