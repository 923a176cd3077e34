"""What the demo's encoder is worth: beside it the same architecture untrained, no encoder at all, and no training.

All heads are trained on the same videos and judged on the same test split.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from core_encoder.config import config_from_dict, parse_grid
from core_encoder.files.storage import plain_name, prismhub_home
from prismhub.progress import Show
from prismhub.settings import EncodingSettings, ReadingSettings, ZeroShotSettings

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.features import FeatureDataset
    from adapters.predictions import ClassScores
    from adapters.scores import Score, Scores
    from benchmarks.cell import Cell, Trained
    from core_encoder.encoder import Encoder
    from core_encoder.features.feature_spec import FeatureSpec

HISTOGRAM_GRID = ("lr=1e-3,1e-2,1e-1",)


@dataclass(frozen=True)
class Question:
    """A question of the demo's videos: the column that answers it, and how it is put to whoever needs no training.

    `grid` are the settings of `map_classifier` that are trained side by side.
    """

    name: str
    column: str
    templates: tuple[str, ...]
    grid: tuple[str, ...] = ()


def random_weights_scores(
    questions: Sequence[Question], trained: Sequence[Trained], seed: int, show: Show
) -> list[Score]:
    """The main score of the encoder's architecture with fresh weights keyed by `seed`, under the same head and options.

    Its features are stored like any encoder's, under its own fingerprint; the second question reuses them.
    """
    encoder = random_weights(seed)
    pairs = zip(questions, trained, strict=True)
    return [scores_on(encoder, one, show, question.grid).main for question, one in pairs]


def random_weights(seed: int) -> Encoder:
    """The architecture of `nano` with fresh weights keyed by `seed`."""
    from benchmarks.pretraining.world_probes import random_encoder
    from prismhub.features import open_encoder

    nano = open_encoder("nano")
    return random_encoder(nano.model.config, seed).to(nano.device)


def scores_on(encoder: Encoder, trained: Trained, show: Show, grid: Sequence[str] = ()) -> Scores:
    """What the head of a training reaches on the features of another encoder, trained alike; it is not saved.

    Args:
        grid: settings to choose among as that training did; without any the head has the options that were kept.

    Raises:
        InputError: the features do not fit on the disk, or too many videos cannot be read.
        TrainingDiverged: the loss became NaN.
    """
    from benchmarks.baselines import baseline_scores
    from benchmarks.cell import SPLITS, cell_features, data_sets
    from core_encoder.extraction import spec_for
    from prismhub.features import reading_of

    info = trained.adapter.info
    seen = cast("FeatureSpec", info.features)
    about: Any = {"kind": seen.kind, "layers": seen.layers, "dtype": seen.dtype}
    spec = spec_for(encoder, seen.plan, decoder=seen.decoder.partition("-")[0], **about)
    cell = _cell(encoder.name, trained, info.kind, grid, {} if grid else info.config)
    features = cell_features(trained.task, SPLITS, encoder, spec, reading_of(ReadingSettings()), show)
    sets = data_sets(cell, features)
    run = prismhub_home() / "runs" / f"{plain_name(encoder.name)}-{_identity(cell, sets)}"
    return baseline_scores(cell, sets, run, show)


def colour_histogram_scores(trained: Sequence[Trained], show: Show) -> list[Score]:
    """The main score of `linear` on the colour histogram of each video, over the very frames that the encoder saw."""
    import torch

    from adapters.features import InMemoryFeatures
    from benchmarks.baselines import baseline_scores
    from benchmarks.cell import SPLITS, readable_samples

    histograms = _histograms(trained[0], show)
    scores = []
    for one in trained:
        sets = {
            split: InMemoryFeatures(
                torch.stack([histograms[sample.clip.path] for sample in some]),
                one.task.targets(some),
                ids=[sample.id for sample in some],
            )
            for split, some in readable_samples(one.task, one.failures, 1.0, SPLITS).items()
        }
        cell = _cell("colour histogram", one, "linear", HISTOGRAM_GRID)
        with tempfile.TemporaryDirectory() as run:  # a second, and a run knows features in memory by their ids alone
            scores.append(baseline_scores(cell, sets, Path(run), show).main)
    return scores


def _histograms(trained: Trained, show: Show) -> dict[str, Tensor]:
    """The colour histogram of every readable video, by its path."""
    from benchmarks.cell import SPLITS, readable_samples
    from benchmarks.colour_histogram import colour_histogram
    from core_encoder.video.decoders import read_clip

    spec = cast("FeatureSpec", trained.adapter.info.features)
    splits = readable_samples(trained.task, trained.failures, 1.0, SPLITS)
    clips = [sample.clip for some in splits.values() for sample in some]
    histograms = {}
    with show.bar("colour histograms") as bar:
        for clip in clips:
            histograms[clip.path] = colour_histogram(read_clip(clip, spec.plan, spec.preprocessing))
            bar.update(len(histograms), len(clips))
    return histograms


def zero_shot_scores(questions: Sequence[Question], trained: Sequence[Trained], seed: int, show: Show) -> list[Score]:
    """The main score of the encoder's own answers by words, as `prismhub zero-shot` gives them; nothing is trained.

    The embeddings of the test videos are stored first: every question is answered from them.
    """
    from benchmarks.encoding import encode_missing
    from prismhub.commands.zero_shot import zero_shot
    from prismhub.features import feature_spec, open_encoder, reading_of

    encoder = open_encoder("nano")
    clips = [sample.clip for sample in trained[0].task.samples("test")]
    spec = feature_spec(encoder, EncodingSettings(), "embedding", ())
    encode_missing(encoder, clips, [spec], reading_of(ReadingSettings()), show)
    scores = []
    for question, one in zip(questions, trained, strict=True):
        samples = {sample.clip.path: sample.id for sample in one.task.samples("test")}
        asked = {"videos": list(samples), "labels": one.task.label_names, "templates": question.templates}
        answers = cast("list[ClassScores]", zero_shot(config_from_dict(ZeroShotSettings, asked), show).predictions)
        named = [replace(answer, sample_id=samples[answer.sample_id]) for answer in answers]
        scores.append(one.task.judge(named, "test", seed=seed).main)
    return scores


def _cell(name: str, trained: Trained, kind: str, grid: Sequence[str], head: Mapping[str, Any] | None = None) -> Cell:
    """The cell that was trained, with another kind of head or other settings side by side."""
    from adapters.registry import adapter_kind
    from adapters.training.training_config import TrainingConfig
    from benchmarks.cell import Cell

    config = {one.name: trained.result.config[one.name] for one in fields(TrainingConfig)}
    return Cell(name, trained.task, adapter_kind(kind), head or {}, TrainingConfig(**config), parse_grid(grid))


def _identity(cell: Cell, sets: Mapping[str, FeatureDataset]) -> str:
    """A short hash of all that decides a run: anything else gets another folder."""
    from adapters.features import digest_of

    digests = {split: digest_of(features) for split, features in sets.items()}
    head = [cell.kind.kind, dict(cell.head), list(cell.grid)]
    whole = json.dumps([asdict(cell.training), head, cell.task.label_names, digests], sort_keys=True, default=str)
    return hashlib.sha256(whole.encode()).hexdigest()[:10]
