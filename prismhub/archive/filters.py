"""`--where`: a condition on scenes in a small language of its own, as SQL with parameters.

    label = 'goal' and duration > 2
    (caption like '%dog%' or speech like '%dog%') and not recorded < '2024-05-01'
    label in ('goal', 'penalty') and score >= 0.8

Text compares without regard to case (of ASCII); `like` knows % and _. `score` and `adapter` are said of the labels and
captions of the same `and`: the third line wants one of these labels with such a score. Nothing that a user writes
becomes SQL: columns and operators are looked up, values are parameters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest

NUMBER, TEXT = "a number", "text"


@dataclass(frozen=True)
class Column:
    """A name of the language: its SQL, what it holds, and the table beside `scenes` and `videos` that it is in."""

    sql: str
    holds: str
    table: str = ""
    about: str = ""


COLUMNS = {
    "start": Column("s.start_s", NUMBER, about="second of the video at which the scene starts"),
    "end": Column("s.end_s", NUMBER, about="second at which it ends"),
    "duration": Column("(s.end_s - s.start_s)", NUMBER, about="seconds of the scene"),
    "video": Column("v.path", TEXT, about="path of the video below its root"),
    "name": Column("v.name", TEXT, about="name of its file"),
    "root": Column("v.root", TEXT, about="folder that was indexed"),
    "video_duration": Column("v.duration_s", NUMBER, about="seconds of the video"),
    "width": Column("v.width", NUMBER, about="pixels of the video"),
    "height": Column("v.height", NUMBER, about="pixels of the video"),
    "fps": Column("v.fps", NUMBER, about="frames a second"),
    "recorded": Column("v.recorded", TEXT, about="ISO date and time, such as 2024-05-01T10:00:00"),
    "label": Column("f.label", TEXT, "findings", "what an adapter calls the scene, or a part of it"),
    "caption": Column("f.text", TEXT, "findings", "what an adapter writes of it"),
    "score": Column("f.score", NUMBER, "findings", "score of the label or caption in the same `and`"),
    "adapter": Column("f.adapter", TEXT, "findings", "who said so"),
    "speech": Column("c.text", TEXT, "cues", "a line of what is said"),
}
_SIDE = ("score", "adapter")  # of a finding; they narrow the labels and captions of the same `and`
_OPERATORS = {"=": "=", "==": "=", "!=": "!=", "<>": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")|(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?![\w.])"
    r"|(?P<word>[^\W\d]\w*)|(?P<sign><=|>=|!=|<>|==|[=<>(),]))"
)
_MOST = 200  # conditions in one filter
_DEEPEST = 50
_LONGEST = 20_000  # characters; SQLite knows no longer pattern than 50,000 bytes


@dataclass(frozen=True)
class Filter:
    """A condition on `scenes s` and `videos v` as SQL, and its parameters."""

    sql: str
    values: tuple[str | float, ...]


@dataclass(frozen=True)
class _Comparison:
    column: str
    sql: str  # with ? for every value
    values: tuple[str | float, ...]
    negated: bool = False


_Node = tuple[str, list["_Node"]] | _Comparison


def parse_filter(text: str, columns: Mapping[str, Column] = COLUMNS) -> Filter:
    """The condition that `text` writes, in which these columns may stand.

    Raises:
        InputError: a column that is not there (the nearest is named), a value of another kind, or what cannot be read,
            with its place.
    """
    return Filter(*_sql_of(_Parser(text, columns).parse()))


class _Parser:
    def __init__(self, text: str, columns: Mapping[str, Column]) -> None:
        self._text = text
        self._columns = columns
        self._tokens = _read(text)
        self._place = 0
        self._conditions = self._depth = 0

    def parse(self) -> _Node:
        if not self._tokens:
            raise InputError("where is empty: write a condition such as label = 'goal' and duration > 2")
        found = self._either()
        if self._place < len(self._tokens):
            raise self._wrong("and, or, or the end")
        return found

    def _either(self) -> _Node:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else ("or", parts)

    def _both(self) -> _Node:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else ("and", parts)

    def _one(self) -> _Node:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise InputError(f"where: more than {_DEEPEST} brackets and nots within each other")
        try:
            if self._take("not"):
                return ("not", [self._one()])
            if self._take("("):
                found = self._either()
                self._expect(")")
                return found
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> _Node:
        self._conditions += 1
        if self._conditions > _MOST:
            raise InputError(f"where: more than {_MOST} conditions")
        kind, word = self._next("a column")
        if kind != "word":
            raise self._wrong("a column", back=1)
        name = word.lower()
        if name not in self._columns:
            raise InputError(f"where: there is no column {word!r}{nearest(name, self._columns)}")
        column = COLUMNS[name]
        negated = self._take("not")
        kind, sign = self._next("an operator such as = or >")
        if kind == "word" and sign.lower() == "in":
            self._expect("(")
            values = [self._value(name)]
            while self._take(","):
                values.append(self._value(name))
            self._expect(")")
            marks = ", ".join("?" * len(values))
            return _Comparison(name, f"{_compared(column)} IN ({marks})", tuple(values), negated)
        if kind == "word" and sign.lower() == "like":
            if column.holds != TEXT:
                raise InputError(f"where: {name} is {column.holds}: like is for text")
            return _Comparison(name, f"{column.sql} LIKE ?", (self._value(name),), negated)
        if sign not in _OPERATORS or negated:
            raise self._wrong("in or like" if negated else "an operator such as = or >", back=1)
        operator = _OPERATORS[sign]
        if operator == "!=":
            return _Comparison(name, f"{_compared(column)} = ?", (self._value(name),), negated=True)
        return _Comparison(name, f"{_compared(column)} {operator} ?", (self._value(name),))

    def _value(self, name: str) -> str | float:
        kind, word = self._next("a value")
        holds = COLUMNS[name].holds
        if kind == "word":
            raise InputError(f"where: {word!r} after {name} is a bare word; text stands in quotes, as in '{word}'")
        if kind not in ("text", "number"):
            raise self._wrong("a value", back=1)
        if (kind == "text") != (holds == TEXT):
            raise InputError(f"where: {name} is {holds}, not {word}")
        return word[1:-1].replace(word[0] * 2, word[0]) if kind == "text" else float(word)

    def _next(self, wanted: str) -> tuple[str, str]:
        if self._place >= len(self._tokens):
            raise self._wrong(wanted)
        self._place += 1
        kind, word, _ = self._tokens[self._place - 1]
        return kind, word

    def _take(self, word: str) -> bool:
        if self._place < len(self._tokens):
            kind, found, _ = self._tokens[self._place]
            if kind in ("word", "sign") and found.lower() == word:
                self._place += 1
                return True
        return False

    def _expect(self, word: str) -> None:
        if not self._take(word):
            raise self._wrong(word)

    def _wrong(self, wanted: str, back: int = 0) -> InputError:
        place = self._place - back
        if place < len(self._tokens):
            _, word, at = self._tokens[place]
            return InputError(f"where: {wanted} is expected at character {at + 1}, not {word!r}")
        return InputError(f"where: {wanted} is expected at its end")


def _read(text: str) -> list[tuple[str, str, int]]:
    found, place = [], 0
    whole = text.rstrip()
    if re.search(r"[\0\ud800-\udfff]", whole):
        raise InputError("where: holds a character that is no text")
    if len(whole) > _LONGEST:
        raise InputError(f"where: is longer than {_LONGEST} characters")
    while place < len(whole):
        match = _TOKEN.match(whole, place)
        if match is None or match.lastgroup is None:
            at = place + len(whole[place:]) - len(whole[place:].lstrip())
            hint = "; a text needs its closing quote" if whole[at] in "'\"" else ""
            raise InputError(f"where: {whole[at]!r} at character {at + 1} means nothing here{hint}")
        found.append((match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
        place = match.end()
    return found


def _compared(column: Column) -> str:
    return f"{column.sql} COLLATE NOCASE" if column.holds == TEXT else column.sql


def _sql_of(node: _Node, beside: tuple[_Comparison, ...] = ()) -> tuple[str, tuple[str | float, ...]]:
    """SQL and values of a condition; `beside` are those on score and adapter that hold in the `and` around it."""
    if isinstance(node, _Comparison):
        return _comparison_sql(node, beside if node.column in ("label", "caption") else ())
    word, parts = node
    if word == "not":
        sql, values = _sql_of(parts[0], beside)
        return f"NOT {sql}", values
    narrowing: tuple[_Comparison, ...] = ()
    if word == "and":
        side = [part for part in parts if isinstance(part, _Comparison) and part.column in _SIDE]
        rest = [part for part in parts if part not in side]
        if any(map(_of_findings, rest)):
            narrowing, parts = tuple(side), rest
        elif side:
            parts = [*rest, _Comparison("score", *_joined(side))]
    several = [_sql_of(part, (*beside, *narrowing)) for part in parts]
    sql = f" {word.upper()} ".join(one for one, _ in several)
    return f"({sql})", tuple(value for _, values in several for value in values)


def _of_findings(node: _Node) -> bool:
    if isinstance(node, _Comparison):
        return node.column in ("label", "caption")
    return any(map(_of_findings, node[1]))


def _joined(side: list[_Comparison]) -> tuple[str, tuple[str | float, ...]]:
    """Conditions that one finding fulfils together."""
    return " AND ".join(map(_within, side)), tuple(value for one in side for value in one.values)


def _within(one: _Comparison) -> str:
    return f"NOT ({one.sql})" if one.negated else f"({one.sql})"


def _comparison_sql(one: _Comparison, beside: tuple[_Comparison, ...]) -> tuple[str, tuple[str | float, ...]]:
    table = COLUMNS[one.column].table
    if not table:
        return _within(one), one.values
    short = COLUMNS[one.column].sql.split(".")[0]
    own, values = one.sql, one.values
    if one.column in ("label", "caption"):
        own = f"{own} AND {COLUMNS[one.column].sql} != ''"
    narrowed: Callable[[str], str] = lambda sql: " AND ".join([sql, *map(_within, beside)])  # noqa: E731
    values += tuple(value for other in beside for value in other.values)
    exists = f"s.id IN (SELECT {short}.scene FROM {table} {short} WHERE {narrowed(own)})"
    return (f"NOT {exists}" if one.negated else exists), values
