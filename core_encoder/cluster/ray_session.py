"""A connection to Ray: to a running cluster, or to one that is started on this machine and stopped at the end.

No telemetry, no dashboard, and nothing on stdout, which is for results.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any

from core_encoder.cluster.cluster_settings import ClusterSettings, is_connected
from core_encoder.errors import InputError

_CONNECT_S = 5.0
_PASSED_ON = ("PYTHONPATH", "HF_", "OMP_", "PRISMHUB_", "TOKENIZERS_")  # of the environment, to workers of a cluster
_shared: ExitStack | None = None  # of a `shared_session`: it ends what begins there
log = logging.getLogger(__name__)


@contextmanager
def ray_session(cluster: ClusterSettings, tell: Callable[[str], None] = lambda text: None) -> Iterator[Any]:
    """Ray, connected; the module itself is given. Inside another session, or a program's own, that one serves.

    `tell` hears that Ray begins, which takes seconds. SIGTERM ends the block as Ctrl-C does, Ray with it, and then does
    what it would have done without Ray.

    Raises:
        InputError: Ray is not installed, no cluster answers at the address, or this machine has not the GPUs.
    """
    cluster.check()
    if is_connected():
        yield sys.modules["ray"]
    elif _shared is not None:
        yield _shared.enter_context(_begun(cluster, tell))
    else:
        with _begun(cluster, tell) as ray:
            yield ray


@contextmanager
def shared_session() -> Iterator[None]:
    """Ray, once a job in the block has begun it, serves all that follow there; where none does, it never begins."""
    global _shared
    if _shared is not None:
        yield
        return
    with ExitStack() as _shared:
        try:
            yield
        finally:
            _shared = None


@contextmanager
def _begun(cluster: ClusterSettings, tell: Callable[[str], None]) -> Iterator[Any]:
    tell(cluster.beginning)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    _keep_stdout(ray)
    _keep_signals(ray)
    logging.getLogger("ray").setLevel(logging.ERROR)
    _check_address(cluster.address)
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    with _ended_by_sigterm(), _put_away(ray):
        try:
            if cluster.address is None:
                ray.init(address="local", include_dashboard=False, **quiet)
            else:
                given = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
                ray.init(address=cluster.address, runtime_env={"env_vars": given}, **quiet)
        except (ConnectionError, TimeoutError, RuntimeError) as error:
            raise _unreachable(cluster.address or "this machine", error) from error
        yield ray


@contextmanager
def _put_away(ray: Any) -> Iterator[None]:
    """Ray ends with the block, and so does all that it began: agents of a raylet that ends early stay for a minute."""
    import psutil  # Ray brings it

    here = psutil.Process()
    before = here.children()
    try:
        yield
    finally:
        begun = []
        with suppress(psutil.Error):  # a process that ends meanwhile
            own = [one for one in here.children() if one not in before]
            servers = [one for one in own if one.name().startswith(("raylet", "gcs_server"))]
            begun = [one for server in servers for one in (server, *server.children(recursive=True))]
        ray.shutdown()
        for one in begun:
            with suppress(psutil.Error):
                one.kill()


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that all is saved and put away; only then does it take its course."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
        if came:
            signal.raise_signal(signal.SIGTERM)


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


def _keep_signals(ray: Any) -> None:
    """On SIGTERM Ray would print a stack trace and leave its processes to the system; see `_ended_by_sigterm`."""
    ray._private.utils.set_sigterm_handler = lambda handler: None
    ray._private.ray_constants.RAY_DISABLE_FAILURE_SIGNAL_HANDLER = True
