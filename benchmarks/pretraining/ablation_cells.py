"""The cells of the two-stage experiment: what each one trains, how it is probed, and its file when it is finished."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.pretraining.positions_again import positions_again
from benchmarks.pretraining.world_probes import (
    FAMILIES,
    ProbeScore,
    ProbeSettings,
    clip_tokens,
    draw_splits,
    probe_families,
    random_encoder,
)
from benchmarks.results import Provenance
from core_encoder.encoder import Encoder, load_encoder
from core_encoder.errors import InputError
from core_encoder.files.storage import read_json, write_json
from pretrain.corpus.manifest import Manifest
from pretrain.recipe import Recipe
from pretrain.run.export import RECORD
from pretrain.run.part_run import part_corpus
from pretrain.run.progress import PartProgress
from pretrain.run.run_folder import TOKENIZER_FILE
from pretrain.training import pretrain

LABELS = ("motion", "object")
CONTROL_SEED = 500  # is added to the seed of a control: the clips it goes on with come in another order than before
SCHEDULE = ("steps", "batch_size", "accumulate", "tiers", "lr", "final_lr", "schedule", "warmup_steps")
_TELL_EVERY_S = 60


@dataclass(frozen=True)
class Cell:
    """One row of the table: what is trained from the seed's stage 1 ("" is nothing), and which options differ.

    `against` is what a later try is compared with; `again` tells tokens their place again before the temporal half, in
    a stage 1 of its own too.
    """

    title: str
    part: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)
    declared: bool = True  # part of the experiment declared beforehand, not one of the later tries
    against: str = "stage2"
    again: bool = False

    @property
    def start(self) -> str:
        """The cell that makes the stage 1 it goes on from."""
        return "again_stage1" if self.again else "stage1"


CELLS: dict[str, Cell] = {
    "stage1": Cell("stage 1"),
    "stage2": Cell("stage 2", "stage2"),
    "control": Cell("control: stage 1 goes on", "stage1"),
    "no_shuffling": Cell("stage 2 without shuffling", "stage2", {"shuffle": False}),
    "no_global": Cell("stage 2 without global distillation", "stage2", {"global_distillation": False}),
    "random": Cell("random weights"),
    "uncentred": Cell("stage 2, targets not centred", "stage2", {"center_targets": False}, declared=False),
    "longer": Cell("stage 2, twice as many clips", "stage2", {"steps": 3200}, declared=False),
    "layers": Cell("stage 2, targets from several layers", "stage2", {"target_layers": (-2, -1)}, declared=False),
    "again_stage1": Cell("stage 1, positions again", declared=False, against="stage1", again=True),
    "again_stage2": Cell("stage 2, positions again", "stage2", declared=False, against="again_control", again=True),
    "again_control": Cell("control, positions again", "stage1", declared=False, against="control", again=True),
}
DECLARED = tuple(name for name, cell in CELLS.items() if cell.declared)


@dataclass(frozen=True)
class Job:
    """One cell of one seed; it runs in a process of its own."""

    recipe: Recipe
    out: Path
    seed: int
    name: str
    probes: ProbeSettings = field(default_factory=ProbeSettings)
    accelerator: Literal["cpu", "gpu"] = "cpu"

    @property
    def device(self) -> str:
        return "cuda" if self.accelerator == "gpu" else "cpu"

    @property
    def file(self) -> Path:
        """Where the finished cell is written."""
        return self.out / "cells" / f"seed{self.seed}-{self.name}.json"

    @property
    def label(self) -> str:
        return f"seed {self.seed}, {CELLS[self.name].title}"

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the numbers; a finished cell of another identity is refused."""
        recipe = replace(self.recipe, seed=self.seed)
        manifest = Manifest.load(recipe.corpus)
        trained = [part for part in recipe.parts if part != "alignment"]
        return {
            "recipe": recipe.digest("stage2"),
            "corpus": {part: part_corpus(recipe, manifest, part).digest for part in trained},
            "cell": self.name,
            "changes": {key: list(v) if isinstance(v, tuple) else v for key, v in CELLS[self.name].changes.items()},
            "probes": asdict(self.probes) | {"grid": list(self.probes.grid)},
        }

    @property
    def base(self) -> Path:
        """The run that makes the seed's stage 1."""
        return self.out / "runs" / f"seed{self.seed}-{CELLS[self.name].start}"

    def finished(self) -> dict[str, ProbeScore] | None:
        """The scores by column, `motion, plain MAP` and so on; None while the cell is missing.

        Raises:
            InputError: the file is of an experiment with other settings.
        """
        if not self.file.exists():
            return None
        record = read_json(self.file)
        if record["identity"] != self.identity:
            raise InputError(f"{self.file}: made with another recipe, corpus or other probes; take another --out")
        return {column: ProbeScore.from_dict(given) for column, given in record["scores"].items()}


COLUMNS = tuple(f"{label}, {family}" for label in LABELS for family in FAMILIES)


def check_recipe(recipe: Recipe) -> None:
    """Refuse a recipe that cannot answer the question.

    Raises:
        InputError: stage 1 or stage 2 is missing.
    """
    for part in ("stage1", "stage2"):
        if getattr(recipe, part) is None:
            raise InputError(f"recipe {recipe.name!r} has no {part}: the experiment compares both stages")


def run_cell(job: Job) -> None:
    """Train what the cell needs, from where it stopped, probe it, and write its file.

    Raises:
        PretrainingStopped: a NaN, or the embeddings collapsed.
        InputError: the folder holds another experiment.
    """
    torch.set_num_threads(1)
    started = time.monotonic()
    with positions_again() if CELLS[job.name].again else nullcontext():
        encoder, clips = _encoder(job)
        drawn = draw_splits(encoder, job.probes)
        features = {split: clip_tokens(encoder, some.frames) for split, some in drawn.items()}
    scores = {
        f"{label}, {family}": score.to_dict()
        for label in LABELS
        for family, score in probe_families(features, drawn, label, job.probes).items()
    }
    record = {
        "seed": job.seed,
        "cell": job.name,
        "title": CELLS[job.name].title,
        "identity": job.identity,
        "fingerprint": encoder.fingerprint,
        "clips": clips,
        "seconds": time.monotonic() - started,
        "scores": scores,
        "provenance": asdict(Provenance.collect(device=job.device, precision="32-true", seed=job.seed)),
    }
    write_json(job.file, record)


def _encoder(job: Job) -> tuple[Encoder, int]:
    """The encoder of the cell, and how many clips its last part trained on."""
    recipe = replace(job.recipe, seed=job.seed)
    recipe = recipe.with_compute(accelerator=job.accelerator, devices=1)  # two cells run at a time
    cell = CELLS[job.name]
    if job.name == "random":
        return random_encoder(recipe.model, job.seed).to(job.device), 0
    tell = _Tell(job.label)
    if cell.part:
        runs, part = job.base.with_name(f"seed{job.seed}-{job.name}"), cell.part
        folder = pretrain(continuation(recipe, cell, job.base), runs, (part,), progress=tell)
    else:
        parts, part = tuple(part for part in ("images", "stage1") if part in recipe.parts), "stage1"
        folder = pretrain(recipe, job.base, parts, progress=tell)
    return load_encoder(folder, job.device), read_json(folder / RECORD)["parts"][part]["clips"]


def continuation(recipe: Recipe, cell: Cell, base: Path) -> Recipe:
    """The recipe of what goes on from the stage 1 in `base`: the cell's stage 2, or stage 1 on as many further clips.

    The control takes length, batch size and learning rates from stage 2, and the temperature that it had reached.
    """
    stage1, stage2, start = recipe.stage1, recipe.stage2, base / "stage1" / "encoder"
    assert stage1 is not None and stage2 is not None
    common = replace(recipe, tokenizer=recipe.tokenizer or base / TOKENIZER_FILE, alignment=None)
    if cell.part == "stage2":
        return replace(common, stage2=replace(stage2, start_from=str(start), **cell.changes))
    reached = read_json(start / RECORD)["parts"]["stage1"]["temperature"]
    goes_on = replace(
        stage1,
        start_from=str(start),
        initialize_from=None,
        temperature=max(reached, stage1.min_temperature),
        **{name: getattr(stage2, name) for name in SCHEDULE},
    )
    return replace(common, seed=recipe.seed + CONTROL_SEED, images=None, stage1=goes_on, stage2=None)


class _Tell:
    """Prints where a run is, about once a minute."""

    def __init__(self, label: str) -> None:
        self.label, self.told = label, time.monotonic()

    def __call__(self, now: PartProgress) -> None:
        if now.step < now.steps and time.monotonic() - self.told < _TELL_EVERY_S:
            return
        self.told = time.monotonic()
        print(
            f"{self.label}: {now.part} step {now.step} of {now.steps}, loss {now.loss:.3f}, "
            f"{now.clips_per_s:.0f} clips/s, {now.eta_s / 60:.0f} minutes left of this part",
            flush=True,
        )
