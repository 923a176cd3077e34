"""Two tiers of captions: what is said, in which shares, and that wrong is wrong and right is right."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from core_encoder.errors import InputError
from pretrain.world.captions import CAPTION_SHARES, MOTION_SHARE, caption_of, clean_caption, noisy_caption
from pretrain.world.motions import MOTIONS
from pretrain.world.world_objects import OBJECTS

DRAWS = 3000
TOLERANCE = 0.03  # more than three standard deviations of a share over so many draws


def words(text: str) -> set[str]:
    return set(re.sub(r"[^a-z0-9]+", " ", text.lower()).split())


def scenes(count: int = DRAWS) -> list[tuple[str, str]]:
    rng = np.random.default_rng(1)
    return [(OBJECTS[rng.integers(len(OBJECTS))].name, MOTIONS[rng.integers(len(MOTIONS))]) for _ in range(count)]


def test_captions_are_seeded() -> None:
    for quality in ("clean", "noisy"):
        said = [
            [
                caption_of(thing, motion, quality, np.random.default_rng(i))
                for i, (thing, motion) in enumerate(scenes(50))
            ]
            for _ in range(2)
        ]
        assert said[0] == said[1]


def test_clean_captions_are_right_and_name_some_motions() -> None:
    rng = np.random.default_rng(0)
    named = 0
    for thing, motion in scenes():
        caption = caption_of(thing, motion, "clean", rng)
        assert re.search(rf"\ban? {thing}\b", caption)
        assert {name for name in MOTIONS if name in caption} in (set(), {motion})
        named += motion in caption
    assert named / DRAWS == pytest.approx(MOTION_SHARE, abs=TOLERANCE)
    assert len({clean_caption("red star", "shaking", rng) for _ in range(200)}) >= 6


@pytest.mark.parametrize("quality", ["clean", "noisy"])
def test_captions_of_looks_alone_speak_of_no_motion(quality: str) -> None:
    rng = np.random.default_rng(0)
    said = [caption_of(thing, motion, quality, rng, motion_share=0.0) for thing, motion in scenes(1000)]
    assert not any(motion in text for motion in MOTIONS for text in said)
    assert any("video of" in text for text in said) and not any("picture of" in text for text in said)


def test_captions_of_stills_speak_of_no_motion() -> None:
    rng = np.random.default_rng(0)
    for thing, _ in scenes(300):
        assert thing in caption_of(thing, "", "clean", rng)
        text, kind = noisy_caption(thing, "", rng)
        assert not any(motion in text for motion in MOTIONS)
        assert (thing in text) <= (kind in ("right", "wrong"))


def test_noisy_captions_come_in_their_shares() -> None:
    rng = np.random.default_rng(0)
    kinds: Counter[str] = Counter()
    for thing, motion in scenes():
        text, kind = noisy_caption(thing, motion, rng)
        kinds[kind] += 1
        about = [name for name in MOTIONS if name in text]
        if kind == "right":
            assert f" {thing}" in text and about in ([], [motion])
        elif kind == "wrong":
            assert not re.search(rf"\ban? {thing}\b", text) or about not in ([], [motion])
        elif kind == "partial":
            assert text and not re.search(rf"\ban? {thing}\b", text)
            assert words(text) & (words(thing) | words(motion) | {"plain"})
        else:
            assert not about and not any(other.name in text for other in OBJECTS)
    assert sum(CAPTION_SHARES.values()) == pytest.approx(1)
    assert set(kinds) == set(CAPTION_SHARES)
    for kind, share in CAPTION_SHARES.items():
        assert kinds[kind] / DRAWS == pytest.approx(share, abs=TOLERANCE)


def test_an_unknown_quality_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'noisy'"):
        caption_of("red star", "shaking", "noisey", np.random.default_rng(0))
