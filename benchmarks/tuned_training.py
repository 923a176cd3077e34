"""Training that changes the encoder: what is said of it beforehand, and the frames that it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from adapters.adapter import Adapter
    from adapters.features import ClipFeatures
    from adapters.training.training_config import TrainingConfig
    from adapters.tuning.broken_clips import BrokenClips
    from adapters.tuning.frame_examples import FrameExamples
    from adapters.tuning.tune_config import TuneConfig
    from adapters.tuning.tuned_adapter import Tuning
    from benchmarks.cell import CellFeatures
    from benchmarks.encoding import Watch
    from core_encoder.encoder import Encoder
    from core_encoder.features.feature_spec import FeatureSpec


def tuning_of(
    config: TuneConfig, source: str, spec: FeatureSpec, encoder: Encoder, head: Adapter, watch: Watch
) -> Tuning:
    """What training needs beside the head; `source` is what `encoder` was loaded by.

    Raises:
        InputError: this encoder, or this kind of head, cannot train together.
    """
    from adapters.tuning.tuned_adapter import Tuning, check_tunable
    from fit.augmentation.augmentation import sides_in

    check_tunable(config, encoder, head)
    tuning = Tuning(config, source, spec, encoder.dim, head.label_names)
    side = sides_in(head.label_names)
    if side is not None and not config.augment:
        watch.note(f"note: label {side!r} speaks of a side: clips are not mirrored (--augment crop,flip does it)")
    elif side is not None and "flip" in config.augment:
        watch.note(f"note: label {side!r} speaks of a side, and its mirrored clips keep it: --augment without flip?")
    watch.note(
        f"note: --tune {config.tune} trains the encoder: its features cannot be stored. "
        "Each video is encoded once before, as it is, to see that it can be read"
    )
    return tuning


def broken_clips(run: Path, features: CellFeatures, max_unreadable: float, restart: bool) -> BrokenClips:
    """The list, in the folder of a run, of the clips that break while it goes on; those that were before count, too."""
    from adapters.tuning.broken_clips import BrokenClips

    before = len(features.report.failures)
    total = before + sum(map(len, features.samples.values()))
    broken = BrokenClips(run / "failures.jsonl", int(max_unreadable * total) - before)
    if restart:
        broken.forget()
    return broken


def frame_sets(
    tuning: Tuning, sets: Mapping[str, ClipFeatures], broken: BrokenClips, workers: int
) -> dict[str, FrameExamples]:
    """The frames of the clips of each split, as training reads them."""
    from adapters.tuning.frame_examples import FrameExamples
    from fit.augmentation.augmentation import Augmentation

    config, names = tuning.config, tuning.label_names
    augmentation = Augmentation(config.augmentations(names), config.least_area)
    return {split: FrameExamples(clips, tuning.spec, augmentation, broken, workers) for split, clips in sets.items()}


def state_cost(
    tuning: Tuning,
    heads: Sequence[Adapter],
    sets: Mapping[str, FrameExamples],
    training: TrainingConfig,
    device: torch.device,
    watch: Watch,
) -> None:
    """Say what an epoch costs and how long all of them take, before the first one."""
    from adapters.tuning.epoch_cost import duration_text, epoch_cost

    num_val = len(sets["val"]) if "val" in sets else 0
    cost = epoch_cost(heads, tuning, sets["train"], num_val, device, training.precision)
    whole = duration_text(cost.epoch_s * training.epochs)
    watch.note(f"note: {cost}; {training.epochs} epochs about {whole} on one device")
