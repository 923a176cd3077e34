"""What every head of class scores must keep, for every known kind; a new one adds a line to `VARIANTS` if it has any.

Kinds of other answers are held to `test_kinds_of_answers.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters import adapter_kinds, load_adapter
from adapters.adapter import Adapter
from adapters.card import CONFIG_FILE, WEIGHTS_FILE
from adapters.context import Context
from adapters.features import read_batch
from adapters.registry import adapter_kind, target_kind
from core_encoder.clip_plan import ClipPlan
from core_encoder.config import config_from_dict, config_to_dict
from core_encoder.errors import EncoderMismatch, InputError
from core_encoder.features.feature_spec import FeatureSpec
from core_encoder.preprocessing import Preprocessing
from tests.adapters.toy import DIM, LABELS, toy_features

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "map_classifier": [
        {"positions": True, "heads": 4, "hidden": 8},
        {"layers": (-2, -1)},
        {"layers": (-2, -1), "positions": True, "multi_label": True, "class_weights": "balanced"},
        {"class_weights": "eql"},
    ],
    "linear": [{"multi_label": True, "dropout": 0.5, "class_weights": "eql"}, {"class_weights": "balanced"}],
}
OF_CLASSES = [kind for kind in adapter_kinds() if target_kind(kind) == "classes"]
CASES = [(kind, config) for kind in OF_CLASSES for config in [{}, *VARIANTS.get(kind, [])]]
FINGERPRINT = "ab" * 32

pytestmark = pytest.mark.parametrize(("kind", "config"), CASES, ids=[f"{k}-{c or 'default'}" for k, c in CASES])


def made(kind: str, config: dict[str, Any]) -> tuple[Adapter, Any]:
    """A calibrated head and a batch for it."""
    cls = adapter_kind(kind)
    layers = len(config.get("layers", ()))
    data = toy_features(12, kind=cls.feature_kind, layers=layers, multi_label=config.get("multi_label", False))
    adapter = cls.build(config, Context.of_classes(DIM, LABELS), seed=3).eval()
    adapter.calibrate(data)
    return adapter, read_batch(data, range(12))


def with_origin(adapter: Adapter) -> Adapter:
    from dataclasses import replace

    plan, preprocessing = ClipPlan(4), Preprocessing(48)
    spec = FeatureSpec("nano", FINGERPRINT, plan, preprocessing, "pyav-1", adapter.feature_kind, adapter.layers)
    adapter.info = replace(adapter.info, features=spec)
    return adapter


def test_shapes_and_finite_loss(kind: str, config: dict[str, Any]) -> None:
    adapter, batch = made(kind, config)
    output = adapter(batch.features, batch.mask)
    assert output.shape == (12, len(LABELS)) and output.isfinite().all()
    loss = adapter.loss(batch).value
    assert loss.shape == () and loss.isfinite()
    scores = adapter.probabilities(batch.features, batch.mask)
    assert scores.dtype == torch.float32 and ((scores >= 0) & (scores <= 1)).all()
    if not config.get("multi_label"):
        torch.testing.assert_close(scores.sum(1), torch.ones(12))


def test_every_parameter_gets_a_gradient(kind: str, config: dict[str, Any]) -> None:
    adapter, batch = made(kind, config)
    adapter.loss(batch).value.backward()
    silent = [name for name, p in adapter.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


def test_the_loss_falls(kind: str, config: dict[str, Any]) -> None:
    adapter, batch = made(kind, config)
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = adapter.loss(batch).value
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_padding_frames_change_nothing(kind: str, config: dict[str, Any]) -> None:
    adapter, batch = made(kind, config)
    if adapter.feature_kind == "clip":
        pytest.skip("one vector has no frames")
    before = adapter.probabilities(batch.features, batch.mask)
    other = batch.features.clone()
    frames = other.movedim({"tokens": -3, "frames": -2}[adapter.feature_kind], 1)  # (B, T, ...)
    frames[~batch.mask] = 1000.0
    assert torch.equal(adapter.probabilities(other, batch.mask), before)
    assert not torch.equal(adapter.probabilities(other), before)
    assert not torch.equal(adapter.probabilities(batch.features), before)


def test_samples_do_not_see_each_other(kind: str, config: dict[str, Any]) -> None:
    adapter, batch = made(kind, config)
    whole = adapter.probabilities(batch.features, batch.mask)
    alone = torch.cat([adapter.probabilities(batch.features[i : i + 1], batch.mask[i : i + 1]) for i in range(12)])
    torch.testing.assert_close(alone, whole, atol=1e-6, rtol=1e-5)


def test_same_seed_same_head(kind: str, config: dict[str, Any]) -> None:
    torch.manual_seed(1)
    first, batch = made(kind, config)
    state = torch.get_rng_state()
    second, _ = made(kind, config)
    assert torch.equal(torch.get_rng_state(), state), "building a head must leave the caller's random state alone"
    assert torch.equal(first(batch.features, batch.mask), second(batch.features, batch.mask))
    other = adapter_kind(kind).build(config, Context.of_classes(DIM, LABELS), seed=4)
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_half_precision_features_are_read_as_they_are(kind: str, config: dict[str, Any]) -> None:
    adapter, batch = made(kind, config)
    torch.testing.assert_close(
        adapter.probabilities(batch.features.float(), batch.mask), adapter.probabilities(batch.features, batch.mask)
    )


def test_predictions_survive_saving(kind: str, config: dict[str, Any], tmp_path: Path) -> None:
    adapter, batch = made(kind, config)
    folder = with_origin(adapter).save_pretrained(tmp_path / "saved")
    assert {path.name for path in folder.iterdir()} == {WEIGHTS_FILE, CONFIG_FILE, "README.md"}
    loaded = load_adapter(folder)
    assert type(loaded) is type(adapter) and not loaded.training
    assert loaded.config == adapter.config and loaded.info == adapter.info
    before = adapter.predict(batch.features, mask=batch.mask, ids=batch.ids)
    after = loaded.predict(batch.features, mask=batch.mask, ids=batch.ids)
    assert [p.sample_id for p in after] == list(batch.ids)
    assert all(torch.equal(a.scores, b.scores) for a, b in zip(before, after, strict=True))


def test_config_round_trip(kind: str, config: dict[str, Any]) -> None:
    cls = adapter_kind(kind).Config
    built = config_from_dict(cls, config)
    assert config_from_dict(cls, json.loads(json.dumps(config_to_dict(built)))) == built
    with pytest.raises(InputError, match=r"unknown option 'dropuot'; did you mean 'dropout'\?"):
        adapter_kind(kind).build({"dropuot": 0.1}, Context.of_classes(DIM, LABELS))


def test_altered_weights_are_refused(kind: str, config: dict[str, Any], tmp_path: Path) -> None:
    adapter, _ = made(kind, config)
    file = adapter.save_pretrained(tmp_path / "saved") / WEIGHTS_FILE
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match="sha256 differs"):
        load_adapter(tmp_path / "saved")
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a whole safetensors file"):
        load_adapter(tmp_path / "saved")


def test_a_foreign_encoder_is_refused(kind: str, config: dict[str, Any], tmp_path: Path) -> None:
    from core_encoder.encoder import load_encoder

    adapter, _ = made(kind, config)
    folder = with_origin(adapter).save_pretrained(tmp_path / "saved")
    with pytest.raises(EncoderMismatch, match="was trained on features of encoder 'nano' \\(abababababab\\)"):
        load_adapter(folder, encoder=load_encoder("nano"))


def test_no_parameter_belongs_to_the_encoder(kind: str, config: dict[str, Any]) -> None:
    from dataclasses import replace

    from core_encoder.encoder import load_encoder

    adapter, _ = made(kind, config)
    before = set(adapter.state_dict())
    encoder = load_encoder("nano")
    spec = with_origin(adapter).info.features
    assert spec is not None
    adapter.info = replace(adapter.info, features=replace(spec, fingerprint=encoder.fingerprint))
    adapter.use_encoder(encoder)
    assert set(adapter.state_dict()) == before


def test_bfloat16_autocast(kind: str, config: dict[str, Any]) -> None:
    adapter, batch = made(kind, config)
    exact = adapter.loss(batch).value
    with torch.autocast("cpu", torch.bfloat16):
        loss = adapter.loss(batch).value
    loss.backward()
    torch.testing.assert_close(loss.detach(), exact.detach(), atol=0.1, rtol=0.1)
