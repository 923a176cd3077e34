"""The damage that annotation files suffer, made from any file by its form, each with what is right then.

A file is JSON, a table with or without a header, a list of lines, a label map, one of MATLAB, or a pickle. What a line
of a list consists of is said in `LINES`; the form of all others is seen.
"""

from __future__ import annotations

import copy
import csv
import io
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Right = Literal["equal", "error", "error if used"]
Place = tuple[Any, ...]  # keys and numbers that lead to a value of JSON

LINES = {  # what makes a line of a text, where it is more than one name
    "charades_sta_*.txt": r"(\S+) (\S+) (\S+)##(.+)",
    "Charades_v1_classes.txt": r"(\S+) (.+)",
    "youtube_mapping.txt": r"(\S+) (\S+)",
    "moments_categories.txt": r"([^,]+),(\d+)",
    "*_B[0-9]*.txt": r" *(\d+) +(\d+) +(\S+)",
    "*Block*.txt": r" *(\d+) +(\d+) +(\S+)",
}


@dataclass(frozen=True)
class Damage:
    """A file's other content, and what is right: to read it as before, or one line that names `says` (or: `a|b`).

    What lacks a field or has it wrong is an error if the field is used: if `probe`, in which it holds something else,
    is not read as before.
    """

    what: str
    content: bytes
    right: Right
    says: tuple[str, ...] = ()
    probe: bytes = b""


def damages_of(file: Path) -> Iterator[Damage]:
    """All damage to a file that is not empty."""
    content = file.read_bytes()
    if file.suffix == ".mat":
        yield from _of_matlab(file)
        return
    if file.suffix == ".pkl":
        yield Damage("cut off", content[: len(content) // 2], "error")
        return
    text = content.decode("utf-8")
    yield from _of_encoding(text)
    if file.suffix == ".json":
        yield from _of_json(json.loads(text))
    elif file.suffix == ".pbtxt":
        yield from _of_label_map(text)
    elif file.suffix == ".csv":
        delimiter = "," if "," in text.split("\n", 1)[0] else " "
        rows = list(csv.reader(io.StringIO(text), delimiter=delimiter))
        headed = not any(map(_is_number, rows[0]))
        yield from (_of_headed_table if headed else _of_bare_table)(rows, delimiter)
    else:
        yield from _of_lines(file, text)


def _of_encoding(text: str) -> Iterator[Damage]:
    crlf = text.replace("\n", "\r\n")
    yield Damage("CRLF", crlf.encode(), "equal")
    yield Damage("a byte order mark", b"\xef\xbb\xbf" + text.encode(), "equal")
    yield Damage("CRLF and a byte order mark", b"\xef\xbb\xbf" + crlf.encode(), "equal")
    before, name, after = re.split(r"(\w+)", text, maxsplit=1)
    for place, (start, end) in {"first": (before + name, after), "last": _before_last_word(text)}.items():
        line = start.count("\n") + 1
        wrong = start.encode() + "é".encode("latin-1") + end.encode()
        yield Damage(f"Latin-1 in the {place} word", wrong, "error", (f"line {line}", "0xe9", "UTF-8"))
    yield Damage("UTF-16", text.encode("utf-16"), "error", ("UTF-16",))
    yield Damage("UTF-16 without a mark", text.encode("utf-16-le"), "error", ("UTF-16",))
    yield Damage("UTF-16, big end first", text.encode("utf-16-be"), "error", ("UTF-16",))


def _before_last_word(text: str) -> tuple[str, str]:
    end = max(found.end() for found in re.finditer(r"\w+", text))
    return text[:end], text[end:]


# Tables


def _of_headed_table(rows: list[list[str]], delimiter: str) -> Iterator[Damage]:
    def table(changed: Sequence[Sequence[str]]) -> bytes:
        return _table(changed, delimiter)

    header, last, end = rows[0], rows[-1], _line_of_last_row(rows)
    yield Damage("columns from last to first", table([row[::-1] for row in rows]), "equal")
    yield Damage("a further column", table([[*row, "x"] for row in rows]), "equal")
    for k, column in enumerate(header):
        others = table([rows[0], *[[*row[:k], "\\", *row[k + 1 :]] for row in rows[1:]]])
        without = table([[*row[:k], *row[k + 1 :]] for row in rows])
        yield Damage(f"no column {column!r}", without, "error if used", ("line 1", column), others)
        renamed = table([[*header[:k], f"{column}s", *header[k + 1 :]], *rows[1:]])
        yield Damage(f"column {column!r} renamed", renamed, "error if used", ("line 1", column), others)
        emptied = [*rows[:-1], [*last[:k], "", *last[k + 1 :]]]
        where = f"line {_line_of_last_row(emptied)}"
        yield Damage(f"{column!r} empty in the last row", table(emptied), "error if used", (where, column), others)
        twice = table([[*header, column], *[[*row, row[k]] for row in rows[1:]]])
        yield Damage(f"column {column!r} twice", twice, "error if used", ("line 1", column), others)
    yield Damage("a field less in the last row", table([*rows[:-1], last[:-1]]), "error", (f"line {end}", header[-1]))
    yield Damage("a field more in the last row", table([*rows[:-1], [*last, "x"]]), "error", (f"line {end}",))
    yield Damage("no header", table(rows[1:]), "error", ("line 1",))
    yield Damage("no row", table(rows[:1]), "error")


def _of_bare_table(rows: list[list[str]], delimiter: str) -> Iterator[Damage]:
    last, end = rows[-1], f"line {len(rows)}"
    for k in range(len(last)):
        others = _table([[*row[:k], "\\", *row[k + 1 :]] for row in rows], delimiter)
        without = _table([[*row[:k], *row[k + 1 :]] for row in rows], delimiter)
        yield Damage(f"no column {k + 1}", without, "error if used", ("line ",), others)
        short = _table([*rows[:-1], [*last[:k], *last[k + 1 :]]], delimiter)
        yield Damage(f"no field {k + 1} in the last row", short, "error if used", (end,), others)
        empty = _table([*rows[:-1], [*last[:k], "", *last[k + 1 :]]], delimiter)
        yield Damage(f"field {k + 1} empty in the last row", empty, "error if used", (end,), others)
    yield Damage("columns from last to first", _table([row[::-1] for row in rows], delimiter), "error", ("line ",))
    yield Damage("a field more in the last row", _table([*rows[:-1], [*last, "x"]], delimiter), "error", (end,))
    yield Damage("no row", b"", "error")


def _table(rows: Sequence[Sequence[str]], delimiter: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _line_of_last_row(rows: list[list[str]]) -> int:
    """Cells may hold line breaks."""
    return _table(rows, ",").decode().count("\n")


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"-?[\d.]+", text))


# Lists of lines and label maps


def _of_lines(file: Path, text: str) -> Iterator[Damage]:
    pattern = next((lines for names, lines in LINES.items() if file.match(names)), "(.+)")
    lines = text.split("\n")
    number = max(k for k, line in enumerate(lines) if re.fullmatch(pattern, line))
    found = re.fullmatch(pattern, lines[number])
    assert found is not None
    bounds = [found.span(k + 1) for k in range(len(found.groups()))]
    between = [lines[number][end:start] for (_, end), (start, _) in itertools.pairwise(bounds)]
    says = (f"line {number + 1}",)

    def with_line(line: str) -> bytes:
        return "\n".join([*lines[:number], line, *lines[number + 1 :]]).encode()

    for k, (start, end) in enumerate(bounds if len(bounds) > 1 else ()):
        line = lines[number][:start] + lines[number][end:]
        yield Damage(f"no field {k + 1} in the last line", with_line(line.strip()), "error", says)
    if len(bounds) > 1:
        fields = found.groups()[::-1]
        line = fields[0] + "".join(a + b for a, b in zip(between, fields[1:], strict=True))
        yield Damage("fields from last to first in the last line", with_line(line), "error", says)
    else:
        yield Damage("another name in the last line", with_line("\\"), "error", (*says, "\\"))
    yield Damage("nothing", b"", "error")


def _of_label_map(text: str) -> Iterator[Damage]:
    items = re.findall(r"item \{\n.*?\n\}\n", text, re.DOTALL)
    fields = items[-1].split("\n")[1:-2]
    for k, field in enumerate(fields):
        item = "\n".join(["item {", *fields[:k], *fields[k + 1 :], "}\n"])
        name = field.strip().split(":")[0]
        yield Damage(f"no {name} in the last item", "".join([*items[:-1], item]).encode(), "error", (
            f"item {len(items)}", name))  # fmt: skip
    swapped = ["\n".join(["item {", *item.split("\n")[1:-2][::-1], "}\n"]) for item in items]
    yield Damage("fields from last to first", "".join(swapped).encode(), "equal")
    yield Damage("an item less", "".join(items[:-1]).encode(), "error")


# JSON


def _of_json(content: Any) -> Iterator[Damage]:
    def written(value: Any) -> bytes:
        return json.dumps(value, ensure_ascii=False).encode()

    yield Damage("cut off", written(content)[:-2], "error", ("line 1",))
    yield Damage("keys from last to first", written(_reversed(content)), "equal")
    yield Damage("nothing", b"", "error")
    yield Damage("an empty list", b"[]", "error")
    yield Damage("an empty object", b"{}", "error")
    for place in _fields(content):
        says = (str(place[-1]), *_named(place))
        alone = len(_at(content, place[:-1])) == 1  # then it leaves an empty object, as which it is refused
        others = written(_with(content, place, {"other": 1}))
        without = written(_without(content, place))
        yield Damage(f"no {_shown(place)}", without, "error if used", says[alone:], others)
        for value in (None, {"other": 1}, [], ""):
            wrong = written(_with(content, place, value))
            known = says if value != {"other": 1} else (f"{place[-1]}|other", *says[1:])  # a mapping, with an id
            yield Damage(f"{_shown(place)} is {value!r}", wrong, "error if used", known, others)
    for place in _paired_lists(content):
        shorter = written(_with(content, place, _at(content, place)[:-1]))
        others = written(_with(content, place, {"other": 1}))
        yield Damage(f"{_shown(place)} one shorter", shorter, "error if used", _named(place), others)


def _fields(value: Any, place: Place = ()) -> list[Place]:
    """Where fields are: of those of many objects the last one each."""
    found: dict[Place, Place] = {}
    for one, inner in _walk(value, place):
        for key in inner if isinstance(inner, dict) and not _is_mapping(inner) else ():
            found[(*_schema(value, one), key)] = (*one, key)
    return list(found.values())


def _paired_lists(value: Any) -> list[Place]:
    """Lists that must be as long as others: those of one object that are, and pairs of numbers."""
    found: dict[Place, Place] = {}
    for one, inner in _walk(value, ()):
        lists = {key: own for key, own in inner.items() if isinstance(own, list)} if isinstance(inner, dict) else {}
        for key, own in lists.items():
            if sum(len(own) == len(other) for other in lists.values()) > 1:
                found[(*_schema(value, one), key)] = (*one, key)
        if isinstance(inner, list) and len(inner) == 2 and all(isinstance(n, int | float) for n in inner):
            found[_schema(value, one)] = one
    return list(found.values())


def _walk(value: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    yield place, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        if isinstance(one, dict | list):
            yield from _walk(one, (*place, key))


def _is_mapping(value: dict[str, Any]) -> bool:
    """Whether the keys are ids or names of the data rather than fields."""
    if not all(key.replace(" ", "_").isidentifier() for key in value):
        return True
    return len(value) > 1 and len({type(one) for one in value.values()}) == 1


def _schema(content: Any, place: Place) -> Place:
    """A place with a star for numbers and ids."""
    parts: list[Any] = []
    for key in place:
        parts.append("*" if isinstance(content, list) or _is_mapping(content) else key)
        content = content[key]
    return tuple(parts)


def _named(place: Place) -> tuple[str, ...]:
    """What a message must say of a place: the numbers of entries, from 1, and ids, but for the last part."""
    parts = [str(key + 1) if isinstance(key, int) else key for key in place[:-1]]
    return tuple(part for part in parts if not part.isidentifier())


def _shown(place: Place) -> str:
    return ".".join(map(str, place))


def _at(content: Any, place: Place) -> Any:
    for key in place:
        content = content[key]
    return content


def _with(content: Any, place: Place, value: Any) -> Any:
    changed = copy.deepcopy(content)
    _at(changed, place[:-1])[place[-1]] = value
    return changed


def _without(content: Any, place: Place) -> Any:
    changed = copy.deepcopy(content)
    del _at(changed, place[:-1])[place[-1]]
    return changed


def _reversed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reversed(value[key]) for key in reversed(value)}
    return [_reversed(one) for one in value] if isinstance(value, list) else value


# Files of MATLAB


def _of_matlab(file: Path) -> Iterator[Damage]:
    from scipy.io import loadmat, savemat

    def written(variables: dict[str, Any]) -> bytes:
        made = io.BytesIO()
        savemat(made, variables)
        return made.getvalue()

    content = {name: value for name, value in loadmat(file).items() if not name.startswith("__")}
    whole = file.read_bytes()
    yield Damage("cut off", whole[: len(whole) // 2], "error")
    yield Damage("a text", b"behs, bouts\n", "error")
    yield Damage("variables from last to first", written({name: content[name] for name in reversed(content)}), "equal")
    for name, value in content.items():
        others = {one: kept for one, kept in content.items() if one != name}
        yield Damage(f"no {name}", written({**others, "x": 1}), "error", (name,))
        yield Damage(f"{name} a number", written({**others, name: 7}), "error", (name,))
        if value.dtype == object:
            yield Damage(f"{name} a column shorter", written({**others, name: value[:, :-1]}), "error", (name,))
        else:
            short = {one: value[0, 0][one] for one in value.dtype.names}
            short["data"] = short["data"][:, : short["data"].shape[1] // 2]
            yield Damage(f"{name} half as long", written({**others, name: short}), "error", ("frames",))
