"""Two lanes, and on how many cores a batch runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest
import torch

from prismhub.server.lanes import Lanes
from prismhub.server.metrics import Metrics


@pytest.fixture
def four_cores() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def cores(items: Sequence[object]) -> list[int]:
    return [torch.get_num_threads() for _ in items]


def test_a_batch_has_half_of_the_cores_unless_it_is_alone(four_cores: None) -> None:
    lanes = Lanes(8, 0.0, on_cpu=True, metrics=Metrics())
    lanes.admitted = lambda: 1
    assert lanes.short.submit("a", 0, cores).result(20) == 4
    lanes.admitted = lambda: 2
    assert lanes.short.submit("a", 0, cores).result(20) == lanes.long.submit("a", 0, cores).result(20) == 2
    lanes.admitted = lambda: 1
    assert lanes.long.submit("a", 0, cores).result(20) == 4
    lanes.close()


def test_short_clips_run_side_by_side_on_a_cpu_alone(four_cores: None) -> None:
    for on_cpu in (True, False):
        lanes = Lanes(8, 0.0, on_cpu, Metrics())
        lanes.admitted = lambda: 2
        began, over = threading.Event(), threading.Event()

        def hold(items: Sequence[object], began: threading.Event = began, over: threading.Event = over) -> list[bool]:
            began.set()
            return [over.wait(20) for _ in items]

        first = lanes.short.submit("a", 0, hold)
        assert began.wait(20)
        second = lanes.short.submit("b", 0, cores)
        if on_cpu:
            assert second.result(20) == 2 and not first.done()
        over.set()
        assert first.result(20) and second.result(20) == (2 if on_cpu else 4)
        lanes.close()
