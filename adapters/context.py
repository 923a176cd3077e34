"""What a head is built for: the features it reads and the targets it learns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest

if TYPE_CHECKING:
    from core_encoder.features.feature_spec import FeatureSpec

TargetKind = Literal["classes", "segments", "boxes", "text", "pairs"]


@dataclass(frozen=True)
class TargetSchema:
    """The targets of a task, and so the answers it wants.

        classes   a class index, or (K,) zeros and ones      ClassScores
        segments  spans of seconds with a class              Segments
        boxes     corners at a moment with classes           Boxes
        text      a caption, or the answer to a question     Text
        pairs     texts that belong to the video             Embedding

    Raises:
        InputError: an unknown kind.
    """

    kind: TargetKind = "classes"
    label_names: tuple[str, ...] = ()
    multi_label: bool = False  # a sample may have several classes at once, or none

    def __post_init__(self) -> None:
        object.__setattr__(self, "label_names", tuple(self.label_names))
        if self.kind not in get_args(TargetKind):
            raise InputError(f"target kind {self.kind!r} is unknown{nearest(str(self.kind), get_args(TargetKind))}")


@dataclass(frozen=True)
class Context:
    """Everything about its surroundings that a head may be built from.

    `dim` is the width D of the features. `features` says what they are (encoder, plan, kind, layers, grid of patches),
    `encoder_source` what their encoder was loaded by; None and empty where they came from elsewhere. `assets` is the
    folder of a saved adapter whose own files are read again, None for a fresh one.
    """

    dim: int
    targets: TargetSchema = field(default_factory=TargetSchema)
    features: FeatureSpec | None = None
    grid: tuple[int, int] | None = None  # rows and columns of patches; None: not known, assume a square
    assets: Path | None = None
    encoder_source: str = ""

    @classmethod
    def of_classes(cls, dim: int, label_names: Sequence[str], multi_label: bool = False) -> Context:
        """The context of a classification head on features of width `dim`."""
        return cls(dim, TargetSchema("classes", tuple(label_names), multi_label))

    @property
    def known_grid(self) -> tuple[int, int] | None:
        """Rows and columns of patches, where they are recorded."""
        return self.grid or (self.features.grid if self.features is not None else None)

    def patch_grid(self, num_patches: int) -> tuple[int, int]:
        """Rows and columns of `num_patches` patches: the recorded grid, or a square.

        Raises:
            InputError: they do not fit the recorded grid, or none is recorded and they form no square.
        """
        side = math.isqrt(num_patches)
        rows, columns = self.known_grid or (side, side)
        if rows * columns != num_patches:
            known = f"a grid of {rows} x {columns}" if self.known_grid else "a square, and no other grid is recorded"
            raise InputError(f"{num_patches} patches do not form {known}")
        return rows, columns

    def grid_or_row(self, num_patches: int) -> tuple[int, int]:
        """`patch_grid`, but features of unknown origin that form no square are taken for one row."""
        if self.known_grid is None and math.isqrt(num_patches) ** 2 != num_patches:
            return 1, num_patches
        return self.patch_grid(num_patches)
