"""Tokens of captions by the rules of the Penn Treebank, in lower case and without punctuation. No torch, no Java.

As pycocoevalcap makes them by Stanford's PTBTokenizer 3.4.1 (`-preserveLines -lowerCase`). The rules cover what
captions hold; docs/language.md says how often the two differ. Brackets stay, as `-lrb-` and so on: pycocoevalcap means
to drop them, but looks for them in capitals.
"""

from __future__ import annotations

import re

DROPPED = frozenset(['"', "'", "`", "?", "!", ",", ":", ";"])  # and whatever is dots or dashes alone

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_SPELLED = {  # quotes, dashes, fractions and HTML's entities, as the tokenizer reads them
    **dict.fromkeys("\u2018\u2019\u201b\u2039\u203a", "'"),
    **dict.fromkeys("\u201c\u201d\u00ab\u00bb", '"'),
    **{"\u00a0": " ", "\u2013": "--", "\u2014": "--", "…": "...", "½": " 1/2 ", "¼": " 1/4 ", "¾": " 3/4 "},
    **{"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&nbsp;": " ", "&apos;": "'"},
}
_SPELLING = re.compile("|".join(map(re.escape, _SPELLED)))

_SHORT = (  # words that keep their full stop, however they are written
    "jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu|thurs|fri|"
    "ala|ariz|calif|colo|conn|ct|dak|fla|ga|ind|kans?|ky|md|mich|minn|mo|mont|neb|nev|okla|penn|tenn|va|vt|wisc?|wyo|"
    "inc|cos?|corp|ptys|pte|ltd|plc|rt|bancorp|dept|bhd|assn|univ|intl|sys|bros|mrs?|ms|drs?|profs?|sens?|reps?|attys?|"
    "lt|col|gen|messrs|govs?|adm|rev|maj|sgt|cpl|pvt|capt|ste?|ave|pres|lieut|hon|brig|comdr|pfc|spc|supts?|det|mt|ft|"
    "blvd|rd|esq|jr|sr|etc|al|seq|vs|cf|est|tel|ext|sq|ph\\.d|[a-z]"
)
_SHORT_IN_CAPITALS = "Az|Ark|Del|Ill|La|Mass|Miss|Ore|Pa|Tex|Wash"

_LETTER = r"[^\W\d_]"
_PART = r"[^\W_]+"  # letters and digits
_RULES = (  # the first that fits decides
    r"https?://[^\s\"<>|()]+[^\s\"<>|.!?(),-]",
    r"(?:www\.)?(?:[^\W_]+\.)+(?:com|net|org|edu)\b(?:/[^\s\"<>|()]*)?",
    r"[\w.+-]+@(?:[\w-]+\.)*[\w-]+",  # mail
    r"</?[A-Za-z!?][^<>\n]*>|&\#\d+;|&[a-z]+;",  # HTML
    r"[@#][A-Za-z_]\w*",
    rf"(?i:{_LETTER}+?(?=n't\b)|n't\b)",  # is n't
    r"(?i:\b(?:can(?=not\b)|gon(?=na\b)|got(?=ta\b)|wan(?=na\b)|lem(?=me\b)|gim(?=me\b))|'t(?=(?:is|was)\b))",
    r"(?i:'(?:s|m|d|ll|ve|re)\b)",  # man 's
    r"(?<!\d)'(?:n|em|cause|til|till|tween|neath|bout|\d\ds?)\b'?",
    r"(?:o'clock|ma'am|ne'er|e'er|c'mon|cap'n|s'mores|int'l|gov't|nat'l|dep't|hallowe'en|ol'|d'ye)\b|\b[jl]'(?=[a-zé])",
    rf"[A-Za-z](?:\.[A-Za-z])+\.?(?:-{_PART})*(?!\.?[^\W_])",  # U.S.
    rf"\b(?:(?i:{_SHORT})|{_SHORT_IN_CAPITALS}|(?i:nos?(?=\. *\d)))\.(?![^\W_])",
    rf"(?:(?<![\w.])[-+])?(?:\d+(?:[.,:/]\d+)+|\.\d+|\d+)(?:-?{_PART})*(?:[-/]{_PART})*",  # 1,000.50, 10-year-old
    r"\b[A-Z]+(?:&[A-Z]+)+\b",
    rf"(?:[dolDOL]'(?={_LETTER}))?{_LETTER}[^\W_]*(?:[-/_.!]{_PART}|'(?=[A-Z]{_LETTER}+){_PART})*",  # a word
    r"-{2,}|\.{2,}|\.(?: \.)+|[?!]+|\*+|(?:US|C|A|HK)\$|\S",
)
_TOKEN = re.compile("|".join(f"(?:{rule})" for rule in _RULES))


def ptb_tokens(text: str) -> list[str]:
    """The words of a text, in lower case, as captions are compared by: `A man's dog.` -> `a man 's dog`."""
    plain = _SPELLING.sub(lambda found: _SPELLED[found[0]], text)
    tokens = (_BRACKETS.get(found[0], found[0]).lower() for found in _TOKEN.finditer(plain))
    return [token for token in tokens if token not in DROPPED and token.strip(".- ")]
