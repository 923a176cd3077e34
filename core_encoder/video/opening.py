"""Opening a container with PyAV so that nothing but the file is read, and no more of it than this process allows.

A playlist, an image sequence or a session description names other files or addresses, and libav opens them while it
looks at the first one. Those formats are left out of the demuxers that may take a file (`format_whitelist`, which libav
asks before a demuxer reads its header), and no protocol but `file` is there (`protocol_whitelist`). decord, whose libav
knows neither, is given only files that PyAV has taken for MP4, Matroska or AVI.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core_encoder.errors import UnreadableVideo

if TYPE_CHECKING:
    from core_encoder.files.range_file import RangeFile

_NAMING_OTHERS = frozenset(
    {"applehttp", "avisynth", "concat", "dash", "hls", "image2", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp"}
    | {"vapoursynth", "vobsub", "webm_dash_manifest"}
)
_DRAWING_TEXT = frozenset({"adf", "bin", "idf", "tty", "xbin"})  # letters as pictures: any note would be a video


@dataclass(frozen=True)
class VideoLimits:
    """How large a video this process opens; None is any size."""

    pixels: int | None = None  # of one picture
    frames: int | None = None  # of the whole file
    remote: bool = True  # whether addresses are opened beside files

    def check_picture(self, path: str, width: int, height: int) -> None:
        """Refuse a picture before a decoder makes room for it.

        Raises:
            UnreadableVideo: it has too many pixels.
        """
        if self.pixels is not None and width * height > self.pixels:
            reason = f"its pictures have {width} x {height} pixels, and no more than {self.pixels:,} are allowed here"
            raise UnreadableVideo(path, reason)

    def check_frames(self, path: str, count: int) -> None:
        """Refuse a file while its packets are counted.

        Raises:
            UnreadableVideo: it has too many frames.
        """
        if self.frames is not None and count > self.frames:
            raise UnreadableVideo(path, f"it holds more than {self.frames:,} frames, which is the limit here")


_limits = VideoLimits()


def limit_videos(limits: VideoLimits) -> None:
    """From now on this process refuses larger videos: what one that opens the files of strangers begins with."""
    global _limits
    _limits = limits


def video_limits() -> VideoLimits:
    """How large a video this process opens."""
    return _limits


def open_container(file: str | RangeFile) -> Any:
    """A file, by its path or open, as PyAV's container; broken metadata does not cost the pixels.

    Raises:
        av.error.FFmpegError, OSError, ValueError: it is no video, or names other files.
    """
    import av

    only = {"protocol_whitelist": "file", "format_whitelist": _formats()}
    options = {} if _limits.pixels is None else {"max_pixels": str(_limits.pixels)}
    return av.open(file, metadata_errors="ignore", options=options, container_options=only)


@functools.cache
def _formats() -> str:
    """The names of all demuxers that keep to the file they are given, and take it for a video."""
    import av

    return ",".join(sorted(av.formats_available - _NAMING_OTHERS - _DRAWING_TEXT))
