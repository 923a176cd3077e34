"""Decoding in processes of its own: a file that kills its decoder, or hangs in it, costs one request.

Short clips are decoded while their request waits, so that they are encoded in one batch with others. The frames of a
long clip come as the encoder takes them; its process waits in between.
"""

from __future__ import annotations

import logging
import multiprocessing
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch

from core_encoder.clip_plan import Clip, VideoFacts
from core_encoder.errors import UnreadableVideo
from core_encoder.features.encoding import encoder_may_share, frames_per_part
from core_encoder.features.feature_spec import ClipKey, FeatureSpec
from core_encoder.video.clip_decoder import ClipDecoder
from core_encoder.video.decoders import KnownTimeline
from core_encoder.video.decoding import ClipDone, ClipFailed, ClipFrames, FrameQueue, Part
from core_encoder.video.opening import VideoLimits
from prismhub.server.clip_limits import is_little
from prismhub.server.decode_process import Bytes, End, Order, serve_decoding

_MOST_ORDERS = 2000  # of one process: libav leaves some kilobytes behind with every file
log = logging.getLogger(__name__)


class TookTooLong(Exception):
    """The time of a request is over."""


class DecodeProcess:
    """One process and the pipe to it."""

    def __init__(self, limits: VideoLimits) -> None:
        context = _context()
        ours, theirs = context.Pipe()
        self.process: Any = context.Process(target=serve_decoding, args=(theirs, limits), daemon=True, name="decode")
        self.process.start()
        theirs.close()
        self.connection: Connection = ours
        self.orders = 0

    def send(self, order: Order) -> None:
        self.connection.send(order)

    def receive(self, deadline: float) -> Any:
        """What it says next.

        Raises:
            TookTooLong: nothing until the deadline, a time of `time.monotonic`.
            EOFError, OSError: it died.
        """
        if not self.connection.poll(max(0.0, deadline - time.monotonic())):
            raise TookTooLong
        found = self.connection.recv()
        if not isinstance(found, Bytes):
            return found
        frames = np.empty(found.shape, np.uint8)
        self.connection.recv_bytes_into(frames.data.cast("B"))
        return _with_frames(found.part, torch.from_numpy(frames))

    def end(self) -> None:
        """Kill it, whatever it does."""
        self.process.kill()
        self.process.join()
        self.connection.close()


@dataclass(frozen=True)
class Soon:
    """For which features a clip will be decoded, if it has at most so many seconds."""

    spec: FeatureSpec
    may_share: bool
    longest_s: float


class Ahead:
    """The frames of a request's clip that were decoded before anyone asked for them."""

    def __init__(self) -> None:
        self.parts: dict[Any, list[Part]] = {}
        self.given_up = False


class DecodePool:
    """So many decode processes, and one more: long clips come one at a time, and each keeps its own to its end.

    Called like `decode_files`, it brings frames to an encoder.
    """

    def __init__(self, workers: int, limits: VideoLimits, batch_size: int) -> None:
        self._limits, self._batch_size = limits, batch_size
        self._idle: queue.LifoQueue[DecodeProcess] = queue.LifoQueue()
        self._all: set[DecodeProcess] = set()
        self._ahead: list[Ahead] = []
        self._changing = threading.Lock()
        self._closed = False
        self._timelines: dict[str, KnownTimeline] = {}  # by path, as the deadlines
        self.deadlines: dict[str, float] = {}  # of the clips that are being answered, by path
        self.deaths = 0
        for _ in range(workers + 1):
            self._start_one()

    @property
    def process_ids(self) -> list[int]:
        """The processes, as they are now."""
        with self._changing:
            return [one.process.pid for one in self._all if one.process.pid is not None]

    def close(self) -> None:
        """End every process."""
        with self._changing:
            self._closed = True
            processes, self._all = self._all, set()
        for one in processes:
            one.end()

    def facts(self, clip: Clip, deadline: float, soon: Soon | None = None, ahead: Ahead | None = None) -> VideoFacts:
        """What sampling needs to know of a clip's file; its frames go `ahead` where they are wanted `soon`.

        Raises:
            UnreadableVideo: it cannot be opened, is larger than allowed, or kills the process.
            TookTooLong: it is not known in time.
        """
        order = Order(clip)
        if soon is not None:
            order = replace(self._order(clip, soon.spec, self._batch_size, soon.may_share), longest_s=soon.longest_s)
        with self._process(clip, deadline) as one:
            one.send(order)
            found = one.receive(deadline)
            parts = list(_parts_of(one, deadline))
        if isinstance(found, UnreadableVideo):
            raise found
        self._timelines[clip.path] = found
        if parts and ahead is not None:
            self._keep(ahead, order, parts)
        return found.timeline.facts

    def decode_ahead(
        self, clip: Clip, facts: VideoFacts, encoder: Any, specs: Sequence[FeatureSpec], ahead: Ahead, deadline: float
    ) -> bool:
        """Decode a clip for one pass where that is little; False, and nothing is done, where it is much."""
        order = self._order(clip, specs[0], self._batch_size, encoder_may_share(encoder, specs))
        if _address(order) not in ahead.parts:
            if not is_little(clip, facts, specs[0]):
                return False
            self._keep(ahead, order, list(self._parts(order, deadline)))
        return True

    def _keep(self, ahead: Ahead, order: Order, parts: list[Part]) -> None:
        ahead.parts[_address(order)] = parts
        with self._changing:
            if not ahead.given_up and ahead not in self._ahead:
                self._ahead.append(ahead)

    def forget(self, path: str, ahead: Ahead) -> None:
        """Let go of what is known of a file, and of frames, whose request is over."""
        self._timelines.pop(path, None)
        self.deadlines.pop(path, None)
        with self._changing:
            ahead.given_up = True
            if ahead in self._ahead:
                self._ahead.remove(ahead)

    def __call__(
        self,
        clips: Sequence[Clip],
        decoder: ClipDecoder,
        queue: FrameQueue,
        num_workers: int,
    ) -> PooledFrames:
        """The frames of clips, those first that are here."""
        return PooledFrames(
            self, [Order(clip, decoder.spec, None, decoder.frames_per_part, decoder.may_share) for clip in clips]
        )

    def frames(self, order: Order) -> Iterator[Part]:
        """The parts of one clip, decoded ahead or now."""
        address = _address(order)
        with self._changing:
            known = next((one.parts.pop(address) for one in self._ahead if address in one.parts), None)
        deadline = self.deadlines.get(order.clip.path, time.monotonic() + 3600)
        return iter(known) if known is not None else self._parts(order, deadline)

    def _order(self, clip: Clip, spec: FeatureSpec, batch_size: int, may_share: bool) -> Order:
        return Order(clip, spec, None, frames_per_part(spec, batch_size), may_share)

    def _parts(self, order: Order, deadline: float) -> Iterator[Part]:
        try:
            with self._process(order.clip, deadline) as one:
                one.send(replace(order, timeline=self._timelines.get(order.clip.path)))
                yield from _parts_of(one, deadline)
        except UnreadableVideo as error:
            yield ClipFailed(order.clip, None, error.reason)

    @contextmanager
    def _process(self, clip: Clip, deadline: float) -> Iterator[DecodeProcess]:
        """An idle process; one that does not finish what it was asked for, or is old, gives way to a new one."""
        try:
            one = self._idle.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise TookTooLong from None
        whole = False
        one.orders += 1
        try:
            yield one
            whole = one.orders < _MOST_ORDERS
        except (EOFError, OSError) as error:
            one.process.join(1)
            self.deaths += 1
            log.warning("a decode process died (exit code %s); another one goes on", one.process.exitcode)
            raise UnreadableVideo(clip.path, "its decoder died of it: the file is damaged, or made to do so") from error
        finally:
            if whole:
                self._idle.put(one)
            else:
                with self._changing:
                    self._all.discard(one)
                one.end()
                self._start_one()

    def _start_one(self) -> None:
        with self._changing:
            if self._closed:
                return
            one = DecodeProcess(self._limits)
            self._all.add(one)
        self._idle.put(one)


class PooledFrames:
    """The frames of some clips, one after the other; those of the same bytes once."""

    def __init__(self, pool: DecodePool, orders: Sequence[Order]) -> None:
        self._pool, self._orders = pool, orders

    def __enter__(self) -> PooledFrames:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing runs on: a clip that is not read to its end is stopped where it is let go."""

    def __iter__(self) -> Iterator[Part]:
        seen: set[ClipKey] = set()
        for order in self._orders:
            parts = self._pool.frames(order)
            first = next(parts, None)
            key = first.source.key if isinstance(first, ClipFrames) else first.key if first is not None else None
            if key is not None and key in seen:
                yield ClipDone(order.clip, key, repeated=True)
                continue
            if key is not None:
                seen.add(key)
            if first is not None:
                yield first
            yield from parts


def _context() -> Any:
    """How processes are started: from one that has imported torch for all of them, where the system knows to fork."""
    if "forkserver" not in multiprocessing.get_all_start_methods():  # Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["prismhub.server.decode_process"])
    return context


def _parts_of(one: DecodeProcess, deadline: float) -> Iterator[Part]:
    """What a process says until its order is done."""
    while not isinstance(part := one.receive(deadline), End):
        yield part


def _address(order: Order) -> Any:
    assert order.spec is not None
    return order.clip, order.spec.of_one_pass, order.may_share


def _with_frames(part: ClipFrames, frames: torch.Tensor) -> ClipFrames:
    return ClipFrames(part.source, part.views, part.indices, frames, part.shared, part.last)
