"""Does stage 2 add motion, and what do its ingredients add? The experiment of docs/pretrain.md in one command.

    python -m benchmarks.pretraining.ablation --out ablation --json ablation.json

Fifteen runs: for each of three seeds stage 1, and from it stage 2, stage 2 without its ingredients, and the control.
Two run at a time with one thread each: about 3 1/4 hours on two cores. The same command goes on when it was stopped;
`--show` prints the table of what is finished. Unfinished cells stay empty. The table is also in `<out>/table.md`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from dataclasses import asdict, replace
from pathlib import Path

import pretrain
from benchmarks.pretraining.ablation_cells import CELLS, DECLARED, Job, check_recipe, run_cell
from benchmarks.pretraining.ablation_table import Table
from benchmarks.results import Provenance
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest, write_json, write_text
from fit.device import find_device
from pretrain.recipe import Recipe

RECIPE = Path(pretrain.__file__).parent / "recipes" / "ablation.yaml"


def run_in_own_process(job: Job, work: Callable[[Job], None] = run_cell) -> None:
    """Run a cell in a process that ends with it: its memory is given back, and when it is killed the others run on."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        process.submit(work, job).result()


def run_jobs(
    jobs: Sequence[Job], processes: int, finished: Callable[[], None], run: Callable[[Job], None] = run_in_own_process
) -> dict[str, str]:
    """Run what is not finished, earlier jobs first, so many at a time; return what failed: label -> reason.

    A cell waits for its seed's stage 1 and is left out when that failed; every other cell runs on. `finished` is called
    after each cell.
    """
    waiting = [job for job in jobs if job.finished() is None]
    failed: dict[str, str] = {}
    running: dict[Future[None], Job] = {}
    with ThreadPoolExecutor(processes) as pool:
        while waiting or running:
            ready = [job for job in waiting if not CELLS[job.name].part or _stage1(job).finished() is not None]
            for job in ready[: processes - len(running)]:
                waiting.remove(job)
                print(f"{job.label}: begins", flush=True)
                running[pool.submit(run, job)] = job
            if not running:  # what is left waits for a stage 1 that failed
                failed |= {job.label: "its stage 1 is missing" for job in waiting}
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job = running.pop(future)
                error = future.exception()
                if error is not None:
                    failed[job.label] = " ".join(str(error).split()) or type(error).__name__
                print(f"{job.label}: {'finished' if error is None else 'FAILED, ' + failed[job.label]}", flush=True)
                finished()
    return failed


def _stage1(job: Job) -> Job:
    return replace(job, name=CELLS[job.name].start)


def names_of_cells(text: str) -> tuple[str, ...]:
    """`stage2,control` -> the names, with the stage 1 that they go on from; with a later try all that were declared.

    Raises:
        InputError: an unknown name.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in CELLS:
            raise InputError(f"--cells: unknown cell {name!r}{nearest(name, CELLS)}")
    tries = any(name not in DECLARED for name in names)  # they go into the table of the declared cells
    wanted = {*names, "stage1", *(CELLS[name].start for name in names), *(DECLARED if tries else ())}
    return tuple(name for name in CELLS if name in wanted)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="The two-stage experiment.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs, the cells and the table")
    parser.add_argument("--seeds", type=int, default=3, help="pretraining seeds 0, 1, ...")
    parser.add_argument("--processes", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="a recipe with stage 1 and stage 2")
    parser.add_argument("--accelerator", default="cpu", choices=["cpu", "gpu"], help="what they run on")
    parser.add_argument("--cells", default=",".join(DECLARED), help=f"of {', '.join(CELLS)}")
    parser.add_argument("--show", action="store_true", help="run nothing; print the table of what is finished")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes started below
    try:
        if options.seeds < 1 or options.processes < 1:
            raise InputError("--seeds and --processes must be at least 1")
        find_device(options.accelerator)
        recipe = Recipe.load(options.recipe)
        check_recipe(recipe)
        names, out = names_of_cells(options.cells), options.out.expanduser().absolute()
        jobs = [
            Job(recipe, out, seed, name, accelerator=options.accelerator)
            for name in names
            for seed in range(options.seeds)
        ]

        def write_table() -> None:
            write_text(out / "table.md", Table.of(jobs).markdown() + "\n")

        failed = {} if options.show else run_jobs(jobs, options.processes, write_table)
        table = Table.of(jobs)
    except InputError as error:
        raise SystemExit(f"error: {error}") from error
    print("\n" + table.markdown())
    if options.json:
        about = {
            "recipe": recipe.describe(),
            "failed": failed,
            "provenance": asdict(Provenance.collect(device=jobs[0].device)),
        }
        write_json(options.json, table.to_dict() | about)
    if failed:
        raise SystemExit("failed: " + "; ".join(f"{label} ({reason})" for label, reason in failed.items()))


if __name__ == "__main__":
    main()
