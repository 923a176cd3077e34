"""The captioning benchmarks over their miniatures, judged against the official package's own CIDEr."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.predictions import Text
from tasks.catalog import SUITES
from tasks.metrics.ptb_tokens import ptb_tokens
from tasks.registry import find_benchmark
from tests.tasks.miniatures import msr_vtt, vatex, youcook2

WRITERS: dict[str, Callable[[Path], Path]] = {
    "msrvtt": msr_vtt.write,
    "vatex": vatex.write,
    "youcook2": youcook2.write,
}


@pytest.mark.parametrize("name", SUITES["captioning"])
def test_captions_are_judged_as_the_official_package_does(name: str, tmp_path: Path) -> None:
    from pycocoevalcap.cider.cider import Cider

    benchmark = find_benchmark(name)
    task = benchmark.open(WRITERS[benchmark.folder](tmp_path))
    assert (benchmark.suite, benchmark.head, task.main_metric) == ("captioning", "llm_decoder", "cider")
    task.check_targets()
    samples = task.samples("test")
    assert all(task.inputs(sample) == {"question": "", "candidates": ()} for sample in samples)
    said = [f"{several[0]} and {samples[0].id}" for several in task.targets(samples)]
    said[-1] = "a dog"
    official, _ = Cider().compute_score(
        {
            s.id: [" ".join(ptb_tokens(one)) for one in own]
            for s, own in zip(samples, task.targets(samples), strict=True)
        },
        {s.id: [" ".join(ptb_tokens(text))] for s, text in zip(samples, said, strict=True)},
    )
    scores = task.judge([Text(s.id, text) for s, text in zip(samples, said, strict=True)], num_draws=10)
    assert scores.main.value == pytest.approx(100 * official) and scores.main.value > 0
    assert set(scores.values) == {"cider", "bleu4", "rouge_l"}
    assert all(Path(sample.clip.path).is_file() for split in task.splits for sample in task.samples(split))


def test_references_are_as_many_as_are_written(tmp_path: Path) -> None:
    task = find_benchmark("vatex-cap").open(vatex.write(tmp_path))
    [first, *_] = task.targets(task.samples("test"))
    assert len(first) == 10 and len(set(first)) == 9
