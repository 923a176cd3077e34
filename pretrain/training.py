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

import hashlib
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from core_encoder.storage import atomic_path, is_file, read_json, write_json, writing_to
from pretrain.export import RECORD
from pretrain.initial_weights import check_start, part_before, start_fingerprint
from pretrain.manifest import Manifest
from pretrain.part_loop import PartLoop
from pretrain.part_run import PartRun, part_corpus
from pretrain.processes import Processes
from pretrain.progress import PartProgress, PretrainingStopped, ProgressCallback
from pretrain.recipe import PARTS, WATCHING, MaskedConfig, Recipe
from pretrain.tokenizer import train_tokenizer

__all__ = ["PartProgress", "PretrainingStopped", "pretrain"]

RECIPE_FILE, RUN_FILE, TOKENIZER_FILE = "recipe.json", "run.json", "tokenizer.json"
_TOKENIZER_CAPTIONS = 20_000
_FORGOTTEN = ".forgotten"  # how the names end of what a restart removes


def pretrain(
    recipe: Recipe,
    out: str | Path,
    parts: Sequence[str] = (),
    *,
    restart: bool = False,
    progress: ProgressCallback | None = None,
) -> Path:
    """Run the parts of a recipe (default: all) in order and return the folder of the encoder made last.

    The same call again goes on where it stopped, and skips what is finished; Ctrl-C keeps the step it interrupts.
    `restart` begins the asked parts anew. Where torchrun has started this process, the others do the same with it.

    Raises:
        InputError: a part that the recipe lacks or that needs an earlier one, a folder that holds another run, a corpus
            that does not do.
        PretrainingStopped: the loss became NaN, or the embeddings collapsed.
    """
    out = Path(out).expanduser().absolute()
    for part in parts:
        if part not in recipe.parts:
            raise InputError(f"recipe {recipe.name!r} has no {part}; it has {', '.join(recipe.parts)}")
    asked = tuple(part for part in recipe.parts if not parts or part in parts)
    if not is_file(recipe.corpus):
        raise InputError(f"corpus {recipe.corpus}: no such manifest; let `corpus` of the recipe name yours")
    processes = Processes(recipe.compute)
    runs = [PartRun(recipe, part, out, recipe.tokenizer or out / TOKENIZER_FILE) for part in asked]
    processes.first(lambda: _prepare(recipe, out, runs, restart))
    for run in runs:
        processes.first(lambda run=run: _claim(run))  # type: ignore[misc]
        if not run.finished:
            processes.run(PartLoop(run), run.micro_batch, progress or (lambda now: None))
    made = out / asked[-1] / "encoder"
    if asked[-1] != recipe.parts[-1]:
        return made
    processes.first(lambda: _copy(made, out / "encoder"))
    return out / "encoder"


def _prepare(recipe: Recipe, out: Path, runs: Sequence[PartRun], restart: bool) -> None:
    """See to all that the parts need; nothing of an earlier run is touched before all of it is there."""
    _check_folder(out)
    _check(recipe, out, [run for run in runs if restart or not run.finished])
    _learn_tokenizer(recipe, out, anew=restart and runs[0].part == recipe.parts[0])
    if restart:
        _forget(recipe, out, [run.part for run in runs])
    _sweep(out)


def _check_folder(out: Path) -> None:
    """Leave folders alone that a user has filled otherwise.

    Raises:
        InputError: `out` is not the folder of a run, and holds what one would write.
    """
    if (out / RECIPE_FILE).exists():
        return
    for name in (*PARTS, "encoder", TOKENIZER_FILE):
        if (out / name).exists():
            raise InputError(
                f"{out / name}: is there, but not from a run (no {RECIPE_FILE} beside it); use another --out"
            )


def _forget(recipe: Recipe, out: Path, parts: Sequence[str]) -> None:
    """Put aside what the parts have left, with the last of all parts its copy.

    Each goes at once: a part that is deleted file by file, and killed, could pass for a finished one of the next run.
    """
    copied = ("encoder",) if parts[-1] == recipe.parts[-1] else ()
    with writing_to(out):
        for name in (*copied, *parts):
            if (out / name).exists():
                (out / name).rename(out / f".{name}-{uuid.uuid4().hex[:8]}{_FORGOTTEN}")


def _sweep(out: Path) -> None:
    """Remove what this restart has put aside, or one that was killed."""
    for folder in out.glob(f".*{_FORGOTTEN}"):
        shutil.rmtree(folder, ignore_errors=True)


def _check(recipe: Recipe, out: Path, runs: Sequence[PartRun]) -> None:
    """Say what is wrong before the first of the parts trains.

    Raises:
        InputError: whatever of corpus, held-out clips, tokenizer and encoders to start from does not do.
    """
    for number, run in enumerate(runs):
        run.corpus.check(run.config.batch_size)
        run.held_out_corpus()
        if not number or runs[number - 1].part != recipe.parts[recipe.parts.index(run.part) - 1]:
            part_before(recipe, run.part, out)
        check_start(recipe, run.part)
        pictures = [tier.name for tier in run.corpus.manifest.tiers if tier.media == "image"]
        if isinstance(run.config, MaskedConfig) and run.config.mixing == "alternate" and pictures:
            raise InputError(
                f"{run.part}: tier {pictures[0]!r} holds images, which cannot be masked in time"
                f"; name the tiers of videos in {run.part}'s `tiers`"
            )
    if recipe.tokenizer and not is_file(recipe.tokenizer):
        raise InputError(f"tokenizer {recipe.tokenizer}: no such file; leave it out to learn one from the captions")


def _learn_tokenizer(recipe: Recipe, out: Path, anew: bool) -> None:
    if not (out / RECIPE_FILE).exists():
        write_json(out / RECIPE_FILE, recipe.describe())  # first of all files: it says whose folder this is
    if not recipe.tokenizer and (anew or not (out / TOKENIZER_FILE).exists()):
        first = next(part for part in recipe.parts if part != "stage2")
        captions = part_corpus(recipe, Manifest.load(recipe.corpus), first).captions(_TOKENIZER_CAPTIONS)
        train_tokenizer(captions, recipe.text.vocab_size, out / TOKENIZER_FILE)


def _claim(run: PartRun) -> None:
    """Make the part's folder that of this run, or refuse it when it holds another one.

    Other devices and another number of processes are no other run: batches, masks and order do not depend on them.
    """
    identity = {
        "recipe": run.recipe.digest(run.part),
        "corpus": run.corpus.digest,
        "start": start_fingerprint(run.recipe, run.part, run.out),
        "tokenizer": hashlib.sha256(run.tokenizer_file.read_bytes()).hexdigest(),
        "settings": _settings(run),
        "tiers": {f"{tier['name']}.{key}": tier[key] for tier in run.corpus.describe() for key in tier},
    }
    file = run.folder / RUN_FILE
    held = read_json(file) if file.exists() else identity
    if not isinstance(held, dict):
        raise InputError(f"{file}: not the record of a run; use another --out, or --restart to begin anew")
    for what, details, otherwise in (
        ("recipe", "settings", ""),
        ("corpus", "tiers", " (the content of its tables or shards)"),
        ("start", "", " (the encoder that it goes on from has changed)"),
        ("tokenizer", "", f" (the content of {run.tokenizer_file})"),
    ):
        if what in held and held[what] != identity[what]:
            detail = _difference(held.get(details), identity.get(details)) or otherwise
            raise InputError(
                f"{run.folder}: was begun with another {what}{detail}; use another --out, or --restart to begin anew"
            )
    if held is identity:
        write_json(file, identity)
    write_json(run.out / RECIPE_FILE, run.recipe.describe())


def _settings(run: PartRun) -> dict[str, Any]:
    """What decides the weights after the part, by name."""
    about = run.recipe.describe()
    kept: dict[str, Any] = {"seed": about["seed"], "position_scale": about["position_scale"]}
    for name in ("vision", "text", "video_head", *PARTS[: PARTS.index(run.part) + 1]):
        kept |= {f"{name}.{key}": value for key, value in (about[name] or {}).items() if key not in WATCHING}
    return kept


def _difference(before: Any, now: Any) -> str:
    if not isinstance(before, Mapping) or not isinstance(now, Mapping):
        return ""
    changed = [
        f"{key} was {before.get(key)!r}, now {now.get(key)!r}"
        for key in [*now, *(key for key in before if key not in now)]
        if before.get(key) != now.get(key)
    ]
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return f" ({', '.join(changed[:3])}{more})" if changed else ""


def _copy(made: Path, folder: Path) -> None:
    for file in sorted(made.iterdir(), key=lambda file: file.name == RECORD):  # the record last: it says all is there
        if not file.name.startswith("."):
            with atomic_path(folder / file.name) as aside:
                shutil.copyfile(file, aside)
