"""Extraction against plain loops: the same features, whatever the batches, the accidents and the neighbours."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.encoder import Encoder, load_encoder
from core_encoder.errors import EncoderMismatch, InputError
from core_encoder.extraction import ExtractionProgress, extract, spec_for
from core_encoder.features import encoding
from core_encoder.features.estimate import estimate
from core_encoder.features.feature_spec import ClipKey
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.store_upkeep import verify_store
from core_encoder.preprocessing import Preprocessing
from core_encoder.video.decoders import open_video
from core_encoder.video.video_files import video_digest
from tests.core_encoder.plain_features import DENSE, SHORT, plain_tokens, records_of


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
    store = FeatureStore(tmp_path, spec)
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
    found = records_of(FeatureStore(tmp_path, spec), clip)
    for record, tokens in zip(found, plain_tokens(nano, clip, plan), strict=True):
        torch.testing.assert_close(record.values, tokens, atol=1e-4, rtol=0)


def test_running_again_decodes_nothing(
    nano: Encoder, videos: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_for(nano)
    extract(nano, videos[:4], spec, tmp_path)
    again = extract(nano, videos[:6], spec, tmp_path)
    assert (again.n_cached, again.n_encoded, again.frames_decoded) == (4, 2, 16)
    monkeypatch.setattr("core_encoder.video.clip_decoder.open_video", None)
    done = extract(nano, videos[:6], spec, tmp_path)
    assert (done.n_cached, done.n_encoded, done.frames_decoded, done.failures) == (6, 0, 0, ())


def test_a_clip_in_part_is_continued(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    spec = spec_for(nano, DENSE)
    whole = extract(nano, videos[:1], spec, tmp_path, batch_size=2, shard_bytes=1)
    store = FeatureStore(tmp_path, spec)
    assert whole.views_encoded == len(store) == 9
    before = {record.key: record.values.clone() for record in records_of(store, videos[0])}
    for shard in store.shards[:4]:
        shard.path.unlink()
    again = extract(nano, videos[:1], spec, tmp_path, batch_size=2)
    assert again.n_encoded == 1 and 4 <= again.views_encoded <= 9
    after = {record.key: record.values for record in records_of(FeatureStore(tmp_path, spec), videos[0])}
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


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
    assert {failure.reason for failure in report.failures} == {"text, not a video"}, "not the path of the other one"


def test_a_long_clip_shows_progress(
    nano: Encoder, videos: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[ExtractionProgress] = []
    monkeypatch.setattr("core_encoder.tally._PROGRESS_S", 0.0)
    extract(nano, videos[:1], spec_for(nano, DENSE), tmp_path, progress=seen.append)
    assert [(p.done, p.views_encoded) for p in seen[:2]] == [(0, 1), (0, 2)]
    assert (seen[-1].done, seen[-1].views_encoded) == (1, 9)
    assert [p.video_s for p in seen] == sorted(p.video_s for p in seen)
    assert {p.total_video_s for p in seen} == {1.5} and seen[-1].video_s == 1.5  # 24 frames at 16 a second
    assert seen[-1].times_real_time > 0 and seen[-1].eta_s == 0


def test_a_finished_dense_run_opens_no_video(
    nano: Encoder, videos: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(nano, videos[:2], spec_for(nano, DENSE), tmp_path)
    opened: list[str] = []
    for module in ("video.decoders", "video.clip_decoder"):
        monkeypatch.setattr(f"core_encoder.{module}.open_video", lambda path, *rest, **more: opened.append(path))
    assert extract(nano, videos[:2], spec_for(nano, DENSE), tmp_path).n_cached == 2
    assert opened == []


def test_encoders_and_sizes_that_make_no_features(nano: Encoder) -> None:
    with pytest.raises(InputError, match="multiple of 8, not 50"):
        spec_for(nano, preprocessing=Preprocessing(50))
    with pytest.raises(InputError, match="float64: features are computed in fp32, fp16, bf16"):
        spec_for(load_encoder("nano", dtype=torch.float64))


def test_the_estimate_is_the_size_on_disk(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    for plan in (ClipPlan(8), DENSE):
        for dtype in ("fp16", "int8"):
            spec = spec_for(nano, plan, dtype=dtype)  # type: ignore[arg-type]
            expected = estimate(nano, videos, spec, tmp_path)
            assert expected.exact and expected.num_cached == 0 and expected.fits
            assert expected.num_views == len(videos) * (9 if plan is DENSE else 1)
            extract(nano, videos, spec, tmp_path)
            written = sum(shard.size for shard in FeatureStore(tmp_path, spec).shards)
            assert written == pytest.approx(expected.total_bytes, rel=0.05)
            after = estimate(nano, videos, spec, tmp_path)
            assert (after.num_cached, after.total_bytes) == (10, 0)
            assert "10 clips, 10 of them cached" in str(after)


def test_the_estimate_says_how_often_overlapping_windows_keep_a_frame(
    nano: Encoder, videos: list[Clip], tmp_path: Path
) -> None:
    overlapping = replace(DENSE, window_stride=2)
    for kind, copies in (("tokens", 4), ("frames", 4), ("clip", 0), ("embedding", 0)):
        expected = estimate(nano, videos, spec_for(nano, overlapping, kind=kind), tmp_path)  # type: ignore[arg-type]
        assert expected.copies == copies
        assert ("each frame is kept 4 times: kind 'clip' is a vector a window" in str(expected)) == (copies > 1)
    assert "kept" not in str(estimate(nano, videos, spec_for(nano, replace(DENSE, window_stride=8)), tmp_path))
    assert "kept" not in str(estimate(nano, videos, spec_for(nano), tmp_path))


def test_another_encoder_and_another_decoder_are_refused(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    spec = spec_for(nano)
    with pytest.raises(EncoderMismatch, match="not the encoder in hand"):
        extract(nano, videos, replace(spec, fingerprint="0" * 64), tmp_path)
    with pytest.raises(InputError, match="frames from pyav-1.0, but pyav-"):
        extract(nano, videos, replace(spec, decoder="pyav-1.0"), tmp_path)
    with pytest.raises(InputError, match="computed in bf16, but the encoder is in torch.float32"):
        extract(nano, videos, replace(spec, precision="bf16"), tmp_path)
    with pytest.raises(InputError, match="has no layer 8: take 0 to 7"):
        spec_for(nano, layers=(8,))
    assert spec_for(nano, layers=(-1, 0)).layers == (7, 0)
    with pytest.raises(InputError, match="at least 1"):
        extract(nano, videos, spec, tmp_path, batch_size=0)


def test_verify_encodes_again(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    for dtype in ("fp16", "bf16", "int8"):
        spec = spec_for(nano, dtype=dtype)  # type: ignore[arg-type]
        report = extract(nano, videos[:5], spec, tmp_path)
        moved = tmp_path / "moved.mp4"
        shutil.copy(videos[2].path, moved)
        checked = verify_store(report.folder, nano, [moved, videos[8].path, tmp_path / "missing.mp4"])
        assert checked.ok and [pair.file_name for pair in checked.compared] == ["moved.mp4"]
        assert 0 < checked.compared[0].max_difference < checked.compared[0].tolerance
    store = FeatureStore(tmp_path, spec)
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
    with encoding.EncodingRun(nano, videos, [spec_for(nano)], num_workers=2) as run:
        deadline = time.monotonic() + 20
        while len(run._queue._parts) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(run._queue._parts) == 2
        events = list(run)
    assert sum(isinstance(event, encoding.ClipEncoded) for event in events) == 10
    run.encoder.encode_s, run._queue.get_wait_s, run._queue.put_wait_s = 10.0, 0.5, 0.0
    assert run.work.bottleneck == "encoding", "a short run only waited for its first frames"
    run._queue.get_wait_s = 5.0
    assert run.work.bottleneck == "decoding"


def test_the_estimate_knows_the_windows_that_a_run_left(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    spec = spec_for(nano, DENSE)
    extract(nano, videos[:1], spec, tmp_path / "whole")
    whole, part = FeatureStore(tmp_path / "whole", spec), FeatureStore(tmp_path, spec)
    with part.writer() as writer:
        for key in list(whole)[:4]:
            record = whole.read(key)
            writer.add(key, record.values, record.info)
    assert estimate(nano, videos[:2], spec, tmp_path).num_views == 9 - 4 + 9
