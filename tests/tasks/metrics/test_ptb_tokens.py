"""The tokenizer of captions: the rules one by one, and Stanford's own in Java where that is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.metrics.ptb_tokens import ptb_tokens
from tasks.metrics.wordnet import find_wordnet

RULES = {
    "A man isn't riding the dog's bike, and he'll stop.": "a man is n't riding the dog 's bike and he 'll stop",
    "The players' ball can't; won't I'm you're we've he'd": "the players ball ca n't wo n't i 'm you 're we 've he 'd",
    "Mr. Smith of Washington D.C. in the U.S. with $5.50": "mr. smith of washington d.c. in the u.s. with $ 5.50",
    "It costs 1,000.50 dollars (or 3/4) at 10:30 a.m.": "it costs 1,000.50 dollars -lrb- or 3/4 -rrb- at 10:30 a.m.",
    "\"quoted text\" and 'single quoted' words -- dash - co-op": "quoted text and single quoted words dash co-op",
    "and/or... what?! really!!": "and/or what ?! really !!",
    "cannot gonna WANNA gimme 'tis d'ye": "can not gon na wan na gim me 't is d'ye",
    "\u201csmart\u201d — it\u2019s \u2018quotes\u2019… no. 5 or no.": "smart it 's quotes no. 5 or no",
    "me@x.com www.foo.com #tag <b>html</b> &amp; 100%": "me@x.com www.foo.com #tag <b> html </b> & 100 %",
    "rock 'n' roll in the '90s, etc., by J.S. Bach": "rock 'n' roll in the '90s etc. by j.s. bach",
    "AT&T at&t a,b 5'10\" 10-year-old foo*bar": "at&t at & t a b 5 10 10-year-old foo * bar",
    "café naïve 日本": "café naïve 日本",
    "": "",
    " . ": "",
}


@pytest.mark.parametrize("text", RULES)
def test_a_rule(text: str) -> None:
    assert " ".join(ptb_tokens(text)) == RULES[text]


needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="the official tokenizer wants Java")


def official(texts: list[str], folder: Path) -> list[list[str]]:
    """The tokens of Stanford's PTBTokenizer, as pycocoevalcap calls it and drops from them."""
    package = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer")
    jar = Path(package.__file__).parent / package.STANFORD_CORENLP_3_4_1_JAR
    (folder / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    words = ["java", "-Dfile.encoding=UTF-8", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    done = subprocess.run(
        [*words, "-preserveLines", "-lowerCase", "texts.txt"], cwd=folder, capture_output=True, encoding="utf-8"
    )
    return [[one for one in line.split() if one not in package.PUNCTUATIONS] for line in done.stdout.splitlines()]


@needs_java
def test_it_equals_the_official_one(tmp_path: Path) -> None:
    texts = [text for text in RULES if text.strip()]
    assert [ptb_tokens(text) for text in texts] == official(texts, tmp_path)


@needs_java
@pytest.mark.slow
def test_on_wordnets_definitions_they_hardly_differ(tmp_path: Path) -> None:
    """The rules were tuned on the other eighth of them; shows what differs with `-s`."""
    folder = find_wordnet()
    if folder is None or not (folder / "data.adv").is_file():
        pytest.skip("no WordNet on this machine")
    lines = [line for part in ("noun", "verb", "adj", "adv") for line in (folder / f"data.{part}").open()]
    glosses = [line.partition("| ")[2].strip() for line in lines if "| " in line]
    texts = [text for place, text in enumerate(glosses, start=1) if place % 8]
    pairs = list(zip(texts, map(ptb_tokens, texts), official(texts, tmp_path), strict=True))
    different = [(own, java) for _, own, java in pairs if own != java]
    print(f"{len(different)} of {len(texts)}", *different[:20], sep="\n")
    assert len(different) < 0.001 * len(texts)


@given(st.text())
def test_any_text_becomes_words_in_lower_case(text: str) -> None:
    tokens = ptb_tokens(text)
    assert all(token and token == token.lower() and "\n" not in token for token in tokens)
