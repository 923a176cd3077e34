"""Rows of annotation files of boxes, whatever their format: who is where in which video, when, and does what.

    AVA CSV       video_id,timestamp,x1,y1,x2,y2,action_id,person_id    seconds, fractions
    COCO JSON     images, annotations, categories (and videos)          frames or seconds, pixels x, y, width, height
    MOT text      frame,id,left,top,width,height,conf,class,...         frames from 1, pixels

No torch.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from adapters.boxes import Corners
from core_encoder.errors import InputError
from core_encoder.files.storage import read_utf8
from tasks.readers.annotations import read_class_list


@dataclass(frozen=True, slots=True)
class BoxRow:
    """One box of one video with at most one label; `corners` is None where somebody looked and found nobody.

    The moment is `time_s`, or the frame counted from 0. Corners are fractions of the picture, or pixels of it
    (`in_pixels`), of a picture of `picture` pixels where the file says so.
    """

    file: Path
    place: str  # `line 3`, for messages
    video: str
    corners: Corners | None
    time_s: float | None = None
    frame: int | None = None
    label: str | None = None
    track: str = ""
    score: float = 1.0
    in_pixels: bool = False
    picture: tuple[float, float] | None = None

    def error(self, message: str) -> InputError:
        """An error that says where."""
        return InputError(f"{self.file}: {self.place}: {message}")


@dataclass(frozen=True)
class LabelMap:
    """Classes by name, and the number that each has in annotation files."""

    names: tuple[str, ...]
    ids: tuple[int, ...]

    def name_of(self, label: str) -> str | None:
        """The class that a name or a number stands for; None where it is none of these."""
        if label in self.names:
            return label
        return self.names[self.ids.index(int(label))] if label.isdigit() and int(label) in self.ids else None


_ITEM = re.compile(r"\w+\s*\{([^{}]*)\}")
_NAME = re.compile(r"\b(?:name|display_name)\s*:\s*(?:\"([^\"]*)\"|'([^']*)')")
_ID = re.compile(r"\b(?:id|label_id)\s*:\s*(\d+)")


def read_label_map(path: str | Path) -> LabelMap:
    """Read the classes that count: a label map such as AVA's `.pbtxt`, or names one a line, numbered from 1.

    A label map is known by its ending or by its items: ChimpACT's is called `action_list.txt`.

    Raises:
        InputError: unreadable, an item without name or id, or one that is there twice.
    """
    path = Path(path)
    text = re.sub(r"^\s*#.*$", "", read_utf8(path), flags=re.MULTILINE)
    if not (path.suffix.lower() == ".pbtxt" or _ITEM.search(text)):
        names = read_class_list(path)
        return LabelMap(names, tuple(range(1, len(names) + 1)))
    found: list[tuple[str, int]] = []
    for number, item in enumerate(_ITEM.findall(text), start=1):
        name, index = _NAME.search(item), _ID.search(item)
        if name is None or index is None:
            raise InputError(f"{path}: item {number} has no {'name' if name is None else 'id'}")
        found.append(((name[1] or name[2] or "").strip(), int(index[1])))
    for part in range(2):
        values = [one[part] for one in found]
        if twice := [value for value in values if values.count(value) > 1]:
            raise InputError(f"{path}: {'id' if part else 'name'} {twice[0]!r} is there twice")
    if not found or not all(name for name, _ in found):
        raise InputError(f'{path}: holds no label map; items look like item {{ name: "walk" id: 12 }}')
    return LabelMap(tuple(name for name, _ in found), tuple(index for _, index in found))
