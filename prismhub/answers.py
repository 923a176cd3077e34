"""What commands that ask about videos give back: an answer a video, and the videos that could not be read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prismhub.progress import Show

if TYPE_CHECKING:
    from adapters.predictions import Prediction
    from core_encoder.features.failures import Failure


@dataclass(frozen=True)
class Predicted:
    """The answers, each a `Prediction`, and the videos that could not be read."""

    predictions: list[Prediction]
    failures: tuple[Failure, ...]


def gather_answers(found: Iterable[Prediction | Failure], total: int, show: Show) -> Predicted:
    """Take the answers for `total` videos as they come, with a bar."""
    from core_encoder.features.failures import Failure

    predictions: list[Prediction] = []
    failures: list[Failure] = []
    with show.bar("predicting") as bar:
        for done, one in enumerate(found, start=1):
            if isinstance(one, Failure):
                failures.append(one)
            else:
                predictions.append(one)
            bar.update(done, total)
    return Predicted(predictions, tuple(failures))
