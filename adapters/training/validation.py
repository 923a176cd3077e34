"""Validation: every candidate answers for the validation set, in one forward pass a batch, and a metric judges it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapters.features import FeatureDataset, Times, even_batches, read_ahead
from adapters.predicting import merge_views
from adapters.predictions import Prediction, Truth
from adapters.training.candidate import Candidate, as_loss
from adapters.training.training_config import MetricFactory
from core_encoder.errors import InputError

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from fit.device import OneDevice


@dataclass
class Judgement:
    """What one candidate did on the validation set, so far and in this process; places are indices of samples."""

    answers: dict[int, tuple[Prediction, Times | None, Truth]] = field(default_factory=dict)
    loss_sum: float = 0.0
    weight: float = 0.0
    broken: str = ""  # what became NaN or infinite

    @property
    def loss(self) -> float:
        """The mean loss."""
        return self.loss_sum / self.weight if self.weight else math.nan


def validate(
    candidates: Sequence[Candidate],
    dataset: FeatureDataset,
    batch_size: int,
    fabric: Fabric | OneDevice,
    tell: Callable[[], None],
) -> list[Judgement]:
    """The judgement of each candidate over the whole data set, the same in every process.

    `tell` is called after each batch.
    """
    rank, world = fabric.global_rank, fabric.world_size
    own = [Judgement() for _ in candidates]
    batches = even_batches(range(len(dataset)), batch_size)
    if candidates[0].adapter.even_shares:  # a loss over a whole batch is the same however many processes there are
        mine = batches[rank::world]
    else:
        mine = [share for batch in batches if (share := batch[rank::world])]
    for places, batch in zip(mine, read_ahead(dataset, mine, candidates[0].collate), strict=True):
        batch = batch.to(fabric.device)
        for candidate, judgement in zip(candidates, own, strict=True):
            if judgement.broken:
                continue
            answers, loss = candidate.answer_with_loss(batch)
            value, weight = as_loss(loss, candidate.adapter.kind)
            if not math.isfinite(float(value)):
                judgement.broken = "features" if _broken(batch.features) else "scores"
                continue
            judgement.loss_sum += float(value) * weight
            judgement.weight += weight
            rows = zip(answers, batch.times, batch.to("cpu").truths, strict=True)
            read = places if batch.places is None else batch.places  # a clip may have broken meanwhile
            judgement.answers |= dict(zip(read, rows, strict=True))
        tell()
    return own if world == 1 else [_joined(parts) for parts in zip(*_gathered(own, world), strict=True)]


def score_of(candidate: Candidate, judgement: Judgement, metric: MetricFactory | None) -> float:
    """What decides between epochs and settings: the metric's value, or the negative loss where there is none.

    Raises:
        InputError: the metric is not defined on the validation set.
    """
    if metric is None:
        return -judgement.loss
    answers, times, truths = zip(*(judgement.answers[place] for place in sorted(judgement.answers)), strict=True)
    known: dict[str, Truth] = {}
    for truth in truths:
        known.setdefault(truth.id, truth)
    merged = merge_views(candidate.adapter, answers, times)
    judge: Any = metric()
    judge.sync_on_compute = False  # a torchmetrics.Metric: every process has all answers already
    judge.update(merged, [known[one.sample_id] for one in merged])
    score = float(judge.compute())
    if math.isnan(score):
        raise InputError(
            "the validation metric is NaN: does every class that it averages occur in the validation split?"
        )
    return score


def _broken(features: Any) -> bool:
    several = features if isinstance(features, list) else [features]
    return any(isinstance(one, Tensor) and not bool(one.isfinite().all()) for one in several)


def _gathered(own: list[Judgement], world: int) -> list[list[Judgement]]:
    """Every process's judgements; answers are small beside features, whatever their kind."""
    found: list[Any] = [None] * world
    torch.distributed.all_gather_object(found, own)
    return found


def _joined(parts: Sequence[Judgement]) -> Judgement:
    whole = Judgement()
    for part in parts:
        whole.answers |= part.answers
        whole.loss_sum += part.loss_sum
        whole.weight += part.weight
        whole.broken = whole.broken or part.broken
    return whole
