"""Captions in two tiers, as on the web: a clean one that is always right, and a noisy one that mostly is not.

A clean caption names the object, in every clip, and the motion, in `MOTION_SHARE` of the clips that have one. A noisy
one is, in the shares of `CAPTION_SHARES`:

    right      a clean caption
    partial    some of the words only: `something red`, `a star`
    wrong      a clean caption of another object or another motion
    off_topic  a sentence about something else: music, the weather, the channel
    useless    a file's name, a number, hashtags

A motion of "" is that of a still: nothing is said about it. With a `motion_share` of 0 no caption of either tier names
a motion, right or wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from pretrain.world.motions import MOTIONS
from pretrain.world.world_objects import OBJECTS, WorldObject, with_article

MOTION_SHARE = 0.6  # of the clean captions of clips, and of the right ones of the noisy tier
CAPTION_SHARES: dict[str, float] = {"right": 0.45, "partial": 0.2, "wrong": 0.1, "off_topic": 0.15, "useless": 0.1}
QUALITIES = ("clean", "noisy")

_WITH_MOTION = ("{a} {motion}", "{a} is {motion}", "a video of {a} {motion}", "here {a} is {motion}")
_WITHOUT_MOTION = ("{a}", "a video of {a}", "this is {a}", "you can see {a}")
_OF_A_STILL = ("{a}", "a picture of {a}", "this is {a}", "you can see {a}")
_PARTS_OF_AN_OBJECT = ("something {colour}", "a {shape}", "a {texture} thing", "{colour}", "look at this {shape}")
_PARTS_OF_A_MOTION = ("something {motion}", "it is {motion}")
_OFF_TOPIC = (
    "subscribe to my channel for more",
    "link in the description below",
    "the weather is lovely today",
    "rain and wind all week long",
    "my favourite song of the summer",
    "live music from the concert last night",
    "thanks for watching and see you next time",
    "how to cook rice in ten minutes",
    "we went to the beach with the dog",
    "the best goals of the season",
    "unboxing my new phone",
    "happy birthday grandma",
)
_FILES = ("IMG_{:04d}", "video {}", "clip_{:02d}.mp4", "{:08d}", "MOV {:03d} final")
_TAGS = ("fun", "viral", "daily", "love", "video", "best", "new", "wow")


def caption_of(
    object_name: str, motion: str, quality: str, rng: np.random.Generator, motion_share: float = MOTION_SHARE
) -> str:
    """A caption of the tier `quality`, `clean` or `noisy`, for a clip of this object and motion ("" for a still).

    Raises:
        InputError: no such quality.
    """
    if quality not in QUALITIES:
        raise InputError(f"unknown caption quality {quality!r}{nearest(quality, QUALITIES)}")
    if quality == "clean":
        return clean_caption(object_name, motion, rng, motion_share)
    return noisy_caption(object_name, motion, rng, motion_share)[0]


def clean_caption(object_name: str, motion: str, rng: np.random.Generator, motion_share: float = MOTION_SHARE) -> str:
    """A caption that is right: it names the object and, in `motion_share` of the clips, the motion."""
    patterns = _OF_A_STILL
    if motion:
        patterns = _WITH_MOTION if rng.random() < motion_share else _WITHOUT_MOTION
    return _fill(_pick(patterns, rng), object_name, motion)


def noisy_caption(
    object_name: str, motion: str, rng: np.random.Generator, motion_share: float = MOTION_SHARE
) -> tuple[str, str]:
    """A caption of the noisy tier, and its kind: a key of `CAPTION_SHARES`."""
    kind = str(rng.choice(list(CAPTION_SHARES), p=list(CAPTION_SHARES.values())))
    if kind == "right":
        return clean_caption(object_name, motion, rng, motion_share), kind
    if kind == "partial":
        return _partial(object_name, motion if motion_share else "", rng), kind
    if kind == "wrong":
        return _wrong(object_name, motion, rng, motion_share), kind
    return (_pick(_OFF_TOPIC, rng) if kind == "off_topic" else _useless(rng)), kind


def name_prompts(object_name: str) -> tuple[str, ...]:
    """Captions that name an object and nothing else: what zero-shot classification compares a clip with."""
    return tuple(_fill(pattern, object_name, "") for pattern in _WITHOUT_MOTION)


def motion_captions(object_name: str, motion: str) -> tuple[str, ...]:
    """Every clean caption that names both the object and its motion."""
    return tuple(_fill(pattern, object_name, motion) for pattern in _WITH_MOTION)


def _fill(pattern: str, object_name: str, motion: str) -> str:
    thing = WorldObject.parse(object_name)
    return pattern.format(
        a=with_article(object_name), motion=motion, colour=thing.colour, shape=thing.shape, texture=thing.texture
    )


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _partial(object_name: str, motion: str, rng: np.random.Generator) -> str:
    return _fill(_pick(_PARTS_OF_AN_OBJECT + (_PARTS_OF_A_MOTION if motion else ()), rng), object_name, motion)


def _wrong(object_name: str, motion: str, rng: np.random.Generator, motion_share: float) -> str:
    """Of a clip, the object or the motion is wrong, never both; of a still, the object."""
    if motion and motion_share and rng.random() < 0.5:
        return _fill(_pick(_WITH_MOTION, rng), object_name, _pick([name for name in MOTIONS if name != motion], rng))
    other = _pick([thing.name for thing in OBJECTS if thing.name != object_name], rng)
    return clean_caption(other, motion, rng, motion_share)


def _useless(rng: np.random.Generator) -> str:
    number = int(rng.integers(10_000))
    if rng.random() < 0.3:
        return " ".join(f"#{tag}" for tag in rng.choice(_TAGS, 3, replace=False))
    return _pick(_FILES, rng).format(number)
