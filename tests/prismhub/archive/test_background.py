"""What unrelated texts reach in an archive: the arithmetic, growing with the archive, and whom it lets through."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prismhub.archive.background import Background, background_texts, standardized, threshold
from prismhub.progress import SILENT
from tests.prismhub.archive.archives import WIDTH, make, random_videos, unit


def test_the_texts_are_many_and_each_is_there_once() -> None:
    texts = background_texts()
    assert len(texts) == len(set(texts)) > 250 and not any(text.startswith("#") for text in texts)


def test_scores_are_distances_from_the_mean_of_unrelated_texts_in_standard_deviations() -> None:
    rng = np.random.default_rng(0)
    scenes, texts, query = (unit(rng.standard_normal((count, WIDTH))) for count in (20, 50, 1))
    found = Background(texts, np.zeros(50, np.float32)).scores(query[0], scenes)
    for scene, score in zip(scenes, found, strict=True):
        others = [float(scene @ text) for text in texts]
        expected = (float(scene @ query[0]) - np.mean(others)) / np.std(others)
        assert abs(score - expected) < 1e-4


def test_the_best_scores_grow_with_the_archive_and_are_those_of_all_scenes(tmp_path: Path) -> None:
    videos = random_videos(30)
    texts = unit(np.random.default_rng(1).standard_normal((40, WIDTH)))
    index = make(tmp_path / "archive", videos[:10])
    start = Background.of(index, lambda _: texts, SILENT)
    first = start.up_to_date(index)
    assert first.up_to_date(index) is first
    index.upsert(videos[10:])
    grown = first.up_to_date(index)
    matrix = np.stack([one.vector for each in videos for one in each.scenes]).astype(np.float16).astype(np.float32)
    expected = standardized(matrix @ texts.T, matrix @ texts.T).max(0)
    assert np.allclose(grown.best, expected, atol=1e-5) and (grown.best >= first.best - 1e-6).all()
    assert np.allclose(start.up_to_date(index).best, grown.best, atol=1e-5)
    grown.keep(index.folder)
    kept = Background.of(index, lambda _: 1 / 0, SILENT)  # type: ignore[arg-type, return-value]
    assert np.array_equal(kept.best, grown.best) and (kept.file, kept.rows) == (1, 90)


def test_the_threshold_is_that_of_the_unrelated_even_where_many_texts_are_shown() -> None:
    rng = np.random.default_rng(2)
    unrelated = rng.normal(3.0, 0.5, 4000)
    plain = threshold(unrelated.astype(np.float32))
    assert 0.003 < (unrelated > plain).mean() < 0.03
    shown = np.concatenate([unrelated, rng.normal(8.0, 0.5, 1500)])
    assert abs(threshold(shown.astype(np.float32)) - plain) < 0.6 < 8.0 - 3 * 0.5 - plain
