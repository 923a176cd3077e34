"""Frames of clips: those that features are made of, augmented by seed, epoch and place alone."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import pytest
import torch

from adapters.tuning.broken_clips import BrokenClips
from core_encoder.encoder import load_encoder
from core_encoder.errors import InputError
from core_encoder.preprocessing import to_video_tensor
from tests.adapters.tuning.frames import features_of, frames_of, spec_of, write_clips
from tests.videos import moving_square, write_video


def test_frames_are_those_that_features_are_made_of(tmp_path: Path) -> None:
    """Of two views, one padded: encoding the frames gives the very features of the store."""
    nano = load_encoder("nano")
    spec = spec_of(nano, num_frames=4, views=2, dtype="fp32")
    clips = [*write_clips(tmp_path, 2), *write_clips(tmp_path / "short", 1, num_frames=3)]
    features = features_of(clips, nano, spec, tmp_path / "store")
    frames = frames_of(features, spec)
    assert len(frames) == len(features) == 6 and frames.ids == features.ids
    for index in range(6):
        seen, known = frames[index], features[index]
        assert seen.features.dtype == torch.uint8 and seen.features.shape == (4, 48, 48, 3)
        assert (seen.id, seen.target) == (known.id, known.target)
        assert seen.times is not None and known.times is not None and seen.mask is not None and known.mask is not None
        assert torch.equal(seen.times.frames, known.times.frames) and torch.equal(seen.mask, known.mask)
        tokens = nano(to_video_tensor(seen.features[None]), seen.mask[None]).tokens[0]
        torch.testing.assert_close(tokens, known.features, atol=1e-5, rtol=1e-5)


def test_an_epoch_depends_on_seed_number_and_place_alone(tmp_path: Path) -> None:
    nano = load_encoder("nano")
    spec = spec_of(nano)
    features = features_of(write_clips(tmp_path, 4), nano, spec, tmp_path / "store")
    frames = frames_of(features, spec, "crop", "flip", "colour")
    first = frames.of_epoch(0, 7).read_batch([0, 1, 2, 3])
    again = pickle.loads(pickle.dumps(frames)).of_epoch(0, 7).read_batch([3, 1])  # noqa: S301 (as processes get it)
    assert torch.equal(first.features[[3, 1]], again.features)
    others = [frames.of_epoch(1, 7), frames.of_epoch(0, 8), frames]
    assert all(not torch.equal(first.features, other.read_batch([0, 1, 2, 3]).features) for other in others)
    plain = frames.read_batch([0, 1])
    assert torch.equal(plain.features[1], frames[1].features) and plain.ids == ("clip 0", "clip 1")


def test_a_video_that_breaks_costs_its_own_examples_and_is_told_and_listed_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nano = load_encoder("nano")
    spec, clips = spec_of(nano), write_clips(tmp_path, 4)
    frames = frames_of(features_of(clips, nano, spec, tmp_path / "store"), spec, "crop", most=2)
    addresses = frames.addresses()
    Path(clips[1].path).write_bytes(b"no video any more")
    Path(clips[3].path).unlink()
    with caplog.at_level(logging.WARNING):
        for seen in (frames.of_epoch(0, 0), frames.of_epoch(1, 0), frames):
            batch = seen.read_batch([3, 0, 1, 2])
            assert (batch.ids, batch.places) == (("clip 0", "clip 2"), [0, 2])
    assert [record.getMessage().count("it could be read before") for record in caplog.records] == [1, 1]
    listed = BrokenClips(tmp_path / "store" / "broken.jsonl", 0).failures()
    assert {one.path for one in listed} == {clips[1].path, clips[3].path} and all(one.reason for one in listed)
    assert frames.addresses() == addresses  # what a run is told by stays, though a file is gone
    alone = frames.of_epoch(0, 0).read_batch([3])  # a share of one: the next one stands in, round the end
    assert (alone.ids, alone.places) == (("clip 0",), [0]) and frames[1].id == "clip 2"


def test_too_many_broken_videos_are_an_error(tmp_path: Path) -> None:
    nano = load_encoder("nano")
    spec, clips = spec_of(nano), write_clips(tmp_path, 2)
    features = features_of(clips, nano, spec, tmp_path / "store")
    few, any_number = frames_of(features, spec), frames_of(features, spec, most=9)
    for clip in clips:
        Path(clip.path).write_bytes(b"no video any more")
    with pytest.raises(InputError, match=r"0\.mp4.*it could be read before.*more than max_unreadable allows"):
        few.of_epoch(0, 0).read_batch([0, 1])
    with pytest.raises(InputError, match="no clip beside it can be read any more"):
        any_number.read_batch([0, 1])


def test_another_video_under_the_name_is_another_address(tmp_path: Path) -> None:
    nano = load_encoder("nano")
    spec, clips = spec_of(nano), write_clips(tmp_path, 2)
    before = frames_of(features_of(clips, nano, spec, tmp_path / "store"), spec).addresses()
    write_video(Path(clips[0].path), moving_square(12, 48, 64, seed=77))
    after = frames_of(features_of(clips, nano, spec, tmp_path / "store"), spec).addresses()
    assert before != after and before[2] == after[2]
