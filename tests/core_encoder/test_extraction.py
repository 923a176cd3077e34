"""Extraction against plain loops: the same features, whatever the batches, the accidents and the neighbours."""

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
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.encoder import Encoder, load_encoder
from core_encoder.errors import EncoderMismatch, InputError, UnreadableVideo
from core_encoder.extraction import Progress, extract, spec_for
from core_encoder.features import encoding
from core_encoder.features.estimate import estimate
from core_encoder.features.failures import Failure, FailureLog
from core_encoder.features.feature_source import FeatureSource
from core_encoder.features.feature_spec import ClipKey, FeatureSpec
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.store_upkeep import verify_store
from core_encoder.preprocessing import Preprocessing, to_video_tensor
from core_encoder.video.decoders import open_video, read_clip
from core_encoder.video.video_files import video_digest
from tests import ROOT
from tests.videos import moving_square, write_video

DENSE = ClipPlan(8, "dense", stride=1, window_stride=2)
SHORT = ClipPlan(8, "stride", stride=4)  # 24 frames hold 6 of them: two are padding


@pytest.fixture(scope="module")
def nano() -> Encoder:
    return load_encoder("nano")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Ten whole videos, every one different."""
    folder = tmp_path_factory.mktemp("Vidéos mit Leerzeichen")
    return [Clip(str(write_video(folder / f"vidéo {i}.mp4", moving_square(24, 48, 64, seed=i)))) for i in range(10)]


def store_of(spec: FeatureSpec, root: Path) -> FeatureStore:
    return FeatureStore(root, spec)


def records_of(store: FeatureStore, clip: Clip) -> list[Any]:
    return [store.read(key) for key in store.views(ClipKey.of(clip, video_digest(clip.path)))]


def plain_tokens(encoder: Encoder, clip: Clip, plan: ClipPlan, layers: Sequence[int] = ()) -> list[Tensor]:
    """Each view alone, through the public call: `(T, N, D)` or `(L, T, N, D)` a view."""
    rows = []
    with open_video(clip.path) as video:
        views = plan.views_of(video.facts, clip)
    for view in views:
        frames = torch.from_numpy(read_clip(clip, plan, encoder.preprocessing, view=view.index))
        mask = (torch.arange(plan.num_frames) < view.num_real)[None]
        features = encoder(to_video_tensor(frames)[None], mask, layers=layers)
        rows.append(torch.stack([features.hidden[i][0] for i in layers]) if layers else features.tokens[0])
    return rows


@pytest.mark.parametrize("kind", ["tokens", "frames", "clip"])
@pytest.mark.parametrize("layers", [(), (5, 2)])
@pytest.mark.parametrize("plan", [ClipPlan(8), ClipPlan(8, views=2), SHORT, DENSE], ids=lambda plan: plan.sampling)
def test_features_are_those_of_a_plain_loop(
    nano: Encoder, videos: list[Clip], tmp_path: Path, kind: Any, layers: tuple[int, ...], plan: ClipPlan
) -> None:
    spec = spec_for(nano, plan, kind=kind, layers=layers, dtype="fp32")
    clips = [videos[0], Clip(videos[1].path, 0.25, 1.25)]
    report = extract(nano, clips, spec, tmp_path, batch_size=3)
    assert (report.n_clips, report.n_cached, report.n_encoded, report.failures) == (2, 0, 2, ())
    store = store_of(spec, tmp_path)
    for clip in clips:
        expected = plain_tokens(nano, clip, plan, layers)
        with open_video(clip.path) as video:
            views = plan.views_of(video.facts, clip)
            times = video.facts.timestamps
        found = records_of(store, clip)
        assert len(found) == len(expected) == len(views)
        for record, tokens, view in zip(found, expected, views, strict=True):
            assert record.frame_mask.sum() == view.num_real
            assert (record.start_s, record.end_s) == (view.start_s, view.end_s)
            assert record.info.times_s == pytest.approx([times[i] for i in view.frame_indices], abs=1e-5)
            if kind != "tokens":
                tokens = tokens.mean(-2)
            if kind == "clip":
                tokens = tokens[..., : view.num_real, :].mean(-2)
            assert record.values.shape == spec.record_shape(36, nano.dim)
            torch.testing.assert_close(record.values, tokens, atol=1e-4, rtol=0)


def test_windows_share_the_spatial_half_in_bounded_memory(
    nano: Encoder, video_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ClipPlan(8, "dense", stride=1, window_stride=1)
    spec = spec_for(nano, plan, dtype="fp32")
    clip = Clip(str(video_file(num_frames=61)))
    held, spatial_frames = [], []
    monkeypatch.setattr(encoding, "_PART_BYTES", 10 * 3 * 48 * 48)  # parts of ten frames
    forget = encoding._Stream.forget

    def watched(stream: encoding._Stream) -> None:
        held.append(len(stream.spatial))
        forget(stream)

    spatial = nano.encode_spatial

    def counted(video: Tensor) -> Tensor:
        spatial_frames.append(video.shape[0] * video.shape[1])
        return spatial(video)

    monkeypatch.setattr(encoding._Stream, "forget", watched)
    monkeypatch.setattr(nano, "encode_spatial", counted)
    report = extract(nano, [clip], spec, tmp_path, batch_size=4)
    assert report.views_encoded == 54
    assert report.frames_decoded == sum(spatial_frames) == 61
    assert len(held) == 7 and max(held) <= 10 + 8
    monkeypatch.undo()
    found = records_of(store_of(spec, tmp_path), clip)
    for record, tokens in zip(found, plain_tokens(nano, clip, plan), strict=True):
        torch.testing.assert_close(record.values, tokens, atol=1e-4, rtol=0)


def test_running_again_decodes_nothing(
    nano: Encoder, videos: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_for(nano)
    extract(nano, videos[:4], spec, tmp_path)
    again = extract(nano, videos[:6], spec, tmp_path)
    assert (again.n_cached, again.n_encoded, again.frames_decoded) == (4, 2, 16)
    monkeypatch.setattr("core_encoder.video.decoding.open_video", None)
    done = extract(nano, videos[:6], spec, tmp_path)
    assert (done.n_cached, done.n_encoded, done.frames_decoded, done.failures) == (6, 0, 0, ())


def test_a_clip_in_part_is_continued(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    spec = spec_for(nano, DENSE)
    whole = extract(nano, videos[:1], spec, tmp_path, batch_size=2, shard_bytes=1)
    store = store_of(spec, tmp_path)
    assert whole.views_encoded == len(store) == 9
    for shard in store.shards[:4]:
        shard.path.unlink()
    again = extract(nano, videos[:1], spec, tmp_path)
    assert (again.n_encoded, again.views_encoded) == (1, 4)
    assert len(records_of(store_of(spec, tmp_path), videos[0])) == 9


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
    seen: list[Progress] = []
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


def test_the_same_content_under_two_names_is_encoded_once(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    shutil.copy(videos[0].path, copy)
    (tmp_path / "bad.mp4").write_text("bad")
    (tmp_path / "bad too.mp4").write_text("bad")
    clips = [
        videos[0],
        Clip(str(copy)),
        videos[0],
        Clip(str(tmp_path / "bad.mp4")),
        Clip(str(tmp_path / "bad too.mp4")),
    ]
    report = extract(nano, clips, spec_for(nano), tmp_path / "store")
    assert (report.n_clips, report.n_encoded, report.n_cached, len(report.failures)) == (5, 1, 2, 2)
    assert {Path(failure.path).name for failure in report.failures} == {"bad.mp4", "bad too.mp4"}


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
        torch.testing.assert_close(records_of(store_of(spec, tmp_path), clip)[0].values, tokens, atol=1e-4, rtol=0)
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


def test_a_long_clip_shows_progress(
    nano: Encoder, videos: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Progress] = []
    monkeypatch.setattr("core_encoder.extraction._PROGRESS_S", 0.0)
    extract(nano, videos[:1], spec_for(nano, DENSE), tmp_path, progress=seen.append)
    assert [(p.done, p.views_encoded) for p in seen[:2]] == [(0, 1), (0, 2)]
    assert (seen[-1].done, seen[-1].views_encoded) == (1, 9)


def test_a_finished_dense_run_opens_no_video(
    nano: Encoder, videos: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(nano, videos[:2], spec_for(nano, DENSE), tmp_path)
    opened: list[str] = []
    for module in ("features.estimate", "video.decoding"):
        monkeypatch.setattr(f"core_encoder.{module}.open_video", lambda path, *rest: opened.append(path))
    assert extract(nano, videos[:2], spec_for(nano, DENSE), tmp_path).n_cached == 2
    assert opened == []


def test_encoders_and_sizes_that_make_no_features(nano: Encoder) -> None:
    with pytest.raises(InputError, match="multiple of 8, not 50"):
        spec_for(nano, preprocessing=Preprocessing(50))
    with pytest.raises(InputError, match="float64: features are computed in fp32, fp16, bf16"):
        spec_for(load_encoder("nano", dtype=torch.float64))


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
    monkeypatch.setattr("core_encoder.extraction._PROGRESS_S", 0.0)

    def interrupt(progress: Progress) -> None:
        if progress.done >= 4:
            raise KeyboardInterrupt

    spec = spec_for(nano)
    encoding_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        extract(nano, videos, spec, tmp_path, batch_size=2, progress=lambda p: interrupt(p))
    assert time.monotonic() - encoding_s < 30
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode-")]
    kept = len(store_of(spec, tmp_path))
    assert 4 <= kept < 10
    report = extract(nano, videos, spec, tmp_path)
    assert (report.n_cached, report.n_encoded) == (kept, 10 - kept)


def test_the_estimate_is_the_size_on_disk(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    for plan in (ClipPlan(8), DENSE):
        for dtype in ("fp16", "int8"):
            spec = spec_for(nano, plan, dtype=dtype)  # type: ignore[arg-type]
            expected = estimate(nano, videos, spec, tmp_path)
            assert expected.exact and expected.num_cached == 0 and expected.fits
            assert expected.num_views == len(videos) * (9 if plan is DENSE else 1)
            extract(nano, videos, spec, tmp_path)
            written = sum(shard.size for shard in store_of(spec, tmp_path).shards)
            assert written == pytest.approx(expected.total_bytes, rel=0.05)
            after = estimate(nano, videos, spec, tmp_path)
            assert (after.num_cached, after.total_bytes) == (10, 0)
            assert "10 clips, 10 of them cached" in str(after)


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
        from core_encoder import extraction
        from core_encoder.extraction import extract, spec_for
        extraction._PROGRESS_S = 0.0
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
    kept = len(store_of(spec_for(nano), tmp_path))
    assert 4 <= kept < 10
    assert extract(nano, videos, spec_for(nano), tmp_path).n_cached == kept


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)


ENCODE = """
    import sys
    from core_encoder import Clip, load_encoder
    from core_encoder.extraction import extract, spec_for
    nano = load_encoder("nano")
    clips = [Clip(path) for path in {paths!r}]
    extract(nano, clips, spec_for(nano, dtype="fp32"), {root!r}, batch_size=2, shard_bytes=1, commit_every_s=0)
    print("done")
"""


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
        known = len(list(store_of(spec, root).folder.glob("shard-*")))
        deadline = time.monotonic() + 60
        while len(list(store_of(spec, root).folder.glob("shard-*"))) <= known and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.15))
        assert process.poll() is None, f"round {round_}: ended before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        store = store_of(spec, root)
        assert not store.broken and verify_store(store.folder).ok
        assert survived <= set(store.keys()), "something committed was lost"
        survived = set(store.keys())
        assert survived
    assert run_python(code).stdout == "done\n"
    store = store_of(spec, root)
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
    store = store_of(spec, tmp_path / "store")
    assert len(store.clip_keys()) == 10 and verify_store(store.folder).ok
    assert len((store.folder / "failures.jsonl").read_text().splitlines()) == 1
    for clip in videos:
        tokens = plain_tokens(nano, clip, spec.plan)[0]
        torch.testing.assert_close(records_of(store, clip)[0].values, tokens, atol=1e-4, rtol=0)


def test_another_encoder_and_another_decoder_are_refused(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    spec = spec_for(nano)
    with pytest.raises(EncoderMismatch, match="not the encoder in hand"):
        extract(nano, videos, replace(spec, fingerprint="0" * 64), tmp_path)
    with pytest.raises(InputError, match="frames from pyav-1.0, but pyav-"):
        extract(nano, videos, replace(spec, decoder="pyav-1.0"), tmp_path)
    with pytest.raises(InputError, match="computed in bf16, but the encoder is in torch.float32"):
        extract(nano, videos, replace(spec, precision="bf16"), tmp_path)
    with pytest.raises(InputError, match="has no layer 6: take 0 to 5"):
        spec_for(nano, layers=(6,))
    assert spec_for(nano, layers=(-1, 0)).layers == (5, 0)
    with pytest.raises(InputError, match="at least 1"):
        extract(nano, videos, spec, tmp_path, batch_size=0)


def test_a_source_gives_the_same_cached_or_not(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    spec = spec_for(nano, DENSE, dtype="int8")
    (tmp_path / "bad.mp4").write_text("bad")
    clips = [*videos[:3], Clip(str(tmp_path / "bad.mp4")), Clip(videos[0].path, 99.0), videos[0]]
    fresh = FeatureSource(nano, spec, tmp_path / "store").records(clips)
    extract(nano, clips, spec, tmp_path / "store")
    source = FeatureSource(nano, spec, tmp_path / "store")
    cached = source.records(clips[:3])
    assert source.frames_decoded == 0
    for computed, read in zip(fresh, cached, strict=False):
        assert isinstance(computed, list) and isinstance(read, list) and len(computed) == len(read) == 9
        for ours, theirs in zip(computed, read, strict=True):
            assert (ours.key, ours.info) == (theirs.key, theirs.info)
            step = ours.values.abs().amax(-1, keepdim=True) / 127
            assert ((ours.values - theirs.values).abs() <= step + 1e-4).all()
    assert isinstance(fresh[3], Failure) and isinstance(fresh[4], Failure)
    assert "99" in fresh[4].reason and fresh[5] == fresh[0]
    with pytest.raises(UnreadableVideo, match=r"bad\.mp4"):
        source[clips[3]]
    assert [record.key.view for record in source[videos[1]]] == list(range(9))
    assert source.frames_decoded == 0
    assert len(source[videos[5]]) == 9 and source.frames_decoded == 24


def test_a_source_without_an_encoder_serves_what_is_cached(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    spec = spec_for(nano, kind="frames")
    extract(nano, videos[:1], spec, tmp_path)
    for source in (FeatureSource(None, spec, tmp_path), FeatureSource(nano, spec, tmp_path, compute_missing=False)):
        assert source[videos[0]][0].values.shape == (8, nano.dim)
        with pytest.raises(InputError, match="encode it first"):
            source[videos[1]]


def test_verify_encodes_again(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    for dtype in ("fp16", "bf16", "int8"):
        spec = spec_for(nano, dtype=dtype)  # type: ignore[arg-type]
        report = extract(nano, videos[:5], spec, tmp_path)
        moved = tmp_path / "moved.mp4"
        shutil.copy(videos[2].path, moved)
        checked = verify_store(report.folder, nano, [moved, videos[8].path, tmp_path / "missing.mp4"])
        assert checked.ok and [pair.file_name for pair in checked.compared] == ["moved.mp4"]
        assert 0 < checked.compared[0].max_difference < checked.compared[0].tolerance
    store = store_of(spec, tmp_path)
    key = store.views(ClipKey.of(videos[1], video_digest(videos[1].path)))[0]
    record = store.read(key)
    with store.writer() as writer:
        writer.add(key, record.values.roll(1, dims=0), record.info)  # frames off by one, checksum right
    assert verify_store(store.folder).ok
    again = FeatureStore.open(store.folder)
    for shard in again.shards:
        if len(shard.keys) > 1:
            shard.path.unlink()
    checked = verify_store(store.folder, nano, [videos[1].path])
    assert not checked.ok and checked.compared[0].max_difference > checked.compared[0].tolerance
    with pytest.raises(InputError, match="none of the 1 videos"):
        verify_store(store.folder, nano, [videos[9].path])


def test_the_queue_is_bounded_in_bytes(nano: Encoder, videos: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    one = 8 * 48 * 48 * 3
    monkeypatch.setattr(encoding, "_QUEUE_BYTES", 2 * one)
    with encoding.EncodingRun(nano, videos, spec_for(nano), num_workers=2) as run:
        deadline = time.monotonic() + 20
        while len(run._queue._parts) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(run._queue._parts) == 2
        events = list(run)
    assert sum(isinstance(event, encoding.ClipEncoded) for event in events) == 10
    run.encoder.encode_s, run._queue.get_wait_s, run._queue.put_wait_s = 10.0, 0.5, 0.0
    assert run.bottleneck == "encoding", "a short run only waited for its first frames"
    run._queue.get_wait_s = 5.0
    assert run.bottleneck == "decoding"
