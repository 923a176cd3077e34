"""The file of vectors, and search in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core_encoder.errors import InputError
from prismhub.archive.vectors import MOST_APPROXIMATE, VectorFile, VectorSearch, build_graph
from tests.prismhub.archive.archives import WIDTH, unit


def drawn(count: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal((count, WIDTH)))


def test_the_nearest_of_each_query_are_those_of_it_alone(tmp_path: Path) -> None:
    search = VectorSearch(VectorFile(tmp_path, 1, WIDTH, 0).append(drawn(3000)))
    queries = drawn(20, seed=1)
    for rows, query in zip(search.nearest_of_each(queries, 7), queries, strict=True):
        assert set(rows.tolist()) == set(search.nearest(query, 7)[0].tolist())
    assert search.nearest_of_each(queries, 9000).shape == (20, 3000)


def test_more_than_a_graph_should_find_is_found_exactly(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    file = VectorFile(tmp_path, 1, WIDTH, 0).append(drawn(MOST_APPROXIMATE + 100))
    expansion = build_graph(file, drawn(20, seed=1))
    graph, exact = VectorSearch(file, expansion), VectorSearch(file)
    assert expansion and graph.nearest(drawn(1)[0], 3)[0][0] == 0
    for count in (MOST_APPROXIMATE + 1, 10**12):
        rows, cosines = graph.nearest(drawn(1)[0], count)
        np.testing.assert_array_equal(rows, exact.nearest(drawn(1)[0], count)[0])
        assert len(rows) == min(count, file.rows) and (np.diff(cosines) <= 0).all()


@pytest.mark.parametrize("wrong", [drawn(1)[:, 1:], drawn(1) * 2, np.full((1, WIDTH), np.nan, np.float32)])
def test_only_unit_vectors_of_its_width_come_in(tmp_path: Path, wrong: np.ndarray) -> None:
    file = VectorFile(tmp_path, 1, WIDTH, 0).append(drawn(5))
    with pytest.raises(InputError, match="numbers, not|not finite|not of length 1"):
        file.append(wrong)
    assert file.path.stat().st_size == 5 * WIDTH * 2
