"""`prismhub pretrain`: an encoder from a recipe, or what that would take."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest, prismhub_home, read_json
from pretrain.run.progress import PartProgress
from prismhub.progress import Bar, Show
from prismhub.settings import PretrainSettings

if TYPE_CHECKING:
    from pretrain.run.scale import DryRun

STAGES = {"1": ("images", "stage1"), "2": ("stage2", "alignment")}


@dataclass(frozen=True)
class Made:
    """What a run left: the encoder's folder, its record, and for each asked part how often a clip could not be read."""

    encoder: Path
    about: dict[str, Any]
    unread: tuple[str, ...]


class PartBar:
    """A bar for each part of a recipe."""

    def __init__(self, show: Show) -> None:
        self._show = show
        self._part = ""
        self._shown = ExitStack()
        self._bar = Bar()

    def __call__(self, now: PartProgress) -> None:
        if now.part != self._part:
            self.close()
            self._part = now.part
            self._bar = self._shown.enter_context(self._show.bar(now.part))
        self._bar.update(now.step, now.steps, f"loss {now.loss:.3f}, {now.clips_per_s:.0f} clips/s")
        if now.step == now.steps:
            self.close()

    def close(self) -> None:
        """Leave the bar as it is."""
        self._shown.close()


def parts_of(stage: str | None) -> tuple[str, ...]:
    """The parts that `--stage` means; a stage brings what prepares it or finishes it.

    Raises:
        InputError: no such stage.
    """
    if stage is None:
        return ()
    if stage in STAGES:
        return STAGES[stage]
    from pretrain.recipe import PARTS

    if stage in PARTS:
        return (stage,)
    raise InputError(f"--stage {stage!r} is unknown{nearest(stage, [*STAGES, *PARTS])}")


def reckon(settings: PretrainSettings) -> DryRun:
    """How large and how long the run of a recipe is, for a dry run.

    Raises:
        InputError: the recipe does not do, or an option is given that would change nothing.
    """
    from pretrain.recipe import Recipe

    for name in ("stage", "accelerator", "devices", "workers", "out", "restart"):
        if getattr(settings, name):
            raise InputError(
                f"--{name} has no meaning for --dry-run, which reckons with the whole recipe and --gpus; leave it out"
            )
    recipe = Recipe.load(settings.recipe, settings.set)
    from pretrain.run.scale import dry_run

    return dry_run(recipe, settings.gpus)


def pretrain(settings: PretrainSettings, show: Show | None = None) -> Made:
    """Run a recipe.

    Raises:
        InputError: the recipe, the corpus or the folder do not do.
        PretrainingStopped: the loss became NaN, or the embeddings collapsed.
    """
    if settings.gpus is not None:
        raise InputError("--gpus is what --dry-run reckons with; a run takes --devices")
    show = show or Show()
    if not is_first():
        show = Show(quiet=True)
    if not os.environ.get("PRISMHUB_DEBUG"):
        os.environ.setdefault("PYTHONWARNINGS", "ignore")  # of libraries, in the processes that train
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # one process per core instead of threads that wait for each other
    from pretrain.recipe import Recipe

    machine = {name: getattr(settings, name) for name in ("accelerator", "devices", "workers")}
    recipe = Recipe.load(settings.recipe, settings.set).with_compute(**machine)
    folder = settings.out or prismhub_home() / "pretrain" / recipe.name
    asked = tuple(part for part in parts_of(settings.stage) if part in recipe.parts) or parts_of(settings.stage)

    from pretrain.run.export import RECORD
    from pretrain.run.part_loop import SKIPPED_FILE
    from pretrain.training import pretrain as run

    show.note(f"recipe {recipe.name}: {', '.join(asked or recipe.parts)}; into {folder}")
    with closing(PartBar(show)) as bar:
        encoder = run(recipe, folder, asked, restart=settings.restart, progress=bar)
    about = read_json(encoder / RECORD)
    skipped = {part: about["parts"].get(part, {}).get("skipped", 0) for part in asked or recipe.parts}
    unread = tuple(f"{count} in {part} ({folder / part / SKIPPED_FILE})" for part, count in skipped.items() if count)
    return Made(encoder, about, unread)


def is_first() -> bool:
    """Whether this process speaks for all that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


def is_alone() -> bool:
    """Whether no torchrun has started this process, which takes every exit code but 0 for a failure of the job."""
    return "LOCAL_RANK" not in os.environ
