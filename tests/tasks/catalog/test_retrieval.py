"""The retrieval benchmarks over their miniatures, judged by ranks that are counted one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from adapters.predictions import Embedding
from tasks.catalog import SUITES
from tasks.registry import find_benchmark
from tests.tasks.miniatures import activitynet_captions, msr_vtt, vatex

WRITERS: dict[str, Callable[[Path], Path]] = {
    "msrvtt": msr_vtt.write,
    "vatex": vatex.write,
    "activitynet": activitynet_captions.write,
}


def rank_of(own: float, rivals: list[float]) -> float:
    """The mean rank among rivals, some of which may be as high: those of equal texts are."""
    return 1 + sum(one > own for one in rivals) + sum(one == own for one in rivals) / 2


@pytest.mark.parametrize("name", SUITES["retrieval"])
def test_ranks_are_those_counted_by_hand(name: str, tmp_path: Path) -> None:
    benchmark = find_benchmark(name)
    data_set, _, way = name.partition("-")
    task = benchmark.open(WRITERS[data_set](tmp_path))
    samples = task.samples("test")
    assert (benchmark.folder, benchmark.zero_shot, task.main_metric) == (data_set, True, f"{way}_r1")
    rng = np.random.default_rng(0)
    vectors = {text: rng.normal(size=8) for one in samples for text in task.inputs(one)["captions"]}
    videos = [rng.normal(size=8) for _ in samples]
    answers = [
        Embedding(one.id, torch.tensor(video), torch.tensor(np.stack([vectors[text] for text in own])))
        for one, video, own in zip(samples, videos, task.targets(samples), strict=True)
    ]
    scores = task.judge(answers, "test", num_draws=10)
    owned = [(text, k) for k, own in enumerate(task.targets(samples)) for text in own]
    sims = [[float(vectors[text] @ video) for video in videos] for text, _ in owned]
    if way == "t2v":
        ranks = [rank_of(row[k], row[:k] + row[k + 1 :]) for row, (_, k) in zip(sims, owned, strict=True)]
    else:
        ranks = []
        for k in range(len(videos)):
            own = [row[k] for row, (_, owner) in zip(sims, owned, strict=True) if owner == k]
            ranks.append(rank_of(max(own), [row[k] for row, (_, o) in zip(sims, owned, strict=True) if o != k]))
    wanted = {"r1": np.mean(np.array(ranks) <= 1), "r5": np.mean(np.array(ranks) <= 5), "mean_rank": np.mean(ranks)}
    for what, value in wanted.items():
        assert scores.values[f"{way}_{what}"].value == pytest.approx(value)


def test_both_directions_share_what_they_read() -> None:
    for data_set in WRITERS:
        one, other = (find_benchmark(f"{data_set}-{way}") for way in ("t2v", "v2t"))
        assert (one.reader, one.splits, one.folder, one.protocol) == (
            other.reader,
            other.splits,
            other.folder,
            other.protocol,
        )
        assert one.published != other.published
