"""What commands that ask about videos give back: an answer a video, and the videos that could not be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prismhub.progress import Show

if TYPE_CHECKING:
    from adapters.predictions import Prediction
    from core_encoder.features.failures import Failure


@dataclass(frozen=True)
class Predicted:
    """The answers, each a `Prediction`, and the videos that could not be read."""

    predictions: list[Prediction]
    failures: tuple[Failure, ...]
    about: Mapping[str, Any] = field(default_factory=dict)  # what holds for all answers, as the templates of zero-shot


def gather_answers(found: Iterable[Prediction | Failure], total: int, show: Show) -> Predicted:
    """Take the answers for `total` videos as they come, with a bar."""
    answers: list[Prediction | Failure] = []
    with show.bar("predicting") as bar:
        for one in found:
            answers.append(one)
            bar.update(len(answers), total)
    return sorted_answers(answers)


def sorted_answers(found: Iterable[Prediction | Failure]) -> Predicted:
    """Answers and failures apart, each in order."""
    from core_encoder.features.failures import Failure

    answers = list(found)
    return Predicted(
        [one for one in answers if not isinstance(one, Failure)],
        tuple(one for one in answers if isinstance(one, Failure)),
    )
