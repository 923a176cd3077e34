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
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
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
from core_encoder.timeline import (
    Packet,
    StreamFacts,
    Timeline,
    build_timeline,
    check_whole,
    must_be_counted,
    shown_packets,
)
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
_PLAYLISTS = {"concat", "hls", "applehttp", "dash", "imf"}  # of libav; their digest would not tell what is in them


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
    exact = reader.timeline.decord_is_exact and _is_utf8(path)
    if decoder == "pyav" or not _has_decord() or (decoder == "auto" and not exact):
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

    def __init__(self, path: str, timeline: Timeline) -> None:
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


class _PyAVReader(VideoReader):
    decoder = "pyav"

    def __init__(self, path: str, num_threads: int) -> None:
        check_file(path)
        self._num_threads = num_threads
        self._container: Any = None
        self._keys_back = 0  # how many keyframes before the right one seeks must aim
        self.path = path
        try:
            self._restart()
            super().__init__(path, self._read_timeline())
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
        if set(self._container.format.name.split(",")) & _PLAYLISTS:
            raise UnreadableVideo(self.path, "a playlist: it names other files, name those")
        stream = self._container.streams.best("video")
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            raise UnreadableVideo(self.path, "the file holds no video stream")
        if stream.codec_context is None:
            raise UnreadableVideo(self.path, "no decoder for its codec in this build of PyAV")
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

    def _read_timeline(self) -> Timeline:
        import av

        stream = self._stream_facts()
        try:
            packets = [
                Packet(p.pts, p.duration or 0, p.is_keyframe, p.is_discard, p.is_corrupt)
                for p in self._container.demux(self._stream)
                if p.size
            ]
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._unreadable(error) from error
        check_whole(self.path, packets, stream)
        first = self._first_frame(packets)
        turns = round((first.rotation or 0) / 90) % 4
        size = (first.width, first.height) if turns % 2 else (first.height, first.width)
        counted_s = None
        if must_be_counted(shown_packets(packets, first.pts), stream, first.pts):
            counted_s = self._times_by_decoding(stream)
        return build_timeline(packets, stream, first.pts, size, turns, counted_s, bool(first.interlaced_frame))

    def _stream_facts(self) -> StreamFacts:
        stream = self._stream
        formats = tuple(self._container.format.name.split(","))
        return StreamFacts(
            formats=formats,
            codec=stream.codec_context.name,
            pixel_format=stream.codec_context.pix_fmt or "",
            time_base_s=float(stream.time_base),
            fps=float(stream.average_rate or stream.guessed_rate or 25),
            num_packets=len(stream.index_entries) if "mp4" in formats else 0,  # complete at opening only there
            duration_s=self._stated_s() if "matroska" in formats else 0.0,
        )

    def _stated_s(self) -> float:
        """Matroska's duration of the stream, `hours:minutes:seconds` in a tag that must agree with the file's own."""
        tag = self._stream.metadata.get("DURATION", "")
        if not self._container.duration or not re.fullmatch(r"\d+:\d+:\d+(\.\d+)?", tag):
            return 0.0
        hours, minutes, seconds = (float(part) for part in tag.split(":"))
        return min(hours * 3600 + minutes * 60 + seconds, self._container.duration / 1_000_000)

    def _first_frame(self, packets: Sequence[Packet]) -> Any:
        """Go back to the beginning and decode one frame, which knows the picture's size and rotation."""
        first = None
        if packets[0].pts is not None:
            self._seek(packets[0].pts)
            first = next(self._frames, None)
        if first is None or any(p.pts is None or p.pts < first.pts for p in packets if not p.is_cut):
            self._restart()  # not every container can seek to its first frame
            first = next(self._frames, None)
        if first is None:
            raise UnreadableVideo(self.path, "none of its frames can be decoded")
        self._last_pts = first.pts
        return first

    def _seek(self, key_pts: int) -> None:
        # libav's demuxers take presentation times: from the decoding time MP4 would go one keyframe too far back.
        import av

        try:
            self._container.seek(key_pts, stream=self._stream)
        except (av.error.FFmpegError, OSError):  # it cannot: decode from the first frame on
            self._restart()
        else:
            self._frames = self._decoded()

    def _times_by_decoding(self, stream: StreamFacts) -> NDArray[np.float64]:
        """Decoders give frames in order of presentation, so decode them all once."""
        self._restart()
        stamps = [frame.pts for frame in self._frames]
        self._restart()
        if any(stamp is None for stamp in stamps) or any(b <= a for a, b in pairwise(stamps)):
            return np.arange(len(stamps)) / stream.fps
        return (np.array(stamps, dtype=np.int64) - stamps[0]) * stream.time_base_s

    def _decode(self, index: int) -> NDArray[np.uint8]:
        frame = self._find(index)
        if frame is None and self._keys_back == 0:  # MPEG-TS has no index: seeks may land on the next keyframe
            self._keys_back = 1
            frame = self._find(index)
        if frame is None or frame.is_corrupt:
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
            key = int(np.searchsorted(self.timeline.key_pts, wanted, side="right")) - 1 - self._keys_back
            behind = self._last_pts is not None and self._last_pts >= wanted
            at = pts[0] if self._last_pts is None else self._last_pts
            if key >= 0 and (behind or self.timeline.key_pts[key] > at):
                self._seek(int(self.timeline.key_pts[key]))
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

    def __init__(self, path: str, num_threads: int, timeline: Timeline) -> None:
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
        except (decord.DECORDError, RuntimeError, AssertionError, UnicodeEncodeError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> UnreadableVideo:
        """decord's messages are a C++ stack trace under one line of reason."""
        line = str(error).strip().partition("\n")[0]
        reason = line.rpartition(".cc:")[2].partition(":")[2] or line or type(error).__name__
        return UnreadableVideo(self.path, f"decord cannot decode it: {reason.strip()[:160]}; decoder 'pyav' may")

    def _decode(self, index: int) -> NDArray[np.uint8]:
        decord = _decord()
        try:
            if self.timeline.keys_divide:
                frame = self._video[index]
            else:
                if index < self._next:
                    self._open()
                while self._next <= index:
                    frame = self._video.next()
                    self._next += 1
        except (
            decord.DECORDError,
            decord.DECORDLimitReachedError,
            RuntimeError,
            StopIteration,
            IndexError,
        ) as error:
            raise self._unreadable(error) from error
        # With another bridge set by the caller's code it is already a tensor.
        pixels = frame.asnumpy() if hasattr(frame, "asnumpy") else np.asarray(frame)
        if pixels.shape[2] != 3:  # rows of some narrow pictures are padded, which decord takes for further channels
            height, width = pixels.shape[:2]
            pixels = np.ascontiguousarray(pixels.reshape(height, -1)[:, : 3 * width]).reshape(height, width, 3)
        return pixels

    def close(self) -> None:
        self._video = None


def _is_utf8(path: str) -> bool:
    """Whether decord can open a file of this name."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


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
