"""Running a recipe: its parts in order, each resumable at any step, in one process or many.

out/
  recipe.json               what runs here
  tokenizer.json            learned from the corpus's captions, where the recipe names none
  <part>/run.json           identity of the part: a resume compares it
  <part>/checkpoint-*.safetensors, metrics.jsonl, tensorboard/, skipped.jsonl
  <part>/encoder/           what the part made
  encoder/                  what the last part made
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from core_encoder.storage import read_json, write_json
from pretrain.export import RECORD
from pretrain.manifest import Manifest
from pretrain.part_run import PartRun, part_corpus
from pretrain.progress import PartProgress, PretrainingStopped, ProgressCallback
from pretrain.recipe import PARTS, Recipe
from pretrain.tokenizer import train_tokenizer

__all__ = ["PartProgress", "PretrainingStopped", "pretrain"]

RUN_FILE, TOKENIZER_FILE = "run.json", "tokenizer.json"
_TOKENIZER_CAPTIONS = 20_000


def pretrain(
    recipe: Recipe,
    out: str | Path,
    parts: Sequence[str] = (),
    *,
    restart: bool = False,
    progress: ProgressCallback | None = None,
) -> Path:
    """Run the parts of a recipe (default: all) in order and return the folder of the encoder made last.

    The same call again goes on where it stopped, and skips what is finished. `restart` begins the asked parts anew.
    With several processes `progress` must be picklable; the first process calls it.

    Raises:
        InputError: a part that the recipe lacks or that needs an earlier one, a folder that holds another run, a corpus
            that does not do.
        PretrainingStopped: the loss became NaN, or the embeddings collapsed.
    """
    out = Path(out).expanduser().absolute()
    asked = tuple(part for part in PARTS if part in parts) if parts else recipe.parts
    for part in parts:
        if part not in recipe.parts:
            raise InputError(f"recipe {recipe.name!r} has no {part}; it has {', '.join(recipe.parts)}")
    manifest = Manifest.load(recipe.corpus)
    tokenizer_file = _tokenizer_file(recipe, manifest, out)
    for part in asked:
        run = PartRun(recipe, part, out, tokenizer_file, progress)
        if restart:
            shutil.rmtree(run.folder, ignore_errors=True)
        _claim(run, manifest)
        if not (run.folder / "encoder" / RECORD).exists():
            _launch(run)
    write_json(out / "recipe.json", recipe.describe())
    made = out / asked[-1] / "encoder"
    if asked[-1] != recipe.parts[-1]:
        return made
    for file in sorted(made.iterdir(), key=lambda file: file.name == RECORD):  # the record last: it says all is there
        if not file.name.startswith("."):
            _copy(file, out / "encoder" / file.name)
    return out / "encoder"


def _copy(source: Path, target: Path) -> None:
    from core_encoder.storage import atomic_path

    with atomic_path(target) as aside:
        shutil.copyfile(source, aside)


def _tokenizer_file(recipe: Recipe, manifest: Manifest, out: Path) -> Path:
    """The tokenizer that the recipe names, or the one learned here from the corpus."""
    if recipe.tokenizer is not None:
        if not recipe.tokenizer.is_file():
            raise InputError(f"tokenizer {recipe.tokenizer}: no such file; leave it out to learn one from the captions")
        return recipe.tokenizer
    file = out / TOKENIZER_FILE
    if not file.exists():
        first = next(part for part in recipe.parts if part != "stage2")
        captions = part_corpus(recipe, manifest, first).captions(_TOKENIZER_CAPTIONS)
        train_tokenizer(captions, recipe.text.vocab_size, file)
    return file


def _claim(run: PartRun, manifest: Manifest) -> None:
    """Make the part's folder that of this run, or refuse it when it holds another one.

    Other devices and another number of processes are no other run: batches, masks and order do not depend on them.
    """
    corpus = part_corpus(run.recipe, manifest, run.part)
    identity = {"recipe": run.recipe.digest(run.part), "corpus": corpus.digest, "settings": _settings(run)}
    file = run.folder / RUN_FILE
    if not file.exists():
        write_json(file, identity)
        return
    before = read_json(file)
    for what in ("recipe", "corpus"):
        if before.get(what) != identity[what]:
            detail = "" if what == "corpus" else _difference(before.get("settings"), identity["settings"])
            raise InputError(
                f"{run.folder}: was begun with another {what}{detail}; use another --out, or --restart to begin anew"
            )


def _settings(run: PartRun) -> dict[str, Any]:
    about = run.recipe.describe()
    kept: dict[str, Any] = {"seed": about["seed"], "position_scale": about["position_scale"]}
    for name in ("vision", "text", "video_head", *PARTS[: PARTS.index(run.part) + 1]):
        kept |= {f"{name}.{key}": value for key, value in (about[name] or {}).items()}
    return kept


def _difference(before: Any, now: dict[str, Any]) -> str:
    if not isinstance(before, dict):
        return ""
    changed = [
        f"{key} was {before.get(key)!r}, now {now.get(key)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    return f" ({', '.join(changed[:3])})" if changed else ""


def _launch(run: PartRun) -> None:
    """Run the loop in this process, or in one for each device."""
    import torch
    from lightning.fabric import Fabric

    compute = run.recipe.compute
    outside = "LOCAL_RANK" in os.environ or "TORCHELASTIC_RUN_ID" in os.environ  # the processes are there already
    on_cpu = compute.accelerator == "cpu" or (compute.accelerator == "auto" and not torch.cuda.is_available())
    devices: int | str = compute.devices
    if devices == "auto" and on_cpu:
        devices = os.cpu_count() or 1
    if on_cpu:
        devices = _fitting(int(devices), run.config.batch_size // run.config.accumulate)
    strategy: Any = "ddp" if outside else "auto" if devices == 1 else "ddp_spawn"
    if compute.strategy == "fsdp":
        strategy = _fsdp(compute.precision)
    try:
        fabric = Fabric(
            accelerator="cpu" if on_cpu else compute.accelerator,
            devices=devices,
            num_nodes=compute.num_nodes,
            strategy=strategy,
            precision=compute.precision,
        )
    except Exception as error:  # Lightning names an unknown or absent device in exceptions of many types
        raise InputError(f"compute: {' '.join(str(error).split())}") from error
    if strategy == "ddp_spawn":
        from torch.multiprocessing import ProcessRaisedException

        try:
            failure = fabric.launch(_InProcess(run))
        except ProcessRaisedException as error:
            last = str(error).strip().splitlines()[-1]
            if "core_encoder.errors." in last:
                raise InputError(last.partition(": ")[2]) from error
            raise
        if failure is not None:
            raise failure
        return
    fabric.launch()
    run(fabric)


def _fitting(devices: int, batch: int) -> int:
    """The largest number of processes up to `devices` that share a batch evenly."""
    return max(count for count in range(1, devices + 1) if batch % count == 0)


def _fsdp(precision: str) -> Any:
    """FSDP2: every transformer layer, then the rest, sharded over all processes."""
    import torch
    from lightning.fabric.strategies import ModelParallelStrategy
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    from core_encoder.layers import TransformerLayer

    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32)

    def shard(module: Any, mesh: Any) -> Any:
        for layer in module.modules():
            if isinstance(layer, TransformerLayer) and any(p.requires_grad for p in layer.parameters()):
                fully_shard(layer, mesh=mesh["data_parallel"], mp_policy=policy)
        return fully_shard(module, mesh=mesh["data_parallel"], mp_policy=policy)

    return ModelParallelStrategy(parallelize_fn=shard, tensor_parallel_size=1)


class _InProcess:
    """A run as each spawned process executes it; opaque, because Lightning takes dataclasses among arguments apart."""

    def __init__(self, run: PartRun) -> None:
        self.run = run

    def __call__(self, fabric: Any) -> PretrainingStopped | None:
        try:
            self.run(fabric)
        except PretrainingStopped as error:  # every process meets it at the same step
            return error
        return None
