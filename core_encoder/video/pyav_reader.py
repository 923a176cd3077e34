"""PyAV: timestamps by demuxing, pixels by seeking to a keyframe and decoding forward to the wanted timestamp."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import UnreadableVideo
from core_encoder.video.frames import DecodedFrame, small_size
from core_encoder.video.h264_header import may_interlace
from core_encoder.video.opening import open_container, video_limits
from core_encoder.video.reader import VideoReader
from core_encoder.video.stream_facts import Packet, Picture, StreamFacts, upright
from core_encoder.video.timeline import Timeline, build_timeline, check_whole, must_be_counted, shown_packets
from core_encoder.video.video_bytes import VideoBytes, not_a_video

_SKIPPING = ("h264",)  # codecs in which a frame that is no reference is one for no other frame at all
_WHOLE_FRAMES = ("mp4", "matroska")  # formats in which a packet holds both fields of an interlaced frame


class PyAVReader(VideoReader):
    decoder = "pyav"

    def __init__(self, video: VideoBytes, num_threads: int, timeline: Timeline | None = None) -> None:
        """Open a file; its `timeline` is read unless it is given by whoever opened this very file before."""
        self._bytes = video
        self._num_threads = num_threads
        self._container: Any = None
        self._keys_back = 0  # how many keyframes before the right one seeks must aim
        self._expected: frozenset[int] = frozenset()  # their timestamps; empty: every frame is decoded
        self.path = video.path
        try:
            self._restart()
            super().__init__(video.path, timeline or self._read_timeline())
        except BaseException:
            self.close()
            raise

    def _restart(self) -> None:
        """Open the file afresh: the only seek to the first frame that works in every container."""
        import av

        self.close_container()
        try:
            self._container = open_container(self._bytes.opened())
        except UnreadableVideo:
            raise
        except (av.error.FFmpegError, OSError, ValueError) as error:
            mistaken = not_a_video(self._bytes)
            raise (UnreadableVideo(self.path, mistaken) if mistaken else self._unreadable(error)) from error
        moving = self._moving_streams()
        if not moving:
            raise UnreadableVideo(self.path, "the file holds no video stream")
        best = self._container.streams.best("video")
        stream = best if best in moving else moving[0]
        if stream.codec_context is None:
            raise UnreadableVideo(self.path, "no decoder for its codec in this build of PyAV")
        video_limits().check_picture(self.path, stream.codec_context.width, stream.codec_context.height)
        if limit := video_limits().pixels:
            stream.codec_context.options = {"max_pixels": str(limit)}  # the header may say less than a frame
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
        self._to_small = av.video.reformatter.VideoReformatter()  # of its own: each keeps the last conversion prepared

    def _moving_streams(self) -> list[Any]:
        """The video streams that are no cover picture."""
        import av

        cover = av.stream.Disposition.attached_pic
        return [stream for stream in self._container.streams.video if not stream.disposition & cover]

    def _decoded(self) -> Iterator[Any]:
        import av

        context = self._stream.codec_context
        try:
            for packet in self._container.demux(self._stream):
                if self._expected:
                    context.skip_frame = "DEFAULT" if packet.pts in self._expected else "NONREF"
                yield from packet.decode()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> UnreadableVideo:
        if isinstance(error, UnreadableVideo):  # its bytes did not come
            return error
        log = getattr(error, "log", None)
        reason = getattr(error, "strerror", None) or str(error)
        return UnreadableVideo(self.path, f"cannot be decoded: {reason}" + (f" ({log[2].strip()})" if log else ""))

    def _read_timeline(self) -> Timeline:
        import av

        stream = self._stream_facts()
        try:
            packets = []
            for p in self._container.demux(self._stream):
                if p.size:
                    packets.append(Packet(p.pts, p.duration or 0, p.is_keyframe, p.is_discard, p.is_corrupt))
                    video_limits().check_frames(self.path, len(packets))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._unreadable(error) from error
        check_whole(self.path, packets, stream)
        first = self._first_frame(packets)
        counted_s = None
        if must_be_counted(shown_packets(packets, first.pts), stream, first.pts):
            counted_s = self._times_by_decoding(stream)
        return build_timeline(packets, stream, first.pts, _picture(first), counted_s)

    def _stream_facts(self) -> StreamFacts:
        stream = self._stream
        formats = tuple(self._container.format.name.split(","))
        codec = stream.codec_context.codec.canonical_name
        return StreamFacts(
            formats=formats,
            codec=codec,
            pixel_format=stream.codec_context.pix_fmt or "",
            time_base_s=float(stream.time_base),
            fps=float(stream.average_rate or stream.guessed_rate or 25),
            num_packets=len(stream.index_entries) if "mp4" in formats else 0,  # complete at opening only there
            duration_s=self._stated_s() if "matroska" in formats else 0.0,
            num_frames=stream.frames or float(stream.average_rate or 0) * (self._container.duration or 0) / 1_000_000,
            num_streams=len(self._moving_streams()),
            has_rotate_tag="rotate" in {name.lower() for name in stream.metadata},
            may_interlace=codec == "h264" and may_interlace(stream.codec_context.extradata),
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

    def expect(self, indices: Sequence[int]) -> None:
        pts, formats = self.timeline.pts, self._container.format.name.split(",")
        if pts is not None and self._stream.codec_context.name in _SKIPPING and set(formats) & set(_WHOLE_FRAMES):
            self._expected = frozenset(pts[list(indices)].tolist())
            self._restart()  # packets that were read ahead were sent to the decoder with other frames in view

    def decode(self, index: int, patient: bool = True) -> DecodedFrame:
        pts = self.timeline.pts
        if self._expected and pts is not None and int(pts[index]) not in self._expected:
            self.expect(())
        frame = self._find(index)
        if frame is None and self._keys_back == 0:  # MPEG-TS has no index: seeks may land on the next keyframe
            self._keys_back = 1
            frame = self._find(index)
        if patient and (frame is None or frame.is_corrupt):
            self._expected = frozenset()
            self._restart()
            frame = self._find(index, seek=False)
        if frame is None or frame.is_corrupt:
            at_s = self.facts.timestamps[index]
            problem = "is missing" if frame is None else "is damaged"
            raise UnreadableVideo(
                self.path, f"frame {index} at {at_s:.2f} s {problem}: the file is truncated or damaged"
            )
        return _PyAVFrame(self, frame)

    def _rgb(self, frame: Any, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """Upright pixels `(H, W, 3)`, at the frame's own size, or shrunk to a width and height as it is stored."""
        import av

        try:
            if size is None:
                pixels = self._to_rgb.reformat(frame, format="rgb24").to_ndarray()
            else:
                pixels = self._to_small.reformat(frame, *size, "rgb24", interpolation="AREA").to_ndarray()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            what = f"{frame.format.name}, matrix {frame.colorspace}"
            raise UnreadableVideo(self.path, f"its colours ({what}) cannot be converted to RGB") from error
        picture = self.timeline.picture
        return np.ascontiguousarray(np.rot90(pixels[:, ::-1] if picture.is_mirrored else pixels, picture.quarter_turns))

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
            follows = index > 0 and pts[index - 1] == at  # nothing to skip: where files are read through
            if key >= 0 and (behind or (self.timeline.key_pts[key] > at and not follows)):
                self._seek(int(self.timeline.key_pts[key]))
            elif behind:
                self._restart()
        for frame in self._frames:
            self._last_pts = frame.pts
            if frame.pts is not None and frame.pts >= wanted:
                return frame if frame.pts == wanted else None
        return None

    def close(self) -> None:
        self.close_container()
        self._bytes.close()

    def close_container(self) -> None:
        """Let go of the container, not of the bytes that it was read from."""
        if self._container is not None:
            self._container.close()
            self._container = None


class _PyAVFrame:
    """A frame as libav gives it: half the memory of its RGB pixels, or less."""

    def __init__(self, reader: PyAVReader, frame: Any) -> None:
        self._reader = reader
        self._frame = frame

    @property
    def nbytes(self) -> int:
        return sum(plane.buffer_size for plane in self._frame.planes)

    def rgb(self) -> NDArray[np.uint8]:
        return self._reader._rgb(self._frame)

    def small(self, longest: int) -> NDArray[np.uint8]:
        width, height = self._frame.width, self._frame.height
        size = small_size(width, height, longest)
        return self._reader._rgb(self._frame, None if size == (width, height) else size)


def _picture(frame: Any) -> Picture:
    from av.sidedata.sidedata import Type

    try:
        found = frame.side_data.get(Type.DISPLAYMATRIX)
    except ValueError:  # beside it lies something that PyAV has no name for, such as EXIF
        mirrored, turns = False, round((frame.rotation or 0) / 90) % 4
    else:
        mirrored, turns = upright(None if found is None else bytes(found))
    height, width = (frame.width, frame.height) if turns % 2 else (frame.height, frame.width)
    return Picture(height, width, mirrored, turns, bool(frame.interlaced_frame), int(frame.colorspace))
