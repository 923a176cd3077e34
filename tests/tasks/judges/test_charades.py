"""The judge of Charades against the official port, restated: ties, videos without actions and without scores."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_encoder.errors import InputError
from tasks.judges import judge

COLUMNS = ("id", "subject", "script", "actions", "length")


def charades_map(submission: np.ndarray, truth: np.ndarray) -> list[float]:
    """The official port: `charades_map` and the `mAP` that it calls, class by class."""
    fixed = submission.copy()
    fixed[truth.sum(axis=1) == 0, :] = -np.inf
    values = []
    for c in range(fixed.shape[1]):
        hits = truth[:, c][np.argsort(-fixed[:, c])] == 1
        if hits.sum() < 0.1:
            values.append(float("nan"))
            continue
        precision = np.cumsum(hits) / (np.cumsum(~hits) + np.cumsum(hits)).astype(float)
        values.append(float(sum(precision[i] for i in range(len(hits)) if hits[i]) / hits.sum()))
    return values


def judged(folder: Path, targets: np.ndarray, scores: dict[str, Any]) -> Any:
    with (folder / "truth.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row, target in enumerate(targets):
            actions = ";".join(f"c{c:03} 1.50 {3 + c}.00" for c in np.flatnonzero(target))
            writer.writerow([f"V{row}", "HR43", "A person cooks, then eats.", actions, 24.83])
    lines = [" ".join([name, *map(repr, row)]) for name, row in scores.items()]
    (folder / "said.txt").write_text("\n".join(lines) + "\n")
    return judge("charades", folder / "truth.csv", folder / "said.txt")


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_it_is_the_official_value(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 60))
    targets = (rng.random((n, 157)) < 0.1).astype(int)
    targets[rng.integers(n)] = 1  # every class has a video, as in the real test set
    targets[rng.random(n) < 0.2] = 0
    targets[0] = 1
    scores = rng.normal(size=(n, 157)) if seed % 2 else rng.integers(-2, 3, (n, 157)).astype(float)
    absent = set(rng.permutation(n)[: int(rng.integers(0, 3))].tolist())
    given = {f"V{i}": scores[i].tolist() for i in rng.permutation(n).tolist() if i not in absent}
    found = judged(tmp_path_factory.mktemp("files"), targets, given | {"OTHER": [9.0] * 157})
    scores[list(absent)] = 0
    expected = charades_map(scores, targets)
    assert found.metrics == {"mAP": pytest.approx(np.mean(expected), abs=1e-9)}
    assert list(found.per_class.values()) == pytest.approx(expected, abs=1e-9)
    assert found.notes[-1] == "1 scored videos are not in the truth ('OTHER'): they are ignored"
    assert ("have no scores" in found.notes[0]) == bool(absent) and found.n == n


def test_a_video_without_actions_cannot_be_a_false_alarm_above_others(tmp_path: Path) -> None:
    targets = np.zeros((3, 157), dtype=int)
    targets[0, 92] = targets[1, 5] = 1
    found = judged(tmp_path, targets, {"V0": [0.5] * 157, "V1": [0.6] * 157, "V2": [0.9] * 157})
    assert found.per_class["c092"] == 0.5 and found.per_class["c005"] == 1.0 and found.per_class["c000"] is None
    assert found.metrics["mAP"] == 0.75
    assert found.notes == (
        "155 classes have no video ('c000', 'c001', 'c002', ...): "
        "they are left out of the mean, which would officially be NaN",
    )


@pytest.mark.parametrize(
    ("actions", "line", "says"),
    [
        ("c157 0 1", "V0" + " 0.5" * 157, "truth.csv: line 2: actions: 'c157 0 1' is none such as"),
        ("92 0 1", "V0" + " 0.5" * 157, "truth.csv: line 2: actions: '92 0 1' is none such as"),
        ("c092 0 1", "V0" + " 0.5" * 156, "said.txt: line 1: 156 scores, expected 157"),
        ("c092 0 1", "V0" + " 0.5" * 156 + " high", "said.txt: line 1: s156 'high' is not a finite number"),
        ("c092 0 1", ("V0" + " 0.5" * 157 + "\n") * 2, "said.txt: line 2: video 'V0' has scores already"),
        ("", "V0" + " 0.5" * 157, "truth.csv: no video has an action"),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, actions: str, line: str, says: str) -> None:
    (tmp_path / "truth.csv").write_text(f"id,actions\nV0,{actions}\n")
    (tmp_path / "said.txt").write_text(line)
    with pytest.raises(InputError) as error:
        judge("charades", tmp_path / "truth.csv", tmp_path / "said.txt")
    assert says in str(error.value)


def test_a_video_twice_and_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("id,actions\nV0,c001 0 1\nV0,c002 0 1\n")
    with pytest.raises(InputError, match="line 3: video 'V0' is there twice"):
        judge("charades", tmp_path / "truth.csv", tmp_path / "said.txt")
    (tmp_path / "truth.csv").write_text("id,actions\nV0,c001 0 1\n")
    with pytest.raises(InputError, match=r"said.txt: cannot be read \(No such file"):
        judge("charades", tmp_path / "truth.csv", tmp_path / "said.txt")
