"""Crop, flip and the rest on clips: drawn once for all frames, and the operations are those of PIL."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from core_encoder.preprocessing import Crop, Preprocessing
from fit.augmentation.augmentation import Augmentation, sides_in
from fit.augmentation.colour import colour_jitter, shift_hue
from fit.augmentation.crop import inception_box
from fit.augmentation.rand_augment import OF_CLIPS, OF_FRAMES, apply_operation, rand_augment

SIZE = 32
FRAMES = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)
STILL = np.repeat(FRAMES[:1], 4, axis=0)


def reading(shown: Preprocessing | Crop) -> NDArray[np.uint8]:
    return np.stack([shown.apply(frame) for frame in FRAMES])


def test_inception_boxes_lie_inside_and_have_the_areas_and_shapes_that_were_asked_for() -> None:
    rng = np.random.default_rng(1)
    boxes = np.array([inception_box(rng, 0.3) for _ in range(2000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0 and boxes.max() <= 1
    area, shape = width * height, width / height
    assert 0.3 <= area.min() < 0.32 and area.max() > 0.95
    assert 0.74 < shape.min() < 0.78 and 1.28 < shape.max() < 1.34
    centres = (boxes[:, 0] + boxes[:, 2]) / 2
    assert abs(centres.mean() - 0.5) < 0.02  # no side is preferred


def test_the_same_generator_gives_the_same_clip_and_another_another() -> None:
    every = Augmentation(("crop", "flip", "colour", "randaugment"))
    once, again, other = (every.read(reading, Preprocessing(24), np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert once.shape == (4, 24, 24, 3) and once.dtype == np.uint8
    assert np.array_equal(once, again) and not np.array_equal(once, other)


def test_without_any_a_clip_is_as_it_is_judged() -> None:
    plain = Augmentation().read(reading, Preprocessing(24), np.random.default_rng(0))
    assert np.array_equal(plain, reading(Preprocessing(24)))


def test_flips_mirror_all_frames_of_half_of_the_clips() -> None:
    flips = Augmentation(("flip",))
    whole = reading(Preprocessing(SIZE))
    mirrored = 0
    for seed in range(200):
        seen = flips.read(reading, Preprocessing(SIZE), np.random.default_rng(seed))
        is_mirrored = np.array_equal(seen, whole[:, :, ::-1])
        assert is_mirrored or np.array_equal(seen, whole)
        mirrored += is_mirrored
    assert 75 < mirrored < 125


@pytest.mark.parametrize("name", sorted({**OF_CLIPS, **OF_FRAMES}))
def test_a_still_clip_stays_still(name: str) -> None:
    """All frames change alike: else augmentation would add motion."""
    for strength in (-0.4, 0.4):
        changed = apply_operation(STILL, name, strength)
        assert changed.shape == STILL.shape and changed.dtype == np.uint8
        assert (changed == changed[:1]).all()


@pytest.mark.parametrize(
    ("name", "of_pil"),
    [
        ("autocontrast", lambda image: ImageOps.autocontrast(image)),
        ("equalize", lambda image: ImageOps.equalize(image)),
        ("posterize", lambda image: ImageOps.posterize(image, 6)),
        ("solarize", lambda image: ImageOps.solarize(image, 154)),
        ("brightness", lambda image: ImageEnhance.Brightness(image).enhance(1.36)),
        ("contrast", lambda image: ImageEnhance.Contrast(image).enhance(1.36)),
        ("colour", lambda image: ImageEnhance.Color(image).enhance(1.36)),
        ("sharpness", lambda image: ImageEnhance.Sharpness(image).enhance(1.36)),
    ],
)
def test_on_one_frame_an_operation_is_that_of_pil(name: str, of_pil: object) -> None:
    wanted = np.asarray(of_pil(Image.fromarray(FRAMES[0])))  # type: ignore[operator]
    assert np.array_equal(apply_operation(FRAMES[:1], name, 0.4)[0], wanted)


def test_what_moves_pixels_moves_a_dot_where_it_should() -> None:
    dot = np.zeros((2, 33, 33, 3), np.uint8)
    dot[:, 16, 26] = 255  # ten pixels right of the middle

    def place(name: str, strength: float) -> tuple[float, float]:
        seen = apply_operation(dot, name, strength)[0].astype(float)
        light = np.where((seen == 128).all(-1), 0, seen[..., 0])  # grey is where the picture was moved away
        rows, columns = np.indices(light.shape)
        return float((rows * light).sum() / light.sum()), float((columns * light).sum() / light.sum())

    assert place("translate_x", 0.5) == pytest.approx((16, 26 - 0.15 * 33), abs=0.3)
    assert place("translate_y", -0.5) == pytest.approx((16 + 0.15 * 33, 26), abs=0.3)
    assert place("rotate", 1.0) == pytest.approx((16 - 10 * np.sin(np.pi / 6), 16 + 10 * np.cos(np.pi / 6)), abs=0.5)


def test_contrast_is_of_the_whole_clip() -> None:
    """Of single frames each would be pulled to its own mean, and a clip that grows brighter would flicker."""
    ramp = np.stack([np.full((8, 8, 3), value, np.uint8) for value in (80, 100, 120, 140)])
    changed = apply_operation(ramp, "contrast", 1.0).astype(float)
    steps = np.diff(changed[:, 0, 0, 0])
    assert (steps > 35).all() and steps.std() < 2


def test_hue_turns_round_the_circle() -> None:
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    assert shift_hue(red, 0.0).getpixel((0, 0)) == (255, 0, 0)
    turned = np.array(shift_hue(red, 1 / 3).getpixel((0, 0)))
    assert np.abs(turned - (0, 255, 0)).max() < 8
    assert np.array_equal(np.asarray(shift_hue(red, -2 / 3)), np.asarray(shift_hue(red, 1 / 3)))


def test_jitter_and_rand_augment_keep_shape_and_change_pixels() -> None:
    for change in (colour_jitter, rand_augment):
        seen = [change(FRAMES, np.random.default_rng(seed)) for seed in range(8)]
        assert all(one.shape == FRAMES.shape and one.dtype == np.uint8 for one in seen)
        assert sum(not np.array_equal(one, FRAMES) for one in seen) >= 6


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (["running", "jumping"], None),
        (["up", "moving left"], "moving left"),
        (["Pushing_something_from_RIGHT_to_left"], "Pushing_something_from_RIGHT_to_left"),
        (["turn-clockwise"], "turn-clockwise"),
        (["copyright", "leftover", "alright"], None),
        ([], None),
    ],
)
def test_labels_that_speak_of_sides(labels: list[str], found: str | None) -> None:
    assert sides_in(labels) == found
