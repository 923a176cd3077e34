"""The things of the synthetic world, named by their looks, and which of them training never sees.

Their pictures, that is: a wrong caption of a noisy tier may name any of them.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from pretrain.world.drawing import COLOURS, SHAPES, TEXTURES


@dataclass(frozen=True)
class WorldObject:
    """A thing of the world, named by its looks: `striped red star`."""

    colour: str
    shape: str
    texture: str = "plain"

    def __post_init__(self) -> None:
        for word, known, what in (
            (self.colour, COLOURS, "colour"),
            (self.shape, SHAPES, "shape"),
            (self.texture, TEXTURES, "texture"),
        ):
            if word not in known:
                raise InputError(f"unknown {what} {word!r}{nearest(word, known)}")

    @classmethod
    def parse(cls, name: str) -> WorldObject:
        """`striped red star` or `red star` -> the object."""
        words = name.split()
        if len(words) not in (2, 3):
            raise InputError(
                f"{name!r} does not name an object: write [texture] colour shape, such as 'striped red star'"
            )
        return cls(words[-2], words[-1], words[0] if len(words) == 3 else "plain")

    @property
    def words(self) -> tuple[str, str, str]:
        return self.texture, self.colour, self.shape

    @property
    def name(self) -> str:
        looks = f"{self.colour} {self.shape}"
        return looks if self.texture == "plain" else f"{self.texture} {looks}"

    @property
    def spins_visibly(self) -> bool:
        """Whether a rotation can be seen: a plain circle looks the same at every angle."""
        return self.shape not in ("circle", "ring") or self.texture not in ("plain", "ringed")


def with_article(name: str) -> str:
    """`orange star` -> `an orange star`."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _held_out(thing: WorldObject) -> bool:
    """One combination in three, by a Latin square: of any two words most combinations with a third are seen."""
    tables: tuple[Sequence[str], ...] = (tuple(TEXTURES), tuple(COLOURS), tuple(SHAPES))
    return sum(table.index(word) for table, word in zip(tables, thing.words, strict=True)) % 3 == 0


def _balanced(objects: Sequence[WorldObject], count: int) -> tuple[WorldObject, ...]:
    """`count` of the objects, taken one by one so that every word is used about as often as its rivals."""
    used: Counter[str] = Counter()
    rivals = dict.fromkeys(TEXTURES, len(TEXTURES)) | dict.fromkeys(COLOURS, len(COLOURS))
    rivals |= dict.fromkeys(SHAPES, len(SHAPES))
    left = list(objects)
    for _ in range(count):
        chosen = min(left, key=lambda thing: sum(used[word] * rivals[word] for word in thing.words))
        left.remove(chosen)
        used.update(chosen.words)
    return tuple(thing for thing in objects if thing not in left)


OBJECTS: tuple[WorldObject, ...] = tuple(
    WorldObject(colour, shape, texture) for texture, colour, shape in itertools.product(TEXTURES, COLOURS, SHAPES)
)
SEEN_OBJECTS: tuple[WorldObject, ...] = tuple(thing for thing in OBJECTS if not _held_out(thing))
HELD_OUT_OBJECTS: tuple[WorldObject, ...] = tuple(thing for thing in OBJECTS if _held_out(thing))
# For zero-shot accuracy: a hundred names, 67 of objects that training sees and 33 of objects that it does not.
ZERO_SHOT_OBJECTS: tuple[WorldObject, ...] = (*_balanced(SEEN_OBJECTS, 67), *_balanced(HELD_OUT_OBJECTS, 33))
