"""The frames of a file in presentation order, worked out from its packets' timestamps without decoding them.

Whether decord may be trusted with the file is told from the same facts, in `decord_limits`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core_encoder.clip_plan import VideoFacts
from core_encoder.errors import UnreadableVideo
from core_encoder.video.decord_limits import decord_is_exact, decord_trouble
from core_encoder.video.stream_facts import Packet, Picture, StreamFacts


@dataclass(frozen=True)
class Timeline:
    """Frames in presentation order, and how a decoder gets to them."""

    facts: VideoFacts
    pts: NDArray[np.int64] | None  # None: the packets' timestamps are no guide, frames are counted
    key_pts: NDArray[np.int64]
    picture: Picture
    keys_divide: bool  # each keyframe parts what comes before it from what comes after, in the file as on the screen
    decord_trouble: str | None  # why decord cannot give these frames at all
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
    land anywhere and the times of the frames that follow are guesses; where a clock is too coarse for the frames
    (Matroska's milliseconds in slow motion) two of them carry one time.
    """
    stamps = {p.pts for p in shown}
    untimed = bool({"avi", "mpeg"} & set(stream.formats)) or None in stamps or first_pts not in stamps
    return untimed or len(stamps) < len(shown)


def build_timeline(
    packets: Sequence[Packet],
    stream: StreamFacts,
    first_pts: int | None,
    picture: Picture,
    counted_s: NDArray[np.float64] | None = None,
) -> Timeline:
    """The timeline of a whole file: its first decodable frame carries `first_pts` and looks like `picture`.

    `counted_s` are the times of all frames where they had to be found by decoding.
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
    trouble = decord_trouble(stream, picture, num_unseen=len(packets) - len(shown))
    return Timeline(
        VideoFacts(len(times_s), len(times_s) / duration_s, duration_s, picture.width, picture.height, times_s),
        pts,
        key_pts,
        picture,
        divided,
        trouble,
        decord_is_exact=divided and trouble is None and decord_is_exact(stream, picture),
    )


def _keys_divide(packets: Sequence[Packet]) -> bool:
    """Whether each keyframe parts what comes before it from what comes after, in the file as on the screen."""
    pts = np.array([p.pts for p in packets], dtype=np.int64)
    keys = np.array([p.is_key for p in packets])
    latest_before = np.concatenate([[np.iinfo(np.int64).min], np.maximum.accumulate(pts)[:-1]])
    earliest_from_here = np.minimum.accumulate(pts[::-1])[::-1]
    return bool(keys[0] and (latest_before < pts)[keys].all() and (earliest_from_here == pts)[keys].all())
