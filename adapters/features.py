"""Features with their targets, as adapters read them: examples, batches, data sets, their seeded order, read ahead.

A data set is any sized object whose item `i` is an `Example`. Two attributes spare a pass over the features when
offered: `ids` and `targets`, sequences as long as the set. A method `read_batch(indices) -> Batch`, when offered, is
used by adapters whose `collate` is the plain one. So is a method `addresses()`, whose strings say what the features
were made of: a run does not go on with others. A method `of_epoch(epoch, seed)`, when offered, gives the set as
an epoch of training sees it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from adapters.predictions import Truth
from core_encoder.errors import InputError
from core_encoder.features.feature_spec import ClipKey
from core_encoder.video.video_files import video_digest

if TYPE_CHECKING:
    from core_encoder.clip_plan import Clip
    from core_encoder.features.feature_source import FeatureSource
    from core_encoder.features.feature_spec import Record


@dataclass(frozen=True, eq=False)
class Times:
    """When the features of an example are: `frames (T,)` and `span (2,)`, start and end, in seconds of the video.

    For an example of a whole clip both have its windows in front: `(W, T)` and `(W, 2)`.
    """

    frames: Tensor
    span: Tensor


@dataclass(frozen=True, eq=False)
class Example:
    """One view of a video, or all views of a clip, with what is known of it.

    Features are `(T, N, D)`, `(T, D)` or `(D,)`, layers in front; the frame mask `(T,)` is True for real frames. An
    example of a whole clip has its W views in front of both.
    """

    features: Tensor
    mask: Tensor | None
    target: Any
    id: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    times: Times | None = None

    @property
    def truth(self) -> Truth:
        """The example without its features."""
        return Truth(self.id, self.target, self.inputs)


class _Inputs(dict[str, Any]):
    """What is given beside the videos, by name."""

    def __missing__(self, name: str) -> Any:
        how = f"predict(videos, given={{{name!r}: ...}})"
        raise InputError(f"the adapter wants {name!r} beside each video: give it, as in {how}")


class Batch:
    """Examples together: features `(B, ...)`, mask `(B, T)` or None, targets, ids, inputs and times.

    Targets are `(B,)` or `(B, K)` where they are numbers of one shape, else a list; `inputs` holds a list of B values a
    name, tensors stacked where they have one shape; `times` is a list, None where nothing is known of them. `places`
    are the indices of the examples in their data set, where whoever made the batch tells them.

    No dataclass and no sequence: Lightning would take it apart and convert cached half precision to float32 beforehand,
    which attention pooling does sample by sample.
    """

    def __init__(
        self,
        features: Any,
        mask: Any,
        targets: Any,
        ids: Sequence[str],
        inputs: Mapping[str, Any] | None = None,
        times: Sequence[Times | None] | None = None,
        places: Sequence[int] | None = None,
    ) -> None:
        self.places = places
        self.features = features
        self.mask = mask
        self.targets = targets
        self.ids = tuple(ids)
        self.inputs = _Inputs(inputs or {})
        self.times = list(times) if times is not None else [None] * len(self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def truths(self) -> list[Truth]:
        """What is known of each sample."""
        targets = self.targets if self.targets is not None else [None] * len(self)
        names = list(self.inputs)
        rows = zip(*self.inputs.values(), strict=True) if names else [()] * len(self)
        return [
            Truth(one, target, dict(zip(names, row, strict=True)))
            for one, target, row in zip(self.ids, targets, rows, strict=True)
        ]

    def to(self, device: torch.device | str) -> Batch:
        """The batch with its tensors on `device`."""
        inputs = {name: _moved(value, device) for name, value in self.inputs.items()}
        features, mask, targets = (_moved(value, device) for value in (self.features, self.mask, self.targets))
        return Batch(features, mask, targets, self.ids, inputs, self.times, self.places)


def _moved(value: Any, device: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    return [_moved(one, device) for one in value] if isinstance(value, list) else value


class FeatureDataset(Protocol):
    """What the training loop reads; `InMemoryFeatures` and `ClipFeatures` are two, any other object will do."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...


class InMemoryFeatures:
    """Features `(S, ...)` already in memory, with targets `(S,)` or `(S, K)` and, optionally, masks `(S, T)`.

    Targets that are no numbers stay a list; `inputs` holds S values a name.

    Raises:
        ValueError: the lengths differ.
    """

    def __init__(
        self,
        features: Tensor,
        targets: Any,
        masks: Tensor | None = None,
        ids: Sequence[str] | None = None,
        inputs: Mapping[str, Sequence[Any]] | None = None,
    ) -> None:
        self.features = features
        self.targets = _as_targets(targets)
        self.masks = masks
        self.ids = tuple(str(i) for i in range(len(features))) if ids is None else tuple(ids)
        self.inputs = dict(inputs or {})
        given = (features, self.targets, self.ids, features if masks is None else masks, *self.inputs.values())
        if len({len(one) for one in given}) > 1:
            raise ValueError(
                "features, targets, masks, ids and inputs must be equally many, "
                f"not {sorted({len(one) for one in given})}"
            )

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> Example:
        mask = None if self.masks is None else self.masks[index]
        inputs = {name: values[index] for name, values in self.inputs.items()}
        return Example(self.features[index], mask, self.targets[index], self.ids[index], inputs)

    def __repr__(self) -> str:
        return f"InMemoryFeatures({len(self)} x {tuple(self.features.shape[1:])})"


class ClipFeatures:
    """The features of clips with their targets, from the cache or computed as they are asked for.

    With `whole_clips` an example is a clip with all its views (windows); else every view is an example of its own that
    keeps the clip's id. `places` are the clip and the view of each example, -1 for all of them.

    Raises:
        ValueError: clips, targets, ids and inputs are not equally many.
    """

    def __init__(
        self,
        source: FeatureSource,
        clips: Sequence[Clip],
        targets: Any,
        ids: Sequence[str],
        inputs: Sequence[Mapping[str, Any]] | None = None,
        whole_clips: bool = False,
    ) -> None:
        inputs = [{}] * len(clips) if inputs is None else inputs
        if not len(clips) == len(targets) == len(ids) == len(inputs):
            raise ValueError(
                f"{len(clips)} clips, {len(targets)} targets, {len(ids)} ids and {len(inputs)} inputs "
                "must be equally many"
            )
        self.source = source
        self.clips = tuple(clips)
        self.whole_clips = whole_clips
        self._inputs = list(inputs)
        self._keys = [source.cached_keys(clip) for clip in self.clips]  # digests are of the bytes: looked up once
        if whole_clips:
            self.places: list[tuple[int, int]] = [(clip, -1) for clip in range(len(self.clips))]
        else:
            counts = [len(keys) or source.num_views(clip) for clip, keys in zip(self.clips, self._keys, strict=True)]
            self.places = [(clip, view) for clip, count in enumerate(counts) for view in range(count)]
        given = _as_targets(targets)
        chosen = [clip for clip, _ in self.places]
        self.ids = tuple(str(ids[clip]) for clip in chosen)
        self.targets = given[chosen] if isinstance(given, Tensor) else [given[clip] for clip in chosen]

    @property
    def inputs(self) -> dict[str, list[Any]]:
        """What is given beside each example, by name."""
        rows = [self._inputs[clip] for clip, _ in self.places]
        return {name: [row[name] for row in rows] for name in (rows[0] if rows else {})}

    def given_beside(self, clip: int) -> Mapping[str, Any]:
        """What is given beside a clip, by the clip's place."""
        return self._inputs[clip]

    def clip_seconds(self) -> list[float]:
        """How many seconds of video the views of each clip are, by what the store knows of them; cached clips alone."""
        infos = [(self.source.store.info(keys[0]), self.source.store.info(keys[-1])) for keys in self._keys if keys]
        return [last.end_s - first.start_s for first, last in infos]

    def addresses(self) -> list[str]:
        """The content address of every clip: how its features are made, of which bytes, within which bounds."""
        keys = (ClipKey.of(clip, video_digest(clip.path)) for clip in self.clips)
        return [self.source.spec.folder_name, *map(str, keys)]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Example:
        clip, view = self.places[index]
        if self._keys[clip] and not self.whole_clips:
            records = [self.source.store.read(self._keys[clip][view])]
        else:
            records = self.source[self.clips[clip]]
            records = records if self.whole_clips else [records[view]]
        known = Truth(self.ids[index], self.targets[index], self._inputs[clip])
        return example_of(records, known, self.whole_clips)

    def read_batch(self, indices: Sequence[int]) -> Batch:
        """Samples stacked; cached ones are copied once, from the mapped shard into the batch."""
        chosen = [int(i) for i in indices]
        places = [self.places[i] for i in chosen]
        if self.whole_clips or not all(self._keys[clip] for clip, _ in places):
            return stack([self[i] for i in chosen])
        keys = [self._keys[clip][view] for clip, view in places]
        infos = [self.source.store.info(key) for key in keys]
        mask = torch.arange(self.source.spec.num_steps) < torch.tensor([i.num_real for i in infos])[:, None]
        targets = self.targets
        return Batch(
            self.source.store.read_batch(keys),
            mask,  # (B, T)
            targets[chosen] if isinstance(targets, Tensor) else [targets[i] for i in chosen],
            [self.ids[i] for i in chosen],
            _together([self._inputs[clip] for clip, _ in places]),
            [Times(torch.tensor(i.times_s), torch.tensor([i.start_s, i.end_s])) for i in infos],
        )

    def __repr__(self) -> str:
        return f"ClipFeatures({len(self.clips)} clips, {len(self)} {'clips' if self.whole_clips else 'views'})"


def example_of(records: Sequence[Record], known: Truth, whole_clip: bool = False) -> Example:
    """The example of one record, or of all records of a clip with their views as the first axis."""
    frames = torch.stack([torch.tensor(record.info.times_s) for record in records])  # (W, T)
    spans = torch.tensor([[record.start_s, record.end_s] for record in records])  # (W, 2)
    values, masks = (torch.stack([getattr(r, name) for r in records]) for name in ("values", "frame_mask"))
    if not whole_clip:
        values, masks, frames, spans = values[0], masks[0], frames[0], spans[0]
    return Example(values, masks, known.target, known.id, known.inputs, Times(frames, spans))


def ids_of(dataset: FeatureDataset) -> list[str]:
    """The id of every sample, without reading features where the data set offers them."""
    offered = getattr(dataset, "ids", None)
    return [str(name) for name in offered] if offered is not None else [dataset[i].id for i in range(len(dataset))]


def texts_of_target(target: Any, what: str) -> tuple[str, ...]:
    """The texts of a target, which is one text or holds several; `what` says so of the kind that reads it.

    Raises:
        InputError: it is no text, or empty.
    """
    several = (target,) if isinstance(target, str) else tuple(target) if isinstance(target, list | tuple) else ()
    if not several or not all(isinstance(text, str) and text.strip() for text in several):
        raise InputError(f"{what}, none of them empty, not {target!r}")
    return several


def targets_of(dataset: FeatureDataset) -> list[Any]:
    """The target of every sample, without reading features where the data set offers them."""
    offered = getattr(dataset, "targets", None)
    return list(offered) if offered is not None else [dataset[i].target for i in range(len(dataset))]


def inputs_of(dataset: FeatureDataset) -> list[Mapping[str, Any]]:
    """What is given beside every sample, without reading features where the data set offers it."""
    offered = getattr(dataset, "inputs", None)
    if offered is None:
        return [dataset[i].inputs for i in range(len(dataset))]
    return [{name: values[i] for name, values in offered.items()} for i in range(len(dataset))]


def digest_of(dataset: FeatureDataset) -> str:
    """sha256 over ids, targets, inputs and addresses of `dataset`: whether a resumed run sees the same samples."""
    digest = hashlib.sha256()
    for name, target, inputs in zip(ids_of(dataset), targets_of(dataset), inputs_of(dataset), strict=True):
        given = f"\0{_plain(dict(inputs))}" if inputs else ""
        digest.update(f"{name}\0{_plain(target)}{given}\n".encode())
    for address in dataset.addresses() if hasattr(dataset, "addresses") else ():
        digest.update(f"{address}\n".encode())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """A value whose text says all of it: tensors and arrays as lists."""
    if isinstance(value, Tensor | np.ndarray | np.number):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in sorted(value.items())}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


Collate = Callable[[Sequence[Example]], Batch]
"""How examples become a batch."""


def stack(examples: Sequence[Example]) -> Batch:
    """Stack examples of one shape: the plain `collate`.

    Raises:
        InputError: their features differ in shape, or only some have a mask.
    """
    first = examples[0]
    for example in examples:
        if example.features.shape != first.features.shape:
            raise InputError(
                f"features of {example.id!r} have shape {tuple(example.features.shape)} "
                f"but those of {first.id!r} {tuple(first.features.shape)}: encode both with one clip plan"
            )
    masks = [example.mask for example in examples if example.mask is not None]
    if masks and len(masks) < len(examples):
        raise InputError(f"some samples beside {first.id!r} have a frame mask and some have none")
    return Batch(
        torch.stack([example.features for example in examples]),
        torch.stack(masks) if masks else None,
        _as_targets([example.target for example in examples]),
        [example.id for example in examples],
        _together([example.inputs for example in examples]),
        [example.times for example in examples],
    )


def read_batch(dataset: FeatureDataset, indices: Sequence[int], collate: Collate = stack) -> Batch:
    """Read the samples `indices` and put them together.

    Raises:
        InputError: their features do not go together.
    """
    own = getattr(dataset, "read_batch", None)
    if own is not None and collate is stack:
        return own(indices)
    return collate([dataset[int(i)] for i in indices])


def _as_targets(targets: Any) -> Any:
    """Numbers of one shape as a tensor, anything else as a list."""
    if isinstance(targets, Tensor):
        return targets
    if isinstance(targets, np.ndarray):
        return torch.from_numpy(targets)
    several = list(targets)
    if several and all(isinstance(one, Tensor | int | float | np.ndarray | np.number) for one in several):
        tensors = [torch.as_tensor(one) for one in several]
        if len({one.shape for one in tensors}) == 1:
            return torch.stack(tensors)
    return several


def _together(inputs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Inputs by name: tensors of one shape stacked, anything else a list.

    Raises:
        InputError: an input that only some samples have.
    """
    names = list(inputs[0]) if inputs else []
    for one in inputs:
        if set(one) != set(names):
            raise InputError(f"input {sorted(set(one) ^ set(names))[0]!r} is there for some samples of a batch only")
    found: dict[str, Any] = {}
    for name in names:
        values = [one[name] for one in inputs]
        alike = all(isinstance(value, Tensor) for value in values) and len({value.shape for value in values}) == 1
        found[name] = torch.stack(values) if alike else values
    return found


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


def read_ahead(dataset: FeatureDataset, batches: Sequence[Sequence[int]], collate: Collate = stack) -> Iterator[Batch]:
    """Yield the batches in order, reading the next one in the background while the caller works on the last."""
    if not batches:
        return
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="read-ahead") as reader:
        upcoming = reader.submit(read_batch, dataset, batches[0], collate)
        for following in [*batches[1:], None]:
            batch = upcoming.result()
            if following is not None:
                upcoming = reader.submit(read_batch, dataset, following, collate)
            yield batch
