"""`python -m benchmarks.reliability --out DIR`: run the accidents that have no result in DIR yet, and print the table.

    python -m benchmarks.reliability --out reliability                       all of it: about two and a half hours
    python -m benchmarks.reliability --out try --small                       minutes
    python -m benchmarks.reliability --out reliability --only killed,serving

The same command goes on after an interruption; `--seed` repeats every draw. Exit code 1 where something was not as it
should be.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.reliability.accidents import ACCIDENTS, parts_of
from benchmarks.reliability.commands import stop_all
from benchmarks.reliability.table import table
from benchmarks.reliability.tally import Ground, Tally
from core_encoder.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description="A campaign of accidents.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results; what is there is not run again")
    parser.add_argument(
        "--only", default="", help=f"some accidents, as in killed,serving; all are {','.join(ACCIDENTS)}"
    )
    parser.add_argument("--small", action="store_true", help="minutes instead of hours")
    parser.add_argument("--length", type=float, default=1.0, help="share of the hour, the ten minutes and the kills")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as Ctrl-C: what runs is stopped
    try:
        tallies = run(options.out, options.only, options.small, options.seed, options.length)
    except InputError as error:
        print(f"benchmarks.reliability: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; finished accidents are kept, the same command goes on", file=sys.stderr)
        return 130
    finally:
        stop_all()
    print(table(tallies))
    for name, tally in tallies.items():
        for fault in tally.faults:
            print(f"{name}: {fault}")
    return 0 if all(tally.ok for tally in tallies.values()) else 1


def run(out: Path, only: str = "", small: bool = False, seed: int = 0, length: float = 1.0) -> dict[str, Tally]:
    """Run what is asked for and not done; the tallies of all that is asked for, each kept as JSON in `out`.

    Raises:
        InputError: an unknown accident, or a result that cannot be read.
    """
    tallies = {}
    for name, accident in parts_of(only).items():
        file = out / f"{name}{'-small' if small else ''}-{seed}.json"
        if file.exists():
            tallies[name] = Tally.read(file)
            continue
        print(name, flush=True)
        folder = (out / "work" / file.stem).absolute()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        began = time.monotonic()
        with _warnings_of_stores_off():
            tally = accident(Ground(folder, seed, small, length, lambda text: print(text, flush=True)))
        tally.measured["minutes"] = round((time.monotonic() - began) / 60, 1)
        tally.write(file)
        tallies[name] = tally
        if tally.ok:
            shutil.rmtree(folder, ignore_errors=True)  # else it is what shows the fault
    return tallies


@contextmanager
def _warnings_of_stores_off() -> Iterator[None]:
    """Broken shards are what an accident looks for: each would be named on the terminal, too."""
    stores = logging.getLogger("core_encoder.features")
    before = stores.level
    stores.setLevel(logging.ERROR)
    try:
        yield
    finally:
        stores.setLevel(before)


if __name__ == "__main__":
    sys.exit(main())
