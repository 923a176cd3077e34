"""The processes that train: this one, some that it starts, or those that somebody has started with torchrun.

Started ones are ended with their parent, whatever ends it; what they tell, log and fail with comes back to the parent,
so that the caller meets the same exceptions as with one process.
"""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch.multiprocessing.spawn import ProcessContext, ProcessException, start_processes

from core_encoder.errors import InputError

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from fit.device import OneDevice

Tell = Callable[[Any], None]
"""Takes what the first process reports."""

MakeFabric = Callable[..., "Fabric"]
"""`(devices, plugins=None)` -> the fabric of each process; it must be picklable where processes are started."""


class Interruption:
    """Ctrl-C, noted instead of raised, so that a step can be finished and kept; a second one is raised at once."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Note Ctrl-C while the block runs, unless somebody handles it already."""
        ours = threading.current_thread() is threading.main_thread()
        if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return
        signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def note_always(self) -> None:
        """Note Ctrl-C from now on, however often it comes: in a process whose parent decides when to lose patience."""
        signal.signal(signal.SIGINT, lambda number, frame: setattr(self, "asked", True))


Work = Callable[[Any, Interruption, Tell], None]
"""What each process does with its `Fabric`, or `OneDevice`; it must be picklable where processes are started."""


def started_outside() -> bool:
    """Whether torchrun, or whoever sets the same variables, has started this process beside others."""
    return "LOCAL_RANK" in os.environ


def cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work_here(fabric: Fabric | OneDevice, work: Work, tell: Tell) -> None:
    """Do the work in this process.

    Raises:
        KeyboardInterrupt: Ctrl-C, once the work has come to a good place to stop.
    """
    interruption = Interruption()
    with interruption.noted():
        work(fabric, interruption, tell)
    if interruption.asked:  # too late for the work to stop in the middle, not for what would come next
        raise KeyboardInterrupt


def start(
    work: Work, make_fabric: MakeFabric, count: int, tell: Tell, failures: tuple[type[Exception], ...] = ()
) -> None:
    """Start `count` processes on this machine, and let each do the work.

    Raises:
        InputError, KeyboardInterrupt, one of `failures`: from any of the processes.
        RuntimeError: a process failed otherwise, or was killed.
    """
    outbox = multiprocessing.get_context("spawn").SimpleQueue()
    process = _Process(work, make_fabric, count, _free_port(), failures)
    with _deaf_to_interrupts(), _quiet_torch():  # inherited: a process that is just starting has nothing to keep
        started = start_processes(process, (outbox,), nprocs=count, join=False, start_method="spawn")
    try:
        _follow(started, outbox, tell)
    finally:
        for child in started.processes:
            child.terminate()
            child.join()


def _follow(started: ProcessContext, outbox: Any, tell: Tell) -> None:
    """Pass on what the processes tell until all are done, one fails, or the user loses patience."""
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)  # it announces whom it ends
    interrupted = done = False
    while not done:
        failure: BaseException | None = None
        ended: ProcessException | None = None
        try:
            try:
                done = started.join(timeout=0.1)
            except ProcessException as error:
                ended = error
            while failure is None and not outbox.empty():
                failure = _pass_on(outbox.get(), tell)
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            continue
        if type(failure) is RuntimeError and (name := _killed_by(started)):  # the others only missed that one
            failure = RuntimeError(_how_it_ended(name))
        if failure is not None:
            raise failure
        if ended is not None:
            raise RuntimeError(_how_it_ended(getattr(ended, "signal_name", None), getattr(ended, "exit_code", None)))
        if interrupted:  # again and again: one that is just starting is deaf
            for child in started.processes:
                if child.is_alive():
                    os.kill(child.pid, signal.SIGINT)
    if interrupted:
        raise KeyboardInterrupt


def _pass_on(message: Any, tell: Tell) -> BaseException | None:
    if isinstance(message, BaseException):
        return message
    if isinstance(message, logging.LogRecord):
        logging.getLogger(message.name).handle(message)
    else:
        tell(message)
    return None


def _killed_by(started: ProcessContext) -> str | None:
    """The signal that has ended a process, other than the one with which the rest are ended then."""
    for child in started.processes:
        if (child.exitcode or 0) < 0 and -child.exitcode != signal.SIGTERM:
            return signal.Signals(-child.exitcode).name
    return None


def _how_it_ended(name: str | None, code: int | None = None) -> str:
    how = f"was ended by {name}" if name else f"ended with exit code {code}"
    why = "; memory may have run out" if name == "SIGKILL" else ""
    return f"a training process {how}{why}; the same command goes on from the last checkpoint"


@dataclass(frozen=True)
class _Process:
    """What a started process does; failures, warnings and reports go to the parent's mail."""

    work: Work
    make_fabric: MakeFabric
    count: int
    port: int
    failures: tuple[type[Exception], ...]

    def __call__(self, rank: int, outbox: Any) -> None:
        from lightning.fabric.plugins.environments import LightningEnvironment

        threading.Thread(target=_end_with_parent, daemon=True).start()
        interruption = Interruption()
        interruption.note_always()
        logging.getLogger().addHandler(_Mail(outbox, logging.ERROR if rank else logging.WARNING))
        for name in ("lightning.fabric", "lightning.pytorch"):  # they announce each process
            logging.getLogger(name).setLevel(logging.WARNING)
        os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(self.port))
        known: tuple[type[BaseException], ...] = (InputError, KeyboardInterrupt, *self.failures)
        try:
            fabric = self.make_fabric(self.count, plugins=LightningEnvironment())
            if fabric.device.type == "cpu":  # threads of two processes on one core wait for each other
                torch.set_num_threads(max(1, cores() // self.count))
            fabric.launch()
            self.work(fabric, interruption, outbox.put)
            torch.distributed.destroy_process_group()
        except known as error:
            failure = error
        except Exception as error:
            failure = RuntimeError(f"{type(error).__name__}: {error}")
            failure.add_note(traceback.format_exc())
        else:
            return
        finally:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Python would take its handler away and die of the next one
        outbox.put(failure)
        sys.exit(1)


class _Mail(logging.handlers.QueueHandler):
    def __init__(self, outbox: Any, level: int) -> None:
        super().__init__(outbox)
        self._outbox = outbox
        self.setLevel(level)

    def enqueue(self, record: logging.LogRecord) -> None:
        self._outbox.put(record)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _quiet_torch() -> Iterator[None]:
    """Advice that torch's C++ prints past Python's warnings, once a process, stays unsaid in what is started inside."""
    name = "TORCH_CPP_LOG_LEVEL"
    if name in os.environ or os.environ.get("PRISMHUB_DEBUG"):
        yield
        return
    os.environ[name] = "ERROR"
    try:
        yield
    finally:
        os.environ.pop(name, None)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
