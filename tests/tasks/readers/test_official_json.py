"""Official JSON: values by field, and errors that name file, entry and field."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from core_encoder.errors import InputError
from tasks.readers.official_json import Entry, read_entries, read_object
from tests.tasks.miniatures.clips import with_windows_ends

GOOD: dict[str, Any] = {
    "id": 7,
    "name": " a b ",
    "said": ["x", "y"],
    "span": [1, "2.5"],
    "within": {"deep": "z"},
    "many": [{"n": 1}, {"n": "2"}],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a.json").write_text(json.dumps([GOOD]))
    return tmp_path / "a.json"


def test_values_are_asked_for_by_field(file: Path) -> None:
    for _ in range(2):
        (entry,) = read_entries(file)
        assert (entry.text("id"), entry.whole("id"), entry.text("name")) == ("7", 7, "a b")
        assert (entry.texts("said"), entry.span("span"), entry.seconds("id")) == (("x", "y"), (1.0, 2.5), 7.0)
        assert entry.entry("within").text("deep") == "z" and [one.whole("n") for one in entry.entries("many")] == [1, 2]
        with_windows_ends(file)
    file.write_text(json.dumps(GOOD))
    assert read_object(file).whole("id") == 7


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda e: e.text("nam"), "entry 1: there is no field 'nam'; did you mean 'name'?"),
        (lambda e: e.text("empty"), "entry 1: empty '' is empty or no text"),
        (lambda e: e.text("no"), "entry 1: no None is empty or no text"),
        (lambda e: e.text("yes"), "entry 1: yes True is empty or no text"),
        (lambda e: e.whole("name"), "entry 1: name 'a b' is no whole number"),
        (lambda e: e.texts("holed"), "entry 1: holed 2 '' is empty or no text"),
        (lambda e: e.texts("none"), "entry 1: none is empty"),
        (lambda e: e.items("id"), "entry 1: id must be a list, not 7"),
        (lambda e: e.seconds("name"), "entry 1: name ' a b ' is not a time in seconds"),
        (lambda e: e.span("back"), "entry 1: back [3, 3] does not end after it starts"),
        (lambda e: e.span("said_"), "entry 1: said_ must be [start, end], not ['x']"),
        (lambda e: e.entry("id"), "entry 1: id: must be an object, not 7"),
        (lambda e: e.entry("within").text("dep"), "entry 1: within: there is no field 'dep'; did you mean 'deep'?"),
        (lambda e: e.entries("said"), "entry 1: said 1: must be an object, not 'x'"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(file: Path, ask: Any, message: str) -> None:
    damage = {"empty": "", "no": None, "yes": True, "holed": ["x", ""], "none": [], "back": [3, 3], "said_": ["x"]}
    file.write_text(json.dumps([GOOD | damage]))
    with pytest.raises(InputError, match=re.escape(f"{file}: {message}")):
        ask(read_entries(file)[0])


def test_files_of_another_form_are_refused(file: Path) -> None:
    for content, message in (
        ("{}", "a.json: holds nothing"),
        ("[1]", "a.json: must be an object, not [1]"),
        ("[1", "a.json: not valid JSON"),
        ("[" * 100_000, "a.json: its lists and objects lie too deep in one another"),
    ):
        file.write_text(content)
        with pytest.raises(InputError, match=re.escape(message)):
            read_object(file)
    for content, message in (
        ("[]", "must be a list of objects that holds some"),
        ("[1]", "entry 1: must be an object"),
    ):
        file.write_text(content)
        with pytest.raises(InputError, match=re.escape(message)):
            read_entries(file)
    file.write_bytes(b'["\xe9"]')
    with pytest.raises(InputError, match=r"a.json: line 1: byte 0xe9 is not UTF-8; save the file as UTF-8"):
        read_entries(file)
    assert isinstance(Entry({}, "x").error("y"), InputError)
