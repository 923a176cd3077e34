"""Processor configs as data, held against the processors of `transformers` on real frames."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core_encoder import Clip, ClipPlan, read_clip
from core_encoder.encoder import load_encoder
from core_encoder.errors import InputError
from core_encoder.models.processor_config import describe_processor, read_preprocessing
from core_encoder.preprocessing import Preprocessing, to_video_tensor
from tests.core_encoder.foreign_models import PROCESSORS, foreign_folder
from tests.videos import moving_square, write_video

DEFAULTS: dict[str, Any] = {"size": 24, "image_mean": (0.5, 0.5, 0.5), "image_std": (0.5, 0.5, 0.5)}


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """Frames (T, H, W, 3) of a real H.264 file, larger than any square that is made of them."""
    path = write_video(tmp_path_factory.mktemp("video") / "real.mp4", moving_square(16, 272, 398))
    return read_clip(Clip(str(path)), ClipPlan(4))


def their_pixels(family: str, folder: Path, frames: np.ndarray) -> torch.Tensor:
    """Normalized pixels (T, 3, H, W) by the processor of `transformers`, in its version for PIL.

    That of DINOv3 and V-JEPA 2 needs torchvision; the steps of their classes are done by one that takes the same steps.
    """
    from transformers import image_processing_backends  # noqa: F401  the processors below need it first
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
    from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

    name, _ = PROCESSORS[family]
    classes: dict[str, Any] = {"clip": CLIPImageProcessorPil, "siglip": SiglipImageProcessorPil}
    classes |= {"dinov3_vit": SiglipImageProcessorPil, "videomae": VideoMAEImageProcessorPil}
    own = json.loads((folder / name).read_text()) | ({"do_center_crop": True} if family == "vjepa2" else {})
    processor = classes.get(family, BitImageProcessorPil)(**own)
    if family == "videomae":
        return processor(list(frames), return_tensors="pt")["pixel_values"][0]
    return processor(list(frames), return_tensors="pt")["pixel_values"]


@pytest.mark.parametrize("family", sorted(PROCESSORS.keys() - {"siglip2"}))
def test_frames_are_prepared_as_by_transformers(family: str, tmp_path: Path, frames: np.ndarray) -> None:
    """Within two grey levels of 255, where resizing rounds; the mean difference is a tenth of one."""
    folder = foreign_folder(family, tmp_path / family)
    encoder = load_encoder(folder)
    ours = np.stack([encoder.preprocessing.apply(frame) for frame in frames])
    mine = encoder._normalize(to_video_tensor(ours)[None])[0]  # (T, 3, H, W)
    theirs = their_pixels(family, folder, frames)
    assert mine.shape == theirs.shape
    levels = (mine - theirs).abs() * torch.tensor(encoder.preprocessing.std)[:, None, None] * 255
    assert float(levels.max()) < 2.01 and float(levels.mean()) < 0.1, (float(levels.max()), float(levels.mean()))


def test_a_square_frame_becomes_the_patches_of_naflex(tmp_path: Path, frames: np.ndarray) -> None:
    from transformers.models.siglip2.image_processing_pil_siglip2 import (
        Siglip2ImageProcessorPil,
        convert_image_to_patches,
    )

    square = frames[:, :272, :272]
    encoder = load_encoder(foreign_folder("siglip2", tmp_path / "siglip2"))
    ours = to_video_tensor(np.stack([encoder.preprocessing.apply(frame) for frame in square]))
    mine = np.stack([convert_image_to_patches(one, 8) for one in encoder._normalize(ours[None])[0].numpy()])
    theirs = Siglip2ImageProcessorPil(**PROCESSORS["siglip2"][1])(list(square), return_tensors="pt")
    assert theirs["spatial_shapes"].tolist() == [[4, 4]] * len(square)
    assert np.abs(mine - theirs["pixel_values"].numpy()).max() * 127.5 < 2.01


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Preprocessing(24, "resize", "bicubic", (0.5,) * 3, (0.5,) * 3)),
        ({"size": None, "do_center_crop": None, "resample": None}, {"image_size": 24, "geometry": "resize"}),
        ({"size": 32, "crop_size": 24, "do_center_crop": True}, {"geometry": "center_crop", "short_side": 32}),
        ({"size": {"shortest_edge": 21}, "crop_pct": 0.875}, {"image_size": 21, "short_side": 24}),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, {"image_size": 384, "geometry": "resize"}),
        ({"size": {"height": 24, "width": 24}, "do_center_crop": True}, {"geometry": "resize", "short_side": None}),
        ({"do_rescale": True, "rescale_factor": 1 / 127.5}, {"mean": (0.25,) * 3, "std": (0.25,) * 3}),
        (
            {"do_rescale": False, "image_mean": [51.0] * 3, "image_std": [102.0] * 3},
            {"mean": (0.2,) * 3, "std": (0.4,) * 3},
        ),
        ({"do_rescale": False, "do_normalize": False}, {"mean": (0.0,) * 3, "std": (1 / 255,) * 3}),
        ({"do_normalize": False, "resample": 2}, {"mean": (0.0,) * 3, "interpolation": "bilinear"}),
    ],
)
def test_what_a_file_says_counts(tmp_path: Path, given: dict[str, Any], expected: Any) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(given))
    found = read_preprocessing(tmp_path, DEFAULTS)
    wanted = expected.describe() if isinstance(expected, Preprocessing) else expected
    for name, value in wanted.items():
        own = getattr(found, name)
        assert own == pytest.approx(value) if name in ("mean", "std") else own == value, name


def test_a_video_processor_and_a_joint_file_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": {"size": 40}}))
    assert read_preprocessing(tmp_path, DEFAULTS).image_size == 40
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps({"size": 48}))
    assert read_preprocessing(tmp_path, DEFAULTS).image_size == 48


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "holds no names and values"),
        ({"do_resize": False}, "do_resize false"),
        ({"resample": 1}, "resample 1 is not supported"),
        ({"size": 24, "crop_size": 32, "do_center_crop": True}, "crop of 32 from a short side of 24"),
        ({"size": {"height": 40, "width": 40}, "crop_size": 32, "do_center_crop": True}, "squeezed to 40 x 40"),
        ({"size": {"height": 40, "width": 32}}, "not square"),
        ({"rescale_factor": 0}, "rescale_factor is 0"),
        ({"image_mean": 0.5}, "preprocessor_config.json"),
        ({"image_std": [0, 0, 0]}, "std must be"),
        ({"size": {}}, "size {} is not square"),
        ({"size": {"longest_edge": 40}}, "'longest_edge': 40} is not square"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(tmp_path: Path, given: Any, message: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(given))
    with pytest.raises(InputError, match=message) as caught:
        read_preprocessing(tmp_path, DEFAULTS)
    assert "\n" not in str(caught.value) and "preprocess" in str(caught.value)


def test_without_a_file_the_defaults_count_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "no-processor-here"
    folder.mkdir()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert read_preprocessing(folder, DEFAULTS).image_size == 24
    (record,) = caplog.records
    assert "no-processor-here: holds no video_preprocessor_config.json" in record.message


@pytest.mark.parametrize("processor", ["CLIPImageProcessor", "VJEPA2VideoProcessor"])
@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(24, "resize", "bilinear", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        Preprocessing(24, "center_crop", "bicubic", short_side=30),
        Preprocessing(24, "center_crop"),
    ],
)
def test_what_is_written_is_read_back(tmp_path: Path, preprocessing: Preprocessing, processor: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(describe_processor(preprocessing, processor)))
    assert read_preprocessing(tmp_path, DEFAULTS) == preprocessing
