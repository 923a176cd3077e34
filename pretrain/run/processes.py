"""The processes that train: this one, some that it starts, or those that torchrun has started.

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
from datetime import timedelta
from multiprocessing.connection import wait
from types import FrameType
from typing import Any

import torch
from lightning.fabric import Fabric
from torch import nn

from core_encoder.errors import InputError
from core_encoder.models.layers import TransformerLayer
from pretrain.recipe import ComputeConfig
from pretrain.run.progress import PretrainingStopped

log = logging.getLogger(__name__)

_PATIENCE = timedelta(hours=12)  # of processes that wait while the first one indexes hundreds of millions of rows

Tell = Callable[[Any], None]
"""Takes what the first process reports."""


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


Work = Callable[[Fabric, Interruption, Tell], None]
"""What each process does; it must be picklable where processes are started."""


class Processes:
    """Where the parts of a recipe run."""

    def __init__(self, compute: ComputeConfig) -> None:
        self.compute = compute
        self._joined: Fabric | None = None
        if "LOCAL_RANK" in os.environ:  # torchrun, or whoever sets the same variables
            local = int(os.environ.get("LOCAL_WORLD_SIZE") or _count(compute))
            nodes = int(os.environ.get("WORLD_SIZE") or local * compute.num_nodes) // local
            self._joined = _fabric(compute, local, nodes)
            self._joined.launch()
        elif compute.num_nodes > 1:
            raise InputError(
                f"compute: num_nodes {compute.num_nodes}: start the command on every machine with torchrun"
                ", or set num_nodes to 1"
            )

    def first(self, act: Callable[[], None]) -> None:
        """Let the first process alone do something; the others wait for it."""
        if self._joined is None or self._joined.is_global_zero:
            act()
        if self._joined is not None:
            self._joined.barrier()

    def world(self, batch: int) -> int:
        """How many processes will share batches of `batch` clips.

        Raises:
            InputError: devices that are not here.
        """
        if self._joined is not None:
            return int(self._joined.world_size)
        asked, count = _count(self.compute), _fitting(self.compute, batch)
        _fabric(self.compute, 1 if _on_cpu(self.compute) else count, 1)
        if count < asked and self.compute.devices != "auto":
            log.warning("%d processes share batches of %d clips evenly, %d would not", count, batch, asked)
        return count

    def run(self, work: Work, batch: int, tell: Tell) -> None:
        """Let every process do its work; those started here share batches of `batch` clips evenly.

        Raises:
            InputError, PretrainingStopped, KeyboardInterrupt: from any of the processes.
            RuntimeError: a process failed otherwise, or was killed.
        """
        if self._joined is not None:
            _work(self._joined, work, tell)
            return
        count = _fitting(self.compute, batch)
        if count > 1 or self.compute.strategy == "fsdp":
            _start(work, self.compute, count, tell)
            return
        fabric = _fabric(self.compute, 1, 1)
        fabric.launch()
        _work(fabric, work, tell)


def _work(fabric: Fabric, work: Work, tell: Tell) -> None:
    interruption = Interruption()
    with interruption.noted():
        work(fabric, interruption, tell)
    if interruption.asked:  # too late for the work to stop in the middle, not for what would come next
        raise KeyboardInterrupt


def _fabric(compute: ComputeConfig, devices: int, nodes: int, plugins: Any = None) -> Fabric:
    from lightning.fabric.strategies import DDPStrategy

    strategy: Any = DDPStrategy(timeout=_PATIENCE) if "LOCAL_RANK" in os.environ else "auto"
    if compute.strategy == "fsdp":
        strategy = _fsdp(compute.precision, devices * nodes)
    try:
        return Fabric(
            accelerator="cpu" if _on_cpu(compute) else compute.accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy=strategy,
            precision=compute.precision,
            plugins=plugins,
        )
    except Exception as error:  # Lightning names an unknown or absent device in exceptions of many types
        raise InputError(f"compute: {' '.join(str(error).split())}") from error


def _on_cpu(compute: ComputeConfig) -> bool:
    return compute.accelerator == "cpu" or (compute.accelerator == "auto" and not torch.cuda.is_available())


def _count(compute: ComputeConfig) -> int:
    if isinstance(compute.devices, int):
        return compute.devices
    return _cores() if _on_cpu(compute) else torch.cuda.device_count() or 1


def _cores() -> int:
    """Cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fitting(compute: ComputeConfig, batch: int) -> int:
    """Processes to start: on a CPU, the largest number that shares a batch evenly."""
    asked = _count(compute)
    if not _on_cpu(compute):
        return asked
    return max(count for count in range(1, asked + 1) if batch % count == 0)


def _fsdp(precision: str, world: int) -> Any:
    """FSDP2: every transformer layer, then the rest, sharded over all processes.

    With bf16-mixed the layers' weights travel in bf16, in which the products read them. Temperature, positions and
    queries stay in fp32, as between the layers the tokens do: they are summed, and steps of bf16 are too coarse.
    """
    from lightning.fabric.strategies import ModelParallelStrategy
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    layers_dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    of_layers, of_rest = (
        MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for dtype in (layers_dtype, torch.float32)
    )

    def shard(module: nn.Module, mesh: Any) -> nn.Module:
        for layer in module.modules():
            if isinstance(layer, TransformerLayer) and any(p.requires_grad for p in layer.parameters()):
                fully_shard(layer, mesh=mesh["data_parallel"], mp_policy=of_layers)
        fully_shard(module, mesh=mesh["data_parallel"], mp_policy=of_rest)
        return module

    return ModelParallelStrategy(shard, data_parallel_size=world, tensor_parallel_size=1, timeout=_PATIENCE)


def _start(work: Work, compute: ComputeConfig, count: int, tell: Tell) -> None:
    context = multiprocessing.get_context("spawn")
    outbox, port = context.SimpleQueue(), _free_port()
    started = [
        context.Process(target=_Process(work, compute, rank, count, port), args=(outbox,)) for rank in range(count)
    ]
    try:
        with _deaf_to_interrupts():  # inherited: a process that is just starting has nothing to keep
            for process in started:
                process.start()
        _follow(started, outbox, tell)
    finally:
        for process in started:
            if process.pid is not None:
                process.terminate()
                process.join()


def _follow(started: list[Any], outbox: Any, tell: Tell) -> None:
    """Pass on what the processes tell until all are done, one fails, or the user loses patience."""
    running, interrupted = list(started), False
    while running:
        failure: BaseException | None = None
        try:
            wait([process.sentinel for process in running], timeout=0.1)
            ended = [process for process in running if not process.is_alive()]  # asked first: their mail is complete
            while failure is None and not outbox.empty():
                failure = _pass_on(outbox.get(), tell)
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            continue
        failed = [process for process in ended if process.exitcode]
        if failed and failure is None:
            failure = RuntimeError(_how_it_ended(failed[0].exitcode))
        if failure is not None:
            raise failure
        running = [process for process in running if process not in ended]
        if interrupted:  # again and again: one that is just starting is deaf
            for process in running:
                os.kill(process.pid, signal.SIGINT)
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


def _how_it_ended(code: int) -> str:
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    why = "; memory may have run out" if -code == getattr(signal, "SIGKILL", None) else ""
    return f"a training process {how}{why}; the same command goes on from the last checkpoint"


@dataclass(frozen=True)
class _Process:
    """What a started process does; failures, warnings and reports go to the parent's mail."""

    work: Work
    compute: ComputeConfig
    rank: int
    count: int
    port: int

    def __call__(self, outbox: Any) -> None:
        from lightning.fabric.plugins.environments import LightningEnvironment

        threading.Thread(target=_end_with_parent, daemon=True).start()
        interruption = Interruption()
        interruption.note_always()
        logging.getLogger().addHandler(_Mail(outbox, logging.ERROR if self.rank else logging.WARNING))
        for name in ("lightning.fabric", "lightning.pytorch"):  # they announce each process
            logging.getLogger(name).setLevel(logging.WARNING)
        os.environ.update(LOCAL_RANK=str(self.rank), NODE_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(self.port))
        try:
            fabric = _fabric(self.compute, self.count, 1, LightningEnvironment())
            if fabric.device.type == "cpu":  # threads of two processes on one core wait for each other
                torch.set_num_threads(max(1, _cores() // self.count))
            fabric.launch()
            self.work(fabric, interruption, outbox.put)
            torch.distributed.destroy_process_group()
        except (InputError, PretrainingStopped, KeyboardInterrupt) as error:
            failure: BaseException = error
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


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
