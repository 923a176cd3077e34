"""Tiny runs of recipes, what they leave behind, and the state of one that was killed."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from core_encoder.files.storage import read_tensors
from pretrain.recipe import Recipe
from pretrain.run.checkpoint import checkpoints
from pretrain.run.progress import PartProgress
from pretrain.stages.tokenizer import train_tokenizer
from pretrain.training import pretrain
from tests.pretrain.corpora import write_clips, write_jsonl, write_manifest
from tests.pretrain.tiny_models import tiny_recipe

PART = {"steps": 4, "batch_size": 4, "num_frames": 4, "warmup_steps": 2, "log_every": 1, "checkpoint_every": 1}
DECODER = {"decoder_layers": 1, "decoder_width": 16, "decoder_heads": 2, "decoder_mlp": 32}
VIDEOS = {"tiers": ["clips", "web"]}
ONE = {"accelerator": "cpu", "devices": 1, "keep_checkpoints": 99}


def write_world(folder: Path) -> Path:
    """A corpus of the synthetic world: pictures, clean clips, noisy clips."""
    tiers = [
        {"name": "pictures", "quality": "clean", "weight": 1, "media": "image"},
        {"name": "clips", "quality": "clean", "weight": 1},
        {"name": "web", "quality": "noisy", "weight": 1},
    ]
    for tier in tiers:
        tier["synthetic"] = {"split": tier["name"], "size": 16, "length": 40}
    return write_manifest(folder / "world.yaml", yaml.safe_dump({"tiers": tiers}))


def part(**changes: Any) -> dict[str, Any]:
    return PART | changes


def contrast(folder: Path, **changes: Any) -> Recipe:
    """A recipe of stage 1 alone; `changes` are those of the part."""
    return recipe(folder, stage1=part(**changes), stage2=None)


def recipe(folder: Path, corpus: Path | None = None, compute: dict[str, Any] | None = None, **changes: Any) -> Recipe:
    """A recipe of stages 1 and 2 on the synthetic world; `changes` are keys of the file."""
    corpus = corpus or write_world(folder)
    stages = {"images": None, "stage1": part(), "stage2": part(**DECODER, **VIDEOS), "alignment": None}
    given = stages | {"corpus": str(corpus), "compute": ONE | (compute or {})} | changes
    return Recipe.from_dict(tiny_recipe(**given), folder / "tiny.yaml")


def records(out: Path, name: str = "stage1") -> list[dict[str, Any]]:
    """The lines of a part's log."""
    return [json.loads(line) for line in (out / name / "metrics.jsonl").read_text().splitlines()]


def losses(out: Path, name: str = "stage1") -> list[tuple[int, float]]:
    return [(line["step"], line["loss"]) for line in records(out, name) if "loss" in line]


def weights(out: Path, name: str = "stage1") -> dict[str, Tensor]:
    """What a part exported."""
    return read_tensors(out / name / "encoder" / "model.safetensors")


def cut_back(out: Path, name: str, step: int) -> None:
    """Leave a finished part as if it had been killed between `step` and the next checkpoint."""
    for path in checkpoints(out / name):
        if int(path.stem.rpartition("-")[2]) > step:
            path.unlink()
    shutil.rmtree(out / name / "encoder")
    shutil.rmtree(out / "encoder", ignore_errors=True)


class Killed(Exception):
    """What a test raises in the middle of a run."""


def once_per_step() -> Callable[[PartProgress], None]:
    """Kill the run at every step, the first time that it is there."""
    seen = set()

    def progress(now: PartProgress) -> None:
        if (now.part, now.step) not in seen:
            seen.add((now.part, now.step))
            raise Killed

    return progress


def run_through(recipe: Recipe, out: Path, progress: Callable[[PartProgress], None]) -> int:
    """Run the same command until it ends; how often it was killed."""
    for kills in itertools.count():
        try:
            pretrain(recipe, out, progress=progress)
            return kills
        except Killed:
            pass
    raise AssertionError


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def tokenizer_file(folder: Path) -> Path:
    return train_tokenizer(["a red square moves left"], 300, folder / "tokenizer.json")


def table_corpus(folder: Path, captions: list[str], **rows: Any) -> Path:
    """A manifest of one table of real clips with these captions."""
    names = [path.name for path in write_clips(folder / "clips", len(captions), rows.get("broken", ()))]
    lines = [{"video": name, "caption": caption} for name, caption in zip(names, captions, strict=True)]
    write_jsonl(folder / "clips" / "clips.jsonl", lines)
    text = "tiers:\n  - {name: curated, quality: clean, weight: 1, table: clips/clips.jsonl}\n"
    return write_manifest(folder / "table.yaml", text)
