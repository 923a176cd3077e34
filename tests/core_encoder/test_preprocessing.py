"""Resizing, held against PIL; records and tensors."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from core_encoder.errors import InputError
from core_encoder.preprocessing import Crop, Preprocessing, to_video_tensor


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth shapes and hard edges, uint8 `(H, W, 3)`."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 11, 3), dtype=np.uint8))
    frame = np.array(coarse.resize((width, height), Image.Resampling.BICUBIC))
    frame[height // 4 : height // 2, width // 3 : width // 2] = (250, 10, 130)
    return frame


def pil_resize(frame: np.ndarray, height: int, width: int, interpolation: str) -> np.ndarray:
    resample = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}[interpolation]
    return np.array(Image.fromarray(frame).resize((width, height), resample))


def assert_close(ours: np.ndarray, expected: np.ndarray) -> None:
    """Within one grey level, but for a rare two where PIL's and torch's fixed-point weights round apart."""
    difference = np.abs(ours.astype(int) - expected)
    assert difference.max() <= 2 and (difference > 1).mean() < 1e-4


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("height", "width", "size"), [(272, 640, 96), (65, 97, 48), (40, 30, 64), (720, 1280, 288)])
def test_resize_agrees_with_pil(height: int, width: int, size: int, interpolation: str) -> None:
    frame = picture(height, width)
    ours = Preprocessing(size, "resize", interpolation).apply(frame)  # type: ignore[arg-type]
    assert ours.shape == (size, size, 3) and ours.dtype == np.uint8
    assert_close(ours, pil_resize(frame, size, size, interpolation))


@pytest.mark.parametrize(("height", "width"), [(272, 640), (641, 273), (97, 96), (292, 292)])
def test_a_short_side_that_is_larger_is_cut_on_all_sides(height: int, width: int) -> None:
    frame, short = picture(height, width), min(height, width)
    tall, wide = 292 * height // short, 292 * width // short
    top, left = (tall - 256) // 2, (wide - 256) // 2
    whole = pil_resize(frame, tall, wide, "bilinear")
    preprocessing = Preprocessing(256, "center_crop", "bilinear", short_side=292)
    assert_close(preprocessing.apply(frame), whole[top : top + 256, left : left + 256])
    corners = np.array([left / wide, top / tall, (left + 256) / wide, (top + 256) / tall])
    np.testing.assert_allclose(preprocessing.map_boxes(corners, width, height), [0, 0, 1, 1], atol=1e-9)
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.describe()))) == preprocessing
    assert preprocessing.with_geometry("resize") == Preprocessing(256, "resize", "bilinear")
    assert preprocessing.with_geometry("center_crop") == preprocessing
    assert Preprocessing(224, "center_crop", short_side=224) == Preprocessing(224, "center_crop")
    for wrong in ({"short_side": 200, "geometry": "center_crop"}, {"short_side": 292}):
        with pytest.raises(InputError, match="short_side"):
            Preprocessing(256, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(("height", "width"), [(272, 640), (641, 273), (97, 96), (225, 224), (224, 229)])
def test_center_crop_is_that_of_clip(height: int, width: int) -> None:
    size, frame = 224, picture(height, width)
    short, long = sorted((height, width))
    scaled = int(size * long / short)
    tall, wide = (scaled, size) if height > width else (size, scaled)
    top, left = int((tall - size) / 2.0), int((wide - size) / 2.0)
    expected = pil_resize(frame, tall, wide, "bicubic")[top : top + size, left : left + size]
    ours = Preprocessing(size, "center_crop").apply(frame)
    assert ours.shape == (size, size, 3)
    assert_close(ours, expected)


def test_frames_of_the_right_size_are_left_alone() -> None:
    frame = picture(48, 48)
    for geometry in ("resize", "center_crop"):
        assert (Preprocessing(48, geometry).apply(frame) == frame).all()


def test_views_of_rows_are_resized_like_copies() -> None:
    frame = picture(90, 120)
    turned = np.rot90(frame, 2)[:, ::-1]
    assert (Preprocessing(32).apply(turned) == Preprocessing(32).apply(turned.copy())).all()


def test_video_tensors_are_floats_from_0_to_1_with_channels_third() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 5, 3), dtype=np.uint8)
    video = to_video_tensor(frames)
    assert video.shape == (2, 4, 3, 6, 5) and video.dtype == torch.float32 and video.is_contiguous()
    assert video[1, 2, 0, 3, 4].item() == pytest.approx(frames[1, 2, 3, 4, 0] / 255)
    assert torch.equal(video, to_video_tensor(torch.from_numpy(frames)))
    for wrong in (frames.astype(np.float32), frames[0, 0], frames[..., :2]):
        with pytest.raises(ValueError, match="uint8"):
            to_video_tensor(wrong)


def test_preprocessing_survives_json() -> None:
    clip = Preprocessing(224, "center_crop", mean=(0.48, 0.45, 0.4), std=(0.26, 0.26, 0.27))
    again = Preprocessing.from_dict(json.loads(json.dumps(clip.describe())))
    assert again == clip and hash(again) == hash(clip) and again != Preprocessing(224, "center_crop")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 0}, "image_size"),
        ({"image_size": 48, "geometry": "centre_crop"}, "did you mean 'center_crop'"),
        ({"image_size": 48, "interpolation": "nearest"}, "interpolation 'nearest'"),
        ({"image_size": 48, "std": (1, 0, 1)}, "std must be a finite number above 0"),
        ({"image_size": 48, "mean": (1, 0)}, "three numbers"),
        ({"image_size": 48, "size": 3}, "unknown field 'size'"),
        ({}, "image_size"),
    ],
)
def test_preprocessing_is_checked_at_birth(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Preprocessing.from_dict(fields)


@settings(max_examples=60, deadline=None)
@given(
    geometry=st.sampled_from(["resize", "center_crop"]),
    height=st.integers(40, 160),
    width=st.integers(40, 160),
    corners=st.tuples(*[st.floats(0.0, 1.0)] * 4),
)
def test_boxes_move_as_pixels_do(geometry: Any, height: int, width: int, corners: tuple[float, ...]) -> None:
    """A white box on black is found again where `map_boxes` says, to a pixel of the input."""
    left, right = sorted((round(corners[0] * width), round(corners[1] * width)))
    top, bottom = sorted((round(corners[2] * height), round(corners[3] * height)))
    assume(right - left >= 12 and bottom - top >= 12)
    frame = np.zeros((height, width, 3), np.uint8)
    frame[top:bottom, left:right] = 255
    preprocessing = Preprocessing(96, geometry, "bilinear")
    box = preprocessing.map_boxes(np.array([left / width, top / height, right / width, bottom / height]), width, height)
    lit = preprocessing.apply(frame)[..., 0] > 127
    if not lit.any():
        assert (box[2] - box[0]) * 96 < 2 or (box[3] - box[1]) * 96 < 2
        return
    rows, columns = np.flatnonzero(lit.any(1)), np.flatnonzero(lit.any(0))
    found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / 96
    np.testing.assert_allclose(box, found, atol=1.5 / 96)


def test_boxes_that_a_crop_leaves_out_have_no_area() -> None:
    box = Preprocessing(96, "center_crop").map_boxes(np.array([[0.0, 0.2, 0.1, 0.8], [0.25, 0.0, 0.75, 1.0]]), 200, 100)
    assert box[0, 2] == box[0, 0] == 0.0 and box[1].tolist() == [0.0, 0.0, 1.0, 1.0]
    with pytest.raises(ValueError, match=r"\(\.\.\., 4\)"):
        Preprocessing(96).map_boxes(np.zeros(3), 10, 10)


@pytest.mark.parametrize(("geometry", "short_side"), [("resize", None), ("center_crop", None), ("center_crop", 32)])
def test_a_crop_shows_the_same_place_larger(geometry: Any, short_side: int | None) -> None:
    """A crop of a quarter is, up to interpolation, that quarter of what is shown, at twice the size."""
    preprocessing = Preprocessing(24, geometry, short_side=short_side)
    rows, columns = np.indices((96, 160)).astype(np.float64)
    smooth = 127 + 60 * np.sin(columns / 25) + 50 * np.cos(rows / 20)
    frame = np.repeat(smooth[..., None], 3, axis=2).astype(np.uint8)
    whole = preprocessing.apply(frame).astype(float)
    for box in ((0.0, 0.0, 0.5, 0.5), (0.5, 0.25, 1.0, 0.75)):
        crop = Crop(preprocessing, box)
        seen = crop.apply(frame).astype(float)
        assert crop.image_size == 24 and seen.shape == (24, 24, 3)
        left, top = round(box[0] * 24), round(box[1] * 24)
        small = seen.reshape(12, 2, 12, 2, 3).mean((1, 3))
        assert np.abs(small - whole[top : top + 12, left : left + 12]).max() < 6
    assert np.abs(Crop(preprocessing, (0.0, 0.0, 1.0, 1.0)).apply(frame) - whole).max() < 8


def test_a_crop_of_almost_nothing_is_a_pixel() -> None:
    frame = np.arange(4 * 4 * 3, dtype=np.uint8).reshape(4, 4, 3)
    assert (Crop(Preprocessing(8), (0.99, 0.99, 1.0, 1.0)).apply(frame) == frame[3, 3]).all()
