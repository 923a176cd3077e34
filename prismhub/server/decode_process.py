"""The process that opens the files of strangers: it sends timelines and frames, and may die of any of them."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import torch

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.features.encoding import decode_files
from core_encoder.features.feature_spec import FeatureSpec
from core_encoder.video.clip_decoder import ClipDecoder
from core_encoder.video.decoders import KnownTimeline, decoder_id, read_timeline, remember_timeline
from core_encoder.video.decoding import ClipFrames, FrameQueue, Part
from core_encoder.video.opening import VideoLimits, limit_videos
from prismhub.server.clip_limits import is_soon_decoded

_AHEAD_BYTES = 64 << 20  # decoded and not sent yet
_AHEAD_PARTS = 32
_NONE = torch.empty(0, dtype=torch.uint8)  # in place of frames, which would be copied on the way
_SPARE_BYTES = 4 << 30  # of memory, beyond what the process begins with
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's malloc.h
_MAPPED_BYTES = 128 << 10  # such pieces go back to the system when they are let go


@dataclass(frozen=True)
class Order:
    """What the process is to do with a clip: tell its timeline, decode it for a spec, or both.

    `timeline` is what another process has told of the file; none is told then. With `longest_s` the clip is decoded
    where that is little, and where it has no more seconds.
    """

    clip: Clip
    spec: FeatureSpec | None = None
    timeline: KnownTimeline | None = None
    frames_per_part: int = 0
    may_share: bool = False
    longest_s: float | None = None


@dataclass(frozen=True)
class Bytes:
    """A part without its frames, which follow as bytes."""

    part: ClipFrames
    shape: tuple[int, ...]


class End:
    """Nothing more comes of an order."""


def serve_decoding(connection: Connection, limits: VideoLimits) -> None:
    """Carry out orders until the other side is gone.

    PyAV alone opens files: its frames are those of decord wherever `auto` takes that, and it keeps to the file.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which lets us finish
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # so is that of a service manager, which sends it to all of us
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _share_one_heap()
    limit_videos(limits)
    _limit_memory(limits)
    try:
        while True:
            order: Order = connection.recv()
            if order.timeline is not None:
                remember_timeline(order.timeline)
            if order.spec is None or order.longest_s is not None:
                connection.send(told := _timeline(order.clip))
                if not _goes_on(order, told):
                    connection.send(End())
                    continue
            for part in _parts(order):
                if isinstance(part, ClipFrames):
                    frames = part.frames.contiguous().numpy()
                    connection.send(Bytes(replace(part, frames=_NONE), frames.shape))
                    connection.send_bytes(frames.data.cast("B"))
                else:
                    connection.send(part)
            connection.send(End())
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return


def _timeline(clip: Clip) -> KnownTimeline | UnreadableVideo:
    try:
        return read_timeline(clip.path, "pyav")
    except UnreadableVideo as error:
        return error
    except (InputError, MemoryError, ValueError, ArithmeticError) as error:
        return UnreadableVideo(clip.path, f"cannot be decoded: {type(error).__name__}: {error}")


def _goes_on(order: Order, told: KnownTimeline | UnreadableVideo) -> bool:
    """Whether a clip whose timeline was told is decoded, too."""
    if order.spec is None or order.longest_s is None or isinstance(told, UnreadableVideo):
        return False
    try:
        return is_soon_decoded(order.clip, told.timeline.facts, order.spec, order.longest_s)
    except UnreadableVideo:
        return False  # whoever asks for its frames is told why


def _parts(order: Order) -> Iterator[Part]:
    """The frames of a clip, as `decode_files` gives them."""
    spec: Any = order.spec
    queue = FrameQueue(_AHEAD_BYTES, _AHEAD_PARTS)
    decoder = ClipDecoder(
        replace(spec, decoder=decoder_id("pyav")),
        frames_per_part=order.frames_per_part,
        may_share=order.may_share,
        is_cached=lambda key: False,
        has_record=lambda key: False,
    )
    with decode_files([order.clip], decoder, queue, num_workers=1) as parts:
        yield from parts


def _die_with_parent() -> None:
    """A decoder that hangs must not outlive the server that was killed."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _share_one_heap() -> None:
    """A heap for each of the threads that come and go with every file would grow for minutes, none of it in use."""
    with suppress(OSError, AttributeError, TypeError):  # another C library than glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 1)
        libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)


def _limit_memory(limits: VideoLimits) -> None:
    """Memory that a file asks for beyond reason is refused here, before the machine swaps."""
    try:
        import resource
    except ImportError:  # Windows
        return
    taken = Path("/proc/self/statm")
    if not taken.exists():  # not Linux
        return
    now = int(taken.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    most = now + _SPARE_BYTES + 16 * (limits.pixels or 0)
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
