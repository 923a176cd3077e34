"""Extraction of clips that are found while their videos are decoded: cuts, pictures and features of one decoding.

    videos -> cutting workers -> queue bounded in bytes -> an encoder a pass -> shards
                                                                             -> records, clip by clip

What is stored afterwards is what `extract` stores of the same clips.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from core_encoder.clip_plan import Clip
from core_encoder.encoder import Encoder
from core_encoder.errors import InputError
from core_encoder.features.encoding import ClipEncoder, Event, ViewEncoded, clip_decoder, frame_queue
from core_encoder.features.feature_source import stored_records
from core_encoder.features.feature_spec import ClipKey, FeatureSpec, Record
from core_encoder.features.feature_store import FeatureStore, ShardWriter
from core_encoder.features.shard import UnstorableFeatures
from core_encoder.video.cutting import ClipCut, CutFiles, MakeCutter, VideoCut, VideoFailed, VideoOpened
from core_encoder.video.decoding import ClipFailed, DecodeWorkers

HELD_BYTES = 512 << 20
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CutClip:
    """A clip of a video with its records in every spec, one a view, and its picture."""

    clip: Clip
    records: Mapping[FeatureSpec, Sequence[Record]]
    picture: Any


@dataclass(frozen=True)
class CutFailed:
    """A clip of a video that could not be encoded."""

    clip: Clip
    reason: str


CutEvent = VideoOpened | CutClip | CutFailed | VideoCut | VideoFailed


class CutExtraction:
    """Cuts videos, encodes their clips and stores the features: a context manager, and an iterator of events.

    Of every video come `VideoOpened`, then its clips in any order, then `VideoCut`; or `VideoFailed` at any time.
    """

    def __init__(
        self,
        encoder: Encoder,
        paths: Sequence[str],
        make_cutter: MakeCutter,
        specs: Sequence[FeatureSpec],
        root: str | Path,
        *,
        batch_size: int = 8,
        workers: int = 2,
        held_bytes: int = HELD_BYTES,
        shard_bytes: int = 64 << 20,
        commit_every_s: float = 20.0,
    ) -> None:
        """Prepare to cut `paths`, each once, and to store features of `specs` under `root`.

        `held_bytes` of decoded frames are held at most, by all workers together.

        Raises:
            InputError: no spec, or a count that is not positive.
            EncoderMismatch: the specs are of another encoder.
        """
        if not specs or batch_size < 1 or workers < 1:
            raise InputError(f"batch size {batch_size} and workers {workers} must be at least 1, for at least one spec")
        passes: dict[Any, list[FeatureSpec]] = {}
        for spec in dict.fromkeys(specs):
            passes.setdefault(spec.of_one_pass, []).append(spec)
        self._stores = {spec: FeatureStore(root, spec) for spec in dict.fromkeys(specs)}
        self._passes = tuple(tuple(several) for several in passes.values())
        self._encoders = [ClipEncoder(encoder, several, batch_size) for several in self._passes]
        self._queue = frame_queue(batch_size)
        decoders = [
            clip_decoder(encoder, several, [self._stores[spec] for spec in several], batch_size, number)
            for number, several in enumerate(self._passes)
        ]
        held = held_bytes // max(min(workers, len(paths)), 1)
        files = CutFiles(paths, make_cutter, decoders, self._queue, held)
        self._workers = DecodeWorkers(files.jobs(), self._queue, workers)
        self._writing = (shard_bytes, commit_every_s)
        self._writers: dict[FeatureSpec, ShardWriter] = {}
        self._videos: dict[str, _Video] = {}
        self._opened = ExitStack()

    def __enter__(self) -> CutExtraction:
        for spec, store in self._stores.items():
            self._writers[spec] = self._opened.enter_context(store.writer(*self._writing))
        self._opened.enter_context(self._workers)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._opened.__exit__(kind, error, at)

    def commit(self) -> None:
        """Make the features of every clip that has come so far durable.

        Raises:
            InputError: the disk is full.
        """
        for writer in self._writers.values():
            writer.commit()

    @property
    def frames_decoded(self) -> int:
        """How many frames were encoded from, by all passes."""
        return sum(encoder.frames_decoded for encoder in self._encoders)

    @property
    def encode_s(self) -> float:
        """How long the encoder has computed."""
        return sum(encoder.encode_s for encoder in self._encoders)

    def __iter__(self) -> Iterator[CutEvent]:
        for part in self._workers:
            if isinstance(part, VideoOpened):
                self._videos[part.path] = _Video()
                yield part
            elif isinstance(part, ClipCut):
                self._videos[part.clip.path].open[part.clip] = _OpenClip(part.key, part.picture, len(self._passes))
            elif isinstance(part, VideoFailed):
                self._videos.pop(part.path, None)  # what still comes of its clips is passed over
                yield part
            elif isinstance(part, VideoCut):
                self._videos[part.path].is_cut = True
                yield from self._ended(part.path)
            else:
                yield from self._heard(self._encoders[part.number].take(part), part.number)
        for number, encoder in enumerate(self._encoders):
            yield from self._heard(encoder.finish(), number)

    def _heard(self, events: Iterator[Event], number: int) -> Iterator[CutEvent]:
        """Keep what a pass brings, and give the clips of which all passes are done."""
        for event in events:
            video = self._videos.get(event.clip.path)
            found = None if video is None else video.open.get(event.clip)
            if isinstance(event, ViewEncoded):
                self._keep(event, number, found)
                continue
            if video is None or found is None:
                continue
            if isinstance(event, ClipFailed):
                found.reason = found.reason or event.reason
            found.passes_left -= 1
            if not found.passes_left:
                del video.open[event.clip]
                yield self._whole(event.clip, found)
                yield from self._ended(event.clip.path)

    def _keep(self, event: ViewEncoded, number: int, found: _OpenClip | None) -> None:
        specs = self._passes[number]
        try:
            records = stored_records(event, specs)
        except UnstorableFeatures as error:
            if found is not None:
                found.reason = str(error)
            return
        for spec, values, record in zip(specs, event.values, records, strict=True):
            if event.key not in self._stores[spec]:
                self._writers[spec].add(event.key, values, event.info)
            if found is not None:
                found.records.setdefault(spec, {})[event.key.view] = record

    def _whole(self, clip: Clip, found: _OpenClip) -> CutClip | CutFailed:
        if found.reason:
            return CutFailed(clip, found.reason)
        records: dict[FeatureSpec, list[Record]] = {}
        for spec, store in self._stores.items():
            fresh = found.records.get(spec, {})
            count = next(iter(fresh.values())).info.num_views if fresh else store.num_views(found.key)
            records[spec] = [fresh.get(view) or store.read(found.key.view(view)) for view in range(count)]
        return CutClip(clip, records, found.picture)

    def _ended(self, path: str) -> Iterator[VideoCut]:
        """A video whose last clip is done."""
        if self._videos[path].is_cut and not self._videos[path].open:
            del self._videos[path]
            yield VideoCut(path)


@dataclass
class _OpenClip:
    """A clip of which not all passes are done."""

    key: ClipKey
    picture: Any
    passes_left: int
    records: dict[FeatureSpec, dict[int, Record]] = field(default_factory=dict)
    reason: str = ""


@dataclass
class _Video:
    """A video under way."""

    open: dict[Clip, _OpenClip] = field(default_factory=dict)
    is_cut: bool = False
