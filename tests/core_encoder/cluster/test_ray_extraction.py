"""Encoding on a real cluster of three nodes: equal to one process, whoever is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from core_encoder.clip_plan import Clip
from core_encoder.cluster.cluster_settings import ClusterSettings
from core_encoder.encoder import Encoder
from core_encoder.extraction import extract, spec_for
from core_encoder.features.feature_spec import FeatureSpec
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.store_upkeep import verify_store
from core_encoder.tally import ExtractionProgress
from tests import ROOT
from tests.core_encoder.plain_features import DENSE
from tests.videos import moving_square, write_video

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

POISON = """
# In the workers of the test's cluster alone: whoever opens a file of this name dies.
import builtins, os, sys
opens = builtins.open
def open_or_die(file, *rest, **named):
    if "default_worker" in sys.argv[0] and str(file).endswith("poison.mp4"):
        os.kill(os.getpid(), 9)
    return opens(file, *rest, **named)
builtins.open = open_or_die
"""
NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}
QUICK = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_failure_threshold": 3}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head and another node of one CPU each, on this machine; a third comes later, to be killed."""
    from ray.cluster_utils import Cluster

    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(POISON)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(site), str(ROOT)]))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        started = Cluster(True, head_node_args=NODE | {"_system_config": QUICK, "include_dashboard": False})
        started.add_node(**NODE)
        yield started
        started.shutdown()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    folder = tmp_path_factory.mktemp("many")
    return [Clip(str(write_video(folder / f"{i}.mp4", moving_square(24, 48, 64, seed=i)))) for i in range(60)]


def on_ray(cluster: Any) -> ClusterSettings:
    return ClusterSettings(engine="ray", address=cluster.address)


def raylet_of(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def wait_for_process(nodes: list[Any], name: str) -> int:
    """The process id of an actor of a class on some nodes, as soon as there is one."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        for node in nodes:
            command = ["ps", "-o", "pid=,args=", "--ppid", str(raylet_of(node))]
            for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines():
                if f"ray::{name}" in line:
                    return int(line.split()[0])
        time.sleep(0.05)
    raise AssertionError(f"no {name} anywhere")


def assert_equal_stores(nano: Encoder, clips: list[Clip], spec: FeatureSpec, root: Path, **options: Any) -> None:
    """What is stored under `root` is what one process stores: the same keys, values and facts."""
    extract(nano, clips, spec, root / "here", **options)
    here, there = FeatureStore(root / "here", spec), FeatureStore(root, spec)
    assert here.keys() == there.keys()
    assert verify_store(there.folder).ok
    for key in here:
        assert torch.equal(here.read(key).values, there.read(key).values) and here.info(key) == there.info(key)


def test_the_store_is_that_of_one_process(
    cluster: Any, nano: Encoder, many: list[Clip], video_file: Callable[..., Path], tmp_path: Path
) -> None:
    from core_encoder.cluster.ray_extraction import extract_on_ray

    spec, dense = spec_for(nano), spec_for(nano, DENSE, kind="frames")
    clips = [*many[:20], Clip(str(tmp_path / "none.mp4")), many[3], Clip(many[4].path, 0.25, 1.0)]
    seen: list[ExtractionProgress] = []
    report = extract_on_ray(nano, clips, spec, tmp_path, cluster=on_ray(cluster), batch_size=1, progress=seen.append)
    assert (report.n_clips, report.n_cached, report.n_encoded) == (23, 1, 21)
    assert [failure.path for failure in report.failures] == [clips[20].path]
    assert len((report.folder / "failures.jsonl").read_text().splitlines()) == 1
    assert report.frames_decoded == 21 * 8 and report.views_encoded == 21
    assert report.crew is not None and report.crew.encoding >= 1 and not report.crew.replaced
    assert seen[-1].done == 23 and seen[-1].crew == report.crew
    assert_equal_stores(nano, clips, spec, tmp_path, batch_size=1)

    again = extract_on_ray(nano, clips, spec, tmp_path, cluster=on_ray(cluster))
    assert (again.n_cached, again.n_encoded, again.frames_decoded) == (22, 0, 0)

    long = [Clip(str(video_file(f"long{i}.mp4", num_frames=100, seed=i))) for i in range(2)]
    report = extract_on_ray(nano, long, dense, tmp_path, cluster=on_ray(cluster), batch_size=4)
    assert report.n_encoded == 2 and report.views_encoded == len(FeatureStore(tmp_path, dense))
    assert_equal_stores(nano, long, dense, tmp_path, batch_size=4)


def test_kills_cost_what_was_in_hand_and_a_clip_that_kills_three_times_is_a_failure(
    cluster: Any, nano: Encoder, many: list[Clip], tmp_path: Path
) -> None:
    from core_encoder.cluster.ray_extraction import extract_on_ray

    poison = tmp_path / "poison.mp4"
    poison.write_bytes(Path(many[0].path).read_bytes() + b"more")
    clips, spec = [*many, Clip(str(poison))], spec_for(nano)
    third = cluster.add_node(**NODE)
    killed: list[str] = []

    def kill(progress: ExtractionProgress) -> None:
        for name, at in (("node", 3), ("EncodingWorker", 9), ("DecodingWorker", 15)):
            if progress.done >= at and name not in killed:
                killed.append(name)
                if name == "node":  # one CPU each: every node has a decoder
                    wait_for_process([third], "DecodingWorker")
                    os.kill(raylet_of(third), signal.SIGKILL)
                else:
                    os.kill(wait_for_process([cluster.head_node, *cluster.worker_nodes], name), signal.SIGKILL)

    report = extract_on_ray(
        nano, clips, spec, tmp_path / "store", cluster=on_ray(cluster), batch_size=1, progress=kill, commit_every_s=1
    )
    assert killed == ["node", "EncodingWorker", "DecodingWorker"]
    assert (
        report.crew is not None and report.crew.replaced >= 1 + 1 + 3
    )  # and the node's, unless they were just starting
    assert [failure.path for failure in report.failures] == [str(poison)]
    assert report.failures[0].reason == "3 processes died of it, one after the other"
    assert json.loads((report.folder / "failures.jsonl").read_text())["path"] == str(poison)
    assert report.n_encoded + report.n_cached == len(many)
    assert_equal_stores(nano, many, spec, tmp_path / "store", batch_size=1)


class Mortal:
    """Dies of 3."""

    def ready(self) -> None: ...

    def run(self, job: tuple[int, ...]) -> int:
        if 3 in job:
            os.kill(os.getpid(), signal.SIGKILL)
        return sum(job)


def test_a_job_that_kills_is_split_and_given_up(cluster: Any) -> None:
    from core_encoder.cluster.actor_calls import Gone
    from core_encoder.cluster.jobs import run_jobs
    from core_encoder.cluster.ray_session import ray_session

    with ray_session(on_ray(cluster)) as ray:
        jobs = [(1, 2), (3, 4), (5,)]
        done = dict(run_jobs(ray, Mortal, (), jobs, count=2, num_cpus=0, split=lambda job: [(one,) for one in job]))
        assert isinstance(done.pop((3,)), Gone)
        assert done == {(1, 2): 3, (4,): 4, (5,): 5}
        assert not list(run_jobs(ray, Mortal, (), [], count=2, num_cpus=0))


def test_a_driver_that_was_killed_goes_on(cluster: Any, nano: Encoder, many: list[Clip], tmp_path: Path) -> None:
    code = f"""
        import sys
        from core_encoder import Clip, load_encoder
        from core_encoder.cluster.cluster_settings import ClusterSettings
        from core_encoder.cluster.ray_extraction import extract_on_ray
        from core_encoder.extraction import spec_for
        nano = load_encoder("nano")
        clips = [Clip(path) for path in {[clip.path for clip in many]!r}]
        report = extract_on_ray(
            nano, clips, spec_for(nano), {str(tmp_path)!r}, batch_size=1, commit_every_s=0,
            cluster=ClusterSettings(engine="ray", address={cluster.address!r}),
        )
        print(report.n_cached, report.n_encoded, len(report.failures))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    spec = spec_for(nano)
    first = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)})
    deadline = time.monotonic() + 180
    while len(FeatureStore(tmp_path, spec)) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    first.kill()
    first.wait()
    second = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    cached, encoded, failed = map(int, second.stdout.split())
    assert 5 <= cached < 60 and (encoded, failed) == (60 - cached, 0), second.stderr
    assert_equal_stores(nano, many, spec, tmp_path, batch_size=1)
