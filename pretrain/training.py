"""Running a recipe: its parts in order, each resumable at any step, in one process or many.

What a run leaves behind, and where, is in `pretrain/run/run_folder.py`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from core_encoder.files.storage import expanded, is_file, write_json
from core_encoder.models.text_tower import TextTokenizer
from fit.claim import Aspect, check_claim, claim
from pretrain.corpus.manifest import Manifest
from pretrain.recipe import PARTS, WATCHING, MaskedConfig, Recipe
from pretrain.run.initial_weights import check_start, part_before, start_fingerprint
from pretrain.run.part_loop import PartLoop
from pretrain.run.part_run import PartRun, part_corpus
from pretrain.run.processes import Processes
from pretrain.run.progress import ProgressCallback
from pretrain.run.run_folder import (
    ENCODER,
    RECIPE_FILE,
    RUN_FILE,
    TOKENIZER_FILE,
    aside,
    check_folder,
    forget,
    holds_run,
    publish,
    run_lock,
    sweep,
)
from pretrain.stages.tokenizer import train_tokenizer

log = logging.getLogger(__name__)

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

    The same call again goes on where it stopped, and skips what is finished; Ctrl-C keeps the step it interrupts.
    `restart` begins the asked parts anew. Where torchrun has started this process, the others do the same with it.

    Raises:
        InputError: a part that the recipe lacks or that needs an earlier one, a folder that holds another run, a corpus
            that does not do.
        PretrainingStopped: the loss became NaN, or the embeddings collapsed.
    """
    out = expanded(out).absolute()
    for part in parts:
        if part not in recipe.parts:
            raise InputError(f"recipe {recipe.name!r} has no {part}; it has {', '.join(recipe.parts)}")
    asked = tuple(part for part in recipe.parts if not parts or part in parts)
    if not is_file(recipe.corpus):
        raise InputError(f"corpus {recipe.corpus}: no such manifest; let `corpus` of the recipe name yours")
    processes = Processes(recipe.compute)
    runs = [PartRun(recipe, part, out, recipe.tokenizer or out / TOKENIZER_FILE) for part in asked]
    with ExitStack() as stack:
        processes.first(lambda: stack.enter_context(run_lock(out)))
        processes.first(lambda: _prepare(recipe, out, runs, restart, processes))
        for run in runs:
            processes.first(lambda run=run: _claim(run))  # type: ignore[misc]
            if not run.finished:
                processes.run(PartLoop(run), run.micro_batch, progress or (lambda now: None))
        made = out / asked[-1] / ENCODER
        if asked[-1] != recipe.parts[-1]:
            return made
        processes.first(lambda: publish(made, out / ENCODER))
        return out / ENCODER


def _prepare(recipe: Recipe, out: Path, runs: Sequence[PartRun], restart: bool, processes: Processes) -> None:
    """See to all that the parts need, before anything of an earlier run is touched.

    Raises:
        InputError: whatever does not do.
    """
    check_folder(out, recipe.parts)
    _check(recipe, [run for run in runs if restart or not run.finished], processes)
    begun, tokenizer = holds_run(out), out / TOKENIZER_FILE
    anew = restart and runs[0].part == recipe.parts[0]
    learns = recipe.tokenizer is None and (anew or not begun or not tokenizer.exists())
    renewed = [ENCODER] if runs[-1].part == recipe.parts[-1] else []
    gone = [TOKENIZER_FILE] if learns else []
    if restart:
        gone += [RECIPE_FILE, *renewed, *(run.part for run in runs)]
    _check_sources(recipe, [out / name for name in {*gone, *renewed}])
    if learns:
        learned = _learn_tokenizer(recipe, aside(tokenizer))
        if not begun and tokenizer.exists() and tokenizer.read_bytes() != learned.read_bytes():
            learned.unlink()
            raise InputError(f"{tokenizer}: is there, but not from a run; let `tokenizer` name it, or remove it")
    forget(out, gone)
    if learns:
        learned.rename(tokenizer)
    sweep(out)


def _check(recipe: Recipe, runs: Sequence[PartRun], processes: Processes) -> None:
    """Say what is wrong before the first of the parts trains.

    Raises:
        InputError: whatever of devices, corpus, held-out clips, tokenizer and encoders to start from does not do.
    """
    if recipe.tokenizer:
        if not is_file(recipe.tokenizer):
            raise InputError(f"tokenizer {recipe.tokenizer}: no such file; leave it out to learn one from the captions")
        TextTokenizer(recipe.tokenizer, recipe.text.vocab_size)
    for run in runs:
        world = processes.world(run.micro_batch)
        try:
            _check_clips(run, world)
        except InputError as error:
            raise InputError(f"{run.part}: {error}") from error
        check_start(recipe, run.part)
        _check_before(run, [other.part for other in runs])
        if run.config.warmup_steps >= run.config.steps:
            log.warning(
                "%s: warmup_steps %d of %d steps: the learning rate never gets to lr",
                *(run.part, run.config.warmup_steps, run.config.steps),
            )
    if runs:
        runs[0].held_out()  # what cannot be read of it would stop the run where it is judged


def _check_clips(run: PartRun, world: int) -> None:
    """Refuse a corpus that cannot serve a part, and held-out clips that say nothing."""
    run.corpus.check(run.config.batch_size)
    run.corpus.check(run.micro_batch, world)
    pictures = [tier.name for tier in run.corpus.manifest.tiers if tier.media == "image"]
    if isinstance(run.config, MaskedConfig) and run.config.mixing == "alternate" and pictures:
        raise InputError(
            f"tier {pictures[0]!r} holds images, which cannot be masked in time; name the tiers of videos in `tiers`"
        )
    held_out = run.held_out_corpus()
    for trained, judged in run.corpus.shared_tiers(held_out) if held_out else ():
        log.warning("%s: trains on tier %s, whose clips are held out as tier %s", run.part, trained, judged)


def _check_before(run: PartRun, to_do: Sequence[str]) -> None:
    """Refuse a part that goes on from one that is neither finished nor to be done, or made otherwise."""
    folder = None if _name_before(run) in to_do else part_before(run.recipe, run.part, run.out)
    if folder is None:
        return
    before = replace(run, part=folder.parent.name)
    if not run.tokenizer_file.exists():
        raise InputError(f"{run.tokenizer_file}: no such file; copy that of {folder}, which {run.part} goes on from")
    check_claim(
        before.folder / RUN_FILE,
        {
            "recipe": run.recipe.digest(before.part),
            "settings": _settings(before),
            "tokenizer": hashlib.sha256(run.tokenizer_file.read_bytes()).hexdigest(),
        },
        _aspects(before),
        _advice(before),
    )


def _name_before(run: PartRun) -> str | None:
    parts = run.recipe.parts
    return dict(zip(parts[1:], parts, strict=False)).get(run.part)


def _check_sources(recipe: Recipe, gone: Sequence[Path]) -> None:
    """Refuse to remove or replace what the recipe reads.

    Raises:
        InputError: corpus, held-out clips, tokenizer or an encoder to start from lie in what is to go.
    """
    named: dict[str, Any] = {name: getattr(recipe, name) for name in ("corpus", "held_out", "tokenizer")}
    for part in recipe.parts:
        for key in ("start_from", "initialize_from"):
            named[f"{part}: {key}"] = getattr(getattr(recipe, part), key, None)
    for what, path in named.items():
        if path and any(expanded(path).resolve().is_relative_to(one.resolve()) for one in gone):
            raise InputError(f"{what} {path} lies in what the run makes anew; copy it elsewhere, or use another --out")


def _learn_tokenizer(recipe: Recipe, file: Path) -> Path:
    """A tokenizer of the captions of all parts that read any, of each as many: pictures have no words for motions."""
    manifest, reading = Manifest.load(recipe.corpus), [part for part in recipe.parts if part != "stage2"]
    captions = (
        caption
        for part in reading
        for caption in part_corpus(recipe, manifest, part).captions(_TOKENIZER_CAPTIONS // len(reading))
    )
    return train_tokenizer(captions, recipe.text.vocab_size, file)


def _claim(run: PartRun) -> None:
    """Make the part's folder that of this run, or refuse it when it holds another one.

    Other devices and another number of processes are no other run: batches, masks and order do not depend on them.
    """
    start_matters = not (run.finished and run.config.start_from)  # what a finished part began with may be gone
    identity = {
        "recipe": run.recipe.digest(run.part),
        "corpus": run.corpus.digest,
        "start": start_fingerprint(run.recipe, run.part, run.out) if start_matters else None,
        "tokenizer": hashlib.sha256(run.tokenizer_file.read_bytes()).hexdigest(),
        "settings": _settings(run),
        "tiers": {f"{tier['name']}.{key}": tier[key] for tier in run.corpus.describe() for key in tier},
    }
    claim(run.folder / RUN_FILE, identity, _aspects(run), _advice(run))
    if not run.finished:
        write_json(run.out / RECIPE_FILE, run.recipe.describe())


def _aspects(run: PartRun) -> tuple[Aspect, ...]:
    return (
        Aspect("recipe", "settings"),
        Aspect("corpus", "tiers", "the content of its tables or shards"),
        Aspect("start", otherwise="the encoder that it goes on from has changed"),
        Aspect("tokenizer", otherwise=f"the content of {run.tokenizer_file}"),
    )


def _advice(run: PartRun) -> str:
    return f"use another --out, or --stage {run.part} --restart to begin it anew"


def _settings(run: PartRun) -> dict[str, Any]:
    """What decides the weights after the part, by name."""
    about = run.recipe.describe()
    kept: dict[str, Any] = {"seed": about["seed"], "position_scale": about["position_scale"]}
    for name in ("vision", "text", "video_head", *PARTS[: PARTS.index(run.part) + 1]):
        kept |= {f"{name}.{key}": value for key, value in (about[name] or {}).items() if key not in WATCHING}
    return kept
