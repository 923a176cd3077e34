"""One frame as it comes from its decoder; pixels are made of it when somebody asks for them."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class DecodedFrame(Protocol):
    """A decoded frame: what it takes in memory, and its pixels, uint8 RGB and upright."""

    @property
    def nbytes(self) -> int:
        """What it takes in memory while it is held."""

    def rgb(self) -> NDArray[np.uint8]:
        """All of its pixels `(H, W, 3)`."""

    def small(self, longest: int) -> NDArray[np.uint8]:
        """The picture shrunk until its longer side has at most `longest` pixels, `(h, w, 3)`; never enlarged."""


class ArrayFrame:
    """A frame of which the decoder gives the pixels themselves."""

    def __init__(self, pixels: NDArray[np.uint8]) -> None:
        self._pixels = pixels

    @property
    def nbytes(self) -> int:
        return self._pixels.nbytes

    def rgb(self) -> NDArray[np.uint8]:
        return self._pixels

    def small(self, longest: int) -> NDArray[np.uint8]:
        from PIL import Image

        height, width = self._pixels.shape[:2]
        size = small_size(width, height, longest)
        if size == (width, height):
            return self._pixels
        return np.array(Image.fromarray(self._pixels).resize(size, Image.Resampling.BILINEAR))


def small_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """Width and height of a picture whose longer side has at most `longest` pixels, in about its proportions."""
    scale = max(width, height) / longest
    return (width, height) if scale <= 1 else (max(round(width / scale), 1), max(round(height / scale), 1))
