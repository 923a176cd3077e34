"""Found scenes as an edit decision list (CMX 3600), which editing programs open: one cut after the other. No torch.

The format knows one frame rate and whole frames: that of the first scene's video, to which all times are rounded. The
file of each scene stands in its comment `FROM CLIP NAME`, as editing programs expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from core_encoder.errors import InputError, one_line

_MOST_EVENTS = 999
_HOUR_OF_RECORD = 1  # programmes begin at 01:00:00:00 by custom


@dataclass(frozen=True)
class Cut:
    """A span of a file, in its seconds, and a line about it."""

    video: str
    start_s: float
    end_s: float
    about: str = ""


def edit_list(title: str, cuts: Sequence[Cut], fps: float) -> str:
    """The text of the list; `fps` is rounded to whole frames a second, without dropping any.

    Raises:
        InputError: nothing to cut, or more than the format can number.
    """
    if not cuts:
        raise InputError("edl: nothing was found, so there is nothing to cut")
    if len(cuts) > _MOST_EVENTS:
        raise InputError(f"edl: the format numbers {_MOST_EVENTS} cuts, not {len(cuts)}: ask for fewer with --top")
    rate = max(round(fps), 1)
    lines = [f"TITLE: {_plain(title)[:70]}", "FCM: NON-DROP FRAME", ""]
    record = _HOUR_OF_RECORD * 3600 * rate
    for number, cut in enumerate(cuts, start=1):
        start = round(cut.start_s * rate)
        length = max(round(cut.end_s * rate) - start, 1)
        source = f"{_timecode(start, rate)} {_timecode(start + length, rate)}"
        lines.append(f"{number:03}  AX       V     C        {source} {_timecode(record, rate)} "
                     f"{_timecode(record + length, rate)}")  # fmt: skip
        lines.append(f"* FROM CLIP NAME: {_plain(PurePath(cut.video).name)}")
        lines.append(f"* SOURCE FILE: {_plain(cut.video)}")
        if cut.about:
            lines.append(f"* COMMENT: {_plain(cut.about)}")
        lines.append("")
        record += length
    return "\n".join(lines)


def _timecode(frame: int, rate: int) -> str:
    seconds, frames = divmod(frame, rate)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours:02}:{minute:02}:{second:02}:{frames:02}"


def _plain(text: str) -> str:
    return one_line(text).replace("\t", " ")
