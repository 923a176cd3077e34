"""From rankings to answers: reciprocal rank fusion, and neighbouring scenes of one video as one answer. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

K = 60
"""Reciprocal rank fusion: a scene at rank r of a ranking gets 1 / (K + r) of it (Cormack, Clarke, Büttcher 2009)."""


@dataclass(frozen=True)
class Ranked:
    """A scene by its number, and what each ranking gives to its score, which is their sum."""

    scene: int
    parts: Mapping[str, float]

    @property
    def score(self) -> float:
        """The sum of the parts."""
        return sum(self.parts.values())


@dataclass
class Answer:
    """The best scene of an answer, and all scenes that are in it, which follow each other in a video."""

    best: Ranked
    video: int
    first: int  # place in its video
    last: int
    scenes: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, one: Ranked, video: int = 0, place: int = 0) -> Answer:
        """A scene as an answer of its own."""
        return cls(one, video, place, place, [one.scene])


def fuse(rankings: Mapping[str, Sequence[int]]) -> list[Ranked]:
    """Scenes of several rankings by the sum of 1 / (K + rank), the best first; of equal ones as in the first."""
    parts: dict[int, dict[str, float]] = {}
    for name, scenes in rankings.items():
        for rank, scene in enumerate(scenes, start=1):
            parts.setdefault(scene, {})[name] = 1 / (K + rank)
    every = [Ranked(scene, dict.fromkeys(rankings, 0.0) | found) for scene, found in parts.items()]
    return sorted(every, key=lambda one: -one.score)


def fold(ranked: Iterable[Ranked], places: Mapping[int, tuple[int, int]], top: int) -> list[Answer]:
    """The best `top` answers; scenes that follow each other in one video are one answer.

    `places` says the video of a scene, and its place there. Only scenes that are among the best `top` themselves make
    an answer longer; a weaker one beside an answer is left out, and makes room for what is elsewhere.
    """
    by_video: dict[int, list[Answer]] = {}
    order: dict[int, Answer] = {}  # by their best scene, the best answer first
    for rank, one in enumerate(ranked):
        video, place = places[one.scene]
        answers = by_video.setdefault(video, [])
        beside = [known for known in answers if known.first - 1 <= place <= known.last + 1]
        if not beside:
            if len(order) == top:
                continue
            order[one.scene] = Answer.of(one, video, place)
            answers.append(order[one.scene])
        elif rank < top:
            kept = beside[0]
            for known in beside[1:]:  # the scene joins two answers
                kept.scenes += known.scenes
                kept.first, kept.last = min(kept.first, known.first), max(kept.last, known.last)
                answers.remove(known)
                del order[known.best.scene]
            kept.first, kept.last = min(kept.first, place), max(kept.last, place)
            kept.scenes.append(one.scene)
    return list(order.values())
