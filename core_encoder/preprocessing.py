"""From decoded frames to the encoder's square input, resized as they are decoded: no full-size clip is ever held."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError
from core_encoder.fields import finite_number, record_from_dict, set_field, whole_number
from core_encoder.files.storage import nearest

_MOST_SIDE = 1 << 14  # pixels: one frame of that size takes three gigabytes as floats

if TYPE_CHECKING:
    from torch import Tensor

Geometry = Literal["resize", "center_crop"]
Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Preprocessing:
    """How a decoded frame becomes the encoder's square input.

    `resize` squeezes the whole frame to `image_size` x `image_size` (VideoPrism); `center_crop` scales the short side
    to `image_size` (CLIP), or to the larger `short_side` (V-JEPA 2), and cuts the middle square. The encoder applies
    `mean` and `std` to pixels in [0, 1] itself.

    Raises:
        InputError: a field is out of range.
    """

    image_size: int
    geometry: Geometry = "resize"
    interpolation: Interpolation = "bicubic"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    short_side: int | None = None  # of the scaled frame; None: `image_size`

    def __post_init__(self) -> None:
        set_field(self, "image_size", whole_number("preprocessing", "image_size", self.image_size, at_most=_MOST_SIDE))
        for name, known in (("geometry", ("resize", "center_crop")), ("interpolation", ("bilinear", "bicubic"))):
            value = getattr(self, name)
            if value not in known:
                raise InputError(f"preprocessing: {name} {value!r} is unknown{nearest(str(value), known)}")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, tuple | list) or len(values) != 3:
                raise InputError(f"preprocessing: {name} must hold three numbers, not {values!r}")
            above = 0.0 if name == "std" else -math.inf
            set_field(self, name, tuple(finite_number("preprocessing", name, value, above=above) for value in values))
        if self.short_side is not None:
            if self.geometry == "resize":
                raise InputError("preprocessing: short_side means nothing with geometry 'resize'; leave it out")
            side = whole_number("preprocessing", "short_side", self.short_side, at_least=self.image_size)
            set_field(self, "short_side", None if side == self.image_size else side)

    def describe(self) -> dict[str, Any]:
        """Every field that is set, ready for JSON; `Preprocessing.from_dict` reads them back."""
        about = asdict(self) | {"mean": list(self.mean), "std": list(self.std)}
        return {name: value for name, value in about.items() if value is not None}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Preprocessing:
        """The preprocessing that `describe` gave.

        Raises:
            InputError: an unknown or missing field, or a value the constructor refuses.
        """
        return record_from_dict(cls, "preprocessing", given)

    def with_geometry(self, geometry: Geometry) -> Preprocessing:
        """The same with another geometry; that of the whole frame knows no `short_side`."""
        return replace(self, geometry=geometry, short_side=self.short_side if geometry == "center_crop" else None)

    def apply(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Resize one frame `(H, W, 3)` to `(image_size, image_size, 3)`, antialiased, within a grey level of PIL."""
        import torch.nn.functional as F
        from torch import from_numpy

        size = self.image_size
        height, width = frame.shape[:2]
        scaled, (top, left) = self._placement(height, width)
        if scaled != (height, width):
            pixels = from_numpy(np.ascontiguousarray(frame)).permute(2, 0, 1)[
                None
            ]  # (1, 3, H, W), still channels last in memory
            pixels = F.interpolate(pixels, scaled, mode=self.interpolation, antialias=True, align_corners=False)
            frame = pixels[0].permute(1, 2, 0).numpy()
        return frame[top : top + size, left : left + size]

    def map_boxes(self, boxes: NDArray[np.floating[Any]], width: int, height: int) -> NDArray[np.float64]:
        """Boxes in a frame as boxes in the encoder's square input: corners `(left, top, right, bottom)` `(..., 4)`.

        Both are fractions, of a frame of `width` x `height` pixels and of the square. What a crop cuts off is cut off
        the boxes too: one that it leaves nothing of has no area.

        Raises:
            ValueError: boxes that are not `(..., 4)`.
        """
        corners = np.asarray(boxes, dtype=np.float64)
        if corners.ndim < 1 or corners.shape[-1] != 4:
            raise ValueError(f"boxes must be (..., 4), not {corners.shape}")
        scaled, (top, left) = self._placement(height, width)
        rows, columns = scaled
        scale = np.array([columns, rows, columns, rows]) / self.image_size
        shift = np.array([left, top, left, top]) / self.image_size
        return np.clip(corners * scale - shift, 0.0, 1.0)

    def _placement(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns of the scaled frame, and where in it the square begins."""
        size = self.image_size
        scaled = (size, size)
        if self.geometry == "center_crop":  # the long side is cut to a whole number, as in CLIP's own preprocessing
            short, side = min(height, width), self.short_side or size
            scaled = (side * height // short, side * width // short)
        return scaled, ((scaled[0] - size) // 2, (scaled[1] - size) // 2)


@dataclass(frozen=True)
class Crop:
    """A part of what a preprocessing shows, enlarged to the same square: training may look closer.

    `box` is `(left, top, right, bottom)` in fractions of the encoder's square.
    """

    preprocessing: Preprocessing
    box: tuple[float, float, float, float]

    @property
    def image_size(self) -> int:
        """Side of the square, in pixels."""
        return self.preprocessing.image_size

    def apply(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The part of one frame `(H, W, 3)` as `(image_size, image_size, 3)`, antialiased."""
        height, width = frame.shape[:2]
        (rows, columns), (top, left) = self.preprocessing._placement(height, width)
        across, down = width / columns, height / rows  # pixels of the frame for one of the scaled frame
        x0, y0, x1, y1 = (edge * self.image_size for edge in self.box)
        first_row, last_row = _edges((top + y0) * down, (top + y1) * down, height)
        first_column, last_column = _edges((left + x0) * across, (left + x1) * across, width)
        part = frame[first_row:last_row, first_column:last_column]
        return replace(self.preprocessing, geometry="resize", short_side=None).apply(part)


def _edges(first: float, last: float, size: int) -> tuple[int, int]:
    """Whole pixels from `first` to `last`, at least one."""
    start = min(max(round(first), 0), size - 1)
    return start, max(min(round(last), size), start + 1)


def to_video_tensor(frames: NDArray[np.uint8] | Tensor) -> Tensor:
    """Turn uint8 frames `(..., T, H, W, 3)` into a float32 video `(..., T, 3, H, W)` in [0, 1]."""
    import torch

    pixels = torch.as_tensor(frames)
    if pixels.dtype != torch.uint8 or pixels.ndim < 4 or pixels.shape[-1] != 3:
        raise ValueError(f"frames must be uint8 (..., T, H, W, 3), not {pixels.dtype} {tuple(pixels.shape)}")
    return pixels.movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
