"""What is known of a video stream before its frames are read: its header, its packets, and its first picture."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass


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
    num_frames: float  # as stated, or the stated rate times the stated duration; 0: neither is there
    num_streams: int  # of moving pictures
    has_rotate_tag: bool
    may_interlace: bool  # some of its frames, by the header


@dataclass(frozen=True)
class Picture:
    """What the first frame tells of all of them: its size upright, how it gets so, and how it is coded."""

    height: int
    width: int
    is_mirrored: bool  # before it is turned
    quarter_turns: int  # to the left, to make it upright
    is_interlaced: bool
    color_matrix: int  # by the numbers of ISO/IEC 23091-2


def upright(display_matrix: bytes | None) -> tuple[bool, int]:
    """Whether to mirror a picture from left to right, and how many quarters to turn it to the left after that.

    `display_matrix` is libav's: nine numbers in fixed point, of which the first two rows hold rotation and mirroring.
    """
    if display_matrix is None:
        return False, 0
    a, b, _, c, d = struct.unpack("=5i", display_matrix[:20])
    mirrored = a * d - b * c < 0
    if mirrored:
        a, b = -a, -b
    return mirrored, round(-math.degrees(math.atan2(b, a)) / 90) % 4
