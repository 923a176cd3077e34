"""One part of a recipe: its corpus, its held-out clips, its tokenizer, its folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from core_encoder.models.text_tower import TextTokenizer
from pretrain.corpus.batch import Skipped
from pretrain.corpus.corpus import Corpus
from pretrain.corpus.manifest import Manifest, Tier
from pretrain.recipe import PARTS, ContrastiveConfig, MaskedConfig, Recipe
from pretrain.run.export import RECORD
from pretrain.run.initial_weights import initial_stage
from pretrain.run.probe import HeldOut
from pretrain.run.run_folder import ENCODER
from pretrain.stages.contrastive_stage import ContrastiveStage
from pretrain.stages.masked_stage import MaskedStage

log = logging.getLogger(__name__)


def part_corpus(recipe: Recipe, manifest: Manifest, part: str) -> Corpus:
    """The tiers that a part trains on.

    Raises:
        InputError: a tier that the manifest lacks, or a corpus that cannot serve the part.
    """
    config = getattr(recipe, part)
    first = (*(tier for tier, _ in config.curriculum), *config.rehearsal)
    select(manifest, first)  # where all tiers are drawn afterwards, those are still to be known
    return Corpus(
        select(manifest, (*first, *config.tiers) if config.tiers else ()),
        num_frames=config.num_frames,
        image_size=recipe.vision.image_size,
        seed=recipe.seed + 1000 * PARTS.index(part),
        mixing=config.mixing,
        need_captions=part != "stage2",
        max_unreadable=recipe.max_unreadable,
        curriculum={name: steps * config.accumulate for name, steps in config.curriculum},
        rehearsal=config.rehearsal,
        tiers=config.tiers,
    )


def select(manifest: Manifest, names: Sequence[str]) -> Manifest:
    """The manifest with the tiers of these names alone; no name means all of them.

    Raises:
        InputError: a tier that it lacks.
    """
    known = [tier.name for tier in manifest.tiers]
    for name in names:
        if name not in known:
            raise InputError(f"tiers: the corpus has no tier {name!r}{nearest(name, known)}")
    return replace(manifest, tiers=tuple(tier for tier in manifest.tiers if not names or tier.name in names))


@dataclass(frozen=True)
class PartRun:
    """One part of a recipe on its way to `out`; goes to other processes by pickling."""

    recipe: Recipe
    part: str
    out: Path
    tokenizer_file: Path

    @property
    def folder(self) -> Path:
        return self.out / self.part

    @property
    def config(self) -> ContrastiveConfig | MaskedConfig:
        config: ContrastiveConfig | MaskedConfig = getattr(self.recipe, self.part)
        return config

    @property
    def micro_batch(self) -> int:
        """Clips whose gradients are computed together, over all processes."""
        return self.config.batch_size // self.config.accumulate

    @property
    def finished(self) -> bool:
        return (self.folder / ENCODER / RECORD).exists()

    @cached_property
    def corpus(self) -> Corpus:
        """What the part trains on.

        Raises:
            InputError: as `part_corpus`.
        """
        return part_corpus(self.recipe, Manifest.load(self.recipe.corpus), self.part)

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        text = self.recipe.text
        return TextTokenizer(self.tokenizer_file, text.vocab_size, text.max_length)

    def stage(self) -> ContrastiveStage | MaskedStage:
        """The module that learns, as it is before the first step.

        Raises:
            InputError: the part before is not finished, or `initialize_from` has another shape.
        """
        return initial_stage(self.recipe, self.part, self.out, self.tokenizer)

    def held_out_corpus(self) -> Corpus | None:
        """Where scores come from, None where the recipe names nothing.

        Raises:
            InputError: the manifest, or a table or shard that it names, does not fit; a tier streams from the Hub.
        """
        if self.recipe.held_out is None:
            return None
        manifest = Manifest.load(self.recipe.held_out)
        for tier in manifest.tiers:
            if tier.hub:
                raise InputError(
                    f"held_out {self.recipe.held_out}: tier {tier.name!r} streams from the Hub, and held-out clips are"
                    " to be the same every time; store it locally and name its table"
                )
        return Corpus(
            manifest,
            num_frames=max(self.config.num_frames, 2),
            image_size=self.recipe.vision.image_size,
            seed=0,
            need_captions=False,
            max_unreadable=self.recipe.max_unreadable,
        )

    def held_out(self) -> HeldOut | None:
        """The clips that scores come from: `held_out_clips` of them, or as many as there are, each one once.

        Those that cannot be read are left out, and said.

        Raises:
            InputError: more than `max_unreadable` of them, or none of them has a label that a tier names.
        """
        corpus = self.held_out_corpus()
        if corpus is None:
            return None
        drawn = list(corpus.each_once(self.recipe.held_out_clips))
        read = [(row, frames) for row, frames in drawn if not isinstance(frames, Skipped)]
        unreadable = [frames for _, frames in drawn if isinstance(frames, Skipped)]
        if unreadable:
            what = f"held_out {self.recipe.held_out}: {len(unreadable)} of {len(drawn)} clips could not be read"
            example = f"{unreadable[0].path}: {unreadable[0].reason}"
            if len(unreadable) > self.recipe.max_unreadable * len(drawn):
                raise InputError(f"{what}, above max_unreadable={self.recipe.max_unreadable:g}; e.g. {example}")
            log.warning("%s and are left out of the scores; e.g. %s", what, example)
        present = {label for row, _ in drawn for label in row.labels}
        for label in (name for tier in corpus.manifest.tiers for name in tier.labels if tier.labels != Tier.labels):
            if label not in present:
                raise InputError(f"held_out {self.recipe.held_out}: none of {len(drawn)} clips has a label {label!r}")
        if not read:
            raise InputError(f"held_out {self.recipe.held_out}: none of its clips can be read")
        times = max(len(frames) for _, frames in read)  # pictures stand still among videos
        frames = np.stack([np.broadcast_to(one, (times, *one.shape[1:])) for _, one in read])  # (n, T, H, W, 3)
        rows = [row for row, _ in read]
        return HeldOut(torch.from_numpy(frames), tuple(r.caption for r in rows), tuple(dict(r.labels) for r in rows))
