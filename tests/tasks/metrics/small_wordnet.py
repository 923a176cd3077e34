"""A WordNet of a few words in the official format: entity > animal > dog > puppy, entity > animal > cat, and so on."""

from __future__ import annotations

from pathlib import Path

KINDS = {  # a meaning: its words, and the meanings above it
    "entity": (["entity"], []),
    "animal": (["animal", "beast"], ["entity"]),
    "pet": (["pet"], ["animal"]),
    "dog": (["dog"], ["animal", "pet"]),
    "puppy": (["puppy"], ["dog"]),
    "cat": (["cat"], ["animal"]),
    "man": (["man"], ["entity"]),
    "hot dog": (["hot_dog", "dog"], ["entity"]),
}


VERBS = {  # several roots, as WordNet's verbs have
    "move": (["move", "travel"], []),
    "walk": (["walk"], ["move"]),
    "march": (["march"], ["walk"]),
    "run": (["run"], ["move"]),
    "speak": (["speak", "talk"], []),
    "sing": (["sing"], ["speak"]),
    "dog": (["dog", "chase"], ["run"]),
}
PARTS = {
    "noun": (KINDS, {"men": "man"}),
    "verb": (VERBS, {"ran": "run", "sang": "sing", "spoken": "speak"}),
    "adj": ({"big": (["big", "large"], []), "happy": (["happy"], [])}, {}),
    "adv": ({"quickly": (["quickly", "fast"], [])}, {}),
}


def write_lexicon(folder: Path) -> Path:
    """Write the files of all four parts of speech."""
    for part in PARTS:
        write_wordnet(folder, part)
    return folder


def write_wordnet(folder: Path, part: str = "noun") -> Path:
    """Write `index.noun`, `data.noun` and `noun.exc`, or those of another part; offsets are those of the bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds, irregular = PARTS[part]
    licence = "  1 This is no WordNet but a few words.  \n"

    def lines(places: dict[str, int]) -> list[str]:
        made = []
        for name, (words, above) in kinds.items():
            pointers = "".join(f"@ {places.get(one, 0):08d} n 0000 " for one in above)
            named = "".join(f"{word} 0 " for word in words)
            made.append(
                f"{places.get(name, 0):08d} 03 n {len(words):02x} {named}{len(above):03d} {pointers}| a {name}  \n"
            )
        return made

    places, at = {}, len(licence)
    for name, line in zip(kinds, lines({}), strict=True):
        places[name] = at
        at += len(line)
    (folder / f"data.{part}").write_text(licence + "".join(lines(places)))
    senses: dict[str, list[int]] = {}
    for name, (words, _) in kinds.items():
        for word in words:
            senses.setdefault(word, []).append(places[name])
    rows = [
        f"{word} n {len(found)} 1 @ {len(found)} 1 {' '.join(f'{one:08d}' for one in found)}  \n"
        for word, found in sorted(senses.items())
    ]
    (folder / f"index.{part}").write_text(licence + "".join(rows))
    (folder / f"{part}.exc").write_text("".join(f"{word} {form}\n" for word, form in irregular.items()))
    return folder
