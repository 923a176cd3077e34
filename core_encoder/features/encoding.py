"""Frames in, records out: batches that shrink when memory runs out, and windows that share the spatial half."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from core_encoder.clip_plan import Clip, View
from core_encoder.encoder import Encoder, VideoFeatures
from core_encoder.errors import EncoderMismatch, InputError
from core_encoder.features.derivation import coarsen
from core_encoder.features.dtypes import PRECISIONS
from core_encoder.features.feature_spec import ClipKey, FeatureKey, FeatureSpec, RecordInfo
from core_encoder.features.feature_store import FeatureStore
from core_encoder.preprocessing import to_video_tensor
from core_encoder.video.clip_decoder import ClipDecoder, ClipsOfFiles
from core_encoder.video.decoders import decoder_id
from core_encoder.video.decoding import ClipDone, ClipFailed, ClipFrames, DecodeWorkers, FrameQueue, Part, Source

log = logging.getLogger(__name__)
Item = TypeVar("Item")
_QUEUE_BYTES = 128 << 20
_PART_BYTES = 32 << 20  # of frames that views share
_OUT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory", "status_alloc_failed")


@dataclass(frozen=True)
class ViewEncoded:
    """The features of one view, as the encoder gave them: of every spec of the run, reduced to its kind."""

    source: Source
    key: FeatureKey
    values: tuple[Tensor, ...]
    info: RecordInfo

    @property
    def clip(self) -> Clip:
        return self.source.clip


@dataclass(frozen=True)
class ClipEncoded:
    """All missing views of a clip have been given."""

    clip: Clip
    key: ClipKey


Bottleneck = Literal["decoding", "encoding"]
"""The side that the other one waits for."""
Event = ViewEncoded | ClipEncoded | ClipDone | ClipFailed


@dataclass(frozen=True)
class EncodingWork:
    """What encoding took so far."""

    views_encoded: int
    frames_decoded: int
    decode_wait_s: float  # the encoder waiting for frames
    encode_s: float
    batch_size: int
    bottleneck: Bottleneck


class Frames(AbstractContextManager[Any], Iterable[Part], Protocol):
    """What brings the frames of clips, part by part; leaving it stops the decoding."""


class Decoding(Protocol):
    """How clips become frames: `decode_files`, or whatever is called like it."""

    def __call__(self, clips: Sequence[Clip], decoder: ClipDecoder, queue: FrameQueue, num_workers: int) -> Frames: ...


def decode_files(clips: Sequence[Clip], decoder: ClipDecoder, queue: FrameQueue, num_workers: int) -> DecodeWorkers:
    """The frames of clips by so many threads of this process."""
    return DecodeWorkers(ClipsOfFiles(clips, decoder, queue).jobs(), queue, num_workers)


class EncodingRun:
    """Decodes and encodes clips: a context manager, whose end stops the workers, and an iterator of events."""

    def __init__(
        self,
        encoder: Encoder,
        clips: Sequence[Clip],
        specs: Sequence[FeatureSpec],
        *,
        stores: Sequence[FeatureStore] = (),
        batch_size: int = 8,
        num_workers: int = 2,
        decoding: Decoding = decode_files,
    ) -> None:
        """Prepare to encode `clips`, less what is in all of `stores`; `specs` differ in kind, layers and dtype alone.

        Raises:
            EncoderMismatch: the specs are of another encoder.
            InputError: they are of another decoder than the one installed, or of different plans; a count is not
                positive; the encoder makes no embedding.
        """
        if batch_size < 1 or num_workers < 1:
            raise InputError(f"batch size {batch_size} and workers {num_workers} must be at least 1")
        self._queue = frame_queue(batch_size)
        self._workers = decoding(clips, clip_decoder(encoder, specs, stores, batch_size), self._queue, num_workers)
        self._num_workers = num_workers
        self.encoder = ClipEncoder(encoder, specs, batch_size)

    def __enter__(self) -> EncodingRun:
        self._workers.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._workers.__exit__(kind, error, at)

    def __iter__(self) -> Iterator[Event]:
        return self.encoder.events(self._workers)

    @property
    def work(self) -> EncodingWork:
        """What it took so far; waiting for the first frames of a short run makes no bottleneck."""
        waited_s, encoder = self._queue.get_wait_s, self.encoder
        decoding = waited_s > self._queue.put_wait_s / self._num_workers and waited_s > 0.1 * encoder.encode_s
        return EncodingWork(
            views_encoded=encoder.views_encoded,
            frames_decoded=encoder.frames_decoded,
            decode_wait_s=waited_s,
            encode_s=encoder.encode_s,
            batch_size=encoder.batch_size,
            bottleneck="decoding" if decoding else "encoding",
        )


def frame_queue(batch_size: int) -> FrameQueue:
    """The queue between decode workers and an encoder that takes so many views at once."""
    return FrameQueue(max_bytes=_QUEUE_BYTES, max_parts=4 * batch_size)


def clip_decoder(
    encoder: Encoder, specs: Sequence[FeatureSpec], stores: Sequence[FeatureStore], batch_size: int, number: int = 0
) -> ClipDecoder:
    """What reads the frames of one pass: for features of `specs`, less what is in all of `stores`.

    Raises:
        EncoderMismatch, InputError: as `check_pass`.
    """
    check_pass(encoder, specs)
    return pass_decoder(specs, stores, batch_size, encoder_may_share(encoder, specs), number)


def check_pass(encoder: Encoder, specs: Sequence[FeatureSpec]) -> None:
    """Refuse features that `encoder` cannot make in one pass over the pixels.

    Raises:
        EncoderMismatch: the specs are of another encoder.
        InputError: they are of another decoder than the one installed, or of different plans.
    """
    spec = specs[0]
    if any(one.of_one_pass != spec.of_one_pass for one in specs):
        raise InputError("features of one pass share encoder, clip plan, preprocessing, decoder and precision")
    if encoder.fingerprint != spec.fingerprint:
        raise EncoderMismatch(
            f"these are features of encoder {spec.encoder!r} ({spec.fingerprint[:12]}), which is not the encoder "
            f"in hand: {encoder.name!r} ({encoder.fingerprint[:12]})"
        )
    if PRECISIONS[encoder.dtype] != spec.precision:
        raise InputError(f"these are features computed in {spec.precision}, but the encoder is in {encoder.dtype}")
    decoder = decoder_id(spec.decoder.partition("-")[0])
    if decoder != spec.decoder:
        raise InputError(f"these are features of frames from {spec.decoder}, but {decoder} is installed")


def pass_decoder(
    specs: Sequence[FeatureSpec], stores: Sequence[FeatureStore], batch_size: int, may_share: bool, number: int = 0
) -> ClipDecoder:
    """What reads the frames of one pass, where the encoder is not at hand: `may_share` as `encoder_may_share` says."""
    return ClipDecoder(
        specs[0],
        frames_per_part=frames_per_part(specs[0], batch_size),
        may_share=may_share,
        is_cached=lambda key: bool(stores) and all(store.views(key) for store in stores),
        has_record=lambda key: bool(stores) and all(key in store for store in stores),
        number=number,
    )


class ClipEncoder:
    """Encodes clips in batches of up to `batch_size` views; a batch that does not fit in memory is halved for good."""

    def __init__(self, encoder: Encoder, specs: Sequence[FeatureSpec], batch_size: int) -> None:
        self.encoder = encoder
        self.specs = tuple(specs)
        self.spec = self.specs[0]  # for what they share
        self._layers = sorted({layer for spec in specs for layer in spec.layers})
        self._embeds = any(spec.kind == "embedding" for spec in specs)
        self.batch_size = batch_size
        self.encode_s = 0.0
        self.frames_decoded = 0
        self.views_encoded = 0
        self._waiting: list[ClipFrames] = []
        self._streams: dict[Clip, _Stream] = {}

    def events(self, parts: Iterable[Part]) -> Iterator[Event]:
        """What comes of `parts`: every view as soon as it is encoded, every clip when its last view is."""
        for part in parts:
            yield from self.take(part)
        yield from self.finish()

    def take(self, part: Part) -> Iterator[Event]:
        """What comes of one part, which may have to wait for others."""
        if isinstance(part, ClipDone):
            yield part
        elif isinstance(part, ClipFailed):
            self._streams.pop(part.clip, None)
            yield part
        else:
            self.frames_decoded += len(set(part.indices))
            yield from self._shared(part) if part.shared else self._alone(part)

    def finish(self) -> Iterator[Event]:
        """What comes of the parts that waited for others."""
        yield from self._encode_waiting()

    def forget(self, clip: Clip) -> None:
        """Drop what waits of a clip of which no more parts come."""
        self._streams.pop(clip, None)
        self._waiting = [part for part in self._waiting if part.source.clip != clip]

    def _alone(self, part: ClipFrames) -> Iterator[Event]:
        self._waiting.append(part)
        if len(self._waiting) >= self.batch_size:
            yield from self._encode_waiting()

    def _encode_waiting(self) -> Iterator[Event]:
        waiting, self._waiting = self._waiting, []
        for part, values in zip(waiting, self._in_batches(waiting, self._views), strict=True):
            yield self._encoded(part.source, part.views[0], values)
            if part.last:
                yield ClipEncoded(part.source.clip, part.source.key)

    def _views(self, parts: Sequence[ClipFrames]) -> list[tuple[Tensor, ...]]:
        video = self._video(torch.stack([part.frames for part in parts]))  # (B, T, 3, H, W)
        mask = self._mask([part.views[0] for part in parts])
        return self._by_view(self.encoder(video, mask, layers=self._layers, embed=self._embeds))

    def _shared(self, part: ClipFrames) -> Iterator[Event]:
        """Encode each frame's spatial half once; keep it while a later view needs it."""
        stream = self._streams.setdefault(part.source.clip, _Stream())
        stream.views.extend(part.views)
        spatial: Iterator[Tensor] = self._in_batches(part.frames, self._spatial, self.spec.plan.num_frames)
        stream.spatial.update(zip(part.indices, spatial, strict=True))
        while ready := stream.ready(self.batch_size):
            windows = [(view, [stream.spatial[index] for index in view.frame_indices]) for view in ready]
            for (view, _), values in zip(windows, self._in_batches(windows, self._temporal), strict=True):
                yield self._encoded(part.source, view, values)
        stream.forget()
        if part.last:
            del self._streams[part.source.clip]
            yield ClipEncoded(part.source.clip, part.source.key)

    def _spatial(self, frames: Tensor) -> Tensor:
        return self.encoder.encode_spatial(self._video(frames[None]))[0]  # (F, N, D)

    def _temporal(self, windows: Sequence[tuple[View, Sequence[Tensor]]]) -> list[tuple[Tensor, ...]]:
        mask = self._mask([view for view, _ in windows])
        spatial = torch.stack([torch.stack(list(frames)) for _, frames in windows])  # (B, T, N, D)
        tokens = self.encoder.encode_temporal(spatial, mask)
        embedding = self.encoder.embed_tokens(tokens, mask) if self._embeds else None
        return self._by_view(VideoFeatures(tokens, embedding, frame_mask=mask))

    def _encoded(self, source: Source, view: View, values: tuple[Tensor, ...]) -> ViewEncoded:
        self.views_encoded += 1
        return ViewEncoded(source, source.key.view(view.index), values, source.info(view, self.encoder.tubelet))

    def _video(self, frames: Tensor) -> Tensor:
        return to_video_tensor(frames.to(self.encoder.device))  # moved as uint8: a quarter of the bytes

    def _mask(self, views: Sequence[View]) -> Tensor | None:
        """Bool `(B, T)`, False for padding; None when there is none."""
        num_frames = self.spec.plan.num_frames
        if all(view.num_real == num_frames for view in views):
            return None
        num_real = torch.tensor([view.num_real for view in views], device=self.encoder.device)
        return torch.arange(num_frames, device=self.encoder.device) < num_real[:, None]

    def _by_view(self, features: VideoFeatures) -> list[tuple[Tensor, ...]]:
        """What every spec keeps of every view, on the CPU."""
        kept = [of_spec(spec, features).cpu() for spec in self.specs]  # each (B, ...)
        return list(zip(*kept, strict=True))

    def _in_batches(
        self, items: Sequence[Item] | Tensor, run: Callable[[Any], Any], items_per_view: int = 1
    ) -> Iterator[Any]:
        """One row of `run`'s result for each item."""
        done = 0
        while done < len(items):
            batch = items[done : done + self.batch_size * items_per_view]
            started = time.perf_counter()
            try:
                rows = run(batch)
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if self.batch_size == 1:
                    raise InputError(
                        f"encoder {self.encoder.name!r} runs out of memory on a single clip of "
                        f"{self.spec.plan.num_frames} frames of {self.spec.preprocessing.image_size} px"
                    ) from error
                self.batch_size = self.batch_size // 2
            else:
                done += len(batch)
                self.encode_s += time.perf_counter() - started
                yield from rows
                continue
            log.warning("out of memory: going on with batches of %d", self.batch_size)
            if self.encoder.device.type == "cuda":
                torch.cuda.empty_cache()


def of_spec(spec: FeatureSpec, features: VideoFeatures) -> Tensor:
    """What a spec keeps of what an encoder says about a batch: `(B, ...)`."""
    if spec.kind == "embedding":
        assert features.embedding is not None
        return features.embedding  # (B, E)
    tokens = features.tokens  # (B, T, N, D)
    if spec.layers:
        tokens = torch.stack([features.hidden[layer] for layer in spec.layers], 1)  # (B, L, T, N, D)
    return coarsen(tokens, "tokens", spec.kind, features.frame_mask)


def frames_per_part(spec: FeatureSpec, batch_size: int) -> int:
    """How many frames that views share are decoded into one part."""
    frames = min(batch_size * spec.plan.num_frames, _PART_BYTES // (3 * spec.preprocessing.image_size**2))
    return max(frames, spec.plan.num_frames)


def encoder_may_share(encoder: Encoder, specs: Sequence[FeatureSpec]) -> bool:
    """Whether overlapping windows can share the half that sees one frame: hidden layers cannot be had so."""
    embeds = any(spec.kind == "embedding" for spec in specs)
    return encoder.has_halves and not any(spec.layers for spec in specs) and (encoder.embeds_tokens or not embeds)


class _Stream:
    """A clip whose views share frames, while its frames come in."""

    def __init__(self) -> None:
        self.views: deque[View] = deque()  # not encoded yet; both ends of their spans rise
        self.spatial: dict[int, Tensor] = {}

    def ready(self, at_most: int) -> list[View]:
        """Take out views whose frames are all here."""
        views: list[View] = []
        while self.views and len(views) < at_most and self.views[0].frame_indices[-1] in self.spatial:
            views.append(self.views.popleft())
        return views

    def forget(self) -> None:
        """Let go of the frames that no later view needs."""
        first = self.views[0].frame_indices[0] if self.views else math.inf
        self.spatial = {index: tokens for index, tokens in self.spatial.items() if index >= first}


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        sign in str(error).lower() for sign in _OUT_OF_MEMORY
    )
