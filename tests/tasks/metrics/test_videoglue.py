"""The VideoGLUE score by hand and by loops."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.metrics.videoglue import GROUPS, stratified_average, videoglue_score


def test_by_hand() -> None:
    costs = {"frozen": {"parameters": 1e4, "flops": 1e8}, "tuned": {"parameters": 1e8, "flops": 1e8}}
    # parameters: 1/4 against 1/8, so 2/3 and 1/3; flops: half and half
    expected = ((2 / 3 * 60 + 1 / 3 * 72) + (0.5 * 60 + 0.5 * 72)) / 2
    assert videoglue_score({"frozen": 60, "tuned": 72}, costs) == pytest.approx(expected)


adaptations = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.tuples(st.floats(0, 100), st.floats(1.5, 1e12), st.floats(1.5, 1e12)),
    min_size=1,
    max_size=5,
)


@given(adaptations)
def test_it_is_the_formula_and_lies_between_the_averages(given_: dict[str, tuple[float, float, float]]) -> None:
    averages = {name: one[0] for name, one in given_.items()}
    costs = {name: {"parameters": one[1], "flops": one[2]} for name, one in given_.items()}
    per_kind = []
    for kind in ("parameters", "flops"):
        ease = {name: 1 / math.log10(costs[name][kind]) for name in averages}
        per_kind.append(sum(ease[name] * averages[name] for name in averages) / sum(ease.values()))
    found = videoglue_score(averages, costs)
    assert found == pytest.approx(sum(per_kind) / 2)
    assert min(averages.values()) - 1e-9 <= found <= max(averages.values()) + 1e-9


def test_groups_weigh_the_same_however_many_tasks_they_have() -> None:
    scores = {task: 10.0 for tasks in GROUPS.values() for task in tasks} | {"charades": 60.0}
    assert stratified_average(scores) == pytest.approx(20.0)
    assert sum(map(len, GROUPS.values())) == 8
    del scores["ava"]
    with pytest.raises(ValueError, match="no average without ava"):
        stratified_average(scores)


def test_what_cannot_be_weighed() -> None:
    with pytest.raises(ValueError, match="need costs each"):
        videoglue_score({"frozen": 60}, {})
    with pytest.raises(ValueError, match="above 1"):
        videoglue_score({"frozen": 60}, {"frozen": {"parameters": 1}})
    with pytest.raises(ValueError, match="the same kinds of costs: parameters"):
        videoglue_score({"a": 1, "b": 2}, {"a": {"parameters": 9}, "b": {"flops": 9}})
