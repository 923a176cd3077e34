"""RandAugment of a clip: a few operations of PIL drawn from fourteen, all of one magnitude, the same for all frames.

Source: Cubuk et al., arXiv 1909.13719. What looks at the whole picture (contrast, equalize) looks at the whole clip;
what moves pixels moves those of each frame.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from fit.augmentation.colour import as_frames, as_one_image

OPERATIONS = 2  # of a clip
MAGNITUDE = 9  # of 30
_GREY = (128, 128, 128)  # where a picture was moved away

Operation = Callable[[Image.Image, float], Image.Image]
"""Takes an image and a strength from -1 to 1, whose sign matters only for what has two directions."""


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance]) -> Operation:
    return lambda image, strength: kind(image).enhance(1 + 0.9 * strength)


def _affine(matrix: Callable[[float, int, int], tuple[float, ...]]) -> Operation:
    def run(image: Image.Image, strength: float) -> Image.Image:
        moved = matrix(strength, image.width, image.height)
        return image.transform(image.size, Image.Transform.AFFINE, moved, Image.Resampling.BILINEAR, fillcolor=_GREY)

    return run


OF_CLIPS: dict[str, Operation] = {
    "identity": lambda image, strength: image,
    "autocontrast": lambda image, strength: ImageOps.autocontrast(image),
    "equalize": lambda image, strength: ImageOps.equalize(image),
    "posterize": lambda image, strength: ImageOps.posterize(image, 8 - round(4 * abs(strength))),
    "solarize": lambda image, strength: ImageOps.solarize(image, round(256 * (1 - abs(strength)))),
    "brightness": _enhance(ImageEnhance.Brightness),
    "contrast": _enhance(ImageEnhance.Contrast),
    "colour": _enhance(ImageEnhance.Color),
}
OF_FRAMES: dict[str, Operation] = {
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "rotate": lambda image, strength: image.rotate(30 * strength, Image.Resampling.BILINEAR, fillcolor=_GREY),
    "shear_x": _affine(lambda s, width, height: (1, 0.3 * s, 0, 0, 1, 0)),
    "shear_y": _affine(lambda s, width, height: (1, 0, 0, 0.3 * s, 1, 0)),
    "translate_x": _affine(lambda s, width, height: (1, 0, 0.3 * s * width, 0, 1, 0)),
    "translate_y": _affine(lambda s, width, height: (1, 0, 0, 0, 1, 0.3 * s * height)),
}


def rand_augment(
    frames: NDArray[np.uint8], rng: np.random.Generator, operations: int = OPERATIONS, magnitude: int = MAGNITUDE
) -> NDArray[np.uint8]:
    """Apply random operations to frames `(T, H, W, 3)`; `magnitude` counts from 0 to 30."""
    names = [*OF_CLIPS, *OF_FRAMES]
    for place in rng.integers(len(names), size=operations):
        strength = float(rng.choice((-1.0, 1.0))) * magnitude / 30
        frames = apply_operation(frames, names[place], strength)
    return frames


def apply_operation(frames: NDArray[np.uint8], name: str, strength: float) -> NDArray[np.uint8]:
    """One operation on frames `(T, H, W, 3)`, at a strength from -1 to 1."""
    if name in OF_CLIPS:
        return as_frames(OF_CLIPS[name](as_one_image(frames), strength), len(frames))
    return np.stack([np.asarray(OF_FRAMES[name](Image.fromarray(frame), strength)) for frame in frames])
