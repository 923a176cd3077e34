"""Matrices that are stopped, killed, or run by two machines at once: what is finished stays, and nothing runs twice."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import benchmarks.matrix
from benchmarks.rescoring import result_files
from benchmarks.results import Result
from core_encoder.files.storage import locked
from prismhub.cli import run
from tests.prismhub.commands.matrices import bench_words, results_in, write_root

HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # background jobs ignore it
COMMAND = [sys.executable, "-c", f"{HEED}; from prismhub.cli import main; main()"]
SEEDS = 5


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data sets of the tests; read only."""
    return write_root(tmp_path_factory.mktemp("root"), ["ssv2", "msrvtt-t2v", "kinetics400", "charades"])


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 400  # only a hanging run reaches it
    while not condition():
        assert process.poll() is None, "it ended before it could be stopped"
        if time.monotonic() > deadline:
            process.kill()
            raise TimeoutError("it hangs")
        time.sleep(0.005)


def number_of(shown: str) -> list[int]:
    """The cells that a run began, by their number."""
    return [int(one) for one in re.findall(r"^\[(\d+) of \d+\]", shown, re.MULTILINE)]


@pytest.mark.parametrize("how", ["SIGINT", "SIGKILL"])
def test_what_is_finished_stays(how: str, root: Path, tmp_path: Path) -> None:
    sent = signal.Signals[how]
    output = tmp_path / "results"
    words = [*COMMAND, *bench_words(root, output, ["ssv2"], "--seeds", str(SEEDS), "--epochs", "3")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(result_files(output)) >= 2 and any(output.glob("*/*/.*.run/*")), process)
    process.send_signal(sent)
    _, shown = process.communicate(timeout=200)
    if sent == signal.SIGINT:
        assert process.returncode == 130 and "Traceback" not in shown
        assert "what was finished is kept, the same command goes on" in shown
    else:
        assert process.returncode == -9
    kept = {path: path.stat().st_mtime_ns for path in result_files(output)}
    assert 2 <= len(kept) < SEEDS and all(Result.read(path).state == "done" for path in kept)
    begun = number_of(shown)
    assert len(begun) <= len(kept) + 1  # at most the one that was running is lost
    again = subprocess.run(words, capture_output=True, text=True, check=True)
    assert number_of(again.stderr) == list(range(len(kept) + 1, SEEDS + 1))
    files = result_files(output)
    assert len(files) == SEEDS and {path: path.stat().st_mtime_ns for path in kept} == kept
    left = [path for path in output.rglob("*") if path.name.startswith(".") or path.suffix in (".part", ".tmp")]
    assert not left
    for path in files:
        lines = path.with_suffix(".predictions.jsonl").read_text("utf-8").splitlines()
        assert len([json.loads(line) for line in lines]) == Result.read(path).n_evaluated


def test_two_shards_at_once_share_out_the_cells(root: Path, tmp_path: Path) -> None:
    output = tmp_path / "results"
    names = ["ssv2", "msrvtt-t2v", "kinetics400", "charades"]
    words = [*COMMAND, *bench_words(root, output, names)]
    processes = [
        subprocess.Popen([*words, "--shard", part], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for part in ("1/2", "2/2")
    ]
    shown = [process.communicate(timeout=500) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], shown
    ran = [re.findall(r"^\[\d+ of \d+\] ([\w-]+)", stderr, re.MULTILINE) for _, stderr in shown]
    assert sorted(ran[0] + ran[1]) == sorted(names) and all(ran)
    assert set(results_in(output)) == set(names)
    assert run([*bench_words(root, output, names), "--quiet"]) == 0


def test_the_same_command_twice_at_once_runs_a_cell_once(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process is played by its lock: a cell that it holds is left to it, and said to be running."""
    output = tmp_path / "results"
    real = benchmarks.matrix._run_alone

    def beside_another(cell, *given):  # type: ignore[no-untyped-def]
        if cell.benchmark.name != "msrvtt-t2v":
            return real(cell, *given)
        with locked(cell.run_folder):
            return real(cell, *given)

    monkeypatch.setattr(benchmarks.matrix, "_run_alone", beside_another)
    words = bench_words(root, output, ["ssv2", "msrvtt-t2v"], "--quiet")
    assert run(words) == 3
    assert "another process is running it" in capsys.readouterr().out
    assert set(results_in(output)) == {"ssv2"}
    monkeypatch.undo()
    assert run(words) == 0
