"""A report as one picture, for a README: `report_picture`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from core_encoder.files.storage import atomic_path
from prismhub.pages.report import Comparison, Confusion, Contender, CurvePanel, ReportData, ShownVideo, short

GOOD, BAD = "#0b6e65", "#b1440e"


def report_picture(path: str | Path, data: ReportData) -> Path:
    """Write a PNG summary for a README: comparison, confusion matrix, example strips and the last curve panel.

    Raises:
        ValueError: the report has no confusion matrix.
        InputError: the disk is full.
    """
    from matplotlib.figure import Figure  # no pyplot: no global state, no display

    if data.confusion is None:
        raise ValueError("the summary picture needs a confusion matrix")
    figure = Figure(figsize=(13, 8.6 if data.comparison else 7.2), dpi=110, facecolor="white", layout="constrained")
    figure.suptitle(_plain(data.headline), fontsize=15, fontweight="bold", x=0.01, ha="left")
    halves: Any = figure.subfigures(1, 2, width_ratios=(1.1, 1))
    left, right = halves
    if data.comparison:
        above, left = left.subfigures(2, 1, height_ratios=(1, 2.6))
        axes = above.subplots(1, len(data.comparison.questions), sharey=True, squeeze=False)[0]
        for question, axis in enumerate(axes):
            _draw_comparison(axis, data.comparison, question)
    _draw_matrix(left.subplots(), data.confusion)
    examples = _both_kinds(data.examples, 5)
    panel = data.panels[-1] if data.panels else None
    heights = [1.0] * len(examples) + ([2.4] if panel else [])
    if heights:
        axes = np.atleast_1d(right.subplots(len(heights), 1, height_ratios=heights))
        for axis, example in zip(axes, examples, strict=False):
            _draw_strip(axis, example)
        if panel:
            _draw_panel(axes[-1], panel)
    with atomic_path(path) as aside:
        figure.savefig(aside, format="png")
    return Path(path)


def _plain(text: str) -> str:
    """Text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")


def _both_kinds(examples: Sequence[ShownVideo], count: int) -> list[ShownVideo]:
    """At most `count` examples, wrong ones among them if there are any, in their order."""
    wrong = [example for example in examples if not example.right][: count // 2]
    right = [example for example in examples if example.right][: count - len(wrong)]
    return [example for example in examples if any(example is chosen for chosen in (*right, *wrong))]


def _draw_comparison(axis: Any, comparison: Comparison, question: int) -> None:
    """Bars with intervals, the first contender on top, and a line where guessing is."""

    def name_of(one: Contender) -> str:
        return _plain(one.name if one in comparison.trained else f"{one.name}, {one.about}")

    contenders = [*comparison.trained, *comparison.untrained]
    for place, one in enumerate(contenders):
        share = one.shares[question]
        colour = GOOD if one.name == comparison.trained[0].name else "0.7"
        axis.barh(place, 100 * share.value, height=0.62, color=colour)
        axis.plot([100 * share.low, 100 * share.high], [place, place], color="0.15", linewidth=1.4)
        end = 100 * max(share.value, share.high) + 2
        axis.text(end, place, f"{100 * share.value:.0f} %", va="center", fontsize=9)
    axis.axvline(100 * comparison.chances[question], color=BAD, linewidth=1.2)
    axis.set_yticks(range(len(contenders)), [name_of(one) for one in contenders], fontsize=9)
    axis.set_ylim(len(contenders) - 0.4, -0.6)
    axis.set_xlim(0, 112)
    axis.set_xticks([])
    axis.set_title(f"{_plain(comparison.questions[question])}? (line: guessing)", loc="left", fontsize=10)
    axis.tick_params(length=0)
    axis.spines[["top", "right", "bottom"]].set_visible(False)


def _draw_matrix(axis: Any, confusion: Confusion) -> None:
    from matplotlib.colors import to_rgb

    counts = np.asarray(confusion.counts, dtype=float)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    good, bad = np.array(to_rgb(GOOD)), np.array(to_rgb(BAD))
    colour = np.where(np.eye(len(counts), dtype=bool)[..., None], good, bad)
    axis.imshow(1 - share[..., None] * (1 - colour))
    labels = [_plain(short(label)) for label in confusion.labels]
    size = 10 if len(labels) <= 12 else 6
    axis.set_xticks(range(len(labels)), labels, rotation=90, fontsize=size)
    axis.set_yticks(range(len(labels)), labels, fontsize=size)
    axis.set_xlabel("called", fontsize=10)
    axis.set_ylabel("true class", fontsize=10)
    axis.set_xticks(np.arange(len(labels) + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(len(labels) + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="0.88", linewidth=0.8)
    axis.tick_params(which="both", length=0)
    axis.spines[:].set_visible(False)
    for (i, j), count in np.ndenumerate(counts):
        if count:
            axis.text(
                j, i, f"{count:.0f}", ha="center", va="center", fontsize=size, color="w" if share[i, j] > 0.6 else "k"
            )


def _draw_strip(axis: Any, example: ShownVideo) -> None:
    frames = example.some_frames()
    gap = np.full((frames.shape[1], max(frames.shape[2] // 24, 1), 3), 255, np.uint8)
    axis.imshow(np.concatenate([part for frame in frames for part in (frame, gap)][:-1], axis=1))
    axis.set_axis_off()
    verdict = "right" if example.right else f"wrong, it is {short(example.truth)}"
    title = f"{short(example.predicted)} ({100 * example.scores[0][1]:.0f} %): {verdict}"
    axis.set_title(_plain(title), loc="left", fontsize=9, pad=2, color=GOOD if example.right else BAD)


def _draw_panel(axis: Any, panel: CurvePanel) -> None:
    others = [curve for curve in panel.curves if not curve.kept]
    for curve in (*others, *(curve for curve in panel.curves if curve.kept)):
        values = np.asarray(curve.values, float) * (100 if panel.percent else 1)
        look = {
            "color": "0.7",
            "linewidth": 1.1,
            "label": "other settings" if curve is next(iter(others), None) else None,
        }
        if curve.kept:
            look = {"color": GOOD, "linewidth": 2.4, "label": _plain(f"{curve.setting} (kept)")}
        axis.plot(np.arange(1, len(values) + 1), values, **look)
    axis.set_title(_plain(panel.title) + (", %" if panel.percent else ""), loc="left", fontsize=10)
    axis.set_xlabel("epoch", fontsize=9)
    axis.grid(color="0.92")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(fontsize=8, frameon=False, loc="best")
