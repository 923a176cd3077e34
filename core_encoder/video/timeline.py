"""The frames of a file in presentation order, worked out from its packets' timestamps without decoding them.

It also tells whether decord may be trusted with the file. decord counts frames instead of reading their timestamps,
so its numbers are right after a seek only where a keyframe parts the frames before it from those after it on the
screen, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core_encoder.clip_plan import VideoFacts
from core_encoder.errors import UnreadableVideo

# Where frames after decord's seeks were found equal to PyAV's; its libavcodec is of 2018.
_DECORD_CODECS = ("h264", "hevc", "mpeg4", "vp8", "vp9")
_DECORD_PIXELS = ("yuv420p", "yuvj420p")


@dataclass(frozen=True, slots=True)
class Packet:
    """One coded frame, in the order of the file; times in units of the stream's time base."""

    pts: int | None
    duration: int
    is_key: bool
    is_cut: bool  # by an edit list: decoded for the sake of others, never shown
    is_corrupt: bool


@dataclass(frozen=True)
class StreamFacts:
    """What a container says of its video stream before a packet is read."""

    formats: tuple[str, ...]
    codec: str
    pixel_format: str
    time_base_s: float
    fps: float
    num_packets: int  # 0: it does not say
    duration_s: float  # 0: it does not say, or cannot be believed


@dataclass(frozen=True)
class Timeline:
    """Frames in presentation order, and how a decoder gets to them."""

    facts: VideoFacts
    pts: NDArray[np.int64] | None  # None: the packets' timestamps are no guide, frames are counted
    key_pts: NDArray[np.int64]
    quarter_turns: int  # to the left, to make a decoded frame upright
    keys_divide: bool
    decord_trouble: str | None  # why decord cannot number these frames at all
    decord_is_exact: bool  # decord may seek here, and gives the frames that PyAV gives


def check_whole(path: str, packets: Sequence[Packet], stream: StreamFacts) -> None:
    """Refuse a file that ends before its header says.

    Raises:
        UnreadableVideo: no packets, the last one cut off, or fewer than stated.
    """
    if not packets:
        raise UnreadableVideo(path, "the video stream holds no frames")
    if packets[-1].is_corrupt or len(packets) < stream.num_packets:
        of = f" of {stream.num_packets}" if stream.num_packets else ""
        whole = len(packets) - packets[-1].is_corrupt
        raise UnreadableVideo(path, f"the file is truncated: only {whole}{of} frames are in it")
    end_s = max((p.pts or 0) + p.duration for p in packets) * stream.time_base_s
    if end_s < stream.duration_s - 0.25:  # writers round, and some count the last frame's time and some do not
        raise UnreadableVideo(path, f"the file is truncated: only {end_s:.1f} of {stream.duration_s:.1f} s are in it")


def shown_packets(packets: Sequence[Packet], first_pts: int | None) -> list[Packet]:
    """The packets a viewer sees: none that an edit list cuts, none before the first frame that can be decoded."""
    return [p for p in packets if not p.is_cut and (p.pts is None or first_pts is None or p.pts >= first_pts)]


def must_be_counted(shown: Sequence[Packet], stream: StreamFacts, first_pts: int | None) -> bool:
    """Whether only decoding from the start tells which frame is which.

    AVI keeps no times, and with B-frames what libav makes up for it is wrong; in MPEG program streams (`mpeg`) seeks
    land anywhere and the times of the frames that follow are guesses.
    """
    stamps = {p.pts for p in shown}
    return bool({"avi", "mpeg"} & set(stream.formats)) or None in stamps or first_pts not in stamps


def build_timeline(
    packets: Sequence[Packet],
    stream: StreamFacts,
    first_pts: int | None,
    size: tuple[int, int],
    quarter_turns: int,
    counted_s: NDArray[np.float64] | None = None,
    interlaced: bool = False,
) -> Timeline:
    """The timeline of a whole file: its first decodable frame carries `first_pts` and, upright, is of `size` (H, W).

    `counted_s` are the times of all frames where they had to be found by decoding. Of `interlaced` frames decord
    spreads the colours another way.
    """
    shown = shown_packets(packets, first_pts)
    pts, last_s = None, 0.0
    if counted_s is None:
        pts = np.array(sorted(p.pts for p in shown if p.pts is not None), dtype=np.int64)
        last_s = max(shown, key=lambda p: p.pts or 0).duration * stream.time_base_s
        times_s = (pts - pts[0]) * stream.time_base_s
    else:
        times_s = counted_s
    if last_s <= 0:
        last_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
    duration_s = float(times_s[-1]) + (last_s if last_s > 0 else 1 / stream.fps)

    key_pts = np.array(sorted(p.pts for p in shown if p.is_key and p.pts is not None), dtype=np.int64)
    divided = pts is not None and len(shown) == len(packets) and _keys_divide(packets)
    trouble = None
    if len(shown) < len(packets):
        trouble = "in files with an edit list"
    elif not {"mp4", "matroska", "avi"} & set(stream.formats):
        trouble = f"in {stream.formats[0]} files"
    proven = stream.codec in _DECORD_CODECS and stream.pixel_format in _DECORD_PIXELS and not interlaced
    height, width = size
    return Timeline(
        VideoFacts(len(times_s), len(times_s) / duration_s, duration_s, width, height, times_s),
        pts,
        key_pts,
        quarter_turns,
        divided,
        trouble,
        decord_is_exact=divided and trouble is None and proven,
    )


def _keys_divide(packets: Sequence[Packet]) -> bool:
    """Whether each keyframe parts what comes before it from what comes after, in the file as on the screen."""
    pts = np.array([p.pts for p in packets], dtype=np.int64)
    keys = np.array([p.is_key for p in packets])
    latest_before = np.concatenate([[np.iinfo(np.int64).min], np.maximum.accumulate(pts)[:-1]])
    earliest_from_here = np.minimum.accumulate(pts[::-1])[::-1]
    return bool(keys[0] and (latest_before < pts)[keys].all() and (earliest_from_here == pts)[keys].all())
