"""A video in memory has the features of the file it was decoded from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from core_encoder.array_videos import array_videos
from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.encoder import Encoder, load_encoder
from core_encoder.errors import EncoderMismatch, InputError
from core_encoder.extraction import spec_for
from core_encoder.features.array_source import ArraySource
from core_encoder.features.failures import Failure
from core_encoder.features.feature_source import FeatureSource
from core_encoder.features.feature_spec import Record
from core_encoder.preprocessing import to_video_tensor
from core_encoder.video.decoders import open_video
from tests.core_encoder.checkpoint_files import clip_model, save
from tests.videos import moving_square, write_video


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """H.264 files of 30, 17 and 5 frames, of three sizes; read only."""
    folder = tmp_path_factory.mktemp("videos")
    sizes = ((30, 90, 120), (17, 64, 48), (5, 100, 100))
    return [
        str(write_video(folder / f"{i}.mp4", moving_square(*size, seed=i), fps=25, bframes=2))
        for i, size in enumerate(sizes)
    ]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(save(clip_model(), tmp_path_factory.mktemp("encoder") / "clip"))


def whole(path: str) -> np.ndarray:
    """All frames of a file at full size, uint8 `(T, H, W, 3)`."""
    with open_video(path) as video:
        return video.read(range(video.facts.num_frames))


def read(found: list[Record] | Failure) -> list[Record]:
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(
    ("kind", "plan", "layers"),
    [
        ("embedding", ClipPlan(8), ()),
        ("clip", ClipPlan(8, views=3), ()),
        ("tokens", ClipPlan(6, "stride", stride=2, views=2), ()),
        ("frames", ClipPlan(8, "dense", stride=1, window_stride=4), ()),
        ("frames", ClipPlan(8), (0, -1)),
    ],
)
@pytest.mark.parametrize("name", ["nano", "clip"])
def test_a_file_and_its_frames_are_equal(
    nano: Encoder, clip: Encoder, files: list[str], tmp_path: Path, name: str, kind: str, plan: ClipPlan, layers: tuple
) -> None:
    encoder = {"nano": nano, "clip": clip}[name]
    spec = spec_for(encoder, plan, kind=kind, layers=layers, dtype="fp32")  # type: ignore[arg-type]
    expected = FeatureSource(encoder, spec, tmp_path).records([Clip(path) for path in files])
    ours = ArraySource(encoder, spec, batch_size=3).records(array_videos(map(whole, files)))
    for theirs, mine in zip(expected, ours, strict=True):
        for one, other in zip(read(theirs), read(mine), strict=True):
            torch.testing.assert_close(other.values, one.values, atol=2e-5, rtol=1e-5)
            assert torch.equal(other.frame_mask, one.frame_mask)
            assert other.info.num_views == one.info.num_views and other.key.view == one.key.view
            assert (other.start_s / 25, other.end_s / 25) == pytest.approx((one.start_s, one.end_s), abs=1e-3)
            assert [t / 25 for t in other.info.times_s] == pytest.approx(one.info.times_s, abs=1e-3)


def test_a_float_video_of_the_encoders_size_is_what_it_sees(nano: Encoder) -> None:
    frames = np.stack([moving_square(8, 48, 48, seed=seed) for seed in range(3)])
    video = to_video_tensor(frames)  # (3, 8, 3, 48, 48)
    spec = spec_for(nano, kind="embedding", dtype="fp32")
    found = ArraySource(nano, spec, batch_size=2).records(array_videos([video]))
    values = torch.stack([read(one)[0].values for one in found])
    torch.testing.assert_close(values, nano.embed_video(video), atol=1e-5, rtol=0)


def test_seconds_and_other_encoders_are_refused(nano: Encoder, clip: Encoder) -> None:
    for plan in (ClipPlan(8, "fps", fps=4), ClipPlan.windows(8, 2.0, 1.0)):
        with pytest.raises(InputError, match="4 a second here, and an array knows no seconds"):
            ArraySource(nano, spec_for(nano, plan))
    with pytest.raises(EncoderMismatch):
        ArraySource(nano, spec_for(clip))
    with pytest.raises(InputError, match="computed in bf16"):
        ArraySource(nano, replace(spec_for(nano), precision="bf16"))


def test_an_array_that_may_not_be_written_to(nano: Encoder, recwarn: pytest.WarningsRecorder) -> None:
    frames = moving_square(8, 48, 48)
    frames.setflags(write=False)
    assert read(ArraySource(nano, spec_for(nano)).records(array_videos([frames]))[0])
    assert not [warning for warning in recwarn if "writable" in str(warning.message)]


def test_features_that_cannot_be_stored_are_a_failure(nano: Encoder) -> None:
    loud = load_encoder("nano")
    loud.model.vision.temporal_norm.weight.fill_(1e7)
    spec = spec_for(loud, kind="clip", dtype="fp16")
    videos = array_videos([moving_square(8, 48, 48), moving_square(8, 48, 48, seed=1)])
    found = ArraySource(loud, spec).records(videos)
    failures = [one for one in found if isinstance(one, Failure)]
    assert [one.path for one in failures] == ["0", "1"]
    assert all("beyond the range of fp16" in one.reason for one in failures)
