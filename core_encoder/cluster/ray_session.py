"""A connection to Ray: to a running cluster, or to one that is started on this machine and stopped at the end.

No telemetry, no dashboard, and nothing on stdout, which is for results.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from core_encoder.cluster.cluster_settings import ClusterSettings
from core_encoder.errors import InputError

_CONNECT_S = 5.0
_PASSED_ON = ("PYTHONPATH", "HF_", "OMP_", "PRISMHUB_", "TOKENIZERS_")  # of the environment, to workers of a cluster
log = logging.getLogger(__name__)


@contextmanager
def ray_session(cluster: ClusterSettings) -> Iterator[Any]:
    """Ray, connected; the module itself is given. Inside another session, or a program's own, that one serves.

    Raises:
        InputError: Ray is not installed, or no cluster answers at the address.
    """
    cluster.check()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    _keep_stdout(ray)
    logging.getLogger("ray").setLevel(logging.ERROR)
    _check_address(cluster.address)
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    try:
        if cluster.address is None:
            ray.init(address="local", include_dashboard=False, **quiet)
        else:
            given = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
            ray.init(address=cluster.address, runtime_env={"env_vars": given}, **quiet)
    except (ConnectionError, TimeoutError, RuntimeError) as error:
        raise _unreachable(cluster.address or "this machine", error) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def is_connected() -> bool:
    """Whether a session is open."""
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def cluster_session(cluster: ClusterSettings) -> AbstractContextManager[Any]:
    """One session for several jobs of a command, where it works on a cluster; else nothing."""
    return ray_session(cluster) if cluster.on_ray else nullcontext()


def _check_address(address: str | None) -> None:
    """Refuse an address where nobody listens: Ray itself would try for minutes, and tell of each try."""
    if address in (None, "auto"):
        return
    host, _, port = str(address).rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise _unreachable(str(address), error) from error


def _unreachable(where: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200].rstrip(". ")
    return InputError(f"no Ray cluster at {where}: {reason}; `ray start --head` starts one")


def _keep_stdout(ray: Any) -> None:
    """Ray prints what it hears of dead processes to stdout; the run says it in its own words."""
    worker = ray._private.worker
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda data, ignore_prefix=False: log.debug("ray: %s", data)
