"""Two folders cell by cell: which are paired, on which samples, and the interval against resampling by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report.comparison import Compared, compare_cells, compare_folders, pair_cells
from benchmarks.report.result_folder import ReportedCell, read_cells
from core_encoder.errors import InputError
from prismhub.progress import SILENT
from tests.benchmarks.report.written_results import class_scores, class_task, write_cell, write_judged

CLASSES = ("left", "right", "still")


def judged_cell(folder: Path, hits: dict[str, bool], task: str = "ssv2", **about: object) -> ReportedCell:
    """A cell whose samples, all of class `left`, are right or wrong; an id is its video, up to a `#`."""
    samples = class_task(task, {name: ["left"] for name in hits}, CLASSES)
    rows = {name: (0.6, 0.3, 0.1) if hit else (0.3, 0.6, 0.1) for name, hit in hits.items()}
    cell = write_cell(folder, task, **about)  # type: ignore[arg-type]
    return write_judged(cell, samples, class_scores(rows, CLASSES))


def test_the_interval_is_that_of_paired_draws_of_videos(tmp_path: Path) -> None:
    """Against plain loops: whole videos drawn with replacement, both models judged on the same draw."""
    rng = np.random.default_rng(3)
    names = [f"video{video}#{clip}" for video in range(40) for clip in range(3)]
    old = {name: bool(rng.random() < 0.5) for name in names}
    new = {name: hit or bool(rng.random() < 0.2) for name, hit in old.items()}  # better, never worse
    shuffled = {names[place]: old[names[place]] for place in rng.permutation(len(names))}
    cells = judged_cell(tmp_path / "new", new), judged_cell(tmp_path / "old", shuffled)
    found = compare_cells(*cells)
    assert found.reason == "" and (found.shared, found.only_new, found.only_old) == (120, 0, 0)
    assert found.change is not None and found.new_score is not None and found.old_score is not None
    values = np.array([[new[name], old[name]] for name in names], dtype=float).reshape(40, 3, 2)
    assert found.new_score.value == pytest.approx(values[..., 0].mean())
    assert found.old_score.value == pytest.approx(values[..., 1].mean())
    assert found.change.value == pytest.approx((values[..., 0] - values[..., 1]).mean())
    draws = []
    for _ in range(4000):
        drawn = values[rng.integers(40, size=40)]
        draws.append(drawn[..., 0].mean() - drawn[..., 1].mean())
    assert found.change.interval == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.012)
    unpaired = sum((score.high - score.low) / 2 for score in (cell.result.scores["top1"] for cell in cells))  # type: ignore[operator]
    low, high = found.change.interval or (0, 0)
    assert high - low < unpaired and found.clear and found.drawn == "40 videos"


def test_only_shared_samples_count(tmp_path: Path) -> None:
    new = judged_cell(tmp_path / "new", {"a": True, "b": True, "c": False, "only new": False})
    old = judged_cell(tmp_path / "old", {"c": True, "b": False, "a": True, "x": False, "y": False})
    found = compare_cells(new, old)
    assert (found.shared, found.only_new, found.only_old) == (3, 1, 2)
    assert found.new_score is not None and found.new_score.value == pytest.approx(2 / 3)
    assert found.change is not None and found.change.value == pytest.approx(0) and not found.clear


def test_what_cannot_be_compared_has_its_reason(tmp_path: Path) -> None:
    new, old = judged_cell(tmp_path / "new", {"a": True}), judged_cell(tmp_path / "old", {"a": False})
    assert compare_cells(new, old).drawn == "1 video" and not compare_cells(new, old).clear

    def reason(new: ReportedCell, old: ReportedCell) -> str:
        found = compare_cells(new, old)
        assert found.change is None
        return found.reason

    other = replace(old, result=replace(old.result, protocol="another-v2"))
    assert reason(new, other) == "another protocol: classification-v1, and another-v2 in the old one"
    assert reason(replace(new, result=replace(new.result, protocol="another-v2")), other).startswith(
        "judged by another-v2"
    )
    failed = write_cell(tmp_path / "old", "ssv2", state="failed", reason="out of memory", seed=7)
    assert reason(new, failed) == "old: failed: out of memory"
    assert reason(new, judged_cell(tmp_path / "far", {"z": True})) == "they have no sample in common"
    samples = class_task("ssv2", {"a": ["right"]}, CLASSES)
    differs = write_judged(write_cell(tmp_path / "d", "ssv2"), samples, class_scores({"a": (0.5, 0.3, 0.2)}, CLASSES))
    assert reason(new, differs) == "what is right differs for 1 of 1 shared samples, the first: a"
    gone = replace(new, result=replace(new.result, task="gone"))
    assert "gone" in reason(gone, replace(old, result=replace(old.result, task="gone")))


def paired(new: list[ReportedCell], old: list[ReportedCell]) -> list[tuple[str, str]]:
    return [
        (one.path.parent.parent.name + one.path.stem, other.path.parent.parent.name + other.path.stem)
        for one, other in pair_cells(new, old)
    ]


def test_cells_of_one_name_are_paired_and_then_those_that_are_alone(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for seed in (0, 1):
        write_cell(a, "ssv2", seed=seed)
        write_cell(b, "ssv2", seed=seed)
    write_cell(b, "ssv2", settings="22222222")
    same = "nano-c0ffeec0map_classifier-11111111"
    assert paired(read_cells(a), read_cells(b)) == [(f"{same}-s0", f"{same}-s0"), (f"{same}-s1", f"{same}-s1")]
    c, d = tmp_path / "c", tmp_path / "d"
    write_cell(c, "ssv2", settings="33333333")  # another way of the same adapter, and another encoder
    write_cell(d, "ssv2", settings="44444444", encoder="eve", fingerprint="e" * 64)
    write_cell(d, "diving48", settings="44444444", encoder="eve", fingerprint="e" * 64)
    assert paired(read_cells(c), read_cells(d)) == [
        ("nano-c0ffeec0map_classifier-33333333-s0", "eve-eeeeeeeemap_classifier-44444444-s0")
    ]
    write_cell(d, "ssv2", settings="55555555", encoder="eve", fingerprint="e" * 64)  # which of both is meant?
    assert paired(read_cells(c), read_cells(d)) == []


def test_folders_are_compared_and_what_one_alone_has_is_listed(tmp_path: Path) -> None:
    judged_cell(tmp_path / "new", {"a": True, "b": True})
    write_cell(tmp_path / "new", "kabr")
    judged_cell(tmp_path / "old", {"a": True, "b": False})
    write_cell(tmp_path / "old", "diving48")
    new = read_cells(tmp_path / "new")
    found = compare_folders(new, tmp_path / "old", SILENT)
    assert [one.change.value for one in found.pairs if one.change] == [0.5]
    assert [cell.result.task for cell in found.only_new] == ["kabr"]
    assert [cell.result.task for cell in found.only_old] == ["diving48"]
    with pytest.raises(InputError, match="is the folder that is reported"):
        compare_folders(new, tmp_path / "old" / ".." / "new", SILENT)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda text: text[:-40],
            r"s0\.predictions\.jsonl: line 2: not JSON .*; delete map_classifier-11111111-s0\.json",
        ),
        (lambda text: text.splitlines()[0] + "\n", r"holds 1 predictions, its result was made of 2; delete map_cl"),
        (lambda text: text + text.splitlines()[0] + "\n", r"line 3: 'a' was predicted before; delete"),
        (lambda text: text.replace('"target"', '"targets"'), r"line 1: lacks 'target'; delete"),
        (lambda text: "[]\n" + text, r"line 1: no prediction; delete"),
    ],
)
def test_damaged_predictions_are_named(damage: object, said: str, tmp_path: Path) -> None:
    new, old = (judged_cell(tmp_path / name, {"a": True, "b": True}) for name in ("new", "old"))
    path = new.predictions_path
    path.write_text(damage(path.read_text()))  # type: ignore[operator]
    with pytest.raises(InputError, match=said):
        compare_cells(new, old)
    path.unlink()
    with pytest.raises(InputError, match=r"predictions\.jsonl: cannot be read \(No such file or directory\); delete"):
        compare_cells(new, old)


def test_results_without_videos_are_drawn_by_sample(tmp_path: Path) -> None:
    new, old = (judged_cell(tmp_path / name, {"a#1": True, "a#2": name == "new"}) for name in ("new", "old"))
    for cell in (new, old):
        text = cell.predictions_path.read_text()
        cell.predictions_path.write_text(text.replace('"video": "a", ', ""))
    found: Compared = compare_cells(new, old)
    assert found.drawn == "2 samples, whose videos are not known" and found.change is not None
