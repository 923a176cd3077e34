"""What is done to a clip in training: which augmentations there are, and all of them on one clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from core_encoder.preprocessing import Crop, Preprocessing
from fit.augmentation.crop import inception_box

AugmentName = Literal["crop", "flip", "colour", "randaugment", "mixup"]
"""`mixup` is of a whole batch: whoever computes the loss does it (`fit.augmentation.mixup`)."""

Read = Callable[[Preprocessing | Crop], NDArray[np.uint8]]
"""Reads the frames of a clip `(T, H, W, 3)` through a preprocessing."""


@dataclass(frozen=True)
class Augmentation:
    """The augmentations of clips; those of one clip depend on the generator alone.

    Attributes:
        names: which; their order here does not matter.
        least_area: of a crop, as a share of what the encoder sees of the frame.
    """

    names: tuple[AugmentName, ...] = ()
    least_area: float = 0.3

    def read(self, read: Read, preprocessing: Preprocessing, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Frames `(T, H, W, 3)`, cropped as they are read, then flipped, jittered, and changed by RandAugment."""
        shown = Crop(preprocessing, inception_box(rng, self.least_area)) if "crop" in self.names else preprocessing
        frames = read(shown)
        if "flip" in self.names and rng.random() < 0.5:
            frames = np.ascontiguousarray(frames[:, :, ::-1])
        if "colour" in self.names:
            from fit.augmentation.colour import colour_jitter

            frames = colour_jitter(frames, rng)
        if "randaugment" in self.names:
            from fit.augmentation.rand_augment import rand_augment

            frames = rand_augment(frames, rng)
        return frames


def sides_in(label_names: Sequence[str]) -> str | None:
    """The first label that speaks of a side, whose mirror image would be another class; None where none does.

    Sides are the words left, right, leftward(s), rightward(s), clockwise and its opposites, in any case and between
    anything that is no letter.
    """
    for label in label_names:
        words = "".join(letter.lower() if letter.isalpha() else " " for letter in label).split()
        if any(word in _SIDES for word in words):
            return label
    return None


_SIDES = {
    *("left", "right", "leftward", "rightward", "leftwards", "rightwards", "lefthanded", "righthanded"),
    *("clockwise", "anticlockwise", "counterclockwise"),
}
