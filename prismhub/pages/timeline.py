"""A picture of what happens when in one video: `timeline_svg`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from adapters.predictions import Segment
from prismhub.pages.report import letters, short

COLOURS = ("#0b6e65", "#b1440e", "#3b5bdb", "#8a3ffc", "#9a6700", "#a61e4d", "#2b8a3e", "#495057")
_WIDTH, _ROW = 960, 30
_LETTER = 8  # pixels that a letter takes at most, on average


def timeline_svg(title: str, segments: Sequence[Segment], length_s: float, truths: Sequence[Segment] = ()) -> str:
    """An SVG: a row a class, a bar a segment, the paler the less sure; what is known to be right as a line below it."""
    labels = sorted({one.label for one in (*segments, *truths)})
    left = max([60, *(16 + _LETTER * letters(short(label)) for label in labels)])
    top = 34 if title else 6
    bottom = top + _ROW * max(len(labels), 1)
    height = bottom + 34
    scale = (_WIDTH - left - 20) / max(length_s, 1e-6)

    def x(seconds: float) -> str:
        return f"{left + seconds * scale:.1f}"

    def width(one: Segment) -> str:
        return f"{max((one.end_s - one.start_s) * scale, 1.0):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="10" y="20" font-weight="bold">{escape(short(title, 100))}</text>',
    ]
    for row, label in enumerate(labels):
        y, colour = top + row * _ROW, COLOURS[row % len(COLOURS)]
        parts.append(
            f'<text x="{left - 8}" y="{y + 18}" text-anchor="end">{escape(short(label))}'
            f"<title>{escape(label)}</title></text>"
        )
        parts.append(f'<line x1="{left}" x2="{_WIDTH - 20}" y1="{y + 27}" y2="{y + 27}" stroke="#e9ecef"/>')
        for one in segments:
            if one.label == label:
                said = f"{escape(label)} {one.start_s:.2f} to {one.end_s:.2f} s, score {one.score:.3f}"
                parts.append(
                    f'<rect x="{x(one.start_s)}" y="{y + 4}" width="{width(one)}" height="17" rx="2" fill="{colour}" '
                    f'fill-opacity="{max(one.score, 0.12):.2f}"><title>{said}</title></rect>'
                )
        parts += [
            f'<rect x="{x(one.start_s)}" y="{y + 23}" width="{width(one)}" height="3" fill="black"/>'
            for one in truths
            if one.label == label
        ]
    step = _tick(length_s)
    for place in range(int(length_s / step) + 1):
        seconds = place * step
        parts.append(f'<line x1="{x(seconds)}" x2="{x(seconds)}" y1="{bottom}" y2="{bottom + 5}" stroke="black"/>')
        parts.append(f'<text x="{x(seconds)}" y="{bottom + 20}" text-anchor="middle">{_clock(seconds)}</text>')
    if not labels:
        parts.append(f'<text x="{left}" y="{top + 18}">nothing found</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _tick(length_s: float) -> float:
    """Seconds between two marks, about ten on the axis: 1, 2, 5, 10, 15, 30, 60 and so on."""
    wanted = max(length_s / 10, 1e-3)
    for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600):
        if step >= wanted:
            return float(step)
    return 600.0 * math.ceil(wanted / 600)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}:{rest:02.0f}" if minutes else f"{rest:g} s"
