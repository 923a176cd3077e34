"""The accidents of the campaign by name, and the rows that each has in its table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.reliability.damaged import damaged
from benchmarks.reliability.full_disk import full_disk
from benchmarks.reliability.jobs import JOBS
from benchmarks.reliability.killed import killed
from benchmarks.reliability.serving import serving
from benchmarks.reliability.tally import Ground, Tally
from benchmarks.reliability.tampered import tampered
from benchmarks.reliability.writers import writers
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest

Accident = Callable[[Ground], Tally]
ACCIDENTS: Mapping[str, Mapping[str, Accident]] = {
    "damaged": {"damaged": damaged},
    "tampered": {"tampered": tampered},
    "full-disk": {"full-disk": full_disk},
    "writers": {"writers": writers},
    "serving": {"serving": serving},
    "killed": {f"killed-{job}": partial(killed, job) for job in JOBS},
}


def parts_of(only: str) -> dict[str, Accident]:
    """The rows of some accidents, as in `killed,serving`, or single rows, as in `killed-train`; of all for none.

    Raises:
        InputError: there is no such accident; the nearest is offered.
    """
    names = [name.strip() for name in only.split(",") if name.strip()] or list(ACCIDENTS)
    known = {row: {row: run} for rows in ACCIDENTS.values() for row, run in rows.items()} | dict(ACCIDENTS)
    for name in names:
        if name not in known:
            raise InputError(f"accident {name!r} is unknown{nearest(name, known)}")
    return {row: run for name in names for row, run in known[name].items()}
