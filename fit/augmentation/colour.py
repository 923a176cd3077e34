"""Colour jitter of a clip: brightness, contrast, saturation and hue, the same for all frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

STRENGTH = 0.4  # factors are drawn from 1 - STRENGTH to 1 + STRENGTH
HUE = 0.1  # of the whole circle, to both sides


def colour_jitter(frames: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Jitter frames `(T, H, W, 3)`; the four changes come in random order."""
    image = as_one_image(frames)
    factors = rng.uniform(1 - STRENGTH, 1 + STRENGTH, 3)
    hue = rng.uniform(-HUE, HUE)
    for change in rng.permutation(4):
        if change == 3:
            image = shift_hue(image, hue)
        else:
            enhance = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)[change]
            image = enhance(image).enhance(float(factors[change]))
    return as_frames(image, len(frames))


def shift_hue(image: Image.Image, share: float) -> Image.Image:
    """Turn every hue by a share of the whole circle."""
    hue, saturation, value = image.convert("HSV").split()
    turned = np.asarray(hue).astype(np.int16) + round(share * 256)
    moved = Image.fromarray((turned % 256).astype(np.uint8))
    return Image.merge("HSV", (moved, saturation, value)).convert("RGB")


def as_one_image(frames: NDArray[np.uint8]) -> Image.Image:
    """Frames `(T, H, W, 3)` below each other: what looks at the whole picture looks at the whole clip, and no frame
    flickers."""
    return Image.fromarray(np.ascontiguousarray(frames).reshape(-1, *frames.shape[2:]))


def as_frames(image: Image.Image, count: int) -> NDArray[np.uint8]:
    """The inverse of `as_one_image`: `(T, H, W, 3)`."""
    pixels = np.array(image)  # a copy: PIL's own memory may not be written to
    return pixels.reshape(count, -1, *pixels.shape[1:])
