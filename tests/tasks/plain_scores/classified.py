"""The scores of benchmarks with trained classes, from the official annotation files."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from tests.tasks.plain_scores.measures import (
    Line,
    by_id,
    charades_map,
    mean_average_precision,
    mean_class_accuracy,
    top,
)

Scores = dict[str, float]


def kinetics400(folder: Path, lines: Sequence[Line]) -> Scores:
    rows = list(csv.DictReader((folder / "validate.csv").open(encoding="utf-8")))
    names = [f"{row['youtube_id']}_{int(row['time_start']):06}_{int(row['time_end']):06}" for row in rows]
    said, labels = by_id(lines, names), [row["label"] for row in rows]
    assert all(sorted(line["scores"]) == sorted(set(labels)) for line in said)
    return {"top1": top(said, labels, 1), "top5": top(said, labels, 5)}


def moments_in_time(folder: Path, lines: Sequence[Line]) -> Scores:
    rows = list(csv.reader((folder / "validationSet.csv").open(encoding="utf-8")))
    said, labels = by_id(lines, [row[0] for row in rows]), [row[1] for row in rows]
    categories = [row[0] for row in csv.reader((folder / "moments_categories.txt").open(encoding="utf-8"))]
    assert all(sorted(line["scores"]) == sorted(categories) for line in said)
    return {"top1": top(said, labels, 1), "top5": top(said, labels, 5)}


def ssv2(folder: Path, lines: Sequence[Line]) -> Scores:
    entries = json.loads((folder / "something-something-v2-validation.json").read_text())
    names = json.loads((folder / "something-something-v2-labels.json").read_text())
    labels = [entry["template"].replace("[", "").replace("]", "") for entry in entries]
    said = by_id(lines, [entry["id"] for entry in entries])
    assert all(list(line["scores"]) == sorted(names, key=lambda one: int(names[one])) for line in said)
    return {"top1": top(said, labels, 1), "top5": top(said, labels, 5)}


def diving48(folder: Path, lines: Sequence[Line]) -> Scores:
    entries = json.loads((folder / "Diving48_V2_test.json").read_text())
    vocabulary = [" ".join(words) for words in json.loads((folder / "Diving48_vocab.json").read_text())]
    said, labels = by_id(lines, [entry["vid_name"] for entry in entries]), [vocabulary[one["label"]] for one in entries]
    assert all(list(line["scores"]) == vocabulary for line in said)
    mean_class = mean_class_accuracy(said, labels)
    return {"top1": top(said, labels, 1), "top5": top(said, labels, 5), "mean_class_accuracy": mean_class}


def charades_truth(folder: Path) -> tuple[list[str], dict[str, set[str]]]:
    """The classes, and what is done in each test video."""
    classes = [line.split(" ", 1)[1] for line in (folder / "Charades_v1_classes.txt").read_text().splitlines()]
    truth = {}
    for row in csv.DictReader((folder / "Charades_v1_test.csv").open(encoding="utf-8")):
        truth[row["id"]] = {classes[int(action.split()[0][1:])] for action in row["actions"].split(";") if action}
    return classes, truth


def charades(folder: Path, lines: Sequence[Line]) -> Scores:
    """`charades_map`: all videos of the file are ranked, those without an action behind all others."""
    classes, truth = charades_truth(folder)
    said = by_id(lines, [name for name, own in truth.items() if own])
    nothing = [{"id": name, "scores": dict.fromkeys(classes, -1e9)} for name, own in truth.items() if not own]
    assert nothing
    labels = [truth[line["id"]] for line in [*said, *nothing]]
    return {"map": charades_map([*said, *nothing], labels, classes)}


FLIES = {
    **{"wing threat": "wing_threat", "lunge": "lunging", "tussle": "tussling"},
    **{"wing extension": "wing_extension", "circle": "circling", "copulation": "copulation"},
}


def fly_vs_fly(folder: Path, lines: Sequence[Line]) -> Scores:
    """What either fly does in each frame in which both have a position."""
    from scipy.io import loadmat

    truth: dict[str, set[str]] = {}
    for file in sorted((folder / "test").rglob("*_actions.mat")):
        content = loadmat(file)
        last, bouts = 0, []
        for number, written in enumerate(content["behs"][0]):
            for fly in range(2):
                for start, end, *_ in content["bouts"][fly, number]:
                    if written[0] in FLIES:
                        bouts.append((int(start), int(end), FLIES[written[0]]))
                        last = max(last, int(end))
        lost = set()
        track = file.with_name(file.name.replace("_actions", "_track"))
        if track.exists():
            data = loadmat(track)["trk"]["data"][0, 0]
            last = data.shape[1]
            lost = {t + 1 for t in range(last) for fly in data if math.isnan(fly[t][0]) or math.isnan(fly[t][1])}
        name = file.relative_to(folder).as_posix().replace("_actions.mat", "")
        for frame in range(1, last + 1):
            if frame not in lost:
                truth[f"{name}@{frame - 1}"] = {one for start, end, one in bouts if start <= frame <= end}
    return {"map": mean_average_precision(by_id(lines, list(truth)), list(truth.values()), list(FLIES.values()))}


def calms21(folder: Path, lines: Sequence[Line]) -> Scores:
    content = json.loads((folder / "task1_classic_classification" / "calms21_task1_test.json").read_text())
    truth: dict[str, set[str]] = {}
    for place, sequence in content["annotator-id_0"].items():
        names = {number: name for name, number in sequence["metadata"]["vocab"].items()}
        for frame, number in enumerate(sequence["annotations"]):
            truth[f"{place.split('/')[-1]}@{frame}"] = {names[number]}
    behaviours = ("attack", "investigation", "mount")  # all but `other`, the background
    return {"map": mean_average_precision(by_id(lines, list(truth)), list(truth.values()), behaviours)}


def crim13(folder: Path, lines: Sequence[Line]) -> Scores:
    """Clips of 16 frames side by side, each with what is done in its ninth frame."""
    truth: dict[str, set[str]] = {}
    known = set()
    for file in sorted(folder.rglob("*.txt")):
        rows = [line.split() for line in file.read_text().splitlines()]
        known |= {row[0] for row in rows if len(row) == 2 and len(row[1]) == 1 and file.parent.name == "train"}
        spans = [(int(row[0]), int(row[1]), row[2]) for row in rows if len(row) == 3 and row[0].isdigit()]
        for frame in range(9, max(end for _, end, _ in spans) + 1, 16):
            if file.parent.name == "test":
                truth[f"{file.stem}@{frame - 1}"] = {name for start, end, name in spans if start <= frame <= end}
    behaviours = sorted(known - {"other"})
    return {"map": mean_average_precision(by_id(lines, list(truth)), list(truth.values()), behaviours)}


def kabr(folder: Path, lines: Sequence[Line]) -> Scores:
    """Clips of 80 frames side by side, each with the behaviour of its 41st frame."""
    index = json.loads((folder / "annotation" / "classes.json").read_text())
    behaviours = {number: name for name, number in index.items()}
    scenes: dict[str, list[str]] = {}
    for line in (folder / "annotation" / "val.csv").read_text().splitlines()[1:]:
        name, _, frame, _, label = re.split(" ", line)
        scenes.setdefault(name, []).append(behaviours[int(label)])
        assert int(frame) == len(scenes[name])
    truth = {f"{name}@{k - 1}": own[k - 1] for name, own in scenes.items() for k in range(41, len(own) + 1, 80)}
    said, labels = by_id(lines, list(truth)), list(truth.values())
    return {"mean_class_accuracy": mean_class_accuracy(said, labels), "top1": top(said, labels, 1)}
