"""The judge of ActivityNet's files against the official loop, and what is said of files that are not as they should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_encoder.errors import InputError
from tasks.judges import judge

TIOUS = np.linspace(0.5, 0.95, 10)


def official(truth: dict[str, Any], results: dict[str, Any], subset: str = "validation") -> dict[str, list[float]]:
    """`eval_detection.py`, step by step: average precision at each threshold, by label."""
    wanted: dict[str, list[tuple[str, list[float]]]] = {}
    for video, entry in truth["database"].items():
        for one in entry["annotations"] if entry["subset"] == subset else []:
            wanted.setdefault(one["label"], []).append((video, one["segment"]))
    values: dict[str, list[float]] = {}
    for label, known in wanted.items():
        said = [
            (video, one["segment"], one["score"])
            for video, rows in results["results"].items()
            for one in rows
            if one["label"] == label
        ]
        order = np.array([score for *_, score in said], dtype=float).argsort()[::-1]
        locks = -np.ones((len(TIOUS), len(known)))
        right, wrong = np.zeros((len(TIOUS), len(said))), np.zeros((len(TIOUS), len(said)))
        for place, row in enumerate(order):
            video, segment, _ = said[row]
            mine = [number for number, (other, _) in enumerate(known) if other == video]
            if not mine:
                wrong[:, place] = 1
                continue
            spans = np.array([known[number][1] for number in mine], dtype=float)
            shared = (np.minimum(segment[1], spans[:, 1]) - np.maximum(segment[0], spans[:, 0])).clip(0)
            with np.errstate(invalid="ignore", divide="ignore"):
                tiou = shared / ((spans[:, 1] - spans[:, 0]) + (segment[1] - segment[0]) - shared)
            for k, threshold in enumerate(TIOUS):
                for best in tiou.argsort()[::-1]:
                    if tiou[best] < threshold:
                        wrong[k, place] = 1
                        break
                    if locks[k, mine[best]] >= 0:
                        continue
                    right[k, place] = 1
                    locks[k, mine[best]] = place
                    break
                if not wrong[k, place] and not right[k, place]:
                    wrong[k, place] = 1
        values[label] = []
        for k in range(len(TIOUS)):
            hits, misses = np.cumsum(right[k]), np.cumsum(wrong[k])
            precision = np.hstack([[0], hits / (hits + misses), [0]])
            recall = np.hstack([[0], hits / len(known), [1]])
            for i in range(len(precision) - 1)[::-1]:
                precision[i] = max(precision[i], precision[i + 1])
            steps = np.where(recall[1:] != recall[:-1])[0] + 1
            values[label].append(float(np.sum((recall[steps] - recall[steps - 1]) * precision[steps])))
    return values


def random_files(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ties of scores and of tIoU, duplicates, segments of no length, videos without predictions, strange videos."""
    rng = np.random.default_rng(seed)

    def segment() -> list[float]:
        start = float(rng.integers(0, 8))
        return [start, start + float(rng.integers(0 if rng.random() < 0.1 else 1, 5))]

    labels = ["jump", "run", "sit"][: int(rng.integers(1, 4))]
    database = {
        f"v{k}": {
            "subset": "validation" if k < 5 else "training",
            "annotations": [
                {"segment": segment(), "label": str(rng.choice(labels))} for _ in range(int(rng.integers(0, 5)))
            ],
        }
        for k in range(7)
    }
    database["v0"]["annotations"] += [{"segment": [1.0, 3.0], "label": one} for one in labels]  # type: ignore[operator]
    results: dict[str, Any] = {}
    for video in rng.permutation([*list(database)[1:], "elsewhere"]).tolist():
        results[video] = [
            {"label": str(rng.choice(labels)), "score": float(rng.integers(0, 6)) / 5, "segment": segment()}
            for _ in range(int(rng.integers(0, 30)))
        ]
        results[video] += results[video][:2]
    return {"version": "VERSION 1.3", "taxonomy": [], "database": database}, {
        "version": "VERSION 1.3",
        "results": results,
        "external_data": {},
    }


def judged(folder: Path, truth: Any, results: Any, **options: Any) -> Any:
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    return judge("activitynet", folder / "truth.json", folder / "results.json", **options)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1))
def test_it_is_the_official_value(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    truth, results = random_files(seed)
    found = judged(tmp_path_factory.mktemp("files"), truth, results)
    expected = official(truth, results)
    per_threshold = np.mean(list(expected.values()), axis=0)
    wanted = {f"mAP@{tiou:.2f}".rstrip("0"): value for tiou, value in zip(TIOUS, per_threshold, strict=True)}
    assert found.metrics == pytest.approx(wanted | {"average_mAP": per_threshold.mean()}, abs=1e-9)
    assert list(found.metrics)[:3] == ["mAP@0.5", "mAP@0.55", "mAP@0.6"] and len(found.metrics) == 11
    assert found.per_class == pytest.approx({label: np.mean(one) for label, one in expected.items()}, abs=1e-9)
    assert found.n == 5


def test_ids_of_one_file_alone_are_named_and_treated_as_officially(tmp_path: Path) -> None:
    row = {"segment": [0, 4], "label": "run"}
    truth = {"database": {name: {"subset": "validation", "annotations": [row]} for name in ("a", "b")}}
    said = {"results": {"a": [row | {"score": 0.5}], "x": [row | {"score": 0.9}]}}
    found = judged(tmp_path, truth, said)
    assert found.metrics["average_mAP"] == pytest.approx(0.25)  # half of the recall, at precision 1/2
    assert found.notes == (
        "1 of 2 videos have no predictions ('b'): they count as missed",
        "1 predicted videos are not in subset 'validation' ('x'): their predictions count as false alarms",
    )


def test_another_subset_may_be_judged(tmp_path: Path) -> None:
    truth, results = random_files(4)
    database = truth["database"]
    database["v6"]["annotations"].append({"segment": [0, 4], "label": "run"})
    labels = {one["label"] for name in ("v5", "v6") for one in database[name]["annotations"]}
    results["results"] = {"v6": [{"segment": [0, 4], "label": label, "score": 0.4} for label in sorted(labels)]}
    found = judged(tmp_path, truth, results, subset="training")
    assert found.n == 2 and found.per_class == pytest.approx(
        {label: np.mean(one) for label, one in official(truth, results, "training").items()}
    )


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (("results", "a", 0, "label"), "rum", "row 1: label 'rum' is not in subset 'validation'"),
        (("results", "a", 0, "score"), None, "row 1: score must be a finite number, not None"),
        (("results", "a", 0, "score"), float("nan"), "row 1: score must be a finite number, not nan"),
        (("results", "a", 0, "segment"), [1], "row 1: segment must be [start, end] in seconds, not [1]"),
        (("results", "a", 0, "segment"), [1, "x"], "row 1: segment must be a finite number, not 'x'"),
        (("results", "a", 0), 3, "row 1: must be an object"),
        (("results", "a"), {}, "video 'a': must be a list of predictions"),
        (("results",), [], "it has no object 'results'"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, place: tuple[Any, ...], value: Any, says: str) -> None:
    row = {"segment": [0, 4], "label": "run"}
    truth = {"database": {"a": {"subset": "validation", "annotations": [row]}}}
    said: Any = {"results": {"a": [row | {"score": 0.5}]}}
    inner = said
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with pytest.raises(InputError) as error:
        judged(tmp_path, truth, said)
    assert says in str(error.value) and str(tmp_path / "results.json") in str(error.value)


@pytest.mark.parametrize(
    ("truth", "says"),
    [
        ({"database": []}, "it has no object 'database'"),
        ({"database": {"a": {"subset": 3}}}, "video 'a': subset must be text"),
        ({"database": {"a": {"subset": "valid", "annotations": []}}}, "no video is of subset 'validation'; did you"),
        ({"database": {"a": {"subset": "validation"}}}, "video 'a': annotations must be a list, not None"),
        ({"database": {"a": {"subset": "validation", "annotations": []}}}, "no video of subset 'validation' has an"),
        (
            {"database": {"a": {"subset": "validation", "annotations": [{"segment": [0, 1], "label": 3}]}}},
            "video 'a': annotation 1: label must be text, not 3",
        ),
    ],
)
def test_a_malformed_truth_is_named(tmp_path: Path, truth: Any, says: str) -> None:
    with pytest.raises(InputError, match="truth.json") as error:
        judged(tmp_path, truth, {"results": {}})
    assert says in str(error.value)
