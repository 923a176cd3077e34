"""Video file -> uint8 frames: decord and PyAV behind one reader, numbered by presentation timestamps.

PyAV reads the timestamps of every file (demuxing alone, no decoding). Pixels come from the decoder asked for:

    pyav      seeks to a keyframe, decodes forward, and takes the frame that carries the wanted timestamp
    decord    counts frames instead, which goes wrong after seeks in some files (open GOPs, AVI, MPEG-TS, edit lists);
              it seeks only where counting is exact, steps through the file where that is right, refuses the rest
    auto      decord where it is installed and its seeks are exact, else PyAV; never another decoder after a failure

Frames of both are equal on undamaged 8-bit 4:2:0 files. Open a reader in the thread or process that uses it.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core_encoder.clip_plan import Clip, ClipPlan, VideoFacts, View
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.preprocessing import Preprocessing, to_video_tensor
from core_encoder.storage import nearest
from core_encoder.video_files import VIDEO_SUFFIXES, check_file, find_videos, video_digest

__all__ = [
    "Clip",
    "ClipPlan",
    "VideoFacts",
    "View",
    "Preprocessing",
    "VideoReader",
    "open_video",
    "read_clip",
    "decoder_id",
    "to_video_tensor",
    "video_digest",
    "find_videos",
    "VIDEO_SUFFIXES",
]

Decoder = Literal["auto", "decord", "pyav"]


def decoder_id(decoder: str = "auto") -> str:
    """What stands in cache keys for a decoder: `pyav-18.1.0`, `decord-0.6.0`, or both after `auto-`.

    Raises:
        InputError: an unknown decoder, or decord asked for where it is not installed.
    """
    _check_decoder(decoder)
    import av

    pyav = f"pyav-{av.__version__}"
    if decoder == "pyav" or not _has_decord():
        return pyav
    decord = f"decord-{_decord().__version__}"
    return decord if decoder == "decord" else f"auto-{decord}-{pyav}"


def open_video(path: str | Path, decoder: str = "auto", num_threads: int = 1) -> VideoReader:
    """Open a video and read its timestamps; use as a context manager.

    Raises:
        UnreadableVideo: missing, empty, truncated, without a video stream, or not decodable; one line says why.
        InputError: an unknown decoder, or decord asked for where it is not installed.
    """
    _check_decoder(decoder)
    path = os.fspath(path)
    reader = _PyAVReader(path, num_threads)
    if decoder == "pyav" or not _has_decord() or (decoder == "auto" and not reader.timeline.decord_is_exact):
        return reader
    reader.close()
    return _DecordReader(path, num_threads, reader.timeline)


def read_clip(
    clip: Clip,
    plan: ClipPlan,
    preprocessing: Preprocessing | None = None,
    decoder: str = "auto",
    view: int = 0,
) -> NDArray[np.uint8]:
    """Decode one view of a clip to uint8 frames `(T, H, W, 3)`, at full size without `preprocessing`.

    Raises:
        UnreadableVideo: the file cannot be decoded, or the clip starts after its end.
        InputError: there is no such view, or an unknown decoder.
    """
    with open_video(clip.path, decoder) as video:
        views = plan.views_of(video.facts, clip)
        if not 0 <= view < len(views):
            raise InputError(f"{clip.path}: view {view} asked for, but the plan gives views 0 to {len(views) - 1}")
        return video.read(views[view].frame_indices, preprocessing)


class VideoReader(ABC):
    """An open video: its `facts`, and `read` for the pixels of chosen frames."""

    decoder: str

    def __init__(self, path: str, timeline: _Timeline) -> None:
        self.path = path
        self.timeline = timeline

    @property
    def facts(self) -> VideoFacts:
        return self.timeline.facts

    def read(
        self,
        indices: Sequence[int],
        preprocessing: Preprocessing | None = None,
        out: NDArray[np.uint8] | None = None,
    ) -> NDArray[np.uint8]:
        """Decode the frames at `indices`, in that order, to uint8 `(T, H, W, 3)`; a repeated index is decoded once.

        Each frame is resized as it is decoded, straight into `out`, or into one new array.

        Raises:
            UnreadableVideo: one of the frames cannot be decoded, or is damaged.
            IndexError: an index is outside the video.
        """
        rows: dict[int, list[int]] = {}
        for row, index in enumerate(indices):
            if not 0 <= index < self.facts.num_frames:
                raise IndexError(f"{self.path}: frame {index} asked for; the video has {self.facts.num_frames} frames")
            rows.setdefault(int(index), []).append(row)
        height, width = self.facts.height, self.facts.width
        if preprocessing is not None:
            height = width = preprocessing.image_size
        if out is None:
            out = np.empty((len(indices), height, width, 3), dtype=np.uint8)
        for index in sorted(rows):
            frame = self._decode(index)
            if preprocessing is not None:
                frame = preprocessing.apply(frame)
            elif frame.shape[:2] != (height, width):
                raise UnreadableVideo(
                    self.path, f"frame {index} is {frame.shape[1]} x {frame.shape[0]} pixels, not {width} x {height}"
                )
            out[rows[index]] = frame
        return out

    @abstractmethod
    def _decode(self, index: int) -> NDArray[np.uint8]:
        """One frame `(H, W, 3)`, upright; fast when called with rising indices."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        f = self.facts
        size = f"{f.num_frames} frames, {f.duration_s:.2f} s, {f.width} x {f.height}"
        return f"{type(self).__name__.lstrip('_')}({self.path!r}, {size})"


@dataclass(frozen=True)
class _Timeline:
    """The frames of a file in presentation order, and how one gets to them."""

    facts: VideoFacts
    pts: NDArray[np.int64] | None  # in the stream's time base; None: the container's are useless, frames are counted
    key_pts: NDArray[np.int64]
    key_dts: NDArray[np.int64]
    quarter_turns: int  # counter-clockwise, to make a decoded frame upright
    decord_seeks: bool  # frames before a keyframe in decoding order are those before it on screen
    decord_trouble: str | None  # why decord cannot number these frames at all
    decord_is_exact: bool


class _PyAVReader(VideoReader):
    decoder = "pyav"

    def __init__(self, path: str, num_threads: int) -> None:
        check_file(path)
        self._num_threads = num_threads
        self._container: Any = None
        self.path = path
        try:
            self._restart()
            super().__init__(path, self._read_timeline())
            self._restart()
        except BaseException:
            self.close()
            raise

    def _restart(self) -> None:
        """Open the file afresh: the only seek to the first frame that works in every container."""
        import av

        self.close()
        try:
            # The absolute path cannot be taken for a protocol; broken metadata must not cost the pixels.
            self._container = av.open(Path(self.path).absolute().as_posix(), metadata_errors="ignore")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._unreadable(error) from error
        stream = self._container.streams.best("video")
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            raise UnreadableVideo(self.path, "the file holds no video stream")
        for other in self._container.streams:
            if other.index != stream.index:
                other.discard = av.stream.Discard.all
        stream.codec_context.thread_count = self._num_threads
        stream.thread_type = "SLICE" if self._num_threads == 1 else "AUTO"
        self._stream = stream
        self._frames = self._decoded()
        self._last_pts: int | None = None
        self._count = 0
        self._to_rgb = av.video.reformatter.VideoReformatter()

    def _decoded(self) -> Iterator[Any]:
        import av

        try:
            yield from self._container.decode(self._stream)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> UnreadableVideo:
        log = getattr(error, "log", None)
        reason = getattr(error, "strerror", None) or str(error)
        return UnreadableVideo(self.path, f"cannot be decoded: {reason}" + (f" ({log[2].strip()})" if log else ""))

    def _read_timeline(self) -> _Timeline:
        import av

        formats = self._container.format.name.split(",")
        expected = len(self._stream.index_entries) if "mp4" in formats else 0  # complete at opening only there
        try:
            packets = [p for p in map(_Packet.of, self._container.demux(self._stream)) if p is not None]
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._unreadable(error) from error
        if not packets:
            raise UnreadableVideo(self.path, "the video stream holds no frames")
        rate = float(self._stream.average_rate or self._stream.guessed_rate or 25)
        self._check_whole(packets, expected, rate)
        self._restart()
        first = next(self._frames, None)
        if first is None:
            raise UnreadableVideo(self.path, "none of its frames can be decoded")
        turns = round((first.rotation or 0) / 90) % 4
        width, height = (first.height, first.width) if turns % 2 else (first.width, first.height)
        codec = self._stream.codec_context
        proven = codec.name in _DECORD_CODECS and codec.pix_fmt in ("yuv420p", "yuvj420p")

        # Frames before the first decodable one (a cut in mid-GOP) are not there for anyone.
        shown = [p for p in packets if not p.discarded and (p.pts is None or p.pts >= (first.pts or 0))]
        stamps = {p.pts for p in shown}
        counted = "avi" in formats or None in stamps or first.pts not in stamps
        time_base = float(self._stream.time_base)
        pts = None if counted else np.array(sorted(p.pts for p in shown if p.pts is not None), dtype=np.int64)
        times = self._times_by_decoding(time_base, rate) if pts is None else (pts - pts[0]) * time_base
        last_s = 0.0 if counted else max(shown, key=lambda p: p.pts or 0).duration * time_base
        if last_s <= 0:
            last_s = float(np.median(np.diff(times))) if len(times) > 1 else 1 / rate
        duration_s = float(times[-1]) + max(last_s, 1e-6)
        keys = [(p.pts, p.pts if p.dts is None else p.dts) for p in shown if p.is_key and p.pts is not None]
        key_pts, key_dts = np.array(sorted(keys), dtype=np.int64).reshape(-1, 2).T
        seeks = not counted and len(shown) == len(packets) and _keys_divide(packets)
        trouble = _decord_trouble(formats, len(shown) < len(packets))
        return _Timeline(
            VideoFacts(len(times), len(times) / duration_s, duration_s, width, height, times),
            pts,
            key_pts=key_pts,
            key_dts=key_dts,
            quarter_turns=turns,
            decord_seeks=seeks,
            decord_trouble=trouble,
            decord_is_exact=seeks and trouble is None and proven,
        )

    def _check_whole(self, packets: list[_Packet], expected: int, rate: float) -> None:
        """Refuse a file that ends before its own header says."""
        if packets[-1].corrupt or len(packets) < expected:
            of = f" of {expected}" if expected else ""
            whole = len(packets) - packets[-1].corrupt
            raise UnreadableVideo(self.path, f"the file is truncated: only {whole}{of} frames are in it")
        stated = self._stream.metadata.get("DURATION", "")  # Matroska; hours:minutes:seconds
        parts = stated.split(":")
        if len(parts) == 3 and packets[-1].pts is not None:
            stated_s = float(parts[0]) * 3600 + float(parts[1]) * 60 + float(parts[2])
            ends_s = max(p.pts or 0 for p in packets) * float(self._stream.time_base) + 1 / rate
            if ends_s < stated_s - 1.0:
                raise UnreadableVideo(self.path, f"the file is truncated: {ends_s:.1f} of {stated_s:.1f} s are in it")

    def _times_by_decoding(self, time_base: float, rate: float) -> NDArray[np.float64]:
        """Presentation times where the container has none: decoders give frames in order, so decode them all once."""
        self._restart()
        stamps = [frame.pts for frame in self._frames]
        if any(stamp is None for stamp in stamps) or any(b <= a for a, b in pairwise(stamps)):
            return np.arange(len(stamps)) / rate
        return (np.array(stamps, dtype=np.int64) - stamps[0]) * time_base

    def _decode(self, index: int) -> NDArray[np.uint8]:
        frame = self._find(index)
        if frame is None or frame.is_corrupt:  # some seeks land late; from the beginning every frame is found
            self._restart()
            frame = self._find(index, seek=False)
        if frame is None or frame.is_corrupt:
            at_s = self.facts.timestamps[index]
            problem = "is missing" if frame is None else "is damaged"
            raise UnreadableVideo(
                self.path, f"frame {index} at {at_s:.2f} s {problem}: the file is truncated or damaged"
            )
        pixels = self._to_rgb.reformat(frame, format="rgb24").to_ndarray()
        return np.ascontiguousarray(np.rot90(pixels, self.timeline.quarter_turns))

    def _find(self, index: int, seek: bool = True) -> Any:
        """Decode forward to a frame, from the last keyframe before it if that is nearer; None if it does not come."""
        pts = self.timeline.pts
        if pts is None:
            if index < self._count:
                self._restart()
            for frame in self._frames:
                self._count += 1
                if self._count > index:
                    return frame
            return None
        wanted = int(pts[index])
        if seek:
            key = int(np.searchsorted(self.timeline.key_pts, wanted, side="right")) - 1
            behind = self._last_pts is not None and self._last_pts >= wanted
            at = pts[0] if self._last_pts is None else self._last_pts
            if key >= 0 and (behind or self.timeline.key_pts[key] > at):
                self._container.seek(int(self.timeline.key_dts[key]), stream=self._stream)
                self._frames = self._decoded()
            elif behind:
                self._restart()
        for frame in self._frames:
            self._last_pts = frame.pts
            if frame.pts is not None and frame.pts >= wanted:
                return frame if frame.pts == wanted else None
        return None

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None


class _DecordReader(VideoReader):
    decoder = "decord"

    def __init__(self, path: str, num_threads: int, timeline: _Timeline) -> None:
        super().__init__(path, timeline)
        if timeline.decord_trouble:
            raise UnreadableVideo(path, f"decord misnumbers frames {timeline.decord_trouble}; use decoder 'pyav'")
        self._num_threads = num_threads
        self._open()
        if len(self._video) != self.facts.num_frames:
            raise UnreadableVideo(
                path,
                f"decord counts {len(self._video)} frames, the timestamps {self.facts.num_frames}; use decoder 'pyav'",
            )

    def _open(self) -> None:
        decord = _decord()
        self._next = 0
        try:
            # The tolerance makes decord raise where it would hand out another frame for one that it cannot decode.
            self._video = decord.VideoReader(
                Path(self.path).absolute().as_posix(), ctx=decord.cpu(0), num_threads=self._num_threads, fault_tol=1e-9
            )
        except (decord.DECORDError, RuntimeError, AssertionError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> UnreadableVideo:
        """decord's messages are a C++ stack trace under one line of reason."""
        line = str(error).strip().partition("\n")[0]
        reason = line.rpartition(".cc:")[2].partition(":")[2] or line or type(error).__name__
        return UnreadableVideo(self.path, f"decord cannot decode it: {reason.strip()[:160]}; decoder 'pyav' may")

    def _decode(self, index: int) -> NDArray[np.uint8]:
        decord = _decord()
        try:
            if self.timeline.decord_seeks:
                frame = self._video[index]
            else:
                if index < self._next:
                    self._open()
                while self._next <= index:
                    frame = self._video.next()
                    self._next += 1
        except (decord.DECORDError, RuntimeError, StopIteration, IndexError) as error:
            raise self._unreadable(error) from error
        # With another bridge set by the caller's code it is already a tensor.
        return frame.asnumpy() if hasattr(frame, "asnumpy") else np.asarray(frame)

    def close(self) -> None:
        self._video = None


@dataclass(frozen=True, slots=True)
class _Packet:
    pts: int | None
    dts: int | None
    duration: int
    is_key: bool
    discarded: bool  # an edit list cuts it off: decoded for others' sake, never shown
    corrupt: bool

    @classmethod
    def of(cls, packet: Any) -> _Packet | None:
        if not packet.size:
            return None
        return cls(
            packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, packet.is_discard, packet.is_corrupt
        )


_DECORD_CODECS = ("h264", "hevc", "mpeg4", "vp8", "vp9")  # its libavcodec is of 2018: no AV1 worth the name


def _keys_divide(packets: Sequence[_Packet]) -> bool:
    """Whether each keyframe parts what comes before from what comes after, in the file as on the screen."""
    pts = np.array([p.pts for p in packets], dtype=np.int64)
    keys = np.array([p.is_key for p in packets])
    before = np.concatenate([[np.iinfo(np.int64).min], np.maximum.accumulate(pts)[:-1]])
    from_here = np.minimum.accumulate(pts[::-1])[::-1]
    return bool(keys[0] and (before < pts)[keys].all() and (from_here == pts)[keys].all())


def _decord_trouble(formats: Sequence[str], cut: bool) -> str | None:
    if cut:
        return "in files with an edit list"
    if not {"mp4", "matroska", "webm", "avi"} & set(formats):
        return f"in {formats[0]} files"
    return None


def _check_decoder(decoder: str) -> None:
    known = ("auto", "decord", "pyav")
    if decoder not in known:
        raise InputError(f"decoder {decoder!r} is unknown{nearest(str(decoder), known)}")
    if decoder == "decord" and not _has_decord():
        raise InputError("decoder 'decord' is not installed here; use decoder 'pyav', or 'auto'")


@functools.cache
def _has_decord() -> bool:
    return importlib.util.find_spec("decord") is not None


@functools.cache
def _decord() -> ModuleType:
    import decord

    decord.logging.set_level(decord.logging.QUIET)  # it writes to stderr past Python; errors are raised all the same
    return decord
