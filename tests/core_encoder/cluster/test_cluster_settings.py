"""The options of a cluster: what contradicts itself is said before anything starts."""

from __future__ import annotations

import importlib.util
import socket

import pytest

from core_encoder.cluster.cluster_settings import ClusterSettings
from core_encoder.cluster.ray_session import ray_session
from core_encoder.errors import InputError


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"address": "auto"}, "engine ray"),
        ({"engine": "ray", "decoding_workers": 0}, "at least 1"),
        ({"engine": "ray", "num_gpus_per_worker": -1.0}, "from 0 to 64"),
        ({"engine": "ray", "address": "ray://head:10001"}, "HOST:PORT"),
        ({"engine": "ray", "address": "head"}, "HOST:PORT"),
        ({"encoding_workers": 2}, "engine=ray"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said.replace("engine ray", "engine=ray")):
        ClusterSettings(**options)  # type: ignore[arg-type]


def test_addresses() -> None:
    for address in ("auto", "10.0.0.1:6379", "head.local:6379", "[::1]:6379"):
        assert ClusterSettings(engine="ray", address=address).on_ray


def test_without_ray_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    ClusterSettings().check()
    with pytest.raises(InputError, match=r"pip install 'prismhub\[ray\]'"), ray_session(ClusterSettings(engine="ray")):
        pass


def test_gpus_that_this_machine_has_not_are_refused_before_ray_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    for fitting in (None, 0.0, 0.5, 1.0):
        ClusterSettings(engine="ray", num_gpus_per_worker=fitting).check()
    with pytest.raises(InputError, match=r"^num_gpus_per_worker 2: GPUs of this machine: 1; leave it out, or .*$"):
        ClusterSettings(engine="ray", num_gpus_per_worker=2.0).check()
    ClusterSettings(engine="ray", num_gpus_per_worker=2.0, address="head:6379").check()
    monkeypatch.setattr("core_encoder.cluster.cluster_settings.is_connected", lambda: True)
    ClusterSettings(engine="ray", num_gpus_per_worker=2.0).check()


def test_an_address_where_nobody_listens_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with (
        pytest.raises(InputError, match=f"no Ray cluster at {address}: .*ray start --head"),
        ray_session(ClusterSettings(engine="ray", address=address)),
    ):
        pass


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (None, "Ray: starting on this machine"),
        ("auto", "Ray: joining the cluster"),
        ("10.0.0.1:6379", "Ray: joining the cluster at 10.0.0.1:6379"),
    ],
)
def test_what_takes_seconds_is_told_before_it_begins(address: str | None, told: str) -> None:
    assert ClusterSettings(engine="ray", address=address).beginning == told
