"""What is in a tar of videos: its samples, read once a process, and of a remote tar once for all processes."""

from __future__ import annotations

import base64
import hashlib
import posixpath
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath

from core_encoder.errors import InputError
from core_encoder.files.storage import prismhub_home, read_json, write_json
from core_encoder.files.tar_files import Member, TarSample, tar_samples
from core_encoder.files.urls import Url
from core_encoder.video.video_bytes import Identity, VideoBytes, open_bytes
from core_encoder.video.video_files import VIDEO_SUFFIXES

_REMEMBERED = 256
_FORMAT = 1
_HEADER_BLOCK = 1 << 16  # between the headers lie videos


@dataclass(frozen=True)
class _Known:
    identity: Identity | None
    samples: tuple[TarSample, ...]
    members: dict[str, Member]


_known: dict[str, _Known] = {}
_lock = threading.Lock()


def members_of(tar: VideoBytes) -> dict[str, Member]:
    """The files in an open tar by their names, those that would lie outside of it left out.

    Raises:
        InputError: not a whole, uncompressed tar.
    """
    return _read(tar).members


def samples_of(path: str) -> tuple[TarSample, ...]:
    """The samples of a tar, in its order.

    Raises:
        InputError: it cannot be read, or is not a whole, uncompressed tar.
    """
    with open_bytes(path) as tar:
        return _read(tar).samples


def videos_in_tar(path: str) -> list[str]:
    """The names of the videos in a tar, in its order.

    Raises:
        InputError: as `samples_of`, or it holds none.
    """
    with open_bytes(path) as tar:
        names = [name for name in _read(tar).members if is_video(name)]
    if not names:
        raise InputError(f"{path}: no video in this tar (looked for {', '.join(sorted(VIDEO_SUFFIXES))})")
    return names


def is_video(name: str) -> bool:
    """Whether a member is one by the ending of its name."""
    path = PurePosixPath(name)
    return path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith(".")


def inner_name(name: str) -> str | None:
    """A member's name as part of a path; None where it would lead out of the tar."""
    plain = posixpath.normpath(name.replace("\\", "/"))
    return None if plain.startswith(("/", "..")) or "\0" in plain else plain


def _read(tar: VideoBytes) -> _Known:
    with _lock:
        known = _known.get(tar.path)
        if known is None or known.identity != tar.identity or known.identity is None:
            samples = _samples(tar)
            members = {name: one for sample in samples for one in sample.members if (name := inner_name(one.name))}
            if len(_known) >= _REMEMBERED:
                _known.clear()
            known = _known[tar.path] = _Known(tar.identity, samples, members)
        return known


def _samples(tar: VideoBytes) -> tuple[TarSample, ...]:
    """The samples, from the list that was kept of a remote tar where it is still the same."""
    kept = None
    if isinstance(tar.path, Url) and tar.identity is not None:
        name = hashlib.sha256(f"{_FORMAT}\0{tar.path}\0{tar.identity}".encode()).hexdigest()
        kept = prismhub_home() / "remote" / "tars" / f"{name}.json"
        if kept.is_file():
            try:
                return tuple(_from_json(one) for one in read_json(kept))
            except (InputError, TypeError, ValueError, KeyError):
                pass  # damaged: read it anew
    with open(tar.local, "rb") if tar.local else tar.as_file(_HEADER_BLOCK) as archive:  # noqa: PTH123
        samples = tuple(tar_samples(archive, tar.path))  # type: ignore[arg-type]
    if kept is not None:
        with suppress(InputError, OSError, UnicodeEncodeError):  # it only costs reading them again
            write_json(kept, [_to_json(one) for one in samples])
    return samples


def _to_json(sample: TarSample) -> list[object]:
    texts = {ending: base64.b64encode(text).decode() for ending, text in sample.texts.items()}
    return [sample.name, [[one.name, one.offset, one.size] for one in sample.members], texts]


def _from_json(given: list[object]) -> TarSample:
    name, members, texts = given
    return TarSample(
        str(name),
        [Member(str(one[0]), int(one[1]), int(one[2])) for one in members],  # type: ignore[attr-defined]
        {ending: base64.b64decode(text) for ending, text in texts.items()},  # type: ignore[attr-defined]
    )
