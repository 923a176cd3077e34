"""`--engine ray` on the command line: started here, the same results, nothing on stdout but them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from core_encoder.cluster.cluster_settings import ClusterSettings
from core_encoder.cluster.ray_session import ray_session
from prismhub.archive.folder_reader import FolderReader
from prismhub.archive.scenes import Scene
from prismhub.cli import run
from tests import ROOT
from tests.prismhub.commands.matrices import bench_words, results_in, write_root
from tests.videos import moving_square, write_video

pytest.importorskip("ray")
PLAIN = ("start_s", "end_s", "findings", "speech", "thumbnail")


def prismhub(*words: str, folder: Path, home: Path) -> subprocess.Popen[str]:
    """The command as a user starts it, in a folder of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "prismhub", *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PRISMHUB_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def test_a_cluster_that_cannot_be_is_said_before_anything_is_encoded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4", moving_square(10))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    jobs = (["encode"], ["embed", "--out", "x.npz"], ["train", "--data"], ["evaluate", "--adapter", "x", "--data"])
    for words in jobs:
        assert run([*words, str(tmp_path), "--engine", "ray"]) == 2
        assert capsys.readouterr().err.strip().endswith("not installed: pip install 'prismhub[ray]'")
    assert run(["encode", str(tmp_path), "--address", "auto"]) == 2
    assert "engine=ray" in capsys.readouterr().err


def test_where_everything_is_stored_ray_does_not_begin(
    classes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begun: list[str] = []
    monkeypatch.setattr("core_encoder.cluster.ray_session._begun", lambda *_: begun.append("Ray"))
    plain, on_ray = ("--encoder", "nano", "--accelerator", "cpu"), ("--engine", "ray")
    assert run(["encode", str(classes), "--kind", "frames", *plain]) == 0
    capsys.readouterr()
    assert run(["encode", str(classes), "--kind", "clip", "--json", *plain, *on_ray]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["clips"], done["cached"], done["derived"], done["encoded"]) == (8, 0, 8, 0)
    index = ["index", str(classes), "--window", "1", "--out", "archive"]
    assert run([*index, *plain]) == 0
    jobs = (
        ["encode", str(classes), "--kind", "frames,clip"],
        ["embed", str(classes), "--kind", "clip", "--out", "x.npz"],
        ["train", "--data", str(classes), "--adapter", "linear", "--epochs", "1", "--name", "x"],
        index,
    )
    for words in jobs:
        assert run([*words, *plain, *on_ray]) == 0
    assert not begun and "Ray" not in capsys.readouterr().err


def begun_by(command: subprocess.Popen[str]) -> list[Any]:
    """The processes that a command has begun, and those of them."""
    import psutil

    try:
        return list(psutil.Process(command.pid).children(recursive=True))
    except psutil.Error:
        return []


def title_of(process: Any) -> str:
    """What a process calls itself."""
    with suppress(OSError):
        return Path(f"/proc/{process.pid}/cmdline").read_bytes().rstrip(b"\0 ").decode()
    return ""


def encoding_worker_of(command: subprocess.Popen[str]) -> int | None:
    """The process id of a worker that encodes."""
    return next((int(one.pid) for one in begun_by(command) if title_of(one) == "ray::EncodingWorker.encode"), None)


def until(holds: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 90
    while not (found := holds()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)
    return found


def ended(command: subprocess.Popen[str], sent: signal.Signals) -> tuple[int, str, str]:
    """Have a command end by a signal, and all that it has begun: exit code, stdout and stderr."""
    import psutil

    begun, at = begun_by(command), time.monotonic()
    command.send_signal(sent)
    out, err = command.communicate(timeout=60)
    assert time.monotonic() - at < 15, "it takes a few seconds, more on a busy machine"
    _, left = psutil.wait_procs(begun, timeout=10)
    assert not left
    return command.returncode, out, err


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="workers are found in /proc")
def test_encoding_is_ended_by_signals_and_goes_on(tmp_path: Path) -> None:
    for number in range(60):
        write_video(tmp_path / "videos" / f"{number}.mp4", moving_square(24, 48, 64, seed=number))
    (tmp_path / "videos" / "bad.mp4").write_text("no video")
    words, home = ("encode", "videos", "--engine", "ray", "--json", "--clips-per-batch", "1"), tmp_path / "home"
    windows = ("--sampling", "dense", "--stride", "1", "--window-stride", "1")
    first = prismhub(*words, *windows, folder=tmp_path, home=home)
    os.kill(until(lambda: encoding_worker_of(first)), signal.SIGSTOP)  # as if it took ever so long for a batch
    code, out, err = ended(first, signal.SIGINT)
    assert (code, out) == (130, "") and err.splitlines()[-1].startswith("prismhub: stopped;")
    second = prismhub(*words, folder=tmp_path, home=home)
    until(lambda: list(home.glob("features/*/failures.jsonl")))  # the bad one was met
    code, out, err = ended(second, signal.SIGTERM)
    if code != 3:  # else it was done before it heard
        assert (code, out) == (-signal.SIGTERM, "") and "***" not in err and "Traceback" not in err
    third = prismhub(*words, folder=tmp_path, home=home)
    out, err = third.communicate(timeout=120)
    done = json.loads(out)
    assert third.returncode == 3 and "Traceback" not in err
    assert done["cached"] + done["encoded"] == 60 and done["cached"] > 0
    assert [failure["path"] for failure in done["failed"]] == ["videos/bad.mp4"]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").exists(), reason="agents are found in /proc")
def test_ray_that_is_just_starting_leaves_nothing_behind(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_square(24, 48, 64))
    command = prismhub("encode", "a.mp4", "--engine", "ray", folder=tmp_path, home=tmp_path / "home")
    agent = until(lambda: [one for one in begun_by(command) if title_of(one).startswith("ray::")])
    assert agent and ended(command, signal.SIGTERM)[0] == -signal.SIGTERM


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """Ray on this machine, started once: commands take the one that runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        with ray_session(ClusterSettings(engine="ray")):
            yield


@pytest.mark.slow
def test_a_matrix_is_that_of_one_process(tmp_path: Path, ray_here: None, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("ssv2", "msrvtt-t2v")
    root = write_root(tmp_path / "root", names)
    monkeypatch.chdir(tmp_path)
    assert run(bench_words(root, Path("here"), names, "--quiet")) == 0
    assert run(bench_words(root, Path("there"), names, "--quiet", "--engine", "ray")) == 0
    here, there = results_in(tmp_path / "here"), results_in(tmp_path / "there")
    for name in names:
        assert here[name].identity == there[name].identity
        for metric, score in here[name].scores.items():
            assert there[name].scores[metric].value == pytest.approx(score.value, abs=1e-6)
    monkeypatch.setattr("core_encoder.cluster.ray_session.ray_session", None)  # what is finished asks no cluster
    assert run(bench_words(root, Path("there"), names, "--quiet", "--engine", "ray")) == 0


@pytest.mark.slow
def test_an_archive_is_that_of_one_process(
    tmp_path: Path, ray_here: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        write_video(tmp_path / "videos" / f"{number}.mp4", moving_square(48, 48, 64, seed=number))
    (tmp_path / "videos" / "0.srt").write_text("1\n00:00:00,500 --> 00:00:02,000\na square moves\n")
    (tmp_path / "videos" / "bad.mp4").write_text("no video")
    monkeypatch.chdir(tmp_path)
    found: dict[str, tuple[list[Any], list[Scene]]] = {}
    for name, more in (("here", ()), ("there", ("--engine", "ray", "--store", "features"))):
        assert run(["index", "videos", "--window", "1", "--json", "--out", name, *more]) == 3
        assert json.loads(capsys.readouterr().out)["added"] == 5
        with FolderReader.open(tmp_path / name) as archive:
            made_of = sorted((key, dict(made_of)) for key, made_of in archive.made_of().items())
            videos = [archive.video(*key) for key, _ in made_of]
        found[name] = made_of, [scene for video in videos if video is not None for scene in video.scenes]
    (made_here, here), (made_there, there) = found["here"], found["there"]
    assert made_here == made_there and len(here) == len(there) == 15
    for one, other in zip(here, there, strict=True):
        assert [getattr(one, name) for name in PLAIN] == [getattr(other, name) for name in PLAIN]
        assert one.vector == pytest.approx(other.vector, abs=1e-3)
