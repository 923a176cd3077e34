"""The table of the two-stage experiment: means over seeds, differences, and whether the aim is reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.pretraining.ablation_cells import CELLS, COLUMNS, Job
from benchmarks.pretraining.intervals import Interval, mean_over_seeds
from benchmarks.pretraining.world_probes import FAMILIES

Hits = NDArray[np.float64]
"""Zeros and ones `(S, n)`: whether the encoder of each seed was right about each test clip."""

COMPARISONS = (
    ("stage2", "control"),
    ("stage2", "stage1"),
    ("control", "stage1"),
    ("stage2", "no_shuffling"),
    ("stage2", "no_global"),
)
MOTION_GAIN, OBJECT_LOSS = 5.0, 1.5  # points: what stage 2 is to add to the control, and may lose


@dataclass(frozen=True, eq=False)
class Table:
    """The finished cells: column -> cell -> seed -> hits `(n,)`; `seeds` and `cells` are what was asked for."""

    seeds: tuple[int, ...]
    cells: tuple[str, ...]
    hits: Mapping[str, Mapping[str, Mapping[int, Hits]]]

    @classmethod
    def of(cls, jobs: Sequence[Job]) -> Table:
        """Read the finished ones of `jobs`."""
        hits: dict[str, dict[str, dict[int, Hits]]] = {column: {} for column in COLUMNS}
        for job in jobs:
            for column, score in (job.finished() or {}).items():
                hits[column].setdefault(job.name, {})[job.seed] = score.hits.astype(np.float64)
        seeds = tuple(sorted({job.seed for job in jobs}))
        return cls(seeds, tuple(dict.fromkeys(job.name for job in jobs)), hits)

    def mean(self, column: str, cell: str) -> Interval | None:
        """Per cent right over the finished seeds; None without any."""
        found = self.hits[column].get(cell, {})
        return mean_over_seeds([found[seed] for seed in sorted(found)]).scaled(100) if found else None

    def difference(self, column: str, cell: str, other: str, seed: int | None = None) -> Interval | None:
        """Points that `cell` is above `other`, over the seeds that have both, or of one seed; None without any."""
        ours, theirs = self.hits[column].get(cell, {}), self.hits[column].get(other, {})
        shared = [one for one in sorted(ours.keys() & theirs.keys()) if seed is None or one == seed]
        return mean_over_seeds([ours[one] - theirs[one] for one in shared]).scaled(100) if shared else None

    def num_seeds(self, *cells: str) -> int:
        """How many seeds have all of `cells`."""
        return sum(all(seed in self.hits[COLUMNS[0]].get(cell, {}) for cell in cells) for seed in self.seeds)

    def meets_aim(self, family: str) -> bool | None:
        """Whether stage 2 keeps the aim by this probe; None while a seed of stage 2 or the control is missing."""
        motion, looks = (self._whole_difference(label, family, "control") for label in ("motion", "object"))
        if motion is None or looks is None:
            return None
        return motion.value >= MOTION_GAIN and motion.low > 0 and looks.value >= -OBJECT_LOSS

    def helps(self, label: str, family: str, without: str) -> bool | None:
        """Whether stage 2 is above the cell `without` an ingredient, interval and all; None while a seed is missing."""
        difference = self._whole_difference(label, family, without)
        return None if difference is None else difference.low > 0

    def _whole_difference(self, label: str, family: str, other: str) -> Interval | None:
        """Stage 2 minus another cell; None while a seed of either is missing."""
        if self.num_seeds("stage2", other) < len(self.seeds):
            return None
        return self.difference(f"{label}, {family}", "stage2", other)

    def markdown(self) -> str:
        """Accuracies, differences, the difference that the question is about seed by seed, and the answer."""
        head = ["", *COLUMNS, "seeds"]
        accuracies = [
            [CELLS[cell].title, *(_shown(self.mean(column, cell)) for column in COLUMNS), self._count(cell)]
            for cell in self.cells
        ]
        differences = [
            [
                f"{CELLS[cell].title} minus {CELLS[other].title}",
                *(_shown(self.difference(column, cell, other), sign=True) for column in COLUMNS),
                self._count(cell, other),
            ]
            for cell, other in self._pairs()
        ]
        by_seed = [
            [
                f"seed {seed}",
                *(_shown(self.difference(column, "stage2", "control", seed), sign=True) for column in COLUMNS),
            ]
            for seed in self.seeds
        ]
        return "\n\n".join(
            [
                "Per cent right on the test clips, with 95 % intervals over seeds and clips (of one seed: over clips):",
                _lines(head, accuracies),
                "Differences in points, clip by clip:",
                _lines(head, differences),
                "Stage 2 minus the control, seed by seed (intervals over clips alone):",
                _lines(head[:-1], by_seed),
                "\n".join(line for family in FAMILIES for line in self._answers(family)),
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """The same numbers, ready for JSON."""

        def plain(interval: Interval | None) -> dict[str, float] | None:
            return None if interval is None else asdict(interval)

        return {
            "seeds": list(self.seeds),
            "accuracy": {
                cell: {column: plain(self.mean(column, cell)) for column in COLUMNS} | {"seeds": self.num_seeds(cell)}
                for cell in self.cells
            },
            "differences": [
                {"cell": cell, "other": other, "seeds": self.num_seeds(cell, other)}
                | {column: plain(self.difference(column, cell, other)) for column in COLUMNS}
                for cell, other in self._pairs()
            ],
            "stage2_minus_control": {
                str(seed): {column: plain(self.difference(column, "stage2", "control", seed)) for column in COLUMNS}
                for seed in self.seeds
            },
            "aim_reached": {family: self.meets_aim(family) for family in FAMILIES},
            "shuffling_helps_motion": {family: self.helps("motion", family, "no_shuffling") for family in FAMILIES},
            "global_distillation_helps_objects": {
                family: self.helps("object", family, "no_global") for family in FAMILIES
            },
        }

    def _count(self, *cells: str) -> str:
        return f"{self.num_seeds(*cells)} of {len(self.seeds)}"

    def _pairs(self) -> list[tuple[str, str]]:
        """What is compared: the declared pairs, and every later try with its counterpart."""
        pairs = [pair for pair in COMPARISONS if set(pair) <= set(self.cells)]
        tries = [(cell, CELLS[cell].against) for cell in self.cells if not CELLS[cell].declared]
        return pairs + [pair for pair in tries if pair[1] in self.cells]

    def _answers(self, family: str) -> list[str]:
        """What is claimed, in the words declared beforehand."""
        aim = f"at least {MOTION_GAIN:g} motion points above the control for at most {OBJECT_LOSS:g} points of objects"
        verdict = {True: "reached", False: "not reached", None: "open, cells are missing"}[self.meets_aim(family)]
        motion = self._whole_difference("motion", family, "control")
        if motion is not None and self.meets_aim(family) is False:
            apart = motion.low > 0 or motion.high < 0
            verdict += f"; motion differs by {_shown(motion, sign=True)}" if apart else "; no difference shown"
        shown = {True: "shown", False: "not shown", None: "open, cells are missing"}
        return [
            f"- Aim, by {family} ({aim}): **{verdict}**.",
            f"- Token shuffling helps motion, by {family}: **{shown[self.helps('motion', family, 'no_shuffling')]}**.",
            f"- Global distillation helps objects, by {family}: "
            f"**{shown[self.helps('object', family, 'no_global')]}**.",
        ]


def _shown(interval: Interval | None, sign: bool = False) -> str:
    if interval is None:
        return "missing"
    form = "+.1f" if sign else ".1f"
    return f"{interval.value:{form}} [{interval.low:{form}}, {interval.high:{form}}]"


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [head, ["---"] * len(head), *rows])
