"""Adapters of random weights on a tiny encoder, saved by name, and scripts that run where torch cannot be imported."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import torch

from adapters.adapter import Adapter
from adapters.registry import save_to_registry
from core_encoder.encoder import Encoder, load_encoder, save_encoder
from core_encoder.preprocessing import Preprocessing
from tests.adapters.every_kind import ROWS
from tests.pretrain.tiny_models import VISION, tiny_model

GIVEN = {"lit_text": ["a red circle", "it moves left"], "spatiotemporal_localizer": ["0.1", "0.2", "0.6", "0.9"]}
"""What scripts are asked beside a video, by the kind of the adapter."""


def tiny_encoder(folder: Path) -> Encoder:
    """VideoPrism of one layer a half, with an embedding and a text tower without tokenizer, kept in `folder`."""
    save_encoder(Encoder(tiny_model(), "tiny", Preprocessing(VISION.image_size)), folder)
    return load_encoder(folder)


def saved_on(encoder: Encoder, folder: Path, kind: str) -> Adapter:
    """An adapter of a kind that reads features of `encoder`, which lies in `folder`, registered under its kind."""
    adapter = next(row for row in ROWS if row.name == kind).on(encoder)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in adapter.named_parameters():
            if not name.startswith("tower."):
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    adapter.described_as(replace(adapter.info, encoder_source=str(folder)))
    save_to_registry(adapter, kind)
    return adapter.eval()


def answers_of(folder: Path, *given: str) -> list[list[str]]:
    """The words of each line that `use.py` prints, where neither torch nor prismhub can be imported."""
    blocked = folder.parent / "blocked"
    for name in ("torch", "prismhub", "core_encoder", "adapters", "transformers"):
        (blocked / name).mkdir(parents=True, exist_ok=True)
        (blocked / name / "__init__.py").write_text("raise ImportError('not here')")
    environment = {"PYTHONPATH": str(blocked), "PATH": "", "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(folder / "use.py"), *given]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    return [line.split("  ") for line in done.stdout.splitlines()]
