"""Numbers that others published, beside our own: of the paper and of the released weights, each apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from adapters.scores import Score
from tasks.benchmark import Benchmark

PAPER = "VideoPrism, Zhao et al. 2024, arXiv:2402.13217v3"
RELEASED = "released weights of VideoPrism, README of google-deepmind/videoprism"
MINUS = "\u2212"
_PAPER, _RELEASED = " (paper)", " (public)"


@dataclass(frozen=True)
class Cited:
    """Published scores of a benchmark in its main metric, as printed: per cent, or the metric's own unit.

    `paper` and `released` are by the size of VideoPrism, the smallest first; `others` are other models, as the paper
    or the benchmark's declaration cites them. `more` has the paper's and the released weights' other metrics.
    """

    paper: Mapping[str, float] = field(default_factory=dict)
    released: Mapping[str, float] = field(default_factory=dict)
    others: Mapping[str, float] = field(default_factory=dict)
    source: str = PAPER

    @property
    def paper_base(self) -> float | None:
        """The smallest model of the paper, to which differences are shown."""
        return next(iter(self.paper.values()), None)

    @property
    def released_base(self) -> float | None:
        """The smallest of the released weights."""
        return next(iter(self.released.values()), None)


def cited_of(benchmark: Benchmark | None, metric: str, from_catalog: bool) -> Cited:
    """What is published of a benchmark in a metric; of one that is not in the catalog, as it declares."""
    scores = benchmark.published.get(metric, {}) if benchmark is not None else {}
    if not from_catalog:
        source = benchmark.citation if benchmark is not None else ""
        return Cited(others=dict(scores), source=source or "as the benchmark declares")
    paper = {name.removesuffix(_PAPER): value for name, value in scores.items() if name.endswith(_PAPER)}
    released = {name.removesuffix(_RELEASED): value for name, value in scores.items() if name.endswith(_RELEASED)}
    others = {name: value for name, value in scores.items() if not name.endswith((_PAPER, _RELEASED))}
    return Cited(paper, released, others)


def printed(score: Score, value: float) -> float:
    """A number of a score as papers print it: 81.0 for the fraction 0.81."""
    return 100 * value if score.unit == "%" else value


def difference(score: Score | None, cited: float | None) -> float | None:
    """Ours less theirs, as printed; None where one of them is not there."""
    if score is None or cited is None:
        return None
    return printed(score, score.value) - cited


def signed(value: float | None) -> str:
    """Such as `+1.3`, with a true minus below 0; empty where there is none."""
    if value is None:
        return ""
    text = f"{abs(value):.1f}"
    if text == "0.0":  # nothing, or less than is seen at one digit
        return text
    return ("+" if value > 0 else MINUS) + text
