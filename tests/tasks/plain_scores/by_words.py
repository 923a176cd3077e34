"""The scores of what is answered by words alone, zero-shot classes, options and retrieval, from the official files."""

from __future__ import annotations

import csv
import json
import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from tests import ROOT
from tests.tasks.plain_scores.classified import Scores, charades_truth, kinetics400
from tests.tasks.plain_scores.measures import Line, by_id, charades_map, mean, mean_average_precision, top


def kinetics600(folder: Path, lines: Sequence[Line]) -> Scores:
    """Over all classes; and among the classes of each of three draws, of which the mean and the deviation are given."""
    whole = kinetics400(folder, lines)
    rows = list(csv.DictReader((folder / "validate.csv").open(encoding="utf-8")))
    said = {line["id"]: line["scores"] for line in lines}
    each: dict[str, list[float]] = {"top1": [], "top5": []}
    for drawn in json.loads((ROOT / "tasks" / "catalog" / "kinetics600_unseen.json").read_text()):
        mine = [row for row in rows if row["label"] in drawn]
        names = [f"{row['youtube_id']}_{int(row['time_start']):06}_{int(row['time_end']):06}" for row in mine]
        among = [{"scores": {one: score for one, score in said[name].items() if one in drawn}} for name in names]
        for metric, values in each.items():
            values.append(top(among, [row["label"] for row in mine], int(metric[3:])))
    found = dict(whole)
    for metric, values in each.items():
        found |= {f"{metric}@sets": mean(values), f"{metric}@sets_sd": statistics.pstdev(values)}
    return found


def videocon(split: str) -> Callable[[Path, Sequence[Line]], Scores]:
    """The template of each video; and, as VideoCon does it, the mean precision of finding the videos of each."""

    def scores(folder: Path, lines: Sequence[Line]) -> Scores:
        truth, templates = {}, set()
        for row in csv.DictReader((folder / f"eval_ssv2_{split}.csv").open(encoding="utf-8")):
            template = row["caption"].split('the description: "')[1].split('"?')[0]
            template = template.replace("[", "").replace("]", "")
            templates.add(template)
            if row["match"] == "1":
                truth[Path(row["videopath"]).stem] = template
        said, labels = by_id(lines, list(truth)), list(truth.values())
        precision = mean_average_precision(said, [{label} for label in labels], sorted(templates))
        return {"top1": top(said, labels, 1), "map": precision}

    return scores


def charades_zs(folder: Path, lines: Sequence[Line]) -> Scores:
    classes, truth = charades_truth(folder)
    done = {name: own for name, own in truth.items() if own}
    return {"map": charades_map(by_id(lines, list(done)), list(done.values()), classes)}


def nextqa_atp_hard(folder: Path, lines: Sequence[Line]) -> Scores:
    """`eval_mc.py` on the rows of ATP-Hard: TP counts as TN."""
    inner = folder / "NExT-QA" / "dataset" / "nextqa"
    rows = list(csv.DictReader((inner / "val.csv").open(encoding="utf-8")))
    hard = [rows[int(number)] for number in (inner / "atp-hard-ct4.txt").read_text().split()]
    hits: dict[str, list[bool]] = {}
    for row, line in zip(hard, by_id(lines, [f"{row['video']}_{row['qid']}" for row in hard]), strict=True):
        options = [f"{row['question']} {row[f'a{k}']}" for k in range(5)]
        assert sorted(line["scores"]) == sorted(options)
        kind = row["type"].replace("TP", "TN")
        right = max(options, key=line["scores"].__getitem__) == options[int(row["answer"])]
        for metric in ("accuracy", f"accuracy@{kind[0]}", f"accuracy@{kind}"):
            hits.setdefault(metric, []).append(right)
    return {metric: mean(several) for metric, several in hits.items()}


def charades_sta_mc(folder: Path, lines: Sequence[Line]) -> Scores:
    """The right one of all sentences of a video; also without videos that have one alone."""
    lines_of_file = (folder / "charades_sta_test.txt").read_text().splitlines()
    moments = [re.fullmatch(r"(\S+) (\S+) (\S+)##(.*)", line) for line in lines_of_file]
    seen: dict[str, int] = {}
    names, own = [], []
    for moment in moments:
        assert moment is not None
        seen[moment[1]] = seen.get(moment[1], 0) + 1
        names.append(f"{moment[1]}_{seen[moment[1]]}")
        own.append((moment[1], moment[4].strip()))
    hits, several = [], []
    for line, (video, sentence) in zip(by_id(lines, names), own, strict=True):
        options = {other for name, other in own if name == video}
        assert set(line["scores"]) == options
        hits.append(max(options, key=line["scores"].__getitem__) == sentence)
        several += [hits[-1]] if len(options) > 1 else []
    return {"accuracy": mean(hits), "accuracy@several": mean(several)}


def msrvtt_1k(folder: Path) -> dict[str, list[str]]:
    rows = csv.DictReader((folder / "MSRVTT_JSFUSION_test.csv").open(encoding="utf-8"))
    return {row["video_id"]: [row["sentence"]] for row in rows}


def vatex_half(folder: Path) -> dict[str, list[str]]:
    entries = json.loads((folder / "vatex_validation_v1.0.json").read_text(encoding="utf-8"))
    captions = {entry["videoID"]: entry["enCap"] for entry in entries}
    return {name: captions[name] for name in (folder / "test_list.txt").read_text().split()}


def activitynet_paragraphs(folder: Path) -> dict[str, list[str]]:
    content = json.loads((folder / "val_1.json").read_text())
    return {name[2:]: [" ".join(one.strip() for one in entry["sentences"])] for name, entry in content.items()}


def retrieval(way: str, truth: Callable[[Path], dict[str, list[str]]]) -> Callable[[Path, Sequence[Line]], Scores]:
    """Ranks, counted: every text among all videos, every video among all texts, of which the best of its own counts."""

    def scores(folder: Path, lines: Sequence[Line]) -> Scores:
        captions = truth(folder)
        said = by_id(lines, list(captions))
        assert all(len(line["texts"]) == len(captions[line["id"]]) for line in said)
        vectors: dict[str, list[float]] = {}  # of a text that several videos have, one
        for line in said:
            for text, vector in zip(captions[line["id"]], line["texts"], strict=True):
                vectors.setdefault(text, vector)
        likeness = {  # of the text in a place of a video, and a video
            (owner, place, line["id"]): sum(a * b for a, b in zip(vectors[text], line["embedding"], strict=True))
            for owner, own in captions.items()
            for place, text in enumerate(own)
            for line in said
        }
        ranks = []
        if way == "t2v":
            for owner, own in captions.items():
                for place in range(len(own)):
                    rivals = [likeness[owner, place, other] for other in captions if other != owner]
                    ranks.append(rank(likeness[owner, place, owner], rivals))
        else:
            for video, own in captions.items():
                best = max(likeness[video, place, video] for place in range(len(own)))
                ranks.append(rank(best, [v for (owner, _, to), v in likeness.items() if to == video != owner]))
        found = {f"{way}_r{k}": mean([one <= k for one in ranks]) for k in (1, 5, 10)}
        return found | {f"{way}_median_rank": statistics.median(ranks), f"{way}_mean_rank": mean(ranks)}

    return scores


def rank(own: float, rivals: Sequence[float]) -> float:
    """Equal ones (those of equal texts are, but for rounding) count by half."""
    level = sum(abs(one - own) < 1e-12 for one in rivals)
    return 1 + sum(one > own + 1e-12 for one in rivals) + level / 2
