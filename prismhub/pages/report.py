"""One job's results as a page that needs nothing else.

The page holds its pictures, drawings and styles itself, runs no script and loads nothing. Every text is escaped: class
names and file names are the user's.
"""

from __future__ import annotations

import base64
import io
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core_encoder.files.storage import write_text

TEMPLATES = Path(__file__).parent
MAX_FRAMES = 8  # shown of one example
MIX_UPS = 5  # listed below the confusion matrix


@dataclass(frozen=True)
class Metric:
    """One score as a fraction in [0, 1] with its 95 % interval, over `evaluated` of `total` samples."""

    name: str
    value: float
    low: float
    high: float
    evaluated: int
    total: int


@dataclass(frozen=True)
class Share:
    """A share in [0, 1] with its 95 % interval."""

    value: float
    low: float
    high: float

    def clearly_above(self, other: Share) -> bool:
        """Whether the intervals do not even touch."""
        return self.low > other.high


@dataclass(frozen=True)
class Contender:
    """Who answered, in a few words what that is, and the share of right answers to each question."""

    name: str
    about: str
    shares: Sequence[Share]


@dataclass(frozen=True)
class Comparison:
    """Contenders side by side on the same samples, for one question or several.

    Args:
        questions: such as `which motion`; `chances` is what guessing gives of each.
        trained: the contenders that learned from the same samples, first the one that the page is about.
        untrained: those that were taught nothing.
        about: one or two sentences on what is the same for all.
    """

    questions: Sequence[str]
    chances: Sequence[float]
    trained: Sequence[Contender]
    untrained: Sequence[Contender] = ()
    about: str = ""

    def __post_init__(self) -> None:
        numbers = [self.chances, *(contender.shares for contender in (*self.trained, *self.untrained))]
        if not self.trained or any(len(some) != len(self.questions) for some in numbers):
            raise ValueError(f"a comparison needs a contender, and a share of each for {len(self.questions)} questions")

    def verdict(self, question: int) -> str:
        """Whom the first contender is clearly above, in one sentence; guessing has no interval of its own."""
        first, *others = self.trained
        share, chance = first.shares[question], self.chances[question]
        above = [(one.name, share.clearly_above(one.shares[question])) for one in others] + [
            ("guessing", share.low > chance)
        ]
        yes, no = ([name for name, is_above in above if is_above is wanted] for wanted in (True, False))
        parts = [f"clearly above {_listed(yes, 'and')}"] if yes else []
        parts += [f"not clearly above {_listed(no, 'or')}"] if no else []
        return f"{first.name} is {', but '.join(parts)}"

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows for a terminal, in per cent: `52.5 [41.2, 63.8]`."""
        rows = [[one.name, *map(_in_brackets, one.shares)] for one in self.trained]
        rows.append(["guessing", *(f"{100 * chance:.1f}" for chance in self.chances)])
        rows += [[f"{one.name}, {one.about}", *map(_in_brackets, one.shares)] for one in self.untrained]
        return ["", *self.questions], rows


@dataclass(frozen=True)
class Confusion:
    """Counts of samples: `counts[i][j]` have the true class `labels[i]` and were called `labels[j]`."""

    labels: Sequence[str]
    counts: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.labels) or any(len(row) != len(self.labels) for row in self.counts):
            raise ValueError(f"a confusion matrix of {len(self.labels)} classes needs as many rows and columns")

    def mix_ups(self) -> list[tuple[str, str, int, int]]:
        """Wrong cells, the largest first: (true class, called, count, samples of the true class)."""
        wrong = [
            (truth, called, count, sum(row))
            for truth, row in zip(self.labels, self.counts, strict=True)
            for called, count in zip(self.labels, row, strict=True)
            if count and truth != called
        ]
        return sorted(wrong, key=lambda cell: -cell[2])


@dataclass(frozen=True)
class ShownVideo:
    """One video: some frames `(T, H, W, 3)` uint8 in order, its true class, and class scores in [0, 1], best first."""

    name: str
    frames: NDArray[np.uint8] = field(repr=False)
    truth: str
    scores: Sequence[tuple[str, float]]

    def __post_init__(self) -> None:
        if not self.scores or self.frames.ndim != 4 or self.frames.dtype != np.uint8:
            raise ValueError(f"example {self.name!r} needs at least one score and uint8 frames (T, H, W, 3)")

    @property
    def predicted(self) -> str:
        return self.scores[0][0]

    @property
    def right(self) -> bool:
        return self.predicted == self.truth

    def some_frames(self, count: int = MAX_FRAMES) -> NDArray[np.uint8]:
        """At most `count` of the frames, evenly spaced, the first and the last among them."""
        chosen = np.unique(np.linspace(0, len(self.frames) - 1, count).round().astype(int))
        return self.frames[chosen]


@dataclass(frozen=True)
class ShownSearch:
    """What was asked of an archive, one or two sentences on it, and the cards of what was found (`scene_cards`)."""

    asked: str
    about: str
    cards: Sequence[Mapping[str, Any]] = field(repr=False)


@dataclass(frozen=True)
class Curve:
    """One value per epoch of one training setting; `kept` marks the one that became the adapter."""

    setting: str
    values: Sequence[float]
    kept: bool = False


@dataclass(frozen=True)
class CurvePanel:
    """Curves of one quantity, such as the training loss; `percent` shows fractions as percentages."""

    title: str
    curves: Sequence[Curve]
    percent: bool = False


@dataclass(frozen=True)
class Timing:
    """Seconds of one step of the job, and what was achieved in them, such as `212 clips/s`."""

    step: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True)
class ReportData:
    """Everything the page shows.

    Args:
        title: of the page, such as `Demo: motion and looks`.
        headline: the result in one sentence; `summary` adds what was done, in two or three.
        metrics: the first one is shown large.
        notices: what the reader must know before believing a number, such as where the videos come from.
        provenance: (name, value) pairs: encoder, fingerprint, seed, versions, digests.
        commands: what to type to repeat it.
        comparison: stands first on the page, before the scores.
    """

    title: str
    headline: str
    summary: str
    metrics: Sequence[Metric]
    confusion: Confusion | None = None
    examples: Sequence[ShownVideo] = ()
    panels: Sequence[CurvePanel] = ()
    timings: Sequence[Timing] = ()
    notices: Sequence[str] = ()
    provenance: Sequence[tuple[str, str]] = ()
    commands: Sequence[str] = ()
    comparison: Comparison | None = None
    search: ShownSearch | None = None


def write_report(path: str | Path, data: ReportData) -> Path:
    """Write one self-contained HTML page, atomically.

    Raises:
        InputError: the disk is full.
    """
    settings = list(dict.fromkeys(curve.setting for panel in data.panels for curve in panel.curves))
    page = render_page(
        "report.html",
        data=data,
        matrix=matrix_drawing(data.confusion) if data.confusion else None,
        mix_ups=data.confusion.mix_ups()[:MIX_UPS] if data.confusion else [],
        panels=[_panel_drawing(panel, settings) for panel in data.panels],
        settings=settings,
        kept={curve.setting for panel in data.panels for curve in panel.curves if curve.kept},
        examples=[(example, [picture_uri(frame) for frame in example.some_frames()]) for example in data.examples],
        longest=max((timing.seconds for timing in data.timings), default=0.0) or 1.0,
        in_all=sum(timing.seconds for timing in data.timings),
    )
    return write_text(path, page)


def render_page(template: str, **values: Any) -> str:
    """One of the templates beside this module, filled in; every text is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["seconds"] = readable_seconds
    return environment.get_template(template).render(**values)


def percent(fraction: float) -> str:
    """`0.7875` -> `78.8 %` (with a space that does not break)."""
    return f"{100 * fraction:.1f}\u00a0%"


def _listed(names: Sequence[str], conjunction: str) -> str:
    """`a, b and c`."""
    return f" {conjunction} ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def _in_brackets(share: Share) -> str:
    return f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]"


def readable_seconds(seconds: float) -> str:
    """`0.042` -> `42 ms`, `4.21` -> `4.2 s`, `74` -> `1 min 14 s` (with spaces that do not break)."""
    if seconds < 0.0995:
        return f"{1000 * seconds:.0f}\u00a0ms"
    if seconds < 59.95:
        return f"{seconds:.1f}\u00a0s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}\u00a0min {rest}\u00a0s"


def picture_uri(frame: NDArray[np.uint8], most_width: int | None = None) -> str:
    """One picture `(H, W, 3)` as a `data:` address of a JPEG; a wider one than `most_width` is made smaller."""
    from PIL import Image

    buffer = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(frame))
    if most_width is not None and picture.width > most_width:
        picture = picture.resize((most_width, max(round(picture.height * most_width / picture.width), 1)))
    picture.save(buffer, "JPEG", quality=88 if most_width is None else 80, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def short(label: str, limit: int = 30) -> str:
    """A label that fits beside a drawing; the whole one stays in its tooltip."""
    return label if len(label) <= limit else label[: limit - 1] + "…"


def letters(text: str) -> int:
    """How much room a text takes: letters of East Asian scripts are as wide as two."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in text)


def matrix_drawing(confusion: Confusion) -> dict[str, Any]:
    """Places and texts of the confusion matrix in SVG units: labels left and above, one cell per pair of classes."""
    count = len(confusion.labels)
    cell = min(46.0, max(18.0, 560.0 / max(count, 1)))
    font = 13.0 if cell >= 24 else 11.0
    labels = [short(label) for label in confusion.labels]
    band = math.ceil(max((len(label) for label in labels), default=0) * font * 0.56) + 14  # room for the longest label
    cells, rows = [], []
    for i, row in enumerate(confusion.counts):
        samples = sum(row)
        rows.append({"y": round(band + (i + 0.5) * cell, 2), "right": row[i], "samples": samples})
        for j, value in enumerate(row):
            share = value / samples if samples else 0.0
            cells.append(
                {
                    "x": band + j * cell,
                    "y": band + i * cell,
                    "count": value,
                    "right": i == j,
                    "strength": round(0.12 + 0.88 * share, 3) if value else 0.0,
                    "tip": f"{confusion.labels[i]} called {confusion.labels[j]}: {value} of {samples}",
                }
            )
    places = [round(band + (index + 0.5) * cell, 2) for index in range(count)]
    side = band + count * cell
    return {
        "band": band,
        "cell": cell,
        "font": font,
        "width": side + 58,
        "height": side + 6,
        "side": side,
        "labels": list(zip(labels, confusion.labels, places, strict=True)),
        "cells": cells,
        "rows": rows,
    }


def _panel_drawing(panel: CurvePanel, settings: Sequence[str]) -> dict[str, Any]:
    """Axes, ticks and polylines of one panel in SVG units; values that are not finite leave a gap."""
    width, height, left, right, top, bottom = 460.0, 250.0, 52.0, 14.0, 12.0, 36.0
    finite = [value for curve in panel.curves for value in curve.values if math.isfinite(value)] or [0.0, 1.0]
    ticks = nice_ticks(min(finite), max(finite))
    low, high = min(ticks[0], *finite), max(ticks[-1], *finite)
    epochs = max((len(curve.values) for curve in panel.curves), default=1)

    def x_of(epoch: float) -> float:
        return round(left + (epoch - 1) / max(epochs - 1, 1) * (width - left - right), 2)

    def y_of(value: float) -> float:
        return round(top + (high - value) / ((high - low) or 1.0) * (height - top - bottom), 2)

    def text_of(value: float) -> str:
        return f"{100 * value:.0f} %" if panel.percent else f"{value:.3g}"

    lines = []
    for curve in sorted(panel.curves, key=lambda curve: curve.kept):  # the kept one is drawn last, on top
        pieces: list[list[tuple[float, float]]] = [[]]
        for epoch, value in enumerate(curve.values, start=1):
            if math.isfinite(value):
                pieces[-1].append((x_of(epoch), y_of(value)))
            elif pieces[-1]:
                pieces.append([])
        last = next((value for value in reversed(curve.values) if math.isfinite(value)), None)
        lines.append(
            {
                "paths": [" ".join(f"{x},{y}" for x, y in piece) for piece in pieces if len(piece) > 1],
                "dots": [piece[0] for piece in pieces if len(piece) == 1],
                "end": next((piece[-1] for piece in reversed(pieces) if piece), None),
                "number": settings.index(curve.setting),
                "kept": curve.kept,
                "tip": curve.setting if last is None else f"{curve.setting}: {text_of(last)} at the end",
            }
        )
    marks = nice_ticks(1, epochs, whole=True) if epochs > 1 else [1.0]
    return {
        "title": panel.title,
        "width": width,
        "height": height,
        "left": left,
        "right": width - right,
        "bottom": height - bottom,
        "y_ticks": [(y_of(tick), text_of(tick)) for tick in ticks],
        "x_ticks": [(x_of(mark), f"{mark:.0f}") for mark in marks if 1 <= mark <= epochs],
        "lines": lines,
    }


def nice_ticks(low: float, high: float, count: int = 5, whole: bool = False) -> list[float]:
    """About `count` round numbers that cover `low` to `high`; whole numbers only when `whole`."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / max(count - 1, 1)
    scale = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * scale for factor in (1, 2, 2.5, 5, 10) if factor * scale >= rough * 0.999)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]
