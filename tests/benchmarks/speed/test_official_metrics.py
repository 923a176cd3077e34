"""The measure of the official metrics compares like with like: the loops give the same values as what they time."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.speed import official_metrics
from tasks.metrics.temporal_detection import detection_average_precisions


def test_the_loops_are_the_metrics() -> None:
    truth, found = official_metrics.segments(20, seed=3)
    ours = detection_average_precisions(found, truth, official_metrics.CLASSES)
    np.testing.assert_allclose(ours, official_metrics.loop_over_segments(truth, found), atol=1e-12)
    boxes = official_metrics.boxes(30, seed=3)
    ours = official_metrics.judge_boxes(*boxes)
    assert np.nanmin(ours) < np.nanmax(ours) <= 1
    np.testing.assert_allclose(ours, official_metrics.loop_over_boxes(*boxes), atol=1e-12)


@pytest.mark.slow
def test_the_script_writes_files_that_are_judged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    options = [
        "--videos",
        "12",
        "--frames",
        "20",
        "--share",
        "1",
        "--rounds",
        "1",
        "--threads",
        "1",
        "--json",
        str(out),
    ]
    monkeypatch.setattr(sys, "argv", ["official_metrics", *options])
    official_metrics.main()
    rows = {row["what"]: row for row in json.loads(out.read_text())["results"]}
    for name in ("ActivityNet", "AVA"):
        assert rows[f"{name}: largest difference to the loops"]["ok"]
        assert rows[f"{name}: gigabytes of memory for it"]["value"] < 1
