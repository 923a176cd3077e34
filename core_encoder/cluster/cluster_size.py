"""How many workers of which size a cluster is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core_encoder.cluster.cluster_settings import ClusterSettings
from core_encoder.errors import InputError


@dataclass(frozen=True)
class ClusterSize:
    """The workers that encode, or do whole jobs, and those that decode for them."""

    encoding: int
    decoding: int
    num_gpus: float  # of a worker that encodes
    num_cpus: float

    @classmethod
    def of(cls, ray: Any, cluster: ClusterSettings) -> ClusterSize:
        """What was asked for, and for the rest what the cluster has.

        Without GPUs encoders hold no CPU of Ray's count: they share the cores with decoders, as threads of one process
        would, so that whichever side is slower has them.

        Raises:
            InputError: more GPUs a worker than any machine has.
        """
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = sum(node.get("GPU", 0) for node in nodes)
        cpus = int(sum(node.get("CPU", 0) for node in nodes))
        wanted = cluster.num_gpus_per_worker
        num_gpus = wanted if wanted is not None else float(bool(gpus))
        if num_gpus > max((node.get("GPU", 0) for node in nodes), default=0):
            raise InputError(
                f"num_gpus_per_worker {num_gpus:g}: no machine of the cluster has so many (GPUs in all: {gpus:g})"
            )
        working = [node for node in nodes if node.get("CPU", 0) >= 1] or nodes
        encoding = cluster.encoding_workers or (int(gpus / num_gpus) if num_gpus else len(working))
        num_cpus = 1.0 if num_gpus else 0.0
        decoding = cluster.decoding_workers or max(1, cpus - int(encoding * num_cpus))
        return cls(encoding, decoding, num_gpus, num_cpus)
