"""Functions run in several processes that talk over gloo, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from core_encoder.files.storage import read_tensors, write_tensors

Work = Callable[[int, int], dict[str, Tensor]]


def in_processes(work: Work, count: int, folder: Path) -> list[dict[str, Tensor]]:
    """What `work(rank, count)` returns in each process; it must be importable by name."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.multiprocessing.spawn(_run, (work, count, str(folder)), nprocs=count)
    return [read_tensors(folder / f"{rank}.safetensors") for rank in range(count)]


def _run(rank: int, work: Work, count: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
    write_tensors(Path(folder) / f"{rank}.safetensors", work(rank, count))
    torch.distributed.destroy_process_group()
