"""Rank fusion by its formula, and neighbouring scenes as one answer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prismhub.archive.ranking import K, Ranked, fold, fuse

RANKINGS = st.lists(
    st.permutations(range(8)).flatmap(lambda order: st.integers(0, 8).map(lambda n: order[:n])), min_size=1, max_size=3
)


@given(RANKINGS)
def test_a_score_is_the_sum_of_the_reciprocal_ranks(rankings: list[list[int]]) -> None:
    found = fuse({str(number): ranking for number, ranking in enumerate(rankings)})
    expected = {}
    for ranking in rankings:
        for rank, scene in enumerate(ranking):
            expected[scene] = expected.get(scene, 0.0) + 1.0 / (K + rank + 1)
    assert {one.scene: one.score for one in found} == expected
    assert [one.score for one in found] == sorted(expected.values(), reverse=True)
    assert all(set(one.parts) == {str(number) for number in range(len(rankings))} for one in found)


def test_of_equal_scores_that_of_the_first_ranking_stands_first() -> None:
    assert [one.scene for one in fuse({"text": [5, 6], "vector": [7, 8]})] == [5, 7, 6, 8]


def ranked(*scenes: int) -> list[Ranked]:
    return [Ranked(scene, {"text": 1 / (60 + rank)}) for rank, scene in enumerate(scenes, 1)]


PLACES = {number: (number // 10, number % 10) for number in range(40)}


def spans(*scenes: int, top: int = 10) -> list[tuple[int, int, int, int]]:
    return [(one.best.scene, one.video, one.first, one.last) for one in fold(ranked(*scenes), PLACES, top)]


def test_scenes_that_follow_each_other_are_one_answer() -> None:
    assert spans(13, 14, 12, 25, 19) == [(13, 1, 2, 4), (25, 2, 5, 5), (19, 1, 9, 9)]
    assert spans(9, 10) == [(9, 0, 9, 9), (10, 1, 0, 0)]  # of two videos


def test_a_scene_between_two_answers_joins_them() -> None:
    assert spans(12, 14, 25, 13) == [(12, 1, 2, 4), (25, 2, 5, 5)]


def test_a_weak_neighbour_makes_no_answer_longer_and_takes_no_place() -> None:
    assert spans(12, 30, 13, 14, 20, top=2) == [(12, 1, 2, 2), (30, 3, 0, 0)]
    assert spans(12, 13, 30, 31, 20, top=3) == [(12, 1, 2, 3), (30, 3, 0, 0), (20, 2, 0, 0)]


@given(st.permutations(range(40)), st.integers(1, 12))
def test_answers_never_touch_and_are_no_more_than_asked(order: list[int], top: int) -> None:
    answers = fold(ranked(*order), PLACES, top)
    assert 1 <= len(answers) <= top
    covered = [{(one.video, place) for place in range(one.first, one.last + 1)} for one in answers]
    for one, places in zip(answers, covered, strict=True):
        assert {PLACES[scene] for scene in one.scenes} == places and one.best.scene == one.scenes[0]
    for i, one in enumerate(covered):
        for other in covered[i + 1 :]:
            assert not {(v, p + d) for v, p in one for d in (-1, 0, 1)} & other


def test_as_many_answers_as_a_large_archive_has_scenes_are_folded_at_once() -> None:
    """Forty thousand videos; comparing each with each would take minutes."""
    ranked = [Ranked(scene, {"text": 1 / (1 + scene)}) for scene in range(40_000)]
    answers = fold(ranked, {scene: (scene, 0) for scene in range(40_000)}, top=40_000)
    assert [one.best.scene for one in answers] == list(range(40_000))
