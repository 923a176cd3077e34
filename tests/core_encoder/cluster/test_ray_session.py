"""When Ray begins and ends, told by a stand-in for it."""

from __future__ import annotations

import importlib.machinery
import signal
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from core_encoder.cluster.cluster_settings import ClusterSettings
from core_encoder.cluster.ray_session import ray_session, shared_session

ON_RAY = ClusterSettings(engine="ray")


class StandIn(ModuleType):
    """Ray, as far as a session asks it; `calls` says what was done."""

    def __init__(self) -> None:
        super().__init__("ray")
        self.__spec__ = importlib.machinery.ModuleSpec("ray", None)
        self._private = SimpleNamespace(
            worker=SimpleNamespace(), utils=SimpleNamespace(), ray_constants=SimpleNamespace()
        )
        self.calls: list[str] = []
        self._is_up = False

    def is_initialized(self) -> bool:
        return self._is_up

    def init(self, **options: Any) -> None:
        self.calls.append("init")
        self._is_up = True

    def shutdown(self) -> None:
        self.calls.append("shutdown")
        self._is_up = False


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    for name in ("RAY_USAGE_STATS_ENABLED", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"):
        monkeypatch.setenv(name, "0")
    return stand_in


def test_jobs_of_a_shared_session_begin_ray_once_and_only_if_there_is_one(ray: StandIn) -> None:
    told: list[str] = []
    with shared_session():
        pass
    assert not ray.calls
    with shared_session(), shared_session():
        for _ in range(2):
            with ray_session(ON_RAY, told.append) as given:
                assert given is ray
        assert ray.calls == ["init"]
    assert ray.calls == ["init", "shutdown"] and told == [ON_RAY.beginning]
    with ray_session(ON_RAY), ray_session(ON_RAY):
        pass
    assert ray.calls == ["init", "shutdown"] * 2


def test_sigterm_ends_a_session_in_order_and_then_takes_its_course(ray: StandIn) -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: ray.calls.append("SIGTERM"))
    try:
        with pytest.raises(KeyboardInterrupt), ray_session(ON_RAY):
            signal.raise_signal(signal.SIGTERM)
        assert ray.calls == ["init", "shutdown", "SIGTERM"]
        signal.raise_signal(signal.SIGTERM)
        assert ray.calls[3:] == ["SIGTERM"]
    finally:
        signal.signal(signal.SIGTERM, before)
