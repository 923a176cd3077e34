"""What an extraction will write, before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import get_args

import numpy as np

from core_encoder.clip_plan import Clip
from core_encoder.encoder import Encoder
from core_encoder.errors import InputError
from core_encoder.features.feature_spec import ClipKey, FeatureKind, FeatureSpec
from core_encoder.features.feature_store import FeatureStore
from core_encoder.files.storage import readable_bytes
from core_encoder.files.urls import Location
from core_encoder.video.decoders import read_facts
from core_encoder.video.video_files import known_digest

_PROBED = 64  # dense plans: the durations of at most so many videos are read


@dataclass(frozen=True)
class Estimate:
    """The size of an extraction and whether it fits."""

    spec: FeatureSpec
    num_clips: int
    num_cached: int
    num_views: int  # to encode
    bytes_per_view: dict[str, int]  # of every kind
    free_bytes: float  # infinity where nobody says
    exact: bool  # False: some durations were not read

    @property
    def total_bytes(self) -> int:
        """What will be written."""
        return self.num_views * self.bytes_per_view[self.spec.kind]

    @property
    def fits(self) -> bool:
        return self.total_bytes <= self.free_bytes

    @property
    def copies(self) -> float:
        """How often a frame of a long video is kept: once for every dense window that holds it; vectors keep none."""
        plan = self.spec.plan
        if plan.sampling != "dense" or self.spec.kind in ("clip", "embedding"):
            return 0.0
        return plan.num_frames / (plan.window_stride or plan.num_frames)

    def __str__(self) -> str:
        about = "" if self.exact else "about "
        vectors = readable_bytes(self.num_views * self.bytes_per_view["clip"])
        overlap = (
            f"; windows overlap, each frame is kept {self.copies:g} times: kind 'clip' is a vector a window, {vectors}"
            if self.copies > 1
            else ""
        )
        return (
            f"{self.num_clips} clips, {self.num_cached} of them cached; to encode: {about}{self.num_views} views, "
            f"{readable_bytes(self.total_bytes)} of {self.spec.kind} in {self.spec.dtype}; "
            f"{self._room}{overlap}"
        )

    @property
    def _room(self) -> str:
        return f"{readable_bytes(self.free_bytes)} free" if isfinite(self.free_bytes) else "on an object store"

    def check(self, folder: Location, beside: int = 0) -> None:
        """Refuse what cannot fit, with so many bytes of other features beside it.

        Raises:
            InputError: it needs more than is free; names the kinds that need less.
        """
        if self.total_bytes + beside <= self.free_bytes:
            return
        size = self.bytes_per_view[self.spec.kind]
        coarser = [
            f"{kind!r} needs {readable_bytes(less * self.num_views)}"
            for kind, less in self.bytes_per_view.items()
            if less < size
        ]
        raise InputError(
            f"{folder}: {self.num_views} views of {self.spec.kind} in {self.spec.dtype} need "
            f"{readable_bytes(self.total_bytes)} but only {readable_bytes(self.free_bytes)} are free; "
            + (f"of the coarser kinds {' and '.join(coarser)}" if coarser else "free some space")
        )


def estimate(
    encoder: Encoder, clips: Sequence[Clip], spec: FeatureSpec, root: str | Location, *, count_cached: bool = True
) -> Estimate:
    """Estimate the extraction of `clips` into the store of `spec` under `root`.

    Only dense plans need to open videos, and then at most a few dozen, evenly chosen. Learning which clips are cached
    takes the digest of every video: with `count_cached=False` none is taken, and the result is an upper bound. Remote
    videos whose digest is not remembered count as not cached: none is read for an estimate.
    """
    store = FeatureStore(root, spec)
    missing = list(clips)
    if count_cached and len(store):
        missing = [clip for clip in clips if not is_cached(store, clip)]
    views_of = spec.plan.views if spec.plan.sampling != "dense" else 0
    probed = missing if views_of else _spread(missing, _PROBED)
    counts = [views_of or _num_missing(store, clip) for clip in probed]
    num_views = sum(counts) if len(probed) == len(missing) else round(float(np.mean(counts)) * len(missing))
    kinds = [kind for kind in get_args(FeatureKind) if kind != "embedding" or encoder.embedding_dim is not None]
    patches = (spec.preprocessing.image_size // encoder.patch_size) ** 2
    return Estimate(
        spec=spec,
        num_clips=len(clips),
        num_cached=len(clips) - len(missing),
        num_views=num_views,
        bytes_per_view={kind: _record_bytes(spec, kind, patches, encoder) for kind in kinds},
        free_bytes=store.files.free_bytes(),
        exact=len(probed) == len(missing),
    )


def _record_bytes(spec: FeatureSpec, kind: FeatureKind, patches: int, encoder: Encoder) -> int:
    width = (encoder.embedding_dim if kind == "embedding" else None) or encoder.dim
    layers = () if kind == "embedding" else spec.layers
    return replace(spec, kind=kind, layers=layers).record_bytes(patches, width)


def is_cached(store: FeatureStore, clip: Clip) -> bool:
    """Whether all views of a clip are stored, as far as that is known without reading a remote video."""
    try:
        digest = known_digest(clip.path)
        return digest is not None and bool(store.views(ClipKey.of(clip, digest)))
    except (InputError, OSError):
        return False


def _num_missing(store: FeatureStore, clip: Clip) -> int:
    """The windows of a clip that are not stored; those of a run that was cut off are."""
    try:
        facts = read_facts(clip.path, store.spec.decoder.partition("-")[0])
        count = len(store.spec.plan.views_of(facts, clip))
        digest = known_digest(clip.path)
        if digest is None or not len(store):
            return count
        key = ClipKey.of(clip, digest)
        return count - sum(store.has([key.view(index) for index in range(count)]))
    except (InputError, OSError):
        return 0


def _spread(clips: Sequence[Clip], at_most: int) -> list[Clip]:
    if len(clips) <= at_most:
        return list(clips)
    return [clips[index] for index in np.linspace(0, len(clips) - 1, at_most).astype(int)]
