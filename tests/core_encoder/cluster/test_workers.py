"""The workers of a cluster in one process: what goes from one to the other, and what is said of it."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.cluster import workers
from core_encoder.cluster.workers import DecodingWorker, EncodingJob, EncodingWorker
from core_encoder.encoder import Encoder
from core_encoder.extraction import extract, spec_for
from core_encoder.features.encoding import encoder_may_share
from core_encoder.features.feature_spec import FeatureSpec
from core_encoder.features.feature_store import FeatureStore
from core_encoder.files.remote import RemoteLimits
from core_encoder.video.decoding import ClipDone, ClipFailed
from tests.core_encoder.plain_features import DENSE, records_of


def job_of(nano: Encoder, specs: tuple[FeatureSpec, ...], root: Path, **options: Any) -> EncodingJob:
    known = {
        "shard_bytes": 64 << 20,
        "commit_every_s": 1000.0,
        "num_threads": 1,
        "folder": str(root),
        "limits": RemoteLimits(),
    } | options
    return EncodingJob(specs, root, batch_size=3, may_share=encoder_may_share(nano, specs), **known)


def started(nano: Encoder, job: EncodingJob) -> tuple[DecodingWorker, EncodingWorker]:
    decoder, encoder = DecodingWorker(job), EncodingWorker(job, nano)
    decoder.ready()
    encoder.ready("cpu")
    return decoder, encoder


@pytest.mark.parametrize("plan", [ClipPlan(8), DENSE], ids=lambda plan: plan.sampling)
def test_bundles_give_what_one_process_stores(
    nano: Encoder, videos: list[Clip], tmp_path: Path, plan: ClipPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_BUNDLE_BYTES", 3 * 8 * 48 * 48 * 3)
    monkeypatch.setattr("core_encoder.features.encoding._PART_BYTES", 10 * 3 * 48 * 48)
    specs = tuple(spec_for(nano, plan, kind=kind) for kind in ("tokens", "clip"))
    clips = [*videos[:4], Clip("none.mp4")]
    decoder, encoder = started(nano, job_of(nano, specs, tmp_path / "cluster"))
    told = []
    about, parts = decoder.decode(clips)
    while True:
        told.append(encoder.encode(pickle.loads(pickle.dumps(parts))))  # noqa: S301
        if about.last:
            break
        about, parts = decoder.decode(None)
    told.append(encoder.flush(save=True))
    assert len(told) >= 3 and told[-1].saved
    assert {stored.clip for one in told for stored in one.stored} == set(videos[:4])
    (failed,) = [other for one in told for other in one.others]
    assert isinstance(failed, ClipFailed) and failed.clip == clips[-1]
    extract(nano, clips, specs, tmp_path / "here", batch_size=3)
    for spec in specs:
        here, there = FeatureStore(tmp_path / "here", spec), FeatureStore(tmp_path / "cluster", spec)
        assert here.keys() == there.keys()
        for clip in videos[:4]:
            for mine, theirs in zip(records_of(here, clip), records_of(there, clip), strict=True):
                assert torch.equal(mine.values, theirs.values) and mine.info == theirs.info

    again, _ = started(nano, job_of(nano, specs, tmp_path / "cluster"))
    about, parts = again.decode(clips)
    assert about.last and set(about.finished) == set(clips)
    assert sum(isinstance(part, ClipDone) for part in parts) == 4


def test_what_is_not_saved_yet_is_said(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    specs = (spec_for(nano),)
    decoder, encoder = started(nano, job_of(nano, specs, tmp_path))
    _, parts = decoder.decode(videos[:4])
    told = encoder.encode(parts)
    assert len(told.stored) == 3 and not told.saved, "the fourth waits for a full batch"
    told = encoder.flush(save=False)
    assert len(told.stored) == 1 and not told.saved and told.work.views_encoded == 4
    assert not len(FeatureStore(tmp_path, specs[0]))
    told = encoder.flush(save=True)
    assert not told.stored and told.saved and len(FeatureStore(tmp_path, specs[0])) == 4


def test_a_worker_that_is_told_to_stop_saves_what_it_has_and_encodes_nothing_more(
    nano: Encoder, videos: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = (spec_for(nano),)
    decoder, encoder = started(nano, job_of(nano, specs, tmp_path))
    _, parts = decoder.decode(videos[:4])
    answers = iter([False] * 3 + [True] * 2)  # asked before each part, and before what waits is encoded
    monkeypatch.setattr(workers, "_is_cancelled", lambda: next(answers))
    assert len(encoder.encode(parts, flush=True).stored) == 3
    encoder.save()
    assert len(FeatureStore(tmp_path, specs[0])) == 3


def test_a_clip_that_begins_anew_leaves_nothing_behind(
    nano: Encoder, video_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_BUNDLE_BYTES", 1)
    monkeypatch.setattr("core_encoder.features.encoding._PART_BYTES", 10 * 3 * 48 * 48)
    clip = Clip(str(video_file(num_frames=61)))
    spec = spec_for(nano, DENSE)
    decoder, encoder = started(nano, job_of(nano, (spec,), tmp_path))
    about, parts = decoder.decode([clip])
    encoder.encode(parts)
    assert not about.last
    encoder.forget([clip])
    told = []
    about, parts = decoder.decode([clip])
    while not about.last:
        told.append(encoder.encode(parts))
        about, parts = decoder.decode(None)
    told += [encoder.encode(parts), encoder.flush(save=True)]
    assert [stored.clip for one in told for stored in one.stored] == [clip]
    extract(nano, [clip], spec, tmp_path / "here", batch_size=3)
    here, there = (records_of(FeatureStore(root, spec), clip) for root in (tmp_path / "here", tmp_path))
    assert len(here) == len(there) > 20
    assert all(torch.equal(mine.values, theirs.values) for mine, theirs in zip(here, there, strict=True))


def test_frames_that_were_not_encoded_yet_are_forgotten(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    decoder, encoder = started(nano, job_of(nano, (spec_for(nano),), tmp_path))
    _, parts = decoder.decode(videos[:2])
    assert not encoder.encode(parts).stored
    encoder.forget(videos[:1])
    assert [one.clip for one in encoder.flush(save=True).stored] == [videos[1]]
