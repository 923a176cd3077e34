"""How near two words of one part of speech are in WordNet, read from its own files; nothing is downloaded. No torch.

The files (`index.noun`, `data.noun`, `noun.exc`, and those of `verb`, `adj` and `adv`) are those of Princeton's
WordNet, as the Debian package wordnet-base and NLTK's corpus `wordnet` bring them. Forms and distances are NLTK's.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from core_encoder.errors import InputError

Part = Literal["noun", "verb", "adj", "adv"]
PARTS: tuple[Part, ...] = ("noun", "verb", "adj", "adv")
_ENDINGS: dict[Part, tuple[tuple[str, str], ...]] = {
    "noun": (
        *(("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh")),
        *(("men", "man"), ("ies", "y")),
    ),
    "verb": (*(("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),),
    "adj": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "adv": (),
}


class WordNet:
    """The nouns of a WordNet folder, or the words of another part of speech.

    Raises:
        InputError: a file is missing, or is not WordNet's.
    """

    def __init__(self, folder: str | Path, part: Part = "noun") -> None:
        self.folder, self.part = Path(folder), part
        names = files_of(part)
        try:
            index, self._data, exceptions = ((self.folder / name).read_bytes() for name in names)
            self._senses = dict(_senses(index.decode()))
            rows = (line.split() for line in exceptions.decode().splitlines())
            self._exceptions = {word: forms for word, *forms in rows}
        except (OSError, ValueError, IndexError) as error:
            raise InputError(f"{folder}: no folder of WordNet's files ({', '.join(names)}): {error}") from error
        self.distances = functools.cache(self._find_distances)
        self.depth = functools.cache(self._find_depth)
        self.similarity = functools.cache(self._find_similarity)

    def synsets(self, word: str) -> tuple[int, ...]:
        """The meanings of a word in any form, the most frequent first; none where it is not known."""
        return tuple(dict.fromkeys(one for form in self.forms(word.lower()) for one in self._senses[form]))

    def hypernyms(self, synset: int) -> list[int]:
        """What a meaning is a kind or an instance of."""
        end = self._data.index(b"|", synset)
        fields = self._data[synset:end].decode().split()
        first = 4 + 2 * int(fields[3], 16)  # after the words, of which the count is hexadecimal
        pointers = [fields[first + 1 + 4 * k : first + 5 + 4 * k] for k in range(int(fields[first]))]
        return [int(offset) for symbol, offset, *_ in pointers if symbol in ("@", "@i")]

    def wup(self, a: int, b: int) -> float:
        """Wu and Palmer's similarity of two meanings, from 0 to 1: how deep their nearest common ancestor lies."""
        mine, theirs = self.distances(a), self.distances(b)
        shared = mine.keys() & theirs.keys()
        if not shared:
            return 0.0
        deepest = max(self.depth(one)[0] for one in shared)
        common = a if a in shared and self.depth(a)[0] == deepest else self._first(shared, deepest)
        depth = self.depth(common)[1] + 1
        return 2 * depth / (self._steps(a, common) + self._steps(b, common) + 2 * depth)

    def _steps(self, a: int, b: int) -> int:
        """The fewest steps between two meanings over what both are a kind of."""
        mine, theirs = self.distances(a), self.distances(b)
        return min(mine[one] + theirs[one] for one in mine.keys() & theirs.keys())

    def _first(self, shared: set[int], deepest: int) -> int:
        """Of several equally deep ancestors the one whose name comes first."""
        return min((one for one in shared if self.depth(one)[0] == deepest), key=self.name)

    def name(self, synset: int) -> str:
        """`dog.n.01`: the first word of a meaning and the number of the meaning among those of the word."""
        word = self._data[synset : self._data.index(b"|", synset)].decode().split()[4].lower()
        return f"{word}.{self.part[0]}.{self._senses[word].index(synset) + 1:02d}"

    def _find_similarity(self, a: str, b: str) -> float:
        """The similarity of two words: the largest over their meanings, 1 where they are equal, 0 where unknown."""
        if a == b:
            return 1.0
        return max((self.wup(x, y) for x in self.synsets(a) for y in self.synsets(b)), default=0.0)

    def _find_distances(self, synset: int) -> dict[int, int]:
        """Every ancestor, the meaning itself among them, with the least number of steps to it."""
        found, level, steps = {synset: 0}, [synset], 0
        while level:
            steps += 1
            level = [up for one in level for up in self.hypernyms(one) if up not in found]
            found |= dict.fromkeys(level, steps)
        return found

    def _find_depth(self, synset: int) -> tuple[int, int]:
        """The least and the greatest number of steps to the root."""
        above = [self.depth(one) for one in self.hypernyms(synset)]
        return (1 + min(low for low, _ in above), 1 + max(high for _, high in above)) if above else (0, 0)

    def forms(self, word: str) -> list[str]:
        """The word as it stands in WordNet: itself, its exceptions, or with an ending taken away; [] if nowhere."""
        endings = _ENDINGS[self.part]
        known = self._exceptions.get(word)
        forms = known if known is not None else list(_shortened([word], endings))
        while not (found := [one for one in dict.fromkeys([word, *forms]) if one in self._senses]):
            if known is not None or not forms:
                break
            forms = list(_shortened(forms, endings))
        return found


def files_of(part: Part) -> tuple[str, str, str]:
    """The names of WordNet's files of a part of speech: its index, its data, its irregular forms."""
    return f"index.{part}", f"data.{part}", f"{part}.exc"


def find_wordnet(parts: Sequence[Part] = ("noun",)) -> Path | None:
    """Where WordNet lies on this machine: `WNSEARCHDIR`, `WNHOME`, the Debian package, NLTK's data; None if nowhere."""
    home = os.environ.get("WNHOME")
    nltk = [*filter(None, os.environ.get("NLTK_DATA", "").split(os.pathsep)), "~/nltk_data", "/usr/share/nltk_data"]
    places = [os.environ.get("WNSEARCHDIR", ""), f"{home}/dict" if home else "", "/usr/share/wordnet"]
    places += [f"{folder}/corpora/wordnet" for folder in nltk]
    folders = [Path(place).expanduser() for place in places if place]
    names = [name for part in parts for name in files_of(part)]
    return next((one for one in folders if all((one / name).is_file() for name in names)), None)


@functools.lru_cache(maxsize=1)
def open_wordnet(folder: Path) -> WordNet:
    """The WordNet of a folder, read once."""
    return WordNet(folder)


def _senses(index: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    for line in index.splitlines():
        if line and not line.startswith(" "):  # the licence is indented
            fields = line.split()
            yield fields[0], tuple(int(offset) for offset in fields[-int(fields[2]) :])


def _shortened(forms: list[str], endings: Sequence[tuple[str, str]]) -> Iterator[str]:
    for form in forms:
        for ending, instead in endings:
            if form.endswith(ending):
                yield form.removesuffix(ending) + instead
