"""The judges of boxes against the evaluators of AVA and ChimpACT, restated frame by frame and box by box."""

from __future__ import annotations

import csv
import heapq
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_encoder.errors import InputError
from tasks.judges import judge
from tasks.judges.boxes import GROUPS, evaluator_order
from tasks.metrics.frame_map import BoxTable
from tasks.readers.box_rows import read_label_map
from tasks.readers.chimpact import BEHAVIOURS
from tests import ROOT

Row = list[Any]
AVA_IDS = [
    *(1, *range(3, 16), 17, 20, 22, 24, *range(26, 31), 34, 36, 37, 38, 41, 43, *range(45, 50), 51, 52, 54),
    *(*range(56, 71), 72, 73, 74, *range(76, 81)),
]


def read_official(rows: list[Row], ids: set[int], capacity: int) -> tuple[dict[str, list[Any]], set[str]]:
    """`read_csv`: the entries of each frame, the surest first, and all frames that are listed."""
    entries: dict[str, list[Any]] = defaultdict(list)
    keys = set()
    for row in rows:
        key = f"{row[0]},{float(row[1]):.6f}"
        keys.add(key)
        if len(row) == 2:
            continue
        x1, y1, x2, y2 = map(float, row[2:6])
        if int(row[6]) not in ids:
            continue
        score = float(row[7]) if len(row) == 8 else 1.0
        entry = (score, int(row[6]), y1, x1, y2, x2)
        if capacity < 1 or len(entries[key]) < capacity:
            heapq.heappush(entries[key], entry)
        elif score > entries[key][0][0]:
            heapq.heapreplace(entries[key], entry)
    return {key: sorted(several, key=lambda one: -one[0]) for key, several in entries.items()}, keys


def official_iou(one: np.ndarray, other: np.ndarray) -> Any:
    height = np.maximum(np.float64(0), min(one[2], other[2]) - max(one[0], other[0]))
    width = np.maximum(np.float64(0), min(one[3], other[3]) - max(one[1], other[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (height * width) / (areas[0] + areas[1] - height * width)


def official_hits(boxes: np.ndarray, known: np.ndarray) -> list[bool]:
    """`_compute_tp_fp_for_single_class`: of one frame and class."""
    hits, detected = [], [False] * len(known)
    for box in boxes:
        right = False
        if len(known):
            shared = np.array([official_iou(box, other) for other in known])
            best = int(np.argmax(shared))
            if shared[best] >= 0.5 and not detected[best]:
                right = detected[best] = True
        hits.append(right)
    return hits


def official_ap(scores: np.ndarray, hits: list[bool], wanted: int) -> float:
    if not wanted:
        return float("nan")
    if not len(scores):
        return 0.0
    right = np.array(hits, dtype=int)[np.argsort(scores)[::-1]]
    found = np.cumsum(right)
    precision = np.concatenate([[0], found / (found + np.cumsum(1 - right)), [0]])
    recall = np.concatenate([[0], found / wanted, [1]])
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = np.maximum(precision[i], precision[i + 1])
    steps = np.where(recall[1:] != recall[:-1])[0] + 1
    return float(np.sum((recall[steps] - recall[steps - 1]) * precision[steps]))


def official_ava(truth: list[Row], said: list[Row], ids: list[int], excluded: set[str]) -> dict[int, float]:
    """`run_evaluation`, with exclusions as in its older form: average precision by id."""
    known, listed = read_official(truth, set(ids), 0)
    found, _ = read_official(said, set(ids), 50)
    values = {}
    for one in ids:
        wanted = sum(entry[1] == one for key in known if key not in excluded for entry in known[key])
        scores: list[float] = []
        hits: list[bool] = []
        for key, entries in found.items():
            if key in excluded or key not in listed:
                continue
            mine = [e for e in entries if e[1] == one and e[2] < e[4] and e[3] < e[5]]
            right = np.array([e[2:] for e in known.get(key, []) if e[1] == one], dtype=float).reshape(-1, 4)
            hits += official_hits(np.array([e[2:] for e in mine], dtype=float).reshape(-1, 4), right)
            scores += [e[0] for e in mine]
        values[one] = official_ap(np.array(scores, dtype=float), hits, wanted)
    return values


def official_chimpact(truth: list[Row], said: list[Row], excluded: set[str]) -> dict[int, float]:
    """`ava_eval` of the fork of mmaction2, after `bbox2result` left out rows that are not above 0.002."""

    def read(rows: list[Row]) -> dict[str, list[Any]]:
        entries: dict[str, list[Any]] = defaultdict(list)
        for row in rows:
            if len(row) > 2 and 1 <= int(row[6]) <= 23:
                x1, y1, x2, y2 = map(float, row[2:6])
                score = float(row[7]) if len(row) == 8 else 1.0
                entries[f"{row[0]},{float(row[1]):.6f}"].append((score, int(row[6]), y1, x1, y2, x2))
        return {key: sorted(several, key=lambda one: -one[0]) for key, several in entries.items()}

    known, found = read(truth), read([row for row in said if len(row) == 2 or float(row[7]) > 0.002])
    scores: dict[int, list[Any]] = defaultdict(list)
    hits: dict[int, list[bool]] = defaultdict(list)
    for key in known:
        if key in excluded:
            continue
        for label in {entry[1] for entry in found.get(key, [])}:
            boxes = np.array([e[2:] for e in found[key] if e[1] == label], dtype=np.float32).reshape(-1, 4)
            right = np.array([e[2:] for e in known[key] if e[1] == label], dtype=np.float32).reshape(-1, 4)
            scores[label] += [e[0] for e in found[key] if e[1] == label]
            hits[label] += official_hits(boxes, right)
    counts = {label: sum(e[1] == label for several in known.values() for e in several) for label in range(1, 24)}
    return {label: official_ap(np.array(scores[label], np.float32), hits[label], counts[label]) for label in scores}


def random_rows(seed: int, ids: list[int], crowded: bool = False) -> tuple[list[Row], list[Row], list[Row]]:
    """Ties, duplicates, boxes without area, other classes, frames of one file alone, frames where nobody is."""
    rng = np.random.default_rng(seed)
    stamps = ["0902", "903", "0904.5", "905", "906"]
    chosen = rng.choice(ids, 3, replace=False).tolist()

    def box() -> list[float]:
        left, top = rng.integers(0, 6, 2) / 10
        return [left, top, left + rng.integers(1, 5) / 10, top + rng.integers(1, 5) / 10]

    truth: list[Row] = []
    for video in ("a", "b"):
        for stamp in stamps[:4]:
            people = [box() for _ in range(int(rng.integers(0, 4)))]
            truth += [
                [video, stamp, *one, label, number]
                for number, one in enumerate(people)
                for label in [*chosen, 99]
                if rng.random() < 0.5
            ]
            if not people:
                truth.append([video, stamp])
    truth.append(["a", stamps[0], 0.1, 0.1, 0.5, 0.5, chosen[0]])  # seven columns
    said: list[Row] = []
    for _ in range(int(rng.integers(0, 25)) + (400 if crowded else 0)):
        near = [row for row in truth if len(row) > 2]
        like = near[int(rng.integers(len(near)))]
        corners = list(like[2:6]) if rng.random() < 0.5 else box()
        if rng.random() < 0.1:
            corners[2] = corners[0]
        label = int(rng.choice([*chosen, 99])) if rng.random() < 0.9 else int(rng.choice(ids))
        score = float(rng.choice([0.002, 0.001, *np.arange(1, 6) / 5, round(float(rng.random()), 2)]))
        said.append([str(rng.choice(["a", "a", "b", "c"])), str(rng.choice(stamps)), *corners, label, score])
    said += [*said[:3], ["b", "903"]]
    excluded = [["a", stamps[1]]] if rng.random() < 0.5 else []
    return truth, said, excluded


def write(path: Path, rows: list[Row]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def judged(task: str, folder: Path, truth: list[Row], said: list[Row], excluded: list[Row], **options: Any) -> Any:
    files = write(folder / "truth.csv", truth), write(folder / "said.csv", said)
    if excluded:
        options["excluded"] = write(folder / "excluded.csv", excluded)
    return judge(task, *files, **options)


def keys(rows: list[Row]) -> set[str]:
    return {f"{video},{float(stamp):.6f}" for video, stamp in rows}


def known_only(values: dict[Any, float]) -> dict[Any, float | None]:
    return {key: None if np.isnan(value) else pytest.approx(value, abs=1e-9) for key, value in values.items()}


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), crowded=st.booleans())
def test_ava_is_the_official_value(tmp_path_factory: pytest.TempPathFactory, seed: int, crowded: bool) -> None:
    truth, said, excluded = random_rows(seed, AVA_IDS, crowded)
    found = judged("ava", tmp_path_factory.mktemp("files"), truth, said, excluded)
    expected = official_ava(truth, said, AVA_IDS, keys(excluded))
    names = read_label_map(ROOT / "tasks" / "judges" / "ava_actions.pbtxt").names
    assert found.per_class == known_only(dict(zip(names, expected.values(), strict=True)))
    assert found.metrics == {"mAP@0.5": pytest.approx(np.nanmean(list(expected.values())), abs=1e-9)}
    assert found.n == len({(row[0], float(row[1])) for row in truth}) - len(excluded)


def test_the_sixty_actions_are_the_evaluated_ones() -> None:
    assert list(read_label_map(ROOT / "tasks" / "judges" / "ava_actions.pbtxt").ids) == AVA_IDS


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
def test_chimpact_is_the_official_value(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    truth, said, excluded = random_rows(seed, list(range(1, 24)), crowded=seed % 2 == 0)
    found = judged("chimpact", tmp_path_factory.mktemp("files"), truth, said, excluded)
    expected = official_chimpact(truth, said, keys(excluded))
    whole = {label: expected.get(label, float("nan")) for label in range(1, 24)}
    assert found.per_class == known_only(dict(zip(BEHAVIOURS, whole.values(), strict=True)))
    groups = {"": range(1, 24)} | {f"_{name}": numbers for name, numbers in GROUPS.items()}
    for name, numbers in groups.items():
        several = [whole[label] for label in numbers if not np.isnan(whole[label])]
        wanted = pytest.approx(np.mean(several), abs=1e-6) if several else None
        assert found.metrics[f"mAP@0.5{name}"] == wanted
    everyone = sum(value for value in whole.values() if not np.isnan(value)) / 23
    assert found.metrics["mAP@0.5_all"] == pytest.approx(everyone, abs=1e-9)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), most=st.sampled_from([None, 3, 50]))
def test_the_order_is_that_of_the_heap(seed: int, most: int | None) -> None:
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(0, 80))
    corners = rng.integers(0, 3, (rows, 4)).astype(float)
    table = BoxTable(rng.integers(0, 4, rows), rng.integers(0, 3, rows), corners, rng.integers(0, 6, rows) / 5)
    ordered = table[evaluator_order(table, most)]
    written = [
        [frame, 0, *box, label, score]
        for frame, box, label, score in zip(
            table.frames, table.corners.tolist(), table.labels.tolist(), table.scores.tolist(), strict=True
        )
    ]
    entries, _ = read_official(written, {0, 1, 2}, most or 0)
    for label in range(3):  # between classes the order of equals means nothing
        wanted = [entry for several in entries.values() for entry in several if entry[1] == label]
        mine = ordered.labels == label
        assert ordered.scores[mine].tolist() == [entry[0] for entry in wanted]
        assert ordered.corners[mine].tolist() == [[e[3], e[2], e[5], e[4]] for e in wanted]


def test_frames_of_one_file_alone_are_named(tmp_path: Path) -> None:
    truth = [["a", 902, 0, 0, 0.5, 0.5, 80, 1], ["a", 903, 0, 0, 0.5, 0.5, 80, 1]]
    said = [["a", 902, 0, 0, 0.5, 0.5, 80, 0.5], ["x", 902, 0, 0, 0.5, 0.5, 80, 0.9]]
    found = judged("ava", tmp_path, truth, said, [])
    assert found.metrics == {"mAP@0.5": 0.5}
    assert found.notes == (
        "1 of 2 frames have no predictions ('a,903'): their boxes count as missed",
        "1 predicted frames are not among those of the truth ('x,902'): they are ignored",
    )


def test_a_label_map_names_the_classes(tmp_path: Path) -> None:
    (tmp_path / "action_list.txt").write_text(
        'item {\n  name: "walk"\n  id: 99\n}\nitem {\n  name: "run"\n  id: 4\n}\n'
    )
    truth, said = [["a", 1, 0, 0, 0.5, 0.5, 99, 1]], [["a", 1, 0, 0, 0.5, 0.5, 99, 0.5]]
    for task in ("ava", "chimpact"):
        found = judged(task, tmp_path, truth, said, [], labels=tmp_path / "action_list.txt")
        assert found.metrics["mAP@0.5"] == 1.0 and found.per_class == {"run": None, "walk": 1.0}
    with pytest.raises(InputError, match="none of its rows has an action that is evaluated"):
        judged("ava", tmp_path, truth, said, [])


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a,902,0,0,0.5,0.5,80", None),
        ("a,902,0,0,0.5,0.5", "line 2: 6 fields, expected video_id,timestamp"),
        ("a,now,0,0,0.5,0.5,80,1", "line 2: timestamp 'now' is not a finite number"),
        ("a,902,0,0,left,0.5,80,1", "line 2: x2 'left' is not a finite number"),
        ("a,902,0,0,0.5,0.5,run,1", "line 2: action_id 'run' is not a whole number"),
        (f"a,902,0,0,0.5,0.5,{2**64},1", f"line 2: action_id '{2**64}' is not a whole number"),
        ("a,902,0,0,0.5,0.5,80,nan", "line 2: score 'nan' is not a finite number"),
        ("a", "line 2: 1 fields"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, row: str, says: str | None) -> None:
    (tmp_path / "truth.csv").write_text("\ufeffa,902,0,0,0.5,0.5,80,1\r\n", encoding="utf-8")
    (tmp_path / "said.csv").write_text(f"a,902,0,0,0.5,0.5,80,0.4\n{row}\n")
    if says is None:
        assert judge("ava", tmp_path / "truth.csv", tmp_path / "said.csv").n == 1
        return
    with pytest.raises(InputError, match="said.csv") as error:
        judge("ava", tmp_path / "truth.csv", tmp_path / "said.csv")
    assert says in str(error.value)


def test_other_files_that_are_not_as_they_should_be(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth.csv", [["a", 902, 0, 0, 0.5, 0.5, 80, 1], ["a", 903, 0.6, 0, 0.5, 0.5, 80, 1]])
    said = write(tmp_path / "said.csv", [["a", 902, 0.6, 0, 0.5, 0.5, 3, 0.9]])
    with pytest.raises(InputError, match=r"truth.csv: line 2: box 0.6 0 0.5 0.5: x2 and y2 must not be below"):
        judge("ava", truth, said)
    write(truth, [["a", 902, 0, 0, 0.5, 0.5, 3, 1]])
    assert judge("ava", truth, said).metrics == {"mAP@0.5": 0.0}  # dropped, as officially
    with pytest.raises(InputError, match=r"said.csv: line 1: box"):
        judge("chimpact", truth, said)
    with pytest.raises(InputError, match="all of its frames are excluded"):
        judge("ava", truth, said, excluded=write(tmp_path / "excluded.csv", [["a", "902"]]))
    with pytest.raises(InputError, match=r"excluded.csv: line 1: 3 fields"):
        judge("ava", truth, said, excluded=write(tmp_path / "excluded.csv", [["a", 902, 1]]))
    with pytest.raises(InputError, match=r"none.csv: cannot be read"):
        judge("ava", truth, tmp_path / "none.csv")
    with pytest.raises(InputError, match="subset means nothing for ava: leave it out; it takes excluded, labels"):
        judge("ava", truth, said, subset="validation")
