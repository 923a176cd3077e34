"""A lane makes batches of what comes together, and lets nobody wait for nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prismhub.server.lane import Lane


def test_it_waits_for_those_on_their_way_and_no_longer() -> None:
    coming, batches = threading.Event(), list[int]()
    lane = Lane("test", 8, 20.0, batches.append, lambda: int(coming.is_set()))
    began = time.monotonic()
    assert lane.submit("a", 1, list).result(10) == 1  # alone
    coming.set()
    some = [lane.submit("a", item, list) for item in range(3)]
    assert lane.busy == 3 and not any(one.done() for one in some)
    others = [lane.submit("a", item, list) for item in range(5)]  # a whole batch waits for nobody
    assert [one.result(10) for one in (*some, *others)] == [0, 1, 2, 0, 1, 2, 3, 4]
    last = lane.submit("a", 7, list)
    coming.clear()
    assert last.result(10) == 7
    lane.close()
    assert batches == [1, 8, 1] and lane.busy == 0 and time.monotonic() - began < 15


def test_it_waits_no_longer_than_it_may_and_keeps_kinds_apart() -> None:
    batches = list[int]()
    lane = Lane("test", 8, 0.3, batches.append, lambda: 1)
    tasks = [lane.submit(kind, kind, list) for kind in ("a", "b", "a")]
    assert [one.result(10) for one in tasks] == ["a", "b", "a"]
    lane.close()
    assert batches == [2, 1]


def test_several_workers_share_what_waits_and_what_comes() -> None:
    """Nobody has nothing to do while the batch of another could have been smaller."""
    coming, both = [6], threading.Barrier(2, timeout=20)
    batches: list[int] = []
    lane = Lane("test", 8, 20.0, batches.append, lambda: coming[0], workers=2)

    def run(items: Sequence[int]) -> list[int]:
        both.wait()  # two of them run at once, or none goes on
        return [item + 1 for item in items]

    tasks = []
    for item in range(6):
        coming[0] -= 1
        tasks.append(lane.submit("a", item, run))
    assert [one.result(20) for one in tasks] == [1, 2, 3, 4, 5, 6]
    lane.close()
    assert batches == [3, 3] and lane.busy == 0


@given(
    kinds=st.lists(st.sampled_from("ab"), max_size=40),
    workers=st.integers(1, 3),
    batch_size=st.integers(1, 5),
)
@settings(max_examples=40, deadline=None)
def test_every_item_is_done_once_with_its_kind(kinds: list[str], workers: int, batch_size: int) -> None:
    done: list[list[tuple[str, int]]] = []

    def run(items: Sequence[tuple[str, int]]) -> Sequence[tuple[str, int]]:
        done.append(list(items))
        return items

    lane = Lane("test", batch_size, 0.0, lambda size: None, workers=workers)
    tasks = [lane.submit(kind, (kind, index), run) for index, kind in enumerate(kinds)]
    assert [one.result(20) for one in tasks] == list(zip(kinds, range(len(kinds)), strict=True))
    lane.close()
    assert sorted(index for batch in done for _, index in batch) == list(range(len(kinds))) and lane.busy == 0
    assert all(len(batch) <= batch_size and len({kind for kind, _ in batch}) == 1 for batch in done)


def test_a_failure_is_that_of_its_item() -> None:
    lane = Lane("test", 4, 0.0, lambda size: None)
    error = ValueError("no")
    failed = lane.submit("a", 1, lambda items: [error for _ in items])
    with pytest.raises(ValueError, match="no"):
        failed.result(10)
    assert lane.submit("a", 2, list).result(10) == 2
    lane.close()


@pytest.mark.parametrize("raised", [True, False])
def test_what_was_under_way_ends_with_the_error_that_ended_it(raised: bool) -> None:
    """Whoever keeps the error keeps nothing else; frames that come one by one would hold their decode process."""
    held = []

    def frames() -> Iterator[int]:
        held.append("a process")
        try:
            yield from range(9)
        finally:
            held.clear()

    def fail() -> None:
        under_way = frames()
        assert next(under_way) == 0 and held
        raise ValueError("nobody waits any more") from OSError("gone")

    def run(items: Sequence[int]) -> list[BaseException]:
        try:
            fail()
        except ValueError as error:
            if raised:
                raise
            return [error]
        raise AssertionError

    lane = Lane("test", 4, 0.0, lambda count: None)
    try:
        error = lane.submit("kind", 1, run).exception(timeout=30)
        assert isinstance(error, ValueError) and error.__traceback__ is not None and not held
    finally:
        lane.close()
