"""One row of a corpus, a clip with its caption, and how the values of a table or a JSON object become one."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from core_encoder.fields import seconds_of
from core_encoder.files.storage import nearest
from core_encoder.files.tar_files import Member
from pretrain.corpus.manifest import Tier

_ALIASES: Mapping[str, tuple[str, ...]] = {
    "video": ("video", "image", "file_name", "path"),
    "start": ("start", "start_s"),
    "end": ("end", "end_s"),
    "caption": ("caption", "text"),
}


@dataclass(frozen=True)
class Row:
    """One clip of a tier: a span of a video file, an image (no span), or one of these inside a tar."""

    video: str  # path of the file, or of the tar
    start_s: float = 0.0
    end_s: float | None = None
    caption: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    member: Member | None = None

    @property
    def path(self) -> str:
        """What names the file in messages: inside a tar, `shard.tar/0001.mp4`; bytes that are no UTF-8 are spelt."""
        path = f"{self.video}/{self.member.name}" if self.member else self.video
        return path.encode("utf-8", "backslashreplace").decode()

    def to_dict(self) -> dict[str, Any]:
        """The row as a line of a JSONL table, which a manifest can name (labels and members included)."""
        values: dict[str, Any] = {"video": self.video, "start": self.start_s, "end": self.end_s}
        values |= {"caption": self.caption, "labels": dict(self.labels)}
        if self.member:
            values["member"] = [self.member.name, self.member.offset, self.member.size]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], folder: Path) -> Row:
        """The row that `to_dict` gave; a relative path is relative to `folder`."""
        member = Member(*values["member"]) if "member" in values else None
        video = os.path.normpath(folder / values["video"])
        return cls(video, values["start"], values["end"], values["caption"], values["labels"], member)


class RowColumns:
    """Which column, or JSON key, plays which role."""

    def __init__(self, tier: Tier, present: Mapping[str, Any], where: str, needs_video: bool = True) -> None:
        asked = {("video" if role == "image" else role): name for role, name in tier.columns.items()}
        known = [str(name) for name in present]
        self.names: dict[str, str] = {}
        for role, aliases in _ALIASES.items():
            name = asked.get(role)
            if name is not None and name not in present:
                raise InputError(f"{where}: no column {name!r}{nearest(name, known)}")
            name = name or next((alias for alias in aliases if alias in present), None)
            if name is not None:
                self.names[role] = name
            elif role == "video" and needs_video:
                raise InputError(f"{where}: no column 'video'{nearest('video', known)}; name it with columns")
        self.labels = [name for name in tier.labels if name in present]
        self._present = frozenset(present)

    def fits(self, present: Mapping[str, Any]) -> bool:
        """Whether another row has the same columns."""
        return self._present == present.keys()

    def row(self, values: Mapping[str, Any], where: str, video: str | None = None) -> Row:
        """The row of these values; an empty label is none.

        Raises:
            InputError: no video, a time that is not seconds, an end not after the start, a caption or label that is no
                text, or a member that is none.
        """
        if video is None:
            given = values[self.names["video"]]
            if not isinstance(given, str) or not given.strip() or "\0" in given or not _names_a_file(given):
                raise InputError(f"{where}: {self.names['video']} is {given!r}; give the path of a file")
            video = given.strip()
        start_s = self._seconds(values, "start", where) or 0.0
        end_s = self._seconds(values, "end", where)
        if end_s is not None and end_s <= start_s:
            raise InputError(f"{where}: end {end_s:g} is not after start {start_s:g}; times are seconds")
        caption = text_of(values.get(self.names.get("caption", ""), ""), where, self.names.get("caption", ""))
        own = _is_own(values)
        said = {name: values[name] for name in self.labels if not (own and name == "labels")}
        said |= values["labels"] if own else {}
        labels = {str(name): text for name, value in said.items() if (text := text_of(value, where, str(name)))}
        member = _member(values["member"], where) if own and values.get("member") is not None else None
        return Row(video, start_s, end_s, caption, labels, member)

    def _seconds(self, values: Mapping[str, Any], role: str, where: str) -> float | None:
        name = self.names.get(role, "")
        value = values.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        try:
            return seconds_of(value)
        except ValueError:
            raise InputError(
                f"{where}: {name} {value!r} is not a time; give seconds, 0 or more, or 00:01:02.5"
            ) from None


def text_of(value: Any, where: str, name: str) -> str:
    """A caption or label as text: numbers are written out, nothing at all is the empty text.

    Raises:
        InputError: a list or a mapping.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list | tuple | dict | bytes):
        raise InputError(f"{where}: {name} is a {type(value).__name__}; give one text")
    # Half of an emoji, as JSON's escapes can spell it, is no character of any file.
    return str(value).encode("utf-8", "replace").decode("utf-8").strip()


def _member(given: Any, where: str) -> Member:
    match given:
        case [str(name), int(offset), int(size)] if 0 <= offset < 2**63 and 0 <= size < 2**63:
            return Member(name, offset, size)
    raise InputError(f"{where}: member is {given!r}; give name, offset and size in bytes")


def _names_a_file(path: str) -> bool:
    """Whether a file can be called so; half of an emoji, as JSON's escapes can spell it, is in no name."""
    try:
        path.encode("utf-8", "surrogateescape")  # a name on disk may have bytes that are no UTF-8
    except UnicodeEncodeError:
        return False
    return True


def _is_own(values: Mapping[str, Any]) -> bool:
    """Whether a row comes from `Row.to_dict`."""
    return isinstance(values.get("labels"), dict)
