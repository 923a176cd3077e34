"""The options that say where work is done: in this process, or on a Ray cluster. No Ray is imported here."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import dataclass, fields
from typing import Literal

from core_encoder.config import option
from core_encoder.errors import InputError


@dataclass(frozen=True)
class ClusterSettings:
    """Where videos are decoded and encoded; changes no value."""

    engine: Literal["local", "ray"] = option("local", "local: this process; ray: the processes of a Ray cluster.")
    address: str | None = option(
        None, "Ray: auto or HOST:PORT of a cluster (default: one on this machine, for this command alone)."
    )
    encoding_workers: int | None = option(
        None, "Ray: processes that encode (default: one a GPU; without GPUs one a machine)."
    )
    decoding_workers: int | None = option(None, "Ray: processes that decode (default: one a CPU that is left).")
    num_gpus_per_worker: float | None = option(
        None, "Ray: GPUs of an encoding process, 0.5 for two on one (default: 1 where the cluster has any)."
    )

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if self.engine == "local" and one.name != "engine" and value is not None:
                raise InputError(f"{one.name} is of a cluster: give engine=ray with it (--engine ray)")
            if one.name.endswith("_workers") and value is not None and value < 1:
                raise InputError(f"{one.name} must be at least 1, not {value}")
        if self.num_gpus_per_worker is not None and not 0 <= self.num_gpus_per_worker <= 64:
            raise InputError(f"num_gpus_per_worker must be from 0 to 64, not {self.num_gpus_per_worker:g}")
        if self.address is not None and not re.fullmatch(r"auto|[^:/\s]+:\d{1,5}|\[[^\s\]]+\]:\d{1,5}", self.address):
            raise InputError(
                f"address {self.address!r} is no cluster: give auto on a machine of the cluster, or HOST:PORT of its "
                "head, as `ray start --head` says it"
            )

    @property
    def on_ray(self) -> bool:
        return self.engine == "ray"

    @property
    def beginning(self) -> str:
        """What is told before Ray begins, which takes some seconds."""
        if self.address is None:
            return "Ray: starting on this machine"
        return "Ray: joining the cluster" + ("" if self.address == "auto" else f" at {self.address}")

    def check(self) -> None:
        """Refuse Ray where it is not installed, and GPUs where it would run on this machine, which has fewer.

        Raises:
            InputError: the command that installs it, or how many GPUs there are.
        """
        if self.on_ray and importlib.util.find_spec("ray") is None:
            raise InputError("engine ray needs Ray, which is not installed: pip install 'prismhub[ray]'")
        if self.num_gpus_per_worker and self.address is None and not is_connected():
            import torch  # no earlier: seconds, and most commands name no GPUs

            if self.num_gpus_per_worker > (present := torch.cuda.device_count()):
                raise InputError(
                    f"num_gpus_per_worker {self.num_gpus_per_worker:g}: GPUs of this machine: {present}; leave it out, "
                    "or give the address of a cluster that has so many"
                )


def is_connected() -> bool:
    """Whether Ray runs for this process, begun here or by the program around it."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()
