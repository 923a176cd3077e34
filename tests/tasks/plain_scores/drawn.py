"""Other answers in the place of those that were given: by lot, and partly right, so that scores have to be earned."""

from __future__ import annotations

import random
import zlib
from typing import Any

from tests.tasks.plain_scores.measures import Line

SAID = ("walking with a puppy", "two men ran", "man sitting", "a dog", "red square")


def drawn_line(line: Line, target: Any, dice: random.Random) -> Line:
    """A line of the same form about the same sample."""
    line = dict(line)
    if "scores" in line:
        right = (target,) if isinstance(target, str) else tuple(target)
        line["scores"] = {name: dice.random() + 0.4 * name.endswith(right) for name in line["scores"]}
    elif "embedding" in line:
        size = len(line["embedding"])
        line["embedding"] = vector(dice, size)
        line["texts"] = [vector(random.Random(zlib.crc32(text.encode())), size) for text in target]
    elif "segments" in line:
        line["segments"] = drawn_segments(target["segments"], dice)
    elif "boxes" in line:
        line["boxes"] = [
            box | {"labels": [one | {"score": dice.random()} for one in box["labels"]]} for box in line["boxes"]
        ]
    elif "candidates" in line:
        several = sorted((-9 * dice.random(), one["answer"]) for one in line["candidates"])[::-1]
        line["candidates"] = [{"answer": answer, "log_likelihood": score} for score, answer in several]
        line["answer"] = several[0][1]
    else:
        what = "answer" if "answer" in line else "caption"
        words = dice.choice([*SAID, *target, *target]).split()
        line[what] = " ".join(word for word in words if dice.random() < 0.9) or "man"
    return line


def vector(dice: random.Random, size: int) -> list[float]:
    return [dice.gauss(0, 1) for _ in range(size)]


def drawn_segments(right: list[dict[str, Any]], dice: random.Random) -> list[dict[str, Any]]:
    """Some near the right ones, with other classes among them, and some anywhere; the surest first."""
    found = []
    for one in right * 4:
        start, end = sorted((one["start"] + dice.gauss(0, 0.2), one["end"] + dice.gauss(0, 0.2)))
        found.append({"start": start, "end": end + 0.01, "label": dice.choice(right)["label"]})
    for _ in range(5):
        start = 4 * dice.random()
        found.append({"start": start, "end": start + 0.1 + dice.random(), "label": dice.choice(right)["label"]})
    surest = sorted((dice.random() for _ in found), reverse=True)
    return [one | {"score": score} for one, score in zip(found, surest, strict=True)]
