"""All four parts of speech of WordNet together, and how near the first meanings of two words are. No torch.

Wu and Palmer's similarity as NLTK 3.3 computes it: verbs have a root of their own above all others, which they share
with whatever they are compared to when they stand first; nouns, adjectives and adverbs compare within their part alone.
Since NLTK 3.6 adjectives and adverbs have such a root, too, and the same answers score about one point lower.
"""

from __future__ import annotations

import functools
from pathlib import Path

from core_encoder.errors import InputError
from tasks.metrics.wordnet import PARTS, Part, WordNet, files_of, find_wordnet

Meaning = tuple[Part, int]
_ROOT: tuple[str, int] = ("", 0)


class Lexicon:
    """The words of a WordNet folder.

    Raises:
        InputError: a file is missing, or is not WordNet's.
    """

    def __init__(self, folder: str | Path) -> None:
        self._parts = {part: WordNet(folder, part) for part in PARTS}
        self.first_meaning = functools.cache(self._find_first_meaning)
        self.similarity = functools.cache(self._find_similarity)

    @classmethod
    def find(cls) -> Lexicon:
        """The one of this machine.

        Raises:
            InputError: there is none.
        """
        folder = find_wordnet(PARTS)
        if folder is None:
            names = ", ".join(files_of("noun"))
            raise InputError(
                "WordNet is not on this machine: install Debian's wordnet-base, or let WNSEARCHDIR name a folder with "
                f"{names} and those of verb, adj and adv"
            )
        return _opened(folder)

    def lemma(self, word: str, part: Part) -> str:
        """The shortest form under which WordNet has a word of a part of speech; the word itself where it has none."""
        return min(self._parts[part].forms(word), key=len, default=word)

    def _find_first_meaning(self, word: str) -> Meaning | None:
        """The most frequent meaning of a word as a noun, else as a verb, an adjective or an adverb."""
        found = ((part, wordnet.synsets(word)) for part, wordnet in self._parts.items())
        return next(((part, meanings[0]) for part, meanings in found if meanings), None)

    def _find_similarity(self, word: str, other: str) -> float:
        """From 0 to 1 between the first meanings of two words, 1 where they are equal, 0 where one is unknown."""
        if word == other:
            return 1.0
        mine, theirs = self.first_meaning(word), self.first_meaning(other)
        if mine is None or theirs is None:
            return 0.0
        if mine[0] == "verb":
            return self._over_root(mine, theirs)
        return self._parts[mine[0]].wup(mine[1], theirs[1]) if mine[0] == theirs[0] else 0.0

    def _over_root(self, mine: Meaning, theirs: Meaning) -> float:
        """Wu and Palmer's similarity where both have the root among their ancestors."""
        above_mine, above_theirs = self._rooted(mine), self._rooted(theirs)
        shared = above_mine.keys() & above_theirs.keys()
        verbs = self._parts["verb"]
        lows = {one: 0 if one == _ROOT else verbs.depth(one[1])[0] for one in shared}
        deepest = max(lows.values())
        if lows.get(mine) == deepest:
            common: tuple[str, int] = mine
        elif deepest == 0:
            common = _ROOT  # its name comes before all others
        else:
            common = min((one for one in shared if lows[one] == deepest), key=lambda one: verbs.name(one[1]))
        above = {_ROOT: 0} if common == _ROOT else self._rooted(common)  # type: ignore[arg-type]
        depth = 1 + (0 if common == _ROOT else verbs.depth(common[1])[1])
        steps = sum(
            min(way[one] + above[one] for one in way.keys() & above.keys()) for way in (above_mine, above_theirs)
        )
        return 2 * depth / (steps + 2 * depth)

    def _rooted(self, meaning: Meaning) -> dict[tuple[str, int], int]:
        """Every ancestor with the least number of steps to it, and the root beyond the farthest of them."""
        part, synset = meaning
        found: dict[tuple[str, int], int] = {
            (part, one): steps for one, steps in self._parts[part].distances(synset).items()
        }
        return found | {_ROOT: 1 + max(found.values())}


@functools.lru_cache(maxsize=1)
def _opened(folder: Path) -> Lexicon:
    return Lexicon(folder)
