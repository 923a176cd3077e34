"""What a stored feature is, and the content address under which it is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from os import fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.errors import InputError
from core_encoder.fields import whole_number
from core_encoder.files.storage import nearest
from core_encoder.preprocessing import Preprocessing

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FeatureKind = Literal["tokens", "frames", "clip", "embedding"]
StoredDtype = Literal["fp32", "fp16", "bf16", "int8"]
AXES: dict[FeatureKind, str] = {"tokens": "TND", "frames": "TD", "clip": "D", "embedding": "E"}
"""The axes of one view's features, a letter each."""
_NOT_ADDRESSED = ("encoder", "grid", "tubelet")
_PRECISIONS = ("fp32", "fp16", "bf16")
_BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1}
_VERSION = 2
_OLD_VERSION = 1  # padded clips had the temporal positions of the clip without its padding; a JSON entry a record


def serves(given: FeatureKind, needed: FeatureKind) -> bool:
    """Whether features of kind `given` can be read by who lives with the coarser kind `needed`, or are that kind."""
    rank = ("tokens", "frames", "clip")
    if given not in rank or needed not in rank:
        return given == needed
    return rank.index(given) <= rank.index(needed)


@dataclass(frozen=True)
class FeatureSpec:
    """What the features of one store are.

        tokens     (T, N, D)
        frames     (T, D)     the mean over patches
        clip       (D,)       the mean over patches and real time steps
        embedding  (E,)       the encoder's own embedding of the view, in the space of its texts

    T counts time steps, of which each is made from `tubelet` frames of the view. `grid` counts the rows and columns of
    the N patches of a time step, row by row. Both follow from the encoder and the preprocessing, so they are no part of
    the address.

    With `layers`, the raw outputs of those blocks are kept instead of the final tokens: a leading axis counts them.
    `int8` has one fp32 scale a token, the largest magnitude / 127.

    Raises:
        InputError: an unknown kind or dtype, a layer named twice, layers of an embedding, or frames that are no whole
            number of time steps.
    """

    encoder: str  # for people; the fingerprint decides
    fingerprint: str
    plan: ClipPlan
    preprocessing: Preprocessing
    decoder: str  # name and version: frames may differ between decoders
    kind: FeatureKind = "tokens"
    layers: tuple[int, ...] = ()
    dtype: StoredDtype = "fp16"
    grid: tuple[int, int] | None = None  # rows and columns of patches
    precision: str = "fp32"  # in which the encoder computes: it shows in the features, so it is part of the address
    tubelet: int = 1  # frames of a time step

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        for name, choice in (("kind", FeatureKind), ("dtype", StoredDtype)):
            given = getattr(self, name)
            if given not in get_args(choice):
                raise InputError(f"feature {name} {given!r} is unknown{nearest(str(given), get_args(choice))}")
        if self.precision not in _PRECISIONS:
            raise InputError(f"precision {self.precision!r} is unknown{nearest(self.precision, _PRECISIONS)}")
        if self.grid is not None:
            object.__setattr__(self, "grid", tuple(self.grid))
        if self.layers and self.kind == "embedding":
            raise InputError("an embedding is of the whole encoder: layers mean nothing for it")
        if len(set(self.layers)) != len(self.layers):
            raise InputError(f"layers {self.layers} name a layer twice")
        object.__setattr__(self, "tubelet", whole_number("feature spec", "tubelet", self.tubelet))
        if self.plan.num_frames % self.tubelet:
            count = f"{self.tubelet} frames" if self.tubelet > 1 else "one frame"
            raise InputError(
                f"encoder {self.encoder!r} makes each time step of {count}: take a multiple of {self.tubelet} frames "
                f"(--num-frames), not {self.plan.num_frames}"
            )

    def describe(self) -> dict[str, Any]:
        """The spec, ready for JSON; `FeatureSpec.from_dict` reads it back."""
        tubelet = {} if self.tubelet == 1 else {"tubelet": self.tubelet}
        return {
            "version": _VERSION,
            "encoder": self.encoder,
            "fingerprint": self.fingerprint,
            "plan": self.plan.describe(),
            "preprocessing": self.preprocessing.describe(),
            "decoder": self.decoder,
            "kind": self.kind,
            "layers": list(self.layers),
            "dtype": self.dtype,
            "grid": None if self.grid is None else list(self.grid),
            "precision": self.precision,
            **tubelet,
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> FeatureSpec:
        """The spec that `describe` gave.

        Raises:
            InputError: a field is missing or unknown, or the version is another.
        """
        if not isinstance(given, Mapping):
            raise InputError(f"feature spec: holds a {type(given).__name__}, not names and values")
        fields = dict(given)
        version = fields.pop("version", None)
        if version not in (_OLD_VERSION, _VERSION):
            raise InputError(f"feature spec: version {version!r} cannot be read, only {_VERSION}; encode again")
        try:
            plan = ClipPlan.from_dict(fields.pop("plan"))
            return cls(plan=plan, preprocessing=Preprocessing.from_dict(fields.pop("preprocessing")), **fields)
        except (KeyError, TypeError) as error:
            raise InputError(f"feature spec: {error}") from error

    @property
    def of_one_pass(self) -> tuple[str, ClipPlan, Preprocessing, str, str]:
        """What features must have in common to come of one pass over the frames."""
        return self.fingerprint, self.plan, self.preprocessing, self.decoder, self.precision

    @property
    def folder_name(self) -> str:
        """A readable prefix and a hash of everything but the encoder's name: the same weights, wherever from, share."""
        return self._folder_name(_VERSION)

    @property
    def old_folder_name(self) -> str:
        """Where version 1 kept such features; `prismhub cache convert` takes them over."""
        return self._folder_name(_OLD_VERSION)

    def _folder_name(self, version: int) -> str:
        identity = {name: value for name, value in self.describe().items() if name not in _NOT_ADDRESSED}
        identity["version"] = version
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
        return f"{self.kind}-{self.dtype}-{self.plan.num_frames}x{self.preprocessing.image_size}px-{digest}"

    @property
    def float_dtype(self) -> torch.dtype:
        """The dtype in which values are handed out unless another is asked for: as stored, fp32 for int8."""
        import torch

        from core_encoder.features.dtypes import TORCH_DTYPES

        return torch.float32 if self.dtype == "int8" else TORCH_DTYPES[self.dtype]

    @property
    def num_steps(self) -> int:
        """The time steps T of a view."""
        return self.plan.num_frames // self.tubelet

    def record_shape(self, num_patches: int, dim: int) -> tuple[int, ...]:
        """The shape of one record: `num_patches` tokens a time step, each of width `dim` (an embedding's own width)."""
        steps = self.num_steps
        shape = {"tokens": (steps, num_patches, dim), "frames": (steps, dim), "clip": (dim,), "embedding": (dim,)}[
            self.kind
        ]
        return (len(self.layers), *shape) if self.layers else shape

    def record_bytes(self, num_patches: int, dim: int) -> int:
        """The bytes of one record on disk, with its part of a shard's header."""
        values = prod(self.record_shape(num_patches, dim))
        scales = values // dim if self.dtype == "int8" else 0
        return values * _BYTES[self.dtype] + scales * 4 + 500 + 12 * self.num_steps


class ClipKey(NamedTuple):
    """The content address of a clip: sha256 of the video's bytes, and its bounds."""

    digest: str
    start_ms: int
    end_ms: int  # -1: to the end of the video

    @classmethod
    def of(cls, clip: Clip, digest: str) -> ClipKey:
        """The key of `clip` in a file of this digest."""
        return cls(digest, round(clip.start_s * 1000), -1 if clip.end_s is None else round(clip.end_s * 1000))

    def clip_in(self, path: str | Path) -> Clip:
        """The clip this key stands for in the file at `path`; its bounds are the key's, so key and content agree."""
        return Clip(fspath(path), self.start_ms / 1000, None if self.end_ms < 0 else self.end_ms / 1000)

    def view(self, index: int) -> FeatureKey:
        """The key of one view of this clip."""
        return FeatureKey(*self, index)


class FeatureKey(NamedTuple):
    """The content address of a record: a clip and the index of one of its views."""

    digest: str
    start_ms: int
    end_ms: int
    view: int

    def __str__(self) -> str:
        return f"{self.digest}:{self.start_ms}:{self.end_ms}:{self.view}"

    @property
    def clip_key(self) -> ClipKey:
        return ClipKey(*self[:3])

    @classmethod
    def parse(cls, text: str) -> FeatureKey:
        """The inverse of `str`; ValueError for anything else."""
        digest, start_ms, end_ms, view = text.split(":")
        return cls(digest, int(start_ms), int(end_ms), int(view))


@dataclass(frozen=True)
class RecordInfo:
    """What a record knows beside its values."""

    num_views: int  # of the whole clip
    num_real: int  # time steps from here on are padding
    start_s: float
    end_s: float
    times_s: tuple[float, ...]  # when each of the T time steps is shown: the mean time of its frames
    file_name: str = ""  # for people


@dataclass(frozen=True)
class Record:
    """The features of one view of a clip: one row of a store."""

    key: FeatureKey
    values: Tensor  # (T, N, D), (T, D) or (D,), with a leading axis for layers
    info: RecordInfo

    @property
    def frame_mask(self) -> Tensor:
        """Bool `(T,)`, False where a time step is padding."""
        import torch

        return torch.arange(len(self.info.times_s)) < self.info.num_real

    @property
    def start_s(self) -> float:
        return self.info.start_s

    @property
    def end_s(self) -> float:
        return self.info.end_s
