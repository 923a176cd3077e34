"""The folded head against the textbook: standardized tokens through `nn.functional.multi_head_attention_forward`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from adapters.context import Context, TargetSchema
from adapters.features import Batch, InMemoryFeatures
from adapters.kinds.map_classifier import MapClassifier, PoolingRound, nearest_divisor
from core_encoder.errors import InputError
from tests.adapters.toy import DIM, LABELS, toy_features


def textbook_round(layer: PoolingRound, query: Tensor, tokens: Tensor, mask: Tensor, places: Tensor | None) -> Tensor:
    """Queries `(B, H)` read tokens `(B, L, D)` with projected keys and values, one head after the other."""
    x = (tokens.double() - layer.scale.mean) / layer.scale.std
    if places is not None:
        x = x + places
    q, k, v = layer.q(layer.norm_query(query)), layer.k(x), layer.v(x)
    width = q.shape[-1] // layer.heads
    heads = []
    for h in range(layer.heads):
        part = slice(h * width, (h + 1) * width)
        logits = torch.einsum("bc,blc->bl", q[:, part], k[..., part]) / math.sqrt(width)
        weights = logits.masked_fill(~mask, -math.inf).softmax(-1)
        heads.append(torch.einsum("bl,blc->bc", weights, v[..., part]))
    x = query + layer.o(torch.cat(heads, -1))
    return x + layer.fc2(torch.nn.functional.gelu(layer.fc1(layer.norm_mlp(x))))


@pytest.mark.parametrize(
    "config", [{}, {"positions": False}, {"layers": (0, 3, -1), "heads": 2}, {"layers": (0, 3), "positions": False}]
)
def test_equals_the_textbook(config: dict[str, Any]) -> None:
    layers = len(config.get("layers", ()))
    data = toy_features(6, layers=layers)
    context = Context.of_classes(DIM, LABELS)
    adapter = MapClassifier.build(config, context).double().eval()
    adapter.calibrate(data)
    assert data.masks is not None
    features = data.features.double()
    by_layer = features if layers else features[:, None]
    mask = data.masks.repeat_interleave(9, 1)
    query = adapter.query.expand(6, -1)
    for index, layer in enumerate(adapter.rounds):
        assert isinstance(layer, PoolingRound)
        places = None
        if config.get("positions", True):
            time, space = (torch.nn.init.normal_(one) for one in (layer.time_positions, layer.space_positions))
            time = torch.stack([(time[4 * t + 1] + time[4 * t + 2]) / 2 for t in range(4)])  # 16 stretched to 4
            space = torch.nn.functional.interpolate(space.T.reshape(1, DIM, 16, 16), (3, 3), mode="bilinear")[0]
            places = torch.stack([time[t] + space[:, row, column] for t, row, column in np.ndindex(4, 3, 3)])
        query = textbook_round(layer, query, by_layer[:, index].flatten(1, 2), mask, places)
    expected = adapter.classifier(adapter.norm(query))
    single = MapClassifier.build(config, context).eval()
    single.load_state_dict({name: tensor.float() for name, tensor in adapter.state_dict().items()})
    torch.testing.assert_close(single(data.features, data.masks).double(), expected, atol=2e-5, rtol=1e-4)


def test_scale_and_offset_of_the_features_do_not_matter() -> None:
    data = toy_features(12)
    wild = InMemoryFeatures(data.features.float() * 300 - 5000, data.targets, data.masks)
    logits = []
    for features in (data, wild):
        adapter = MapClassifier.build({}, Context.of_classes(DIM, LABELS)).eval()
        adapter.calibrate(features)
        logits.append(adapter(features.features, features.masks))
    torch.testing.assert_close(logits[0], logits[1], atol=2e-3, rtol=1e-3)


def test_a_silent_channel_is_not_blown_up() -> None:
    features = torch.randn(8, 2, 4, DIM)
    features[..., 3] = 1e-4 * features[..., 3] + 40
    adapter = MapClassifier.build({}, Context.of_classes(DIM, LABELS)).eval()
    adapter.calibrate(InMemoryFeatures(features, torch.arange(8) % 3))
    layer = adapter.rounds[0]
    assert isinstance(layer, PoolingRound)
    assert layer.scale(features)[..., 3].abs().max() < 0.1


def test_positions_tell_where_a_token_lies() -> None:
    """Samples that hold the same tokens in another order: only a head with positions can tell them apart."""
    tokens = torch.randn(1, 4, 9, DIM)
    swapped = tokens.flip(1)
    both = torch.cat([tokens, swapped])
    for positions in (False, True):
        adapter = MapClassifier.build({"positions": positions}, Context.of_classes(DIM, LABELS)).eval()
        first, second = adapter(both)
        assert torch.allclose(first, second, atol=1e-5) is not positions


def test_positions_stretch_to_other_frame_counts() -> None:
    adapter = MapClassifier.build({}, Context.of_classes(DIM, LABELS)).eval()
    layer = adapter.rounds[0]
    assert isinstance(layer, PoolingRound)
    with torch.no_grad():
        layer.time_positions[:] = torch.arange(16)[:, None]
        layer.space_positions[:] = torch.arange(256)[:, None] // 16
    time, space = layer._positions(8, 4, 4) or ()
    assert time[:, 0].tolist() == pytest.approx([0.5 + 2 * i for i in range(8)])
    assert space[:, 0].tolist() == pytest.approx([1.5 + 4 * (i // 4) for i in range(16)])
    assert adapter(torch.randn(2, 7, 25, DIM)).shape == (2, 3)
    assert adapter(torch.randn(2, 7, 10, DIM)).shape == (2, 3), "features of unknown origin may form no square"
    wide = MapClassifier.build({}, Context(DIM, TargetSchema("classes", LABELS), grid=(2, 5)))
    assert wide(torch.randn(2, 7, 10, DIM)).shape == (2, 3), "a grid that is recorded need not be a square"
    with pytest.raises(InputError, match="9 patches do not form a grid of 2 x 5"):
        wide(torch.randn(2, 7, 9, DIM))


def test_positions_of_base_cost_less_than_300_thousand_parameters() -> None:
    sizes = [
        sum(one.numel() for one in MapClassifier.build(config, Context.of_classes(768, LABELS)).parameters())
        for config in ({}, {"positions": False})
    ]
    assert sizes[0] - sizes[1] == (16 + 256) * 768 < 300_000


def test_positions_of_0_1_are_taken_over() -> None:
    """They were computed: waves of the place in time, height and width, through one linear map."""
    context = Context.of_classes(DIM, LABELS)
    adapter = MapClassifier.build({}, context).eval()
    weight = torch.randn(DIM, 24)
    saved = {name: tensor for name, tensor in adapter.saved_state().items() if "_positions" not in name}
    adapter.load_weights(saved | {"rounds.0.position.weight": weight}, "old")
    layer = adapter.rounds[0]
    assert isinstance(layer, PoolingRound)
    for t, row, column in ((0, 0, 0), (3, 5, 9), (15, 15, 0), (7, 11, 15)):
        place = torch.tensor([(t + 0.5) / 16, (row + 0.5) / 16, (column + 0.5) / 16])
        angles = math.pi * place[:, None] * torch.tensor([1, 2, 4, 8])
        expected = weight @ torch.cat([angles.sin(), angles.cos()], -1).flatten()
        ours = layer.time_positions[t] + layer.space_positions[16 * row + column]
        torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("hidden", "heads"), [(768, 12), (1024, 8), (1408, 11), (128, 8), (7, 7), (13, 13)])
def test_default_heads(hidden: int, heads: int) -> None:
    assert nearest_divisor(hidden, 12) == heads


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"heads": 3}, "heads 3 do not divide the hidden width 16"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"layers": [1, 1]}, "name a layer twice"),
        ({"heads": 0}, "heads must be at least 1"),
        ({"mlp_ratio": 0}, "mlp_ratio must be above 0"),
        ({"positions": "perhaps"}, "option 'positions' cannot be 'perhaps'"),
        ({"class_weights": "some"}, "option 'class_weights' cannot be 'some': input should be 'none', 'balanced' or"),
    ],
)
def test_contradictions_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MapClassifier.build(config, Context.of_classes(DIM, LABELS))


def test_wrong_features_are_named() -> None:
    adapter = MapClassifier.build({}, Context.of_classes(DIM, LABELS)).eval()
    with pytest.raises(InputError, match=r"wants features \(B, T, N, 16\), not \(2, 16\)"):
        adapter(torch.randn(2, DIM))
    with pytest.raises(InputError, match=r"width 8, not 16"):
        adapter.calibrate(InMemoryFeatures(torch.randn(3, 2, 4, 8), [0, 1, 2]))
    broken = torch.randn(3, 2, 4, DIM)
    broken[1, 0, 0, 0] = math.nan
    with pytest.raises(InputError, match="features of 'x1' hold NaN"):
        adapter.calibrate(InMemoryFeatures(broken, [0, 1, 2], ids=["x0", "x1", "x2"]))
    with pytest.raises(InputError, match="target of 'x2' must be a class index from 0 to 2, not 3"):
        adapter.calibrate(InMemoryFeatures(torch.randn(3, 2, 4, DIM), [0, 1, 3], ids=["x0", "x1", "x2"]))
    with pytest.raises(InputError, match="needs at least 2 different label names"):
        MapClassifier.build({}, Context.of_classes(DIM, ["ant", "ant"]))


def test_dropout_only_while_training() -> None:
    data = toy_features(4)
    adapter = MapClassifier.build({"dropout": 0.5}, Context.of_classes(DIM, LABELS))
    assert data.masks is not None
    first = adapter.loss(Batch(data.features, data.masks, data.targets, data.ids))
    second = adapter.loss(Batch(data.features, data.masks, data.targets, data.ids))
    assert first != second
    assert torch.equal(adapter.probabilities(data.features), adapter.probabilities(data.features))
    assert adapter.training, "predicting leaves the head in the mode it was in"
