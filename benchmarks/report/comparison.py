"""Two folders of results, cell by cell: the difference on the samples that both judged, with a paired interval.

Both scores of a draw are of the same videos, so that what is hard for both cancels: the interval is that of the
difference, and far narrower than the intervals of the two scores suggest.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from adapters.scores import Score
from benchmarks.encoding import Watch
from benchmarks.report.judged_log import SPLIT, JudgedLog, read_log, task_of
from benchmarks.report.result_folder import ReportedCell, read_cells
from core_encoder.errors import InputError
from tasks.metrics.bootstrap import bootstrap_interval, value_of
from tasks.task import Weighed


@dataclass(frozen=True)
class Compared:
    """A cell of each folder, and the main score of both on the samples that they share.

    `change` is new less old, in the unit of the scores, with its paired interval; `drawn` is what was drawn, such as
    `40 videos`. Where they cannot be compared, there is none, and the `reason` says why.
    """

    new: ReportedCell
    old: ReportedCell
    shared: int = 0
    only_new: int = 0
    only_old: int = 0
    new_score: Score | None = None
    old_score: Score | None = None
    change: Score | None = None
    drawn: str = ""
    reason: str = ""

    @property
    def clear(self) -> bool:
        """Whether the interval of the change leaves 0 out."""
        ends = self.change.interval if self.change is not None else None
        return ends is not None and not ends[0] <= 0 <= ends[1]


@dataclass(frozen=True)
class Comparison:
    """All pairs of cells of two folders, and the cells that one folder alone has."""

    old: Path
    pairs: tuple[Compared, ...]
    only_new: tuple[ReportedCell, ...]
    only_old: tuple[ReportedCell, ...]


def compare_folders(new: Sequence[ReportedCell], old_folder: str | Path, watch: Watch) -> Comparison:
    """Compare cells with those of another folder.

    Raises:
        InputError: the folder holds no results, or a file of results or predictions is damaged.
    """
    old = read_cells(old_folder)
    if {cell.path.resolve() for cell in new} == {cell.path.resolve() for cell in old}:
        raise InputError(f"{old_folder}: is the folder that is reported; give another one to compare it with")
    pairs = list(pair_cells(new, old))
    compared = []
    with watch.bar("comparing") as bar:
        for place, (one, other) in enumerate(pairs):
            bar.update(place, len(pairs), one.result.task)
            compared.append(compare_cells(one, other))
    paired = {id(cell) for pair in pairs for cell in pair}
    left = [tuple(cell for cell in several if id(cell) not in paired) for several in (new, old)]
    return Comparison(Path(old_folder), tuple(compared), left[0], left[1])


def pair_cells(new: Sequence[ReportedCell], old: Sequence[ReportedCell]) -> Iterator[tuple[ReportedCell, ReportedCell]]:
    """Which cells are compared, in the order of the new ones.

    Those of one name; of what is left those that alone share benchmark, seed, encoder and adapter; then benchmark, seed
    and adapter; then benchmark and seed.
    """
    keys: list[Callable[[ReportedCell], Hashable]] = [
        lambda one: (one.result.encoder_fingerprint, one.result.task, one.path.name),
        lambda one: (one.result.task, one.seed, one.result.encoder, one.result.adapter),
        lambda one: (one.result.task, one.seed, one.result.adapter),
        lambda one: (one.result.task, one.seed),
    ]
    found: dict[int, ReportedCell] = {}
    taken: set[int] = set()
    for key in keys:
        free_new = [cell for cell in new if id(cell) not in found]
        free_old = [cell for cell in old if id(cell) not in taken]
        for cell in free_new:
            mine = [one for one in free_new if key(one) == key(cell)]
            theirs = [one for one in free_old if key(one) == key(cell)]
            if len(mine) == len(theirs) == 1:
                found[id(cell)] = theirs[0]
                taken.add(id(theirs[0]))
    return ((cell, found[id(cell)]) for cell in new if id(cell) in found)


def compare_cells(new: ReportedCell, old: ReportedCell, num_draws: int = 1000) -> Compared:
    """Two cells on the samples that both have predicted.

    Raises:
        InputError: a file of predictions is not there, was cut or is damaged.
    """
    plain = Compared(new, old)
    if reason := _hindrance(new, old):
        return replace(plain, reason=reason)
    try:
        tasks = [task_of(cell) for cell in (new, old)]
    except InputError as error:
        return replace(plain, reason=str(error))
    one, other = read_log(new, tasks[0]), read_log(old, tasks[1])
    mine, theirs = one.samples, other.samples
    shared = [name for name in mine if name in theirs]
    only_new, only_old = len(mine) - len(shared), len(theirs) - len(shared)
    plain = replace(plain, shared=len(shared), only_new=only_new, only_old=only_old)
    if not shared:
        return replace(plain, reason="they have no sample in common")
    what = [{name: log.task.describe_sample(log.samples[name]) for name in shared} for log in (one, other)]
    if differing := [name for name in shared if what[0][name] != what[1][name]]:
        which = f"what is right differs for {len(differing)} of {len(shared)} shared samples"
        return replace(plain, reason=f"{which}, the first: {differing[0]}")
    weighed = [log.only(shared) for log in (one, other)]
    try:
        both = [_weighed(log) for log in weighed]
        if both[0] is None or both[1] is None:
            return replace(plain, reason=f"{new.result.main_metric} has no interval here")
        return _paired(plain, both[0], both[1], one.videos_known and other.videos_known, num_draws)
    except (InputError, ValueError) as error:
        return replace(plain, reason=str(error))


def _hindrance(new: ReportedCell, old: ReportedCell) -> str:
    """Why two cells cannot be compared whatever they predict; empty where they can."""
    for name, cell in (("new", new), ("old", old)):
        if cell.result.state != "done":
            return f"{name}: {cell.result.state}: {cell.result.reason}"
    for what in ("protocol", "main_metric"):
        mine, theirs = getattr(new.result, what), getattr(old.result, what)
        if mine != theirs:
            return f"another {what.replace('_', ' ')}: {mine}, and {theirs} in the old one"
    return ""


def _weighed(log: JudgedLog) -> Weighed | None:
    return log.task.weighed(log.predictions, SPLIT)


def _paired(plain: Compared, new: Weighed, old: Weighed, videos_known: bool, num_draws: int) -> Compared:
    """The scores of both and the interval of their difference, from the same draws of whole videos."""
    places = {sample.id: place for place, sample in enumerate(old.samples)}
    order = [places[sample.id] for sample in new.samples]
    back = np.argsort(order)  # weights in the order of the new samples -> in that of the old ones
    count, unit = len(new.samples), plain.new.result.scores[plain.new.result.main_metric].unit
    groups = [sample.clip.path for sample in new.samples]
    values = [value_of(one.statistic, count) for one in (new, old)]
    low = high = None
    if len(set(groups)) > 1:  # every draw of one video is the same
        low, high = bootstrap_interval(
            lambda weights: new.statistic(weights) - old.statistic(weights[:, back]),
            count,
            groups=groups,
            num_draws=num_draws,
        )
    number = len(set(groups))
    what = f"video{'s' if number > 1 else ''}" if videos_known else "samples, whose videos are not known"
    return replace(
        plain,
        new_score=Score(values[0], unit=unit),
        old_score=Score(values[1], unit=unit),
        change=Score(values[0] - values[1], low, high, unit),
        drawn=f"{number} {what}",
    )
