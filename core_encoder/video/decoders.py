"""Video file -> uint8 frames: decord and PyAV behind one reader, numbered by presentation timestamps.

PyAV reads the timestamps of every file (demuxing alone, no decoding). Pixels come from the decoder asked for:

    pyav      seeks to a keyframe, decodes forward, and takes the frame that carries the wanted timestamp
    decord    counts frames instead, which goes wrong after seeks in some files (open GOPs, AVI, MPEG-TS, edit lists);
              it seeks only where counting is exact, steps through the file where that is right, refuses the rest
    auto      decord where it is installed and gives the frames that PyAV gives, by what `decord_limits` knows, else
              PyAV; PyAV also to read a file through from its beginning (dense windows), which it does faster; never
              another decoder after a failure

Where `auto` takes decord, its frames equal PyAV's bit for bit, as long as the file is undamaged and its pictures keep
one size. Open a reader in the thread or process that uses it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core_encoder.clip_plan import Clip, ClipPlan, VideoFacts
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from core_encoder.preprocessing import Preprocessing
from core_encoder.video.decord_reader import DecordReader, decord_module, has_decord
from core_encoder.video.pyav_reader import PyAVReader
from core_encoder.video.reader import VideoReader
from core_encoder.video.timeline import Timeline
from core_encoder.video.video_bytes import Identity, identity_of, open_bytes

Decoder = Literal["auto", "decord", "pyav"]
_REMEMBERED = 64
_timelines: dict[tuple[str, int, int], Timeline] = {}  # of files whose facts were asked for before they are decoded


class KnownTimeline(NamedTuple):
    """The timeline of a file, and which file that was: its path, size and time of modification."""

    file: tuple[str, int, int]
    timeline: Timeline


def decoder_id(decoder: str = "auto") -> str:
    """What stands in cache keys for a decoder: `pyav-18.1.0`, `decord-0.6.0`, or both after `auto-`.

    Raises:
        InputError: an unknown decoder, or decord asked for where it is not installed.
    """
    _check_decoder(decoder)
    import av

    pyav = f"pyav-{av.__version__}"
    if decoder == "pyav" or not has_decord():
        return pyav
    decord = f"decord-{decord_module().__version__}"
    return decord if decoder == "decord" else f"auto-{decord}-{pyav}"


def open_video(
    path: str | Path, decoder: str = "auto", num_threads: int = 1, read_through: bool = False
) -> VideoReader:
    """Open a video and read its timestamps; use as a context manager.

    With `read_through`, frames from all over the file are to be read in their order: PyAV is the faster at it.

    Raises:
        UnreadableVideo: missing, empty, truncated, without a video stream, or not decodable; one line says why.
        InputError: an unknown decoder, or decord asked for where it is not installed.
    """
    _check_decoder(decoder)
    path = os.fspath(path)
    video = open_bytes(path, whole=decoder == "decord")  # which opens files by their path
    timeline = _timelines.get(_identity(path, video.identity))
    if timeline is None:  # all packets are read for it
        video.prefer_copy()
    reader = PyAVReader(video, num_threads, timeline)
    exact = reader.timeline.decord_is_exact and video.local is not None and _is_utf8(video.local)
    if decoder == "pyav" or not has_decord() or (decoder == "auto" and (read_through or not exact)):
        return reader
    reader.close_container()
    return DecordReader(video, num_threads, reader.timeline)


def read_facts(path: str | Path, decoder: str = "auto") -> VideoFacts:
    """The facts of a video, remembered while the file does not change: of a long one it takes seconds to read them.

    Raises:
        UnreadableVideo, InputError: as `open_video`.
    """
    return read_timeline(path, decoder).timeline.facts


def read_timeline(path: str | Path, decoder: str = "auto") -> KnownTimeline:
    """The timeline of a video, remembered as by `read_facts`; another process takes it over by `remember_timeline`.

    Raises:
        UnreadableVideo, InputError: as `open_video`.
    """
    path = os.fspath(path)
    identity = _identity(path, identity_of(path))
    with open_video(path, decoder) as video:
        known = KnownTimeline(identity, video.timeline)
    remember_timeline(known)
    return known


def remember_timeline(known: KnownTimeline) -> None:
    """Spare this process reading a timeline, while the file does not change."""
    if known.file not in _timelines and len(_timelines) >= _REMEMBERED:
        _timelines.pop(next(iter(_timelines)), None)
    _timelines[known.file] = known.timeline


def _identity(path: str, identity: Identity | None) -> tuple[str, int, int]:
    size, changed, _ = identity or (-1, -1, -1)
    return path, size, changed


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
    if decoder == "decord" and not has_decord():
        raise InputError("decoder 'decord' is not installed here; use decoder 'pyav', or 'auto'")
