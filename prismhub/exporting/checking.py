"""Every graph is written, opened again and compared with the model, on several batches and lengths.

Axes stay open where the graph allows, which only the comparison tells: first all, then the batch alone, then none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core_encoder.contract import TOLERANCE
from core_encoder.errors import InputError
from prismhub.exporting.formats import FORMATS, FormatName, quiet, trace
from prismhub.exporting.graphs import Graph

STEPS = 5  # of a graph: traced, written, and compared three times
Step = Callable[[int, str], None]
"""Is told which step of a graph begins, from 0, and what it is; with fewer open axes they begin anew."""


@dataclass(frozen=True)
class WrittenGraph:
    """A file that gives what the model gives: its graph, with the axes that stayed open, and how far both lie apart.

    `apart` is the largest difference as a share of the largest magnitude (of at least 1) in each output;
    `compared` are the lengths of the open axes in each comparison.
    """

    file: str
    graph: Graph
    compared: tuple[dict[str, int], ...]
    apart: float

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "file": self.file,
            **self.graph.describe(),
            "compared_with_torch": list(self.compared),
            "apart": self.apart,
        }


def write_checked(
    graph: Graph, folder: Path, name: FormatName, begins: Step = lambda number, what: None
) -> WrittenGraph:
    """Write a graph into a folder, with as many axes open as it is right with.

    Raises:
        InputError: the module cannot be traced, or what was written differs from it.
        OSError: the disk is full.
    """
    path = folder / f"{graph.name}{FORMATS[name].suffix}"
    problems: list[str] = []
    for fixed in dict.fromkeys(((), tuple(one for one in graph.axes if one != "batch"), tuple(graph.axes))):
        closed = graph.fixed(*fixed)
        try:
            begins(0, f"tracing {graph.name}")
            program = trace(closed)
            begins(1, f"writing {path.name}")
            FORMATS[name].write(program, closed, path)
            apart = _apart(closed, path, name, begins)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # tracers and runtimes raise all kinds
            problems.append(" ".join(str(error).split())[:400] or type(error).__name__)
            continue
        if apart <= TOLERANCE:
            return WrittenGraph(path.name, closed, tuple(map(closed.sizes, range(3))), apart)
        problems.append(f"what was written differs from the model by {apart:.2g} of its largest value")
    raise InputError(f"{path.name} cannot be written as {name}: {problems[-1]}")


def _apart(graph: Graph, path: Path, name: FormatName, begins: Step) -> float:
    """How far the written graph lies from the module, over all checks."""
    apart = []
    with quiet():
        run = FORMATS[name].open(path)
        for number in range(3):
            begins(2 + number, f"comparing {path.name} with the model, {number + 1} of 3")
            inputs = graph.draw(number)
            apart.append(furthest(run(inputs), graph.run(inputs)))
    return max(apart)


def furthest(given: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """The largest difference of outputs as a share of the largest magnitude; infinite where shapes or NaN differ."""
    worst = 0.0
    for one, other in zip(given, wanted, strict=True):
        if one.shape != other.shape or not torch.equal(one.isfinite(), other.isfinite()):
            return float("inf")
        if other.numel():
            worst = max(worst, float((one - other).abs().max()) / max(float(other.abs().max()), 1.0))
    return worst
