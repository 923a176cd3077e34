"""Words of queries and of names, and how much each of them tells."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prismhub.archive.schema import TOKENIZER
from prismhub.archive.words import MOST_SCENES, WordQuery, match_of, name_words, quoted, spaced, weights_of


def test_what_is_in_quotes_is_a_phrase_and_words_too() -> None:
    query = WordQuery.parse('goal "penalty kick" “corner flag” now')
    assert query.phrases == ("penalty kick", "corner flag")
    assert query.text == "goal penalty kick corner flag now"
    assert query.words == ("goal", "penalty", "kick", "corner", "flag", "now")
    assert query.phrase_match == '"penalty kick" AND "corner flag"'
    assert WordQuery.parse('5" screen').phrases == () and WordQuery.parse('""').words == ()


def test_scripts_without_spaces_are_searched_character_by_character() -> None:
    assert spaced("一只dog在") == "一 只 dog 在"
    assert WordQuery.parse("红色 dog").words == ("红 色", "dog")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("match_2024/GoalReplay-3.mp4", "match 2024 Goal Replay 3"),
        ("a.b/IMG0042.MOV", "a b IMG 0042"),
        ("no suffix", "no suffix"),
        ("映画.mp4", "映 画"),
    ],
)
def test_names_of_files_are_words(path: str, words: str) -> None:
    assert name_words(path) == words


def test_words_that_are_everywhere_tell_nothing() -> None:
    assert match_of({"a": 900, "dog": 10, "cat": 0}, 1000) == '"dog"'
    assert match_of({"a": 900}, 1000) == '"a"'  # there is nothing else to go by
    assert match_of({"a": 900, "giraffe": 0}, 1000) == ""
    assert match_of({}, 1000) == match_of({"x": 0}, 1000) == ""
    many = 10 * MOST_SCENES
    assert match_of({"rare": 5, "common": MOST_SCENES, "other": MOST_SCENES - 100}, many) == '"rare" OR "other"'
    weights = weights_of({"a": 900, "dog": 10, "cat": 0}, 1000)
    assert sum(weights.values()) == pytest.approx(1) and weights["cat"] > weights["dog"] > 100 * weights["a"]


@given(st.text(max_size=50))
def test_no_query_means_anything_to_the_full_text_search(text: str) -> None:
    database = sqlite3.connect(":memory:")
    database.execute(f"CREATE VIRTUAL TABLE words USING fts5 (x, tokenize = '{TOKENIZER}')")
    query = WordQuery.parse(text)
    for expression in (query.phrase_match, match_of(dict.fromkeys(query.words, 1), 100), *map(quoted, query.words)):
        if expression:
            database.execute("SELECT rowid FROM words WHERE words MATCH ?", (expression,)).fetchall()


def test_bytes_that_are_no_text_are_passed_over() -> None:
    assert WordQuery.parse('caf\udce9 "a\udcff dog"') == WordQuery("caf a dog", ("a dog",), ("caf", "a", "dog"))
