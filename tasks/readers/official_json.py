"""Objects of official annotation files in JSON, whose values are asked for by their field. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from core_encoder.fields import seconds_of
from core_encoder.files.storage import nearest, read_json


@dataclass(frozen=True)
class Entry:
    """One object: its values by field, and where it is written."""

    values: Mapping[str, Any]
    where: str

    def value(self, field: str) -> Any:
        """What a field holds, whatever it is.

        Raises:
            InputError: there is no such field.
        """
        if field not in self.values:
            raise self.error(f"there is no field {field!r}{nearest(field, self.values)}")
        return self.values[field]

    def text(self, field: str) -> str:
        """A text that is not empty, or a number as text: ids are written in both ways.

        Raises:
            InputError: it is none of these.
        """
        return self._text(field, self.value(field))

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of texts, none of them empty.

        Raises:
            InputError: it is none, or is empty.
        """
        several = self.items(field)
        if not several:
            raise self.error(f"{field} is empty; give it or remove the entry")
        return tuple(self._text(f"{field} {place}", one) for place, one in enumerate(several, start=1))

    def items(self, field: str) -> list[Any]:
        """A list.

        Raises:
            InputError: it is none.
        """
        value = self.value(field)
        if not isinstance(value, list):
            raise self.error(f"{field} must be a list, not {_short(value)}")
        return value

    def whole(self, field: str) -> int:
        """A whole number, 0 or more, or its text.

        Raises:
            InputError: it is none.
        """
        value = self.text(field)
        if not (value.isascii() and value.isdigit()):
            raise self.error(f"{field} {value!r} is no whole number")
        return int(value)

    def seconds(self, field: str) -> float:
        """A time in seconds.

        Raises:
            InputError: it is none.
        """
        return self._seconds(field, self.value(field))

    def span(self, field: str) -> tuple[float, float]:
        """A list of a start and a later end in seconds.

        Raises:
            InputError: it is none.
        """
        value = self.items(field)
        if len(value) != 2:
            raise self.error(f"{field} must be [start, end], not {_short(value)}")
        start_s, end_s = self._seconds(field, value[0]), self._seconds(field, value[1])
        if end_s <= start_s:
            raise self.error(f"{field} [{start_s:g}, {end_s:g}] does not end after it starts")
        return start_s, end_s

    def entry(self, field: str) -> Entry:
        """An object within it.

        Raises:
            InputError: it is none.
        """
        return as_entry(self.value(field), f"{self.where}: {field}")

    def entries(self, field: str) -> list[Entry]:
        """The objects of a list within it.

        Raises:
            InputError: it is no list of objects.
        """
        return [as_entry(one, f"{self.where}: {field} {place}") for place, one in enumerate(self.items(field), start=1)]

    def error(self, what: str) -> InputError:
        """An error that says where the object is."""
        return InputError(f"{self.where}: {what}")

    def _text(self, field: str, value: Any) -> str:
        number = isinstance(value, int) and not isinstance(value, bool)
        text = str(value).strip() if number or isinstance(value, str) else ""
        if not text or "\0" in text:
            raise self.error(f"{field} {_short(value)} is empty or no text; give it or remove the entry")
        return text

    def _seconds(self, field: str, value: Any) -> float:
        try:
            return seconds_of(value)
        except ValueError:
            raise self.error(f"{field} {_short(value)} is not a time in seconds") from None


def as_entry(value: Any, where: str) -> Entry:
    """A value that must be an object.

    Raises:
        InputError: it is not.
    """
    if not isinstance(value, dict):
        raise InputError(f"{where}: must be an object, not {_short(value)}")
    return Entry(value, where)


def read_object(file: Path) -> Entry:
    """The object that a file is.

    Raises:
        InputError: it is none, or holds nothing.
    """
    entry = as_entry(read_json(file), str(file))
    if not entry.values:
        raise InputError(f"{file}: holds nothing")
    return entry


def read_class_index(file: Path) -> tuple[str, ...]:
    """The class names of a file `{name: index}` in the order of their indices.

    Raises:
        InputError: the indices are not 0, 1, 2, ...
    """
    entry = read_object(file)
    index = {name: entry.whole(name) for name in entry.values}
    if sorted(index.values()) != list(range(len(index))):
        raise InputError(f"{file}: the indices of its {len(index)} classes are not 0 to {len(index) - 1}")
    return tuple(sorted(index, key=index.__getitem__))


def read_entries(file: Path) -> list[Entry]:
    """The objects of the list that a file is.

    Raises:
        InputError: it is no list of objects, or holds nothing.
    """
    content = read_json(file)
    if not isinstance(content, list) or not content:
        raise InputError(f"{file}: must be a list of objects that holds some, not {_short(content)}")
    return [as_entry(one, f"{file}: entry {place}") for place, one in enumerate(content, start=1)]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
