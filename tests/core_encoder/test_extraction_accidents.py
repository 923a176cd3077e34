"""Extraction meets broken files, full disks, Ctrl-C, kills and others at work."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.encoder import Encoder
from core_encoder.errors import InputError
from core_encoder.extraction import ExtractionProgress, extract, spec_for
from core_encoder.features.failures import Failure, FailureLog
from core_encoder.features.feature_spec import ClipKey
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.store_upkeep import verify_store
from tests import ROOT
from tests.core_encoder.plain_features import plain_tokens, records_of
from tests.videos import moving_square, write_video

ENCODE = """
    import sys
    from core_encoder import Clip, load_encoder
    from core_encoder.extraction import extract, spec_for
    nano = load_encoder("nano")
    clips = [Clip(path) for path in {paths!r}]
    extract(nano, clips, spec_for(nano, dtype="fp32"), {root!r}, batch_size=2, shard_bytes=1, commit_every_s=0)
    print("done")
"""


def spoiled_files(folder: Path, good: str) -> dict[str, str]:
    """Files that cannot be decoded, with a word of the reason."""
    folder.mkdir()
    data = Path(good).read_bytes()
    (folder / "zero.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("not a video")
    (folder / "cut.mp4").write_bytes(data[: len(data) // 3])
    (folder / "folder.mp4").mkdir()
    return {"zero.mp4": "empty", "text.mp4": "", "cut.mp4": "", "folder.mp4": "folder", "missing.mp4": "no such file"}


def test_unreadable_videos_are_listed_and_the_run_goes_on(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    reasons = spoiled_files(tmp_path / "bad", videos[0].path)
    bad = [Clip(str(tmp_path / "bad" / name)) for name in reasons] + [Clip(videos[0].path, 100.0, 101.0)]
    clips = [clip for pair in zip(bad, videos, strict=False) for clip in pair]
    seen: list[ExtractionProgress] = []
    report = extract(nano, clips, spec_for(nano), tmp_path / "store", progress=seen.append)
    assert (report.n_clips, report.n_cached, report.n_encoded, len(report.failures)) == (12, 0, 6, 6)
    assert {failure.clip for failure in report.failures} == set(bad)
    lines = (report.folder / "failures.jsonl").read_text().splitlines()
    listed = {line["path"]: line for line in map(json.loads, lines)}
    assert len(lines) == 6
    for name, word in reasons.items():
        reason = listed[str(tmp_path / "bad" / name)]["reason"]
        assert reason and word in reason and "\n" not in reason
    assert (listed[videos[0].path]["start_s"], listed[videos[0].path]["end_s"]) == (100.0, 101.0)
    assert (seen[-1].done, seen[-1].total, seen[-1].failed) == (12, 12, 6)

    shutil.rmtree(tmp_path / "bad" / "folder.mp4")
    shutil.copy(videos[7].path, tmp_path / "bad" / "folder.mp4")  # mended
    again = extract(nano, clips, spec_for(nano), tmp_path / "store")
    assert (again.n_cached, again.n_encoded, len(again.failures)) == (6, 1, 5)
    assert len((report.folder / "failures.jsonl").read_text().splitlines()) == 5
    elsewhere = extract(nano, bad[:1], spec_for(nano), tmp_path / "store", failures_path=tmp_path / "own" / "f.jsonl")
    assert FailureLog(tmp_path / "own" / "f.jsonl").read() == list(elsewhere.failures)


def test_a_damaged_middle_costs_its_clips_only(nano: Encoder, video_file: Callable[..., Path], tmp_path: Path) -> None:
    path = video_file(num_frames=48, height=96, width=128)
    clips = [Clip(str(path), 0.0, 0.7), Clip(str(path), 50.0), Clip(str(path), 0.1, 0.8)]
    report = extract(nano, clips, spec_for(nano), tmp_path)
    assert report.n_encoded == 2 and [failure.start_s for failure in report.failures] == [50.0]


def test_the_failure_log_survives_a_torn_line(tmp_path: Path) -> None:
    log = FailureLog(tmp_path / "failures.jsonl")
    first, second = Failure("ä.mp4", 0.0, None, "broken"), Failure("b\udcff.mp4", 1.0, 2.0, "gone")
    log.add(first)
    log.add(first)
    with log.path.open("a") as file:
        file.write('{"path": "c.mp4", "sta')
    log.add(second)
    assert FailureLog(log.path).read() == [first, second]
    FailureLog(log.path).forget([Clip("ä.mp4")])
    assert FailureLog(log.path).read() == [second]


def test_a_failure_log_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = Failure("a.mp4", 0.0, None, "broken")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="failures.jsonl: cannot be written"):
        FailureLog(tmp_path / "file" / "failures.jsonl").add(failure)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="failures.jsonl: the disk is full"):
        FailureLog(tmp_path / "failures.jsonl").add(failure)


class Cramped:
    """An encoder whose device holds `room` clips at most."""

    def __init__(self, encoder: Encoder, room: int, error: Exception) -> None:
        self._encoder, self._room, self._error = encoder, room, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def __call__(self, video: Tensor, *rest: Any, **named: Any) -> Any:
        if len(video) > self._room:
            raise self._error
        return self._encoder(video, *rest, **named)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "cublas", "python"],
)
def test_batches_halve_when_memory_runs_out(
    nano: Encoder, videos: list[Clip], tmp_path: Path, error: Exception
) -> None:
    spec = spec_for(nano, dtype="fp32")
    report = extract(Cramped(nano, 3, error), videos, spec, tmp_path, batch_size=8)  # type: ignore[arg-type]
    assert (report.n_encoded, report.batch_size) == (10, 2)
    for clip in videos[:3]:
        tokens = plain_tokens(nano, clip, spec.plan)[0]
        torch.testing.assert_close(records_of(FeatureStore(tmp_path, spec), clip)[0].values, tokens, atol=1e-4, rtol=0)
    with pytest.raises(InputError, match="out of memory on a single clip of 8 frames"):
        extract(Cramped(nano, 0, error), videos, spec_for(nano), tmp_path)  # type: ignore[arg-type]


def test_other_errors_are_not_taken_for_full_memory(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    broken = Cramped(nano, 4, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        extract(broken, videos, spec_for(nano), tmp_path)  # type: ignore[arg-type]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode-")]


def test_what_ends_a_worker_ends_the_run(
    nano: Encoder, videos: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clips must not be missing from the report in silence."""

    def broken(store: FeatureStore, clip: ClipKey) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(FeatureStore, "views", broken)
    with pytest.raises(RuntimeError, match="unforeseen"):
        extract(nano, videos, spec_for(nano), tmp_path)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode-")]


def test_features_that_are_not_numbers_are_failures(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    class Overflowing(Cramped):
        def __call__(self, video: Tensor, *rest: Any, **named: Any) -> Any:
            features = self._encoder(video, *rest, **named)
            features.tokens[0] *= 1e9
            return features

    spoiled = Overflowing(nano, 0, MemoryError())
    report = extract(spoiled, videos[:6], spec_for(nano), tmp_path, batch_size=3)  # type: ignore[arg-type]
    assert (report.n_encoded, len(report.failures)) == (4, 2)
    assert "beyond the range of fp16" in report.failures[0].reason
    assert extract(nano, videos[:6], spec_for(nano), tmp_path).n_encoded == 2


def test_ctrl_c_keeps_what_is_encoded(
    nano: Encoder, videos: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core_encoder.tally._PROGRESS_S", 0.0)

    def interrupt(progress: ExtractionProgress) -> None:
        if progress.done >= 4:
            raise KeyboardInterrupt

    spec = spec_for(nano)
    encoding_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        extract(nano, videos, spec, tmp_path, batch_size=2, progress=lambda p: interrupt(p))
    assert time.monotonic() - encoding_s < 30
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode-")]
    kept = len(FeatureStore(tmp_path, spec))
    assert 4 <= kept < 10
    report = extract(nano, videos, spec, tmp_path)
    assert (report.n_cached, report.n_encoded) == (kept, 10 - kept)


def test_what_cannot_fit_is_refused_before_it_starts(
    nano: Encoder, videos: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_for(nano)
    extract(nano, videos[:5], spec, tmp_path)
    room = namedtuple("room", "total used free")
    monkeypatch.setattr("core_encoder.files.storage.shutil.disk_usage", lambda path: room(0, 0, 400_000))
    with pytest.raises(InputError, match=r"need 7\d\d\.. KiB but only 390.6 KiB are free; .*'frames' needs"):
        extract(nano, videos, spec_for(nano, dtype="fp16", layers=(0,)), tmp_path)
    assert extract(nano, videos, spec, tmp_path).n_encoded == 5  # the other five are there already


def test_disk_full_in_the_middle_keeps_finished_shards(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    code = f"""
        import resource, signal
        from core_encoder import Clip, InputError, load_encoder
        from core_encoder import tally
        from core_encoder.extraction import extract, spec_for
        tally._PROGRESS_S = 0.0
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        nano = load_encoder("nano")
        calls = []
        def limit(progress):
            if progress.done >= 4:
                resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
        try:
            clips = [Clip(path) for path in {[clip.path for clip in videos]!r}]
            extract(nano, clips, spec_for(nano), {str(tmp_path)!r}, batch_size=2, shard_bytes=1, progress=limit)
        except InputError as error:
            print(error)
    """
    message = run_python(code).stdout
    assert "may not grow this large" in message and message.count("\n") == 1
    kept = len(FeatureStore(tmp_path, spec_for(nano)))
    assert 4 <= kept < 10
    assert extract(nano, videos, spec_for(nano), tmp_path).n_cached == kept


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.slow
def test_kill_9_then_the_same_command(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    paths = [write_video(tmp_path / "videos" / f"{i}.mp4", moving_square(24, 48, 64, seed=i)) for i in range(60)]
    root = tmp_path / "store"
    code = textwrap.dedent(ENCODE.format(paths=[str(path) for path in paths], root=str(root)))
    spec = spec_for(nano, dtype="fp32")
    chance = random.Random(0)
    survived: set[Any] = set()
    for round_ in range(3):
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
        known = len(list(FeatureStore(root, spec).folder.glob("shard-*")))
        deadline = time.monotonic() + 60
        while len(list(FeatureStore(root, spec).folder.glob("shard-*"))) <= known and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.15))
        assert process.poll() is None, f"round {round_}: ended before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        store = FeatureStore(root, spec)
        assert not store.broken and verify_store(store.folder).ok
        assert survived <= set(store.keys()), "something committed was lost"
        survived = set(store.keys())
        assert survived
    assert run_python(code).stdout == "done\n"
    store = FeatureStore(root, spec)
    assert len(store.clip_keys()) == 60 and verify_store(store.folder).ok
    for path in paths[::10]:
        tokens = plain_tokens(nano, Clip(str(path)), spec.plan)[0]
        torch.testing.assert_close(records_of(store, Clip(str(path)))[0].values, tokens, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_two_encoders_write_one_store(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    (tmp_path / "bad.mp4").write_text("bad")
    paths = [str(tmp_path / "bad.mp4")] + [clip.path for clip in videos]
    code = textwrap.dedent(ENCODE.format(paths=paths, root=str(tmp_path / "store")))
    running = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    spec = spec_for(nano, dtype="fp32")
    store = FeatureStore(tmp_path / "store", spec)
    assert len(store.clip_keys()) == 10 and verify_store(store.folder).ok
    assert len((store.folder / "failures.jsonl").read_text().splitlines()) == 1
    for clip in videos:
        tokens = plain_tokens(nano, clip, spec.plan)[0]
        torch.testing.assert_close(records_of(store, clip)[0].values, tokens, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_a_long_video_goes_on_inside_after_a_kill_and_ends_equal(nano: Encoder, tmp_path: Path) -> None:
    """`kill -9` in the middle of one file: what was committed stays, and nobody can tell the features apart."""
    clip = Clip(str(write_video(tmp_path / "long.mp4", moving_square(600, 48, 64), fps=10)))
    plan = ClipPlan(8, "dense", fps=10, window_stride=2)
    code = f"""
        from core_encoder import Clip, ClipPlan, load_encoder
        from core_encoder.extraction import extract, spec_for
        nano = load_encoder("nano")
        spec = spec_for(nano, {plan!r}, kind="clip")
        extract(nano, [Clip({clip.path!r})], spec, {str(tmp_path / "store")!r}, batch_size=2, commit_every_s=0)
    """
    spec = spec_for(nano, plan, kind="clip")
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT)
    store = FeatureStore(tmp_path / "store", spec)
    while len(store) < 120:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
        store.refresh()
    process.kill()
    process.wait()
    store.refresh()
    assert 120 <= len(store) < 297
    again = extract(nano, [clip], spec, tmp_path / "store", batch_size=2)
    assert again.video_s < 60 - 10, "it did not begin anew"
    extract(nano, [clip], spec, tmp_path / "whole", batch_size=2)
    stopped, whole = (
        records_of(FeatureStore(tmp_path / "store", spec), clip),
        records_of(FeatureStore(tmp_path / "whole", spec), clip),
    )
    assert len(stopped) == len(whole) == 297
    for one, other in zip(stopped, whole, strict=True):
        assert one.key == other.key and one.info == other.info and torch.equal(one.values, other.values)
