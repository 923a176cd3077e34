"""What an adapter answers, one record per video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class ClassScores:
    """The probability of every class for one video: `scores (K,)`, float32 on the CPU, in the order of `label_names`.

    Single-label scores sum to 1; multi-label scores are independent.
    """

    sample_id: str
    scores: Tensor
    label_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.scores.shape != (len(self.label_names),):
            raise ValueError(f"{len(self.label_names)} label names but scores of shape {tuple(self.scores.shape)}")

    @property
    def label(self) -> str:
        """The class with the highest score."""
        return self.label_names[int(self.scores.argmax())]

    @property
    def score(self) -> float:
        """The highest score."""
        return float(self.scores.max())

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The `k` best `(label, score)` pairs, best first; equal scores in class order."""
        order = self.scores.argsort(descending=True, stable=True)[:k].tolist()
        return [(self.label_names[i], float(self.scores[i])) for i in order]

    def above(self, threshold: float = 0.5) -> list[tuple[str, float]]:
        """The `(label, score)` pairs at or above `threshold`, best first: the answer of a multi-label adapter."""
        return [pair for pair in self.top(len(self.label_names)) if pair[1] >= threshold]

    def describe(self, all_scores: bool = False) -> dict[str, Any]:
        """`{"id", "label", "score"}` ready for JSON, with `"scores"` of every class on request."""
        record: dict[str, Any] = {"id": self.sample_id, "label": self.label, "score": self.score}
        if all_scores:
            record["scores"] = dict(zip(self.label_names, self.scores.tolist(), strict=True))
        return record

    def __repr__(self) -> str:
        best = ", ".join(f"{label} {score:.3f}" for label, score in self.top(3))
        return f"ClassScores({self.sample_id!r}: {best})"
