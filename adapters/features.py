"""Features with their targets, as the training loop reads them: samples, batches, their seeded order, read ahead.

A data set is any sized object whose item `i` is a `Sample`. Two attributes spare a pass over the features when offered:
`ids` and `targets`, sequences as long as the set. A method `read_batch(indices) -> Batch`, when offered, is used. So is
a method `addresses()`, whose strings say what the features were made of: a run does not go on with others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from core_encoder.errors import InputError
from core_encoder.features.feature_spec import ClipKey
from core_encoder.video.video_files import video_digest

if TYPE_CHECKING:
    from core_encoder.clip_plan import Clip
    from core_encoder.features.feature_source import FeatureSource


@dataclass(frozen=True, eq=False)
class Sample:
    """One view of one video: features `(T, N, D)`, `(T, D)` or `(D,)` (layers in front), frame mask `(T,)` True = real,
    a target (class index, or `(K,)` zeros and ones), and the id of the video it belongs to.
    """

    features: Tensor
    mask: Tensor | None
    target: Any
    id: str


class Batch:
    """Samples stacked: features `(B, ...)`, mask `(B, T)` or None, targets `(B,)` or `(B, K)`, ids.

    No dataclass and no sequence: Lightning would take it apart and convert cached half precision to float32 beforehand,
    which attention pooling does sample by sample.
    """

    def __init__(self, features: Tensor, mask: Tensor | None, targets: Any, ids: Sequence[str]) -> None:
        self.features = features
        self.mask = mask
        self.targets = targets
        self.ids = tuple(ids)

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> Batch:
        """The batch with its tensors on `device`."""
        mask = None if self.mask is None else self.mask.to(device, non_blocking=True)
        targets = self.targets.to(device, non_blocking=True) if isinstance(self.targets, Tensor) else self.targets
        return Batch(self.features.to(device, non_blocking=True), mask, targets, self.ids)


class FeatureDataset(Protocol):
    """What the training loop reads; `InMemoryFeatures` and `ClipFeatures` are two, any other object will do."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


class InMemoryFeatures:
    """Features `(S, ...)` already in memory, with targets `(S,)` or `(S, K)` and, optionally, masks `(S, T)`.

    Raises:
        ValueError: the lengths differ.
    """

    def __init__(
        self, features: Tensor, targets: Any, masks: Tensor | None = None, ids: Sequence[str] | None = None
    ) -> None:
        self.features = features
        self.targets = torch.as_tensor(targets)
        self.masks = masks
        self.ids = tuple(str(i) for i in range(len(features))) if ids is None else tuple(ids)
        lengths = {len(features), len(self.targets), len(self.ids), len(features if masks is None else masks)}
        if len(lengths) > 1:
            raise ValueError(f"features, targets, masks and ids must be equally many, not {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> Sample:
        mask = None if self.masks is None else self.masks[index]
        return Sample(self.features[index], mask, self.targets[index], self.ids[index])

    def __repr__(self) -> str:
        return f"InMemoryFeatures({len(self)} x {tuple(self.features.shape[1:])})"


class ClipFeatures:
    """The features of labelled clips, from the cache or computed as they are asked for.

    Every view of a clip is a sample of its own that keeps the clip's id: several views, or all dense windows.

    Raises:
        ValueError: clips, targets and ids are not equally many.
        InputError: a clip of a dense plan is not cached, so that its windows cannot be counted.
    """

    def __init__(self, source: FeatureSource, clips: Sequence[Clip], targets: Any, ids: Sequence[str]) -> None:
        if not len(clips) == len(targets) == len(ids):
            raise ValueError(f"{len(clips)} clips, {len(targets)} targets and {len(ids)} ids must be equally many")
        self.source = source
        self.clips = tuple(clips)
        self._keys = [source.cached_keys(clip) for clip in self.clips]  # digests are of the bytes: looked up once
        counts = [self._num_views(index) for index in range(len(self.clips))]
        self._places = [(clip, view) for clip, count in enumerate(counts) for view in range(count)]
        self.ids = tuple(str(name) for name, count in zip(ids, counts, strict=True) for _ in range(count))
        self.targets = torch.as_tensor(targets).repeat_interleave(torch.tensor(counts, dtype=torch.long), dim=0)

    def addresses(self) -> list[str]:
        """The content address of every clip: how its features are made, of which bytes, within which bounds."""
        keys = (ClipKey.of(clip, video_digest(clip.path)) for clip in self.clips)
        return [self.source.spec.folder_name, *map(str, keys)]

    def _num_views(self, index: int) -> int:
        plan = self.source.spec.plan
        if not self._keys[index] and plan.sampling == "dense":
            raise InputError(f"{self.clips[index].path}: not cached, so its windows cannot be counted; encode it first")
        return len(self._keys[index]) or plan.views

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        clip, view = self._places[index]
        if self._keys[clip]:
            record = self.source.store.read(self._keys[clip][view])
        else:
            record = self.source[self.clips[clip]][view]
        return Sample(record.values, record.frame_mask, self.targets[index], self.ids[index])

    def read_batch(self, indices: Sequence[int]) -> Batch:
        """Samples stacked; cached ones are copied once, from the mapped shard into the batch."""
        chosen = [int(i) for i in indices]
        places = [self._places[i] for i in chosen]
        if not all(self._keys[clip] for clip, _ in places):
            return stack([self[i] for i in chosen])
        keys = [self._keys[clip][view] for clip, view in places]
        real = torch.tensor([self.source.store.info(key).num_real for key in keys])
        mask = torch.arange(self.source.spec.plan.num_frames) < real[:, None]  # (B, T)
        values = self.source.store.read_batch(keys)
        return Batch(values, mask, self.targets[chosen], [self.ids[i] for i in chosen])

    def __repr__(self) -> str:
        return f"ClipFeatures({len(self.clips)} clips, {len(self)} views)"


def ids_of(dataset: FeatureDataset) -> list[str]:
    """The id of every sample, without reading features where the data set offers them."""
    offered = getattr(dataset, "ids", None)
    return [str(name) for name in offered] if offered is not None else [dataset[i].id for i in range(len(dataset))]


def targets_of(dataset: FeatureDataset) -> list[Any]:
    """The target of every sample, without reading features where the data set offers them."""
    offered = getattr(dataset, "targets", None)
    return list(offered) if offered is not None else [dataset[i].target for i in range(len(dataset))]


def digest_of(dataset: FeatureDataset) -> str:
    """sha256 over the ids, targets and offered addresses of `dataset`: whether a resumed run sees the same samples."""
    digest = hashlib.sha256()
    for name, target in zip(ids_of(dataset), targets_of(dataset), strict=True):
        value = target.tolist() if isinstance(target, Tensor) else target
        digest.update(f"{name}\0{value}\n".encode())
    for address in dataset.addresses() if hasattr(dataset, "addresses") else ():
        digest.update(f"{address}\n".encode())
    return digest.hexdigest()


def read_batch(dataset: FeatureDataset, indices: Sequence[int]) -> Batch:
    """Read and stack the samples `indices`.

    Raises:
        InputError: their features differ in shape, or only some have a mask.
    """
    own = getattr(dataset, "read_batch", None)
    return own(indices) if own is not None else stack([dataset[int(i)] for i in indices])


def stack(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one shape.

    Raises:
        InputError: their features differ in shape, or only some have a mask.
    """
    first = samples[0]
    for sample in samples:
        if sample.features.shape != first.features.shape:
            raise InputError(
                f"features of {sample.id!r} have shape {tuple(sample.features.shape)} "
                f"but those of {first.id!r} {tuple(first.features.shape)}: encode both with one clip plan"
            )
    masks = [sample.mask for sample in samples if sample.mask is not None]
    if masks and len(masks) < len(samples):
        raise InputError(f"some samples beside {first.id!r} have a frame mask and some have none")
    targets = [sample.target for sample in samples]
    tensors = [torch.as_tensor(t) for t in targets] if isinstance(first.target, Tensor | int | np.ndarray) else None
    return Batch(
        torch.stack([sample.features for sample in samples]),
        torch.stack(masks) if masks else None,
        targets if tensors is None else torch.stack(tensors),
        tuple(sample.id for sample in samples),
    )


def epoch_batches(num_samples: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The shuffled sample indices of one epoch in nearly equal batches of at most `batch_size`, each sample once.

    It depends on nothing but its arguments, so a resumed epoch goes on in the order it began.
    """
    order = np.random.default_rng([seed, epoch]).permutation(num_samples)
    return even_batches(order.tolist(), batch_size)


def even_batches(indices: Sequence[int], batch_size: int) -> list[list[int]]:
    """`indices` in order, in as few batches of at most `batch_size` as possible, whose sizes differ by one at most."""
    parts = np.array_split(np.asarray(indices), -(-len(indices) // batch_size))
    return [part.tolist() for part in parts]


def read_ahead(dataset: FeatureDataset, batches: Sequence[Sequence[int]]) -> Iterator[Batch]:
    """Yield the batches in order, reading the next one in the background while the caller works on the last."""
    if not batches:
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as reader:
        upcoming = reader.submit(read_batch, dataset, batches[0])
        for following in [*batches[1:], None]:
            batch = upcoming.result()
            if following is not None:
                upcoming = reader.submit(read_batch, dataset, following)
            yield batch
