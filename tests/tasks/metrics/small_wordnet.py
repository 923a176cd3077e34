"""A WordNet of a few nouns in the official format: entity > animal > dog > puppy, entity > animal > cat, and so on."""

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


def write_wordnet(folder: Path) -> Path:
    """Write `index.noun`, `data.noun` and `noun.exc`; offsets are those of the bytes."""
    folder.mkdir(parents=True)
    licence = "  1 This is no WordNet but a few nouns.  \n"

    def lines(places: dict[str, int]) -> list[str]:
        made = []
        for name, (words, above) in KINDS.items():
            pointers = "".join(f"@ {places.get(one, 0):08d} n 0000 " for one in above)
            named = "".join(f"{word} 0 " for word in words)
            made.append(
                f"{places.get(name, 0):08d} 03 n {len(words):02x} {named}{len(above):03d} {pointers}| a {name}  \n"
            )
        return made

    places, at = {}, len(licence)
    for name, line in zip(KINDS, lines({}), strict=True):
        places[name] = at
        at += len(line)
    (folder / "data.noun").write_text(licence + "".join(lines(places)))
    senses: dict[str, list[int]] = {}
    for name, (words, _) in KINDS.items():
        for word in words:
            senses.setdefault(word, []).append(places[name])
    rows = [
        f"{word} n {len(found)} 1 @ {len(found)} 1 {' '.join(f'{one:08d}' for one in found)}  \n"
        for word, found in sorted(senses.items())
    ]
    (folder / "index.noun").write_text(licence + "".join(rows))
    (folder / "noun.exc").write_text("men man\n")
    return folder
