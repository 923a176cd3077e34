"""Words to search in and words to search for, as SQLite's full-text search takes them.

Case, accents and endings do not count ("Moves" finds "moving"). Scripts without spaces (Chinese, Japanese, Thai) are
searched character by character, in order. What stands in quotes must be there, word for word.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

from prismhub.archive.schema import TOKENIZER

_UNSPACED = re.compile(r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]")
_NO_TEXT = re.compile(r"[\0\ud800-\udfff]")  # what a shell makes of bytes that are no UTF-8
_QUOTED = re.compile(r'"([^"]*)"|“([^”]*)”|„([^“”]*)[“”]|«([^»]*)»')
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[^\W\d_])(?=\d)")
MOST_SCENES = 50_000  # that are ranked by their words; words that are nearly everywhere give way to rarer ones


@dataclass(frozen=True)
class WordQuery:
    """`text` without quotation marks, for a text tower; `phrases` that must be there, and the other words."""

    text: str
    phrases: tuple[str, ...]
    words: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> WordQuery:
        """`'goal "penalty kick"'` -> the words `goal`, `penalty`, `kick`, of which the last two must be together."""
        text = _NO_TEXT.sub(" ", text)
        phrases = [" ".join(filter(None, match.groups())) for match in _QUOTED.finditer(text)]
        plain = " ".join(_QUOTED.sub(lambda match: f" {' '.join(filter(None, match.groups()))} ", text).split())
        words = dict.fromkeys(map(spaced, plain.split()))
        return cls(plain, tuple(filter(_has_letters, map(spaced, phrases))), tuple(filter(_has_letters, words)))

    @property
    def phrase_match(self) -> str:
        """The FTS5 expression of a scene that holds every phrase, empty where there are none."""
        return " AND ".join(map(quoted, self.phrases))


def spaced(text: str) -> str:
    """`text` with spaces around every character of a script that has none."""
    return " ".join(_UNSPACED.sub(lambda match: f" {match[0]} ", text).split())


def name_words(path: str) -> str:
    """The words of a file's name and folders: `match_2024/GoalReplay-3.mp4` -> `match 2024 Goal Replay 3`."""
    stem = path.rsplit(".", 1)[0] if "." in path.rsplit("/", 1)[-1] else path
    return spaced(_HUMP.sub(" ", re.sub(r"[\W_]+", " ", stem)).strip())


def quoted(phrase: str) -> str:
    """A phrase as FTS5 takes it, so that nothing in it means anything to FTS5."""
    return '"' + phrase.replace('"', " ").replace("\0", " ") + '"'


def frequencies(database: sqlite3.Connection, words: Sequence[str]) -> Mapping[str, int]:
    """In how many scenes each word stands; of one that becomes several tokens, the rarest of them."""
    tokens = _tokens(words)
    counts: dict[str, int] = {}
    for word in words:
        found = [
            database.execute("SELECT doc FROM word_counts WHERE term = ?", (token,)).fetchone()
            for token in tokens[word]
        ]
        counts[word] = min((row[0] if row else 0 for row in found), default=0)
    return counts


def match_of(counts: Mapping[str, int], scenes: int) -> str:
    """The FTS5 expression of scenes that hold some of these words; empty where none that tells scenes apart is known.

    Words of more than half of all scenes weigh nothing in BM25 and are left out, unless there are no others; the rarest
    words come first until `MOST_SCENES` could be found.
    """
    known = sorted((count, word) for word, count in counts.items() if count)
    telling = [(count, word) for count, word in known if 2 * count <= scenes]
    if not telling and len(known) == len(counts):
        telling = known[:1]
    taken: list[str] = []
    reached = 0
    for count, word in telling:
        if taken and reached + count > MOST_SCENES:
            break
        taken.append(word)
        reached += count
    return " OR ".join(map(quoted, taken))


def weights_of(counts: Mapping[str, int], scenes: int) -> dict[str, float]:
    """How much each word of a query tells, as BM25 weighs it: the rarer, the more; a word that is nowhere the most."""
    weights = {word: max(log((scenes - n + 0.5) / (n + 0.5)), 1e-3) for word, n in counts.items()}
    whole = sum(weights.values())
    return {word: weight / whole for word, weight in weights.items()}


def _tokens(words: Sequence[str]) -> dict[str, list[str]]:
    """What the tokenizer of the archive makes of words: it says so only through a table."""
    with sqlite3.connect(":memory:") as memory:
        memory.execute(f"CREATE VIRTUAL TABLE tokens USING fts5 (word, tokenize = '{TOKENIZER}')")
        memory.execute("CREATE VIRTUAL TABLE found USING fts5vocab (tokens, instance)")
        memory.executemany("INSERT INTO tokens (rowid, word) VALUES (?, ?)", enumerate(words))
        rows = memory.execute("SELECT doc, term FROM found").fetchall()
    tokens: dict[str, list[str]] = {word: [] for word in words}
    for place, term in rows:
        tokens[words[place]].append(term)
    return tokens


def _has_letters(text: str) -> bool:
    return any(letter.isalnum() for letter in text)
