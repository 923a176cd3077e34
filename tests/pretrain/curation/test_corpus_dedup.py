"""Near duplicates block by block against all pairs at once; exact ones on real files with the commands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_encoder.errors import InputError
from pretrain.curation.corpus_dedup import _stored, evaluation_sets, near_pairs


def unit(rng: np.random.Generator, count: int, width: int = 4) -> np.ndarray:
    rows = rng.normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def all_at_once(vectors: np.ndarray, evaluation: np.ndarray, near: float) -> dict[int, float]:
    """One clip after the other against everything that stays."""
    as_units = [v.astype(np.float32) / np.linalg.norm(v.astype(np.float32)) for v in vectors]
    others = [v.astype(np.float32) / np.linalg.norm(v.astype(np.float32)) for v in evaluation]
    stays: list[int] = []
    goes: dict[int, float] = {}
    for place, vector in enumerate(as_units):
        theirs = max((float(vector @ other) for other in others), default=-2.0)
        ours = max((float(vector @ as_units[other]) for other in stays), default=-2.0)
        if max(theirs, ours) >= near:
            goes[place] = theirs if theirs >= near else ours
        else:
            stays.append(place)
    return goes


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 25),
    others=st.integers(0, 9),
    block=st.integers(1, 8),
    near=st.sampled_from([0.5, 0.8, 0.95]),
)
def test_blocks_give_what_all_pairs_give(seed: int, count: int, others: int, block: int, near: float) -> None:
    rng = np.random.default_rng(seed)
    vectors, evaluation = unit(rng, count), unit(rng, others)
    expected = all_at_once(vectors, evaluation, near)
    calls: list[tuple[int, int]] = []
    found = list(near_pairs(vectors, evaluation, near, lambda done, total, note: calls.append((done, total)), block))
    assert [place for place, _, _ in found] == sorted(expected)
    for place, other, similarity in found:
        assert similarity == pytest.approx(min(expected[place], 1.0), abs=1e-5)
        partner = evaluation[-1 - other] if other < 0 else vectors[other]
        mine, whom = vectors[place].astype(np.float32), partner.astype(np.float32)
        cosine = float(mine @ whom / np.linalg.norm(mine) / np.linalg.norm(whom))
        assert cosine == pytest.approx(similarity, abs=1e-5)
        assert other < place
        assert other not in expected
    assert all(done <= total for done, total in calls)
    assert not count or calls[-1][0] == calls[-1][1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
def test_a_disk_full_of_vectors_is_one_line() -> None:
    with pytest.raises(InputError, match="the disk is full; free space"):
        _stored(Path("/dev/full"), iter([np.ones(8, np.float16)] * 9))


def test_evaluation_sets_that_are_not_there(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match="no such folder"):
        evaluation_sets([tmp_path / "nowhere"])
    (tmp_path / "list.txt").write_text("a.mp4")
    with pytest.raises(InputError, match="not a folder or a .yaml manifest"):
        evaluation_sets([tmp_path / "list.txt"])
