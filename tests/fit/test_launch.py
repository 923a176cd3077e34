"""Started processes tell, log and fail as if the caller had done their work."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from multiprocessing import SimpleQueue
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core_encoder.errors import InputError
from fit.launch import Work, _follow, start, work_here
from tests.fit import work


def run(act: Work, tell: Any = lambda message: None) -> None:
    start(act, work.two_on_the_cpu, 2, tell, (work.Gaveup,))
    assert not multiprocessing.active_children()


def test_what_processes_tell_and_log_comes_back(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[Any] = []
    run(work.add_up, told.append)
    assert told == [{"sum": 3.0, "processes": 2}]
    assert "warned by 0" in caplog.text and "warned by 1" not in caplog.text, "one voice is enough"
    assert capfd.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("act", "kind", "words"),
    [
        (work.refuse, InputError, "^row 3: no such video$"),
        (work.give_up, work.Gaveup, "^nothing left to do$"),
        (work.break_down, RuntimeError, "^ZeroDivisionError: one by nothing"),
        (work.be_killed, RuntimeError, "ended by SIGKILL; memory may have run out; the same command goes on"),
    ],
)
def test_failures_come_back(act: Work, kind: type[Exception], words: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(kind, match=words):
        run(act)
    assert not multiprocessing.active_children()
    assert "Traceback" not in capfd.readouterr().err


def test_a_killed_process_is_named_though_another_complains_first() -> None:
    """Whoever waited for it says that the connection broke, perhaps before the parent sees who is gone."""
    children = [SimpleNamespace(exitcode=code) for code in (1, -signal.SIGTERM, -signal.SIGKILL)]
    started = SimpleNamespace(processes=children, join=lambda timeout: False)
    outbox = SimpleQueue()
    outbox.put(RuntimeError("connection reset by peer"))
    with pytest.raises(RuntimeError, match="ended by SIGKILL; memory may have run out"):
        _follow(started, outbox, print)  # type: ignore[arg-type]
    children.pop()
    outbox.put(RuntimeError("ZeroDivisionError: one by nothing"))
    with pytest.raises(RuntimeError, match="one by nothing"):
        _follow(started, outbox, print)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_is_obeyed_where_the_work_can_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", str(tmp_path / "kept"))
    with pytest.raises(KeyboardInterrupt):
        run(work.work_until_asked, lambda parent: os.kill(parent, signal.SIGINT))
    assert (tmp_path / "kept").read_text() == "kept"


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_work_in_this_process_that_is_done_before_it_heeds_ctrl_c_is_still_interrupted() -> None:
    def act(*given: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        work_here(work.two_on_the_cpu(1), act, logging.debug)
