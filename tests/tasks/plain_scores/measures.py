"""Official measures written out in the slowest and most obvious way: loops over plain lists, nothing shared with ours.

A line is one record of a predictions file, as it is read from JSON, without what is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Line = dict[str, Any]
Span = tuple[float, float]
Corners = Sequence[float]


def by_id(lines: Sequence[Line], wanted: Sequence[str]) -> list[Line]:
    """The lines in the order of the ids that the annotation files ask for: each of these once, and no other."""
    found = {line["id"]: line for line in lines}
    assert len(found) == len(lines) and sorted(found) == sorted(wanted), (sorted(found), sorted(wanted))
    return [found[name] for name in wanted]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def place_of(scores: dict[str, float], label: str) -> int:
    """How many classes come before this one: equal scores are held against it."""
    return sum(other != label and score >= scores[label] for other, score in scores.items())


def top(lines: Sequence[Line], labels: Sequence[str], k: int) -> float:
    return mean([place_of(line["scores"], label) < k for line, label in zip(lines, labels, strict=True)])


def mean_class_accuracy(lines: Sequence[Line], labels: Sequence[str]) -> float:
    """The mean of the recalls of the classes that there are."""
    recalls = []
    for one in sorted(set(labels)):
        mine = [line for line, label in zip(lines, labels, strict=True) if label == one]
        recalls.append(mean([max(line["scores"], key=line["scores"].__getitem__) == one for line in mine]))
    return mean(recalls)


def charades_map(lines: Sequence[Line], labels: Sequence[set[str]], names: Sequence[str]) -> float:
    """`map.py` of Charades: the mean over what is right of the precision at its rank, in plain descending order."""
    values = []
    for name in names:
        ranked = sorted(range(len(lines)), key=lambda place: -lines[place]["scores"][name])
        hits, precisions = 0, []
        for seen, place in enumerate(ranked, start=1):
            if name in labels[place]:
                hits += 1
                precisions.append(hits / seen)
        values.append(mean(precisions))
    return mean(values)


def mean_average_precision(lines: Sequence[Line], labels: Sequence[set[str]], names: Sequence[str]) -> float:
    """Each class ranks all samples, judged by scikit-learn, as SciVid's metric is."""
    from sklearn.metrics import average_precision_score

    right = [[name in own for own in labels] for name in names]
    return mean(
        [
            float(average_precision_score(own, [line["scores"][name] for line in lines]))
            for name, own in zip(names, right, strict=True)
        ]
    )


def interpolated_precision(right: Sequence[bool], wanted: int) -> float:
    """The area under the precision made monotone over recall (VOC, all points), of detections from the surest on."""
    points = [(sum(right[:seen]) / wanted, sum(right[:seen]) / seen) for seen in range(1, len(right) + 1)]
    area, reached = 0.0, 0.0
    for place, (recall, _) in enumerate(points):
        area += (recall - reached) * max(precision for _, precision in points[place:])
        reached = recall
    return area


def span_iou(one: Span, other: Span) -> float:
    shared = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    return shared / (one[1] - one[0] + other[1] - other[0] - shared)


def box_iou(one: Corners, other: Corners) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / (area(one) + area(other) - shared)


def area(box: Corners) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
