"""What an encoder is compared with on the same samples: a head trained and judged as a cell is, but never saved.

A baseline is a score, not an adapter that anyone would use: the registry does not hear of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.cell import Cell, train_once
from benchmarks.encoding import Watch

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from adapters.features import FeatureDataset, Times
    from adapters.predictions import Prediction
    from adapters.scores import Scores


def baseline_scores(cell: Cell, sets: Mapping[str, FeatureDataset], run: Path, watch: Watch) -> Scores:
    """Train the head of a cell on features of any origin, and judge it on the test split.

    The best setting and epoch by validation are judged, with the first seed alone.

    Args:
        sets: features with targets, by split; their ids are those of the task's samples.
        run: the folder of the run; the same again finds it finished.

    Raises:
        InputError: the run folder holds another run, or the targets do not fit.
        TrainingDiverged: the loss became NaN.
    """
    from adapters.card import AdapterInfo

    training = train_once(cell, sets, AdapterInfo(), run, cell.training.seed, watch)
    return cell.task.judge(answer_set(training.best, sets["test"]), "test", seed=cell.training.seed)


def answer_set(adapter: Adapter, features: FeatureDataset, batch_size: int = 32) -> list[Prediction]:
    """What an adapter says of every sample of a data set; the answers for several views of one are merged."""
    from adapters.features import read_batch
    from adapters.predicting import answer_batch, merge_views

    answers: list[Prediction] = []
    times: list[Times | None] = []
    for first in range(0, len(features), batch_size):
        batch = read_batch(features, range(first, min(first + batch_size, len(features))), adapter.collate)
        answers += answer_batch(adapter, batch)
        times += batch.times
    return merge_views(adapter, answers, times)
