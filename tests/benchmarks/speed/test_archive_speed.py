"""The scripts that measure the archive, at a small size: what they draw, ask and report."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.speed import archive_latency, archive_recall


@pytest.mark.parametrize("kind", ["grouped", "spread"])
def test_latency_is_reported_for_every_way_of_asking(tmp_path: Path, kind: str) -> None:
    vectors = archive_latency.drawing(kind, 1)(60)
    assert vectors.shape == (60, archive_latency.WIDTH)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    near = np.sort(vectors @ vectors[0])[-2]
    assert (near > 0.9) == (kind == "grouped"), "drawn alone, no vector is near to another"
    took = archive_latency.write_archive(tmp_path / "archive", 300, kind)
    assert set(took) == {"seconds to write", "seconds to optimize"}
    found = archive_latency.ask(tmp_path / "archive", kind, queries=3, threads=1)
    ways = {"text", "vector", "hybrid", "hybrid, 1 % of scenes", "hybrid, half", "plain product", "the first query"}
    assert set(found["seconds"]) == ways and len(found["seconds"]["hybrid"]) == 3
    assert (found["recall"], found["expansion"]) == (1, 0), "so few are searched exactly"
    assert found["after"]["anon"] > 0


def test_recall_is_reported_for_every_kind_of_query(tmp_path: Path) -> None:
    drawn = archive_recall.draw_scenes(60, seed=3)
    said: list[str] = []
    report = archive_recall.measure(tmp_path, drawn, 3, said.append)
    kinds = ("looks", "motion", "speech word", "file name")
    assert [row["what"].split(":")[0] for row in report.rows if row["must_be"]] == list(kinds)
    by_words = {row["what"]: row["value"] for row in report.rows}
    assert by_words["speech word: text"] == by_words["file name: text"] == 1
    assert 0 < by_words["looks: hybrid"] <= 1 and len(said) == 4 * len(kinds)


def test_the_interval_holds_the_mean() -> None:
    mean, low, high = archive_recall.interval(np.linspace(0, 1, 101))
    assert low < mean < high
    assert (mean, high - low) == pytest.approx((0.5, 0.114), abs=0.01)
