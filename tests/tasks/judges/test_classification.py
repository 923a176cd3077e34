"""The judge of class scores against scikit-learn and plain loops, whatever is tied, missing or strange."""

from __future__ import annotations

import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, balanced_accuracy_score, top_k_accuracy_score

from core_encoder.errors import InputError
from tasks.judges import judge


def judged(folder: Path, labels: list[tuple[str, str]], scores: dict[str, Any], classes: list[str]) -> Any:
    for name, rows in {
        "truth.csv": [("id", "label"), *labels],
        "said.csv": [("id", *classes), *((one, *map(repr, row)) for one, row in scores.items())],
    }.items():
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return judge("classification", folder / "truth.csv", folder / "said.csv")


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1))
def test_one_label_an_id_without_ties_is_scikit_learns(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(2, 40)), int(rng.integers(6, 12))
    scores = (rng.permutation(n * k).reshape(n, k) / (n * k)).tolist()
    right = rng.integers(0, k, n)
    classes = [f"c{i}" for i in range(k)]
    found = judged(
        tmp_path_factory.mktemp("files"),
        [(f"v{i}", classes[one]) for i, one in enumerate(right)],
        dict(reversed([(f"v{i}", row) for i, row in enumerate(scores)])),
        classes,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes that are predicted and never right
        wanted = {
            "top1": top_k_accuracy_score(right, scores, k=1, labels=range(k)),
            "top5": top_k_accuracy_score(right, scores, k=5, labels=range(k)),
            "macro": balanced_accuracy_score(right, np.argmax(scores, axis=1)),
        }
    present = np.unique(right)
    one_hot = np.eye(k)[right][:, present]
    wanted["mAP"] = average_precision_score(one_hot, np.array(scores)[:, present], average="macro")
    assert found.metrics == pytest.approx(wanted, abs=1e-9)
    assert [name for name, value in found.per_class.items() if value is not None] == [classes[i] for i in present]


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1))
def test_several_labels_with_ties_are_scikit_learns(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(2, 30)), int(rng.integers(1, 6))
    scores = rng.integers(0, 5, (n, k)) / 5
    targets = rng.random((n, k)) < 0.3
    targets[0], targets[1] = True, False
    classes = [f"c{i}" for i in range(k)]
    rows = [(f"v{i}", classes[c]) for i in range(n) for c in np.flatnonzero(targets[i])]
    rows += [(f"v{i}", "") for i in range(n) if not targets[i].any()]
    given = {f"v{i}": row for i, row in enumerate(scores.tolist())}
    found = judged(tmp_path_factory.mktemp("files"), rows, given, classes)
    assert found.metrics == {
        "top1": None,
        "top5": None,
        "macro": None,
        "mAP": pytest.approx(average_precision_score(targets.astype(int), scores, average="macro"), abs=1e-9),
    }
    assert found.n == n


def test_ids_without_scores_are_wrong_and_strange_ones_are_ignored(tmp_path: Path) -> None:
    labels = [("a", "x"), ("b", "x"), ("c", "y"), ("d", "y")]
    found = judged(tmp_path, labels, {"a": [0.9, 0.1], "c": [0.2, 0.8], "e": [0.0, 1.0], "d": [0.5, 0.5]}, ["x", "y"])
    assert found.metrics["top1"] == found.metrics["macro"] == 0.5  # b has no scores, d is tied
    assert found.metrics["top5"] == 0.75
    assert found.metrics["mAP"] == pytest.approx(((1 + 2 / 4) / 2 + (1 + 2 / 2) / 2) / 2)
    assert found.per_class == {"x": 0.5, "y": 0.5}
    assert found.notes == (
        "1 of 4 ids have no scores ('b'): they count as wrong",
        "1 scored ids are not in the truth ('e'): they are ignored",
    )


@pytest.mark.parametrize(
    ("truth", "said", "says"),
    [
        ("id,label\na,z\n", "id,x,y\na,1,2\n", "truth.csv: line 2: label 'z' is no column of"),
        ("id,label\na,x\n", "id,x,y\na,1,two\n", "said.csv: line 2: y 'two' is not a finite number"),
        ("id,label\na,x\n", "id,x,y\na,1,nan\n", "said.csv: line 2: y 'nan' is not a finite number"),
        ("id,label\na,x\n", "id,x,y\na,1\n", "said.csv: line 2: 2 fields where the header has 3"),
        ("id,label\na,x\n", "id,x,y\na,1,2\na,1,3\n", "said.csv: line 3: id 'a' has scores already"),
        ("id,label\na,x\na,x\n", "id,x,y\na,1,2\n", "truth.csv: line 3: label 'x' of id 'a' is there twice"),
        ("id,lable\na,x\n", "id,x,y\na,1,2\n", "truth.csv: line 1: no column 'label'; did you mean 'lable'?"),
        ("id,label\na,x\n", "id,x,x\na,1,2\n", "said.csv: line 1: two columns are called 'x'"),
        ("id,label\na,x\n", "id\na\n", "said.csv: line 1: has no class"),
        ("id,label\n", "id,x\na,1\n", "truth.csv: holds no row"),
        ("id,label\na,\n", "id,x\na,1\n", "truth.csv: no id has a label"),
        ("", "id,x\na,1\n", "truth.csv: is empty"),
        (None, "id,x\na,1\n", "truth.csv: cannot be read as CSV (No such file or directory)"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, truth: str | None, said: str, says: str) -> None:
    for name, text in {"truth.csv": truth, "said.csv": said}.items():
        if text is not None:
            (tmp_path / name).write_text(text)
    with pytest.raises(InputError) as error:
        judge("classification", tmp_path / "truth.csv", tmp_path / "said.csv")
    assert says in str(error.value)


def test_a_byte_order_mark_and_windows_line_ends_mean_nothing(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_bytes(b"\xef\xbb\xbfid,label\r\na,x\r\n\r\n")
    (tmp_path / "said.csv").write_bytes(b"\xef\xbb\xbfx,id,y\r\n1,a,0\r\n")
    assert judge("classification", tmp_path / "truth.csv", tmp_path / "said.csv").metrics["top1"] == 1.0


def test_spaces_around_an_id_mean_nothing_in_either_file(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("id,label\n a,x\nb ,y\n")
    (tmp_path / "said.csv").write_text("id,x,y\na ,1,0\n b,0,1\n")
    found = judge("classification", tmp_path / "truth.csv", tmp_path / "said.csv")
    assert found.metrics["top1"] == 1.0 and not found.notes
