"""The inception crop: a part of the picture of random area and shape, at a random place.

Source: Szegedy et al., arXiv 1409.4842, in the form that big_vision and torchvision gave it.
"""

from __future__ import annotations

import math

import numpy as np

ASPECT = 4 / 3  # the widest shape; the narrowest is its inverse
_TRIES = 10


def inception_box(
    rng: np.random.Generator, least_area: float, aspect: float = ASPECT
) -> tuple[float, float, float, float]:
    """A box `(left, top, right, bottom)` in fractions of a square: at least `least_area` of it, up to all.

    The logarithm of width over height is uniform up to that of `aspect`. Where no box of a drawn area and shape fits,
    after some tries, it is the whole.
    """
    for _ in range(_TRIES):
        area = rng.uniform(least_area, 1.0)
        shape = math.exp(rng.uniform(-math.log(aspect), math.log(aspect)))
        width, height = math.sqrt(area * shape), math.sqrt(area / shape)
        if width <= 1 and height <= 1:
            left, top = rng.uniform(0, 1 - width), rng.uniform(0, 1 - height)
            return left, top, left + width, top + height
    return 0.0, 0.0, 1.0, 1.0
