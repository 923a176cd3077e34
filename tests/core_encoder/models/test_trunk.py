"""What tuning knows of every encoder: all its linear maps are really used, and layers lie in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from core_encoder.encoder import Encoder, load_encoder
from core_encoder.errors import InputError
from core_encoder.models.trunk import trunk_of
from tests.core_encoder.foreign_models import BUILDERS, clip_of, foreign_folder

ENCODERS = ["nano", *BUILDERS]


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> Encoder:
    family = request.param
    return load_encoder(family if family == "nano" else foreign_folder(family, tmp_path / family))


def tokens_of(encoder: Encoder) -> torch.Tensor:
    frames = 2 * encoder.tubelet
    size = encoder.preprocessing.image_size
    return encoder.with_gradients(clip_of(frames, size, size, batch=1)).tokens


def test_every_linear_map_of_the_layers_gets_a_gradient(encoder: Encoder) -> None:
    """A model that reads `map.weight` itself, past the module, would leave LoRA on it without effect."""
    trunk = trunk_of(encoder.model, encoder.name)
    maps = trunk.linear_maps()
    seen: set[str] = set()
    for name, one in maps.items():
        one.register_forward_hook(lambda *_, name=name: seen.add(name))  # type: ignore[misc]
        one.weight.requires_grad_(True)
    tokens_of(encoder).square().sum().backward()
    assert seen == maps.keys()
    assert all(float(one.weight.grad.abs().max()) > 0 for one in maps.values())


def test_attention_and_mlp_share_out_the_maps(encoder: Encoder) -> None:
    trunk = trunk_of(encoder.model, encoder.name)
    attention, mlp = trunk.linear_maps(mlp=False), trunk.linear_maps(attention=False)
    assert not attention.keys() & mlp.keys() and attention.keys() | mlp.keys() == trunk.linear_maps().keys()
    width = encoder.dim
    assert all(one.weight.shape in {(width, width), (3 * width, width)} for one in attention.values())
    assert len(mlp) % 2 == 0 and len(attention) >= 2 * len(trunk.layers)
    assert trunk.root.get_submodule(next(iter(attention))) is next(iter(attention.values()))


def test_depths_rise_along_the_way_of_the_tokens(encoder: Encoder) -> None:
    trunk = trunk_of(encoder.model, encoder.name)
    assert len(trunk.layers) == encoder.num_layers
    depths = trunk.depths()
    named = {name: depths[id(one)] for name, one in trunk.module.named_parameters()}
    assert set(named.values()) == set(range(len(trunk.layers) + 2))
    for depth, layer in enumerate(trunk.layers, start=1):
        assert {depths[id(one)] for one in layer.parameters()} == {depth}
    assert named[next(name for name in named if "patch" in name)] == 0
    order: list[int] = []
    for depth, layer in enumerate(trunk.layers, start=1):
        layer.register_forward_hook(lambda *_, depth=depth: order.append(depth))  # type: ignore[misc]
    tokens_of(encoder)
    assert order == sorted(order) and set(order) == set(range(1, len(trunk.layers) + 1))


def test_a_whole_tuning_moves_what_makes_tokens_and_nothing_else(encoder: Encoder) -> None:
    trunk = trunk_of(encoder.model, encoder.name)
    trunk.module.requires_grad_(True)
    tokens_of(encoder).square().sum().backward()
    moved = {id(one) for one in encoder.parameters() if one.grad is not None}
    assert moved <= trunk.depths().keys()
    assert all(id(one) in moved for layer in trunk.layers for one in layer.parameters() if one.requires_grad)


def test_an_encoder_that_does_not_say_is_refused() -> None:
    class Other(nn.Module):
        pass

    model: Any = Other()
    with pytest.raises(InputError, match="'mine' cannot be tuned: its Other does not say what its trunk is"):
        trunk_of(model, "mine")
