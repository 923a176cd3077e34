"""Coarser features from finer ones: what is cached of one kind serves the kinds that are means of it.

    tokens (T, N, D) --mean over patches--> frames (T, D) --mean over real frames--> clip (D,)

The same arithmetic serves the encoder's output and what was read back. Stored values are rounded to the store's dtype;
their mean lies as near to the true one as that dtype can say, so features are only derived from a dtype at least as
precise. `embedding` is no mean of tokens and is never derived.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from core_encoder.features.feature_spec import ClipKey, FeatureKind, FeatureSpec, Record, StoredDtype
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.shard import as_stored
from core_encoder.features.shard_folder import shard_folder
from core_encoder.files.urls import Location, as_location

_FINER: dict[FeatureKind, tuple[FeatureKind, ...]] = {"clip": ("frames", "tokens"), "frames": ("tokens",)}
_AS_PRECISE: dict[StoredDtype, tuple[StoredDtype, ...]] = {
    "fp32": ("fp32",),
    "fp16": ("fp16", "fp32"),
    "bf16": ("bf16", "fp16", "fp32"),
    "int8": ("int8", "bf16", "fp16", "fp32"),
}


def coarsen(values: Tensor, given: FeatureKind, wanted: FeatureKind, mask: Tensor | None = None) -> Tensor:
    """Features of kind `given` as the coarser kind `wanted`; axes before those of the kind stay.

    `mask` (B, T) is True for real frames, None when all are; B is the first axis of `values`.
    """
    if given == "tokens" and wanted != "tokens":
        values, given = values.float().mean(-2), "frames"  # (..., T, D)
    if given == "frames" and wanted == "clip":
        if mask is None:
            return values.float().mean(-2)  # (..., D)
        weights = mask / mask.sum(1, keepdim=True)  # (B, T)
        weights = weights.reshape(len(mask), *[1] * (values.ndim - 3), -1, 1)
        return (values.float() * weights).sum(-2)  # (..., D)
    return values


class FinerStores:
    """The stores under `root` from which features of `spec` can be derived."""

    def __init__(self, root: str | Location, spec: FeatureSpec) -> None:
        self.spec = spec
        self.stores = [
            FeatureStore(root, finer)
            for finer in _finer(spec)
            if shard_folder(as_location(root) / finer.folder_name).read_spec() is not None
        ]

    def derive(self, clip: ClipKey) -> list[Record]:
        """The records of a clip, one a view, in the dtype of the spec; empty when it is cached in no finer kind.

        Raises:
            UnstorableFeatures: a value is beyond the range of the dtype.
        """
        for store in self.stores:
            if keys := store.views(clip):
                return [self._derived(store.read(key), store.spec.kind) for key in keys]
        return []

    def _derived(self, record: Record, given: FeatureKind) -> Record:
        mask = None if record.frame_mask.all() else record.frame_mask[None]
        values = coarsen(record.values[None], given, self.spec.kind, mask)[0]
        as_stored(values, self.spec.dtype)  # refuses what would become infinite
        return Record(record.key, values.to(self.spec.float_dtype), record.info)


def _finer(spec: FeatureSpec) -> Iterator[FeatureSpec]:
    for kind in _FINER.get(spec.kind, ()):
        for dtype in _AS_PRECISE[spec.dtype]:
            yield replace(spec, kind=kind, dtype=dtype)
