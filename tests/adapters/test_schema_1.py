"""Adapters saved by version 1 are read: classes only, the label names beside, scores as a list of metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.card import CONFIG_FILE, read_info
from adapters.context import Context
from adapters.kinds.linear import Linear
from adapters.registry import list_adapters, load_adapter, pull
from core_encoder.errors import InputError

OF_VERSION_1: dict[str, Any] = {
    "schema_version": 1,
    "kind": "linear",
    "config": {"multi_label": False, "dropout": 0.0, "label_smoothing": 0.1, "class_weights": "none"},
    "dim": 4,
    "label_names": ["ant", "bee"],
    "features": {
        "version": 1,
        "encoder": "nano",
        "fingerprint": "c8" * 32,
        "plan": {"num_frames": 8, "sampling": "uniform", "views": 1},
        "preprocessing": {
            "image_size": 48,
            "geometry": "resize",
            "interpolation": "bicubic",
            "mean": [0.0, 0.0, 0.0],
            "std": [1.0, 1.0, 1.0],
        },
        "decoder": "auto-decord-0.6.0-pyav-18.1.0",
        "kind": "clip",
        "layers": [],
        "dtype": "fp16",
        "precision": "fp32",
    },
    "encoder_source": "nano",
    "task": "classification",
    "dataset": "insects",
    "metrics": [
        {"name": "top1", "value": 0.375, "split": "test", "n": 8, "n_total": 9, "interval": [0.125, 0.75]},
        {"name": "macro_accuracy", "value": 0.5, "split": "test", "n": 8, "n_total": 9, "interval": None},
    ],
    "training": {"epochs": 1, "lr": 0.001, "split_seed": 0, "data_digest": "45" * 32},
    "seed": 0,
    "created": "2026-10-01T15:40:17+00:00",
    "versions": {"python": "3.11.7", "prismhub": "0.1.0"},
    "license": "unknown",
    "label_names_sha256": "",
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder as version 1 wrote it, weights included."""
    folder = Linear.build({}, Context.of_classes(4, ("ant", "bee")), seed=3).save_pretrained(tmp_path / "old")
    new = json.loads((folder / CONFIG_FILE).read_text())
    known = {name: new[name] for name in ("weights_sha256", "label_names_sha256")}
    (folder / CONFIG_FILE).write_text(json.dumps(OF_VERSION_1 | known))
    return folder


def test_it_answers_as_before(saved: Path) -> None:
    adapter = load_adapter(saved)
    expected = Linear.build({}, Context.of_classes(4, ("ant", "bee")), seed=3).eval()
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(adapter.probabilities(x), expected.probabilities(x))
    assert adapter.label_names == ("ant", "bee") and adapter.info.features is not None
    assert adapter.info.features.plan.num_frames == 8


def test_its_scores_are_kept(saved: Path) -> None:
    (scores,) = read_info(saved).evaluations
    assert (scores.split, scores.main_metric, scores.n_evaluated, scores.n_total) == ("test", "top1", 8, 9)
    assert (scores.values["top1"].value, scores.values["top1"].low, scores.values["top1"].high) == (0.375, 0.125, 0.75)
    assert scores.values["macro_accuracy"].low is None
    pull(str(saved), "old")
    (row,) = list_adapters("old")
    assert row.metric.startswith("top1 37.5")


def test_altered_names_are_refused(saved: Path) -> None:
    file = saved / CONFIG_FILE
    file.write_text(file.read_text().replace('"bee"', '"cow"'))
    with pytest.raises(InputError, match="label names are not the ones that were saved"):
        load_adapter(saved)
