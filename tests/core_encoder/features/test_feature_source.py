"""Features of clips through one call, cached, derived or computed."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from core_encoder.clip_plan import Clip
from core_encoder.encoder import Encoder
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.extraction import extract, spec_for
from core_encoder.features.failures import Failure
from core_encoder.features.feature_source import FeatureSource
from tests.core_encoder.plain_features import DENSE


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


def test_another_process_gets_what_is_stored_without_the_encoder(
    nano: Encoder, videos: list[Clip], tmp_path: Path
) -> None:
    spec = spec_for(nano)
    extract(nano, videos[:1], spec, tmp_path)
    source = FeatureSource(nano, spec, tmp_path)
    sent = pickle.dumps(source)
    assert len(sent) < 20_000
    again = pickle.loads(sent)  # noqa: S301 (our own)
    assert torch.equal(again[videos[0]][0].values, source[videos[0]][0].values)
    with pytest.raises(InputError, match="no features of it in .*; encode it first"):
        again[videos[1]]
