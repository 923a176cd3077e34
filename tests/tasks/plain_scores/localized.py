"""The scores of benchmarks of segments and of boxes, by the official evaluators' steps, from the official files."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.tasks.plain_scores.classified import Scores
from tests.tasks.plain_scores.measures import Line, box_iou, by_id, interpolated_precision, mean, span_iou

TIOUS = [0.5 + 0.05 * step for step in range(10)]
Box = tuple[str, tuple[float, ...]]  # of a class, where


def activitynet(folder: Path, lines: Sequence[Line]) -> Scores:
    """`eval_detection.py` and `eval_proposal.py`."""
    database = json.loads((folder / "activity_net.v1-3.min.json").read_text())["database"]
    truth = {name: one["annotations"] for name, one in database.items() if one["subset"] == "validation"}
    said = {line["id"]: line["segments"] for line in by_id(lines, list(truth))}
    by_tiou = [detection_map(said, truth, tiou) for tiou in TIOUS]
    recall = average_recall(said, truth)
    area = sum((low + high) / 2 for low, high in itertools.pairwise(recall)) / len(recall)
    return {
        **{"map": mean(by_tiou), "map@0.5": by_tiou[0], "map@0.75": by_tiou[5], "map@0.95": by_tiou[9]},
        **{"ar@100": recall[-1], "auc": area},
    }


def detection_map(said: dict[str, Any], truth: dict[str, Any], tiou: float) -> float:
    values = []
    for label in sorted({one["label"] for several in truth.values() for one in several}):
        wanted = {name: [one["segment"] for one in own if one["label"] == label] for name, own in truth.items()}
        found = [(name, one) for name, several in said.items() for one in several if one["label"] == label]
        taken, right = set(), []
        for name, one in sorted(found, key=lambda pair: -pair[1]["score"]):
            free = [place for place in range(len(wanted[name])) if (name, place) not in taken]
            overlaps = {place: span_iou((one["start"], one["end"]), wanted[name][place]) for place in free}
            best = max(overlaps, key=overlaps.__getitem__, default=None)
            right.append(best is not None and overlaps[best] >= tiou)
            taken |= {(name, best)} if right[-1] else set()
        values.append(interpolated_precision(right, sum(map(len, wanted.values()))))
    return mean(values)


def average_recall(said: dict[str, Any], truth: dict[str, Any], most: int = 100) -> list[float]:
    """Recall, the mean over thresholds, at 1, 2, ... proposals a video on average; classes are not read."""
    ranked = {name: sorted(several, key=lambda one: -one["score"]) for name, several in said.items()}
    ratio = most * len(truth) / sum(map(len, ranked.values()))
    kept = {name: several[: min(int(len(several) * ratio), len(several))] for name, several in ranked.items()}
    curve = []
    for number in range(1, most + 1):
        share = number / most * (most * len(truth) / sum(map(len, kept.values())))
        hits = [0] * len(TIOUS)
        for name, several in kept.items():
            allowed = several[: min(int(len(several) * share), len(several))]
            for true in truth[name]:
                best = max((span_iou((one["start"], one["end"]), true["segment"]) for one in allowed), default=0.0)
                hits = [count + (best >= tiou) for count, tiou in zip(hits, TIOUS, strict=True)]
        curve.append(mean(hits) / sum(map(len, truth.values())))
    return curve


def ava(folder: Path, lines: Sequence[Line]) -> Scores:
    """Asked about the boxes of SlowFast's detector that are sure enough, without the moments that do not count."""
    names = label_names(folder)
    excluded = {tuple(row) for row in rows(folder / "ava_val_excluded_timestamps_v2.2.csv")}
    truth = frames_of([row for row in rows(folder / "ava_val_v2.2.csv") if tuple(row[:2]) not in excluded], names)
    asked: dict[str, list[list[float]]] = {name: [] for name in truth}
    for video, stamp, *box, _, score in rows(folder / "ava_val_predicted_boxes.csv"):
        if float(score) >= 0.8 and (video, stamp) not in excluded:
            asked[f"{video}@{int(stamp)}"].append([float(edge) for edge in box])
    return frame_map(by_id(lines, list(truth)), truth, asked, most=50)


def ava_kinetics(folder: Path, lines: Sequence[Line]) -> Scores:
    """Both parts together, asked about the true boxes."""
    excluded = {tuple(row) for row in rows(folder / "ava_val_excluded_timestamps_v2.2.csv")}
    both = [row for row in rows(folder / "ava_val_v2.2.csv") if tuple(row[:2]) not in excluded]
    both += rows(folder / "kinetics_val_v1.0.csv")
    truth = frames_of(both, label_names(folder))
    return frame_map(by_id(lines, list(truth)), truth, true_boxes(both, list(truth)), most=50)


def chimpact(folder: Path, lines: Sequence[Line]) -> Scores:
    """As AVA, but all rows of a frame (of 25 a second) count, and behaviours are numbered from 1."""
    listed = (
        "moving, climbing, resting, sleeping, solitary object playing, eating, manipulating object, grooming, "
        "being groomed, aggressing, embracing, begging, being begged from, taking object, losing object, carrying, "
        "being carried, nursing, being nursed, playing, touching, erection, displaying"
    )
    content = [[row[0].split("/")[-1], str(int(row[1]) / 25), *row[2:]] for row in rows(folder / "test_action.csv")]
    truth = frames_of(content, {str(place): name for place, name in enumerate(listed.split(", "), start=1)})
    return frame_map(by_id(lines, list(truth)), truth, true_boxes(content, list(truth)), most=None)


def rows(file: Path) -> list[list[str]]:
    return list(csv.reader(file.open(encoding="utf-8")))


def label_names(folder: Path) -> dict[str, str]:
    """The names of the evaluated classes by their numbers."""
    text = (folder / "ava_action_list_v2.2_for_activitynet_2019.pbtxt").read_text()
    return {number: name for name, number in re.findall(r'name: "(.*)"\s+id: (\d+)', text)}


def frame_name(row: Sequence[str]) -> str:
    return f"{row[0]}@{float(row[1]):g}"


def frames_of(content: Sequence[Sequence[str]], names: dict[str, str]) -> dict[str, list[Box]]:
    """The true boxes of each frame that is listed, of the classes that count."""
    truth: dict[str, list[Box]] = {}
    for row in content:
        boxes = truth.setdefault(frame_name(row), [])
        if len(row) > 2 and row[6] in names:
            boxes.append((names[row[6]], tuple(float(edge) for edge in row[2:6])))
    return truth


def true_boxes(content: Sequence[Sequence[str]], frames: Sequence[str]) -> dict[str, list[list[float]]]:
    found: dict[str, list[list[float]]] = {name: [] for name in frames}
    for row in content:
        box = [float(edge) for edge in row[2:6]]
        if box and box not in found[frame_name(row)]:
            found[frame_name(row)].append(box)
    return found


def frame_map(
    lines: Sequence[Line], truth: dict[str, list[Box]], asked: dict[str, list[list[float]]], most: int | None
) -> Scores:
    """`get_ava_performance.py`: PASCAL's average precision at IoU 0.5, over the classes that have ground truth."""
    for line in lines:
        assert sorted(one["box"] for one in line["boxes"]) == sorted(asked[line["id"]]), line["id"]
    found = []  # score, frame, class, box
    for line in lines:
        pairs = [(one["score"], line["id"], one["label"], box["box"]) for box in line["boxes"] for one in box["labels"]]
        found += sorted(pairs, key=lambda pair: -pair[0])[:most]
    values = []
    for label in sorted({label for boxes in truth.values() for label, _ in boxes}):
        taken, right = set(), []
        for _, frame, _, box in sorted((one for one in found if one[2] == label), key=lambda one: -one[0]):
            people = [place for place, (name, _) in enumerate(truth[frame]) if name == label]
            nearest = max(people, key=lambda place: box_iou(box, truth[frame][place][1]), default=None)
            hit = nearest is not None and box_iou(box, truth[frame][nearest][1]) >= 0.5
            right.append(hit and (frame, nearest) not in taken)
            taken |= {(frame, nearest)} if hit else set()
        wanted = sum(name == label for boxes in truth.values() for name, _ in boxes)
        values.append(interpolated_precision(right, wanted))
    return {"frame_map": mean(values)}
