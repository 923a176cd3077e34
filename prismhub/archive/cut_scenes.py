"""Spans of videos as files of their own: packets copied where the span begins on a key frame, else encoded anew.

A copied span is what the file holds, bit for bit; where frames are stored out of order it may show a few more at its
end. An encoded one is H.264 in MP4, nearly lossless. Sound is copied where the file it goes into can hold it, else it
is left out, which the result says.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.files.storage import atomic_path, plain_name
from core_encoder.files.urls import Url, named
from core_encoder.video.stream_facts import upright
from core_encoder.video.video_bytes import is_inside

_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
_SOUND_IN_MP4 = ("aac", "mp3", "ac3", "eac3", "alac")
_CRF = "16"


@dataclass(frozen=True)
class Saved:
    """A file that was cut out, and how: packets copied or frames encoded; whether the sound had to stay behind."""

    path: Path
    copied: bool
    silent: bool = False


def saved_name(number: int, video: str, start_s: float, end_s: float) -> str:
    """`003-holiday-12.5-17.0`: sorted by rank, and told apart whatever the videos are called."""
    return f"{number:03}-{plain_name(Path(video).stem, 'video')[:60]}-{start_s:.1f}-{end_s:.1f}"


def save_scene(video: str | Path, start_s: float, end_s: float, folder: Path, name: str) -> Saved:
    """Write the frames shown from `start_s` up to `end_s` of a video to `folder/name.SUFFIX`.

    Raises:
        UnreadableVideo: it is gone, cannot be decoded, or shows nothing in this span.
        InputError: the disk is full, or the folder cannot be written to.
    """
    import av

    if isinstance(named(str(video)), Url):
        raise UnreadableVideo(str(video), "it lies elsewhere: scenes are cut out of files of this machine")
    if is_inside(str(video)):
        raise UnreadableVideo(str(video), "it lies in a tar: scenes are cut out of files that lie by themselves")
    path = Path(video)
    if not path.is_file():
        raise UnreadableVideo(str(video), "the file is not there any more")
    try:
        with av.open(path.absolute().as_posix(), metadata_errors="ignore") as source:
            if not source.streams.video:
                raise UnreadableVideo(str(video), "the file holds no video stream")
            span = _Span(source, start_s, end_s)
            suffix = path.suffix.lower() if path.suffix.lower() in _CONTAINERS else ".mkv"
            if span.begins_on_a_key_frame():
                target = folder / f"{name}{suffix}"
                with atomic_path(target) as aside:
                    silent = _copy(span, aside, _CONTAINERS[suffix])
                return Saved(target, copied=True, silent=silent)
            target = folder / f"{name}.mp4"
            with atomic_path(target) as aside:
                silent = _encode(span, aside)
            return Saved(target, copied=False, silent=silent)
    except InputError:
        raise
    except (av.error.FFmpegError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error)
        raise UnreadableVideo(str(video), f"cannot be cut ({reason})") from error


class _Span:
    """A span of an open file: seconds counted from the first frame shown, as everywhere in prismhub."""

    def __init__(self, source: Any, start_s: float, end_s: float) -> None:
        self.source = source
        self.video = source.streams.best("video")
        self.sound = source.streams.best("audio")
        first = self._first_time()
        self.start, self.end = first + start_s, first + end_s
        rate = float(self.video.average_rate or self.video.guessed_rate or 25)
        self.half = 0.5 / rate  # seconds that a time may be off: stored ones are rounded

    def begins_on_a_key_frame(self) -> bool:
        """Whether the frame on screen when the span starts is a key frame, so that packets can be copied."""
        for packet in self.packets(self.video):
            if packet.is_keyframe:
                return abs(_seconds(packet) - self.start) < self.half
        return False

    def packets(self, stream: Any) -> Iterator[Any]:
        """Packets from the last key frame at or before the start on."""
        self.source.seek(int((self.start + self.half) / self.video.time_base), stream=self.video)
        for packet in self.source.demux(stream):
            if packet.pts is not None and packet.dts is not None:
                yield packet

    def frames(self) -> Iterator[Any]:
        """The frames on screen at any moment of the span, in order; the first one may be shown before it."""
        self.source.seek(int((self.start + self.half) / self.video.time_base), stream=self.video)
        before = None
        for frame in self.source.decode(self.video):
            if frame.time is None or frame.time < self.start + self.half:
                before = frame
                continue
            if before is not None:
                yield before
                before = None
            if frame.time >= self.end - self.half:
                return
            yield frame
        if before is not None:
            yield before

    def shows_nothing(self) -> UnreadableVideo:
        return UnreadableVideo(self.source.name, f"shows nothing from {self.start:g} s to {self.end:g} s")

    def _first_time(self) -> float:
        if self.video.start_time is not None:
            return float(self.video.start_time * self.video.time_base)
        return next((_seconds(packet) for packet in self.source.demux(self.video) if packet.pts is not None), 0.0)


def _copy(span: _Span, target: Path, container: str) -> bool:
    """Copy the packets of the span; whether the sound had to stay behind."""
    import av

    packets: list[Any] = []
    last = 0  # of the packets, in the order they are decoded; before it they may be needed though they are shown later
    for packet in span.packets(span.video):
        time_s = _seconds(packet)
        if packet.is_keyframe and time_s >= span.end - span.half:
            break
        if time_s >= span.start - span.half:  # else a leading picture, of the group before
            packets.append(packet)
            last = len(packets) if time_s < span.end - span.half else last
    if not last:
        raise span.shows_nothing()
    with av.open(str(target), "w", format=container) as out:
        video = out.add_stream_from_template(span.video)
        sound, silent = _sound_of(span, out, container)
        for packet in packets[:last]:
            _put(packet, span, video, out)
        _copy_sound(span, sound, out)
    return silent


def _encode(span: _Span, target: Path) -> bool:
    """Encode the frames of the span; whether the sound had to stay behind."""
    import av

    with av.open(str(target), "w", format="mp4") as out:
        video = out.add_stream("libx264", rate=span.video.average_rate or span.video.guessed_rate or Fraction(25))
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = span.video.time_base
        video.options = {"crf": _CRF, "preset": "medium"}
        sound, silent = _sound_of(span, out, "mp4")
        shown = 0
        for frame in span.frames():
            picture = _upright(frame)
            if not shown:  # before the first one is encoded
                video.width, video.height = picture.width - picture.width % 2, picture.height - picture.height % 2
            picture = picture.reformat(video.width, video.height, "yuv420p")
            picture.pts = max(round((frame.time - span.start) / span.video.time_base), 0)
            picture.time_base = span.video.time_base
            picture.pict_type = 0  # the encoder chooses
            out.mux(video.encode(picture))
            shown += 1
        if not shown:
            raise span.shows_nothing()
        out.mux(video.encode())
        _copy_sound(span, sound, out)
    return silent


def _upright(frame: Any) -> Any:
    """The picture as a player shows it: what a phone filmed upright says so beside its frames."""
    from av import VideoFrame
    from av.sidedata.sidedata import Type

    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    mirrored, quarters = upright(None if matrix is None else bytes(matrix))
    if not mirrored and not quarters:
        return frame
    pixels = frame.to_ndarray(format="rgb24")
    pixels = np.rot90(pixels[:, ::-1] if mirrored else pixels, quarters)
    return VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")


def _copy_sound(span: _Span, sound: Any, out: Any) -> None:
    for packet in span.packets(span.sound) if sound is not None else ():
        time_s = _seconds(packet)
        if time_s >= span.end:
            break
        if time_s >= span.start:
            _put(packet, span, sound, out)


def _put(packet: Any, span: _Span, stream: Any, out: Any) -> None:
    """Write a packet, so that the span begins at 0."""
    before = round(span.start / packet.time_base)
    packet.pts -= before
    packet.dts -= before
    packet.stream = stream
    out.mux(packet)


def _sound_of(span: _Span, out: Any, container: str) -> tuple[Any, bool]:
    """The stream that the sound is copied to, None where there is none or it cannot be; whether it stays behind."""
    if span.sound is None:
        return None, False
    if container in ("mp4", "mov") and span.sound.codec_context.name not in _SOUND_IN_MP4:
        return None, True
    return out.add_stream_from_template(span.sound), False


def _seconds(packet: Any) -> float:
    return float(packet.pts * packet.time_base)
