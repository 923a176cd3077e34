"""The words of an answer in their basic forms, without those that say little, as NExT-QA compares answers. No torch.

Officially a sentence is cut into words, each gets a part of speech from NLTK's tagger, WordNet's form of that part, or
the stem where WordNet does not have it (`lemmatize_sentence` of pywsd), and the stop words of NExT-OE are left out;
`no`, `not` and `nor` are none of them. NLTK is used where it is installed with its tagger; elsewhere the part of speech
is guessed from the word alone, and nothing is stemmed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.metrics.lexicon import Lexicon
from tasks.metrics.ptb_tokens import ptb_tokens
from tasks.metrics.wordnet import Part

Tagger = Callable[[Sequence[str]], list[Part]]
_PARTS: dict[str, Part] = {"NN": "noun", "JJ": "adj", "VB": "verb", "RB": "adv"}


class Lemmatizer:
    """Texts as lemmas, by a lexicon and, where given, a tagger and a stemmer.

    `tag` gives the parts of speech of words; `stem` shortens a word that the lexicon does not have.
    """

    def __init__(self, lexicon: Lexicon, tag: Tagger | None = None, stem: Callable[[str], str] = str) -> None:
        self._lexicon, self._tag, self._stem = lexicon, tag, stem
        self.content_words = functools.cache(self._content_words)

    def _content_words(self, text: str) -> tuple[str, ...]:
        """The lemmas of a text that are no stop words, in its order."""
        words = ptb_tokens(text)
        parts = self._tag(words) if self._tag is not None else [self._guess(word) for word in words]
        lemmas = (self._lemma(word, part) for word, part in zip(words, parts, strict=True))
        return tuple(lemma for lemma in lemmas if lemma not in stop_words())

    def _lemma(self, word: str, part: Part) -> str:
        lemma = self._lexicon.lemma(word, part)
        if self._lexicon.first_meaning(lemma) is not None:
            return lemma
        stem = self._stem(word)
        return word if self._lexicon.first_meaning(stem) is None else stem

    def _guess(self, word: str) -> Part:
        """A verb where it is a changed form of one that ends as verbs alone do, or is irregular; else a noun."""
        changed = self._lexicon.lemma(word, "verb") != word
        return "verb" if changed and (word.endswith(("ing", "ed")) or not word.endswith("s")) else "noun"


def nltk_tagging() -> tuple[Tagger, Callable[[str], str]] | None:
    """NLTK's tagger as parts of speech, and its Porter stemmer; None where NLTK or its tagger is not installed."""
    try:
        from nltk import pos_tag
        from nltk.stem import PorterStemmer

        pos_tag(["word"])
    except (ImportError, LookupError):
        return None

    def tag(words: Sequence[str]) -> list[Part]:
        return [part_of(name) or part_of(pos_tag([word])[0][1]) or "noun" for word, name in pos_tag(list(words))]

    def part_of(name: str) -> Part | None:
        return _PARTS.get(name[:2])

    return tag, PorterStemmer().stem


@functools.lru_cache(maxsize=1)
def stop_words() -> frozenset[str]:
    """The stop words of NExT-OE."""
    return frozenset(Path(__file__).with_name("nextqa_stopwords.txt").read_text(encoding="utf-8").split())
