"""What every family of tasks must have, and what is said to tasks written for an older contract."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from adapters.card import CardText
from adapters.context import TargetSchema
from adapters.predictions import Text
from adapters.scores import Score, Scores
from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from tasks.own_data import own_family
from tasks.sample import Sample
from tasks.task import Task


@dataclass(frozen=True, repr=False)
class Captions(Task):
    """A family of another kind, as a third party would write it: the text must be the caption, word for word."""

    family: ClassVar[str] = "captions"
    card: ClassVar[CardText] = CardText(pipeline_tag="video-text-to-text", answers="text")

    @property
    def schema(self) -> TargetSchema:
        return TargetSchema("text")

    def targets(self, samples: Sequence[Sample]) -> list[str]:
        return [sample.labels[0] for sample in samples]

    def inputs(self, sample: Sample) -> dict[str, Any]:
        return {"question": f"what of {sample.id}?"}

    def metric(self, name: str | None = None) -> Any:
        raise NotImplementedError

    def judge(self, predictions: Iterable[Text], split: str = "test", *, seed: int = 0, num_draws: int = 0) -> Scores:
        given = {one.sample_id: one.text for one in predictions}
        samples, missing = self.predicted([Text(name, "") for name in given], split)
        right = sum(given[sample.id] == sample.labels[0] for sample in samples)
        value = Score(float(right), unit="captions")
        return Scores({"exact": value}, "exact", len(samples), len(samples) + len(missing), split, tuple(missing))


def captions(**changes: Any) -> Captions:
    samples = tuple(Sample(name, Clip(f"{name}.mp4"), (f"a {name}",), "test") for name in ("cat", "dog", "cow"))
    fields = {"name": "zoo", "splits": {"test": samples}, "label_names": (), "metrics": ("exact",)}
    return Captions(**fields | {"main_metric": "exact", "protocol": "exact-v1"} | changes)  # type: ignore[arg-type]


def test_a_family_of_its_own_is_judged_in_its_own_unit() -> None:
    task = captions()
    scores = task.judge([Text("cat", "a cat"), Text("dog", "a cat")])
    assert scores.main.value == 1.0 and (scores.n_evaluated, scores.n_total, scores.missing) == (2, 3, ("cow",))
    assert "captions" in str(scores) and "%" not in str(scores)
    assert [(one.id, one.target, one.inputs["question"]) for one in task.truths(task.samples("test"))][:1] == [
        ("cat", "a cat", "what of cat?")
    ]
    with pytest.raises(InputError, match="'fox' is no sample of 'test'"):
        task.judge([Text("fox", "a fox")])
    with pytest.raises(InputError, match="none of the 3 samples of 'test' was predicted"):
        task.judge([])


def test_what_a_task_refuses() -> None:
    with pytest.raises(InputError, match="no metric 'exakt'; did you mean 'exact'"):
        captions(main_metric="exakt")
    with pytest.raises(InputError, match="unknown metric 'exac'; did you mean 'exact'"):
        captions().check_metric("exac")
    with pytest.raises(InputError, match="tasks of family 'captions' cannot be made of own samples"):
        Captions.from_samples([])
    with pytest.raises(InputError, match="own data with words as targets cannot be read"):
        own_family("words")


def test_a_family_of_an_older_contract_gets_a_clear_sentence() -> None:
    def judge(self: Any, predictions: Any, split: str = "test") -> Any:
        return None

    with pytest.raises(
        InputError, match="task Old is not whole, or of an older prismhub: it judges but lacks family, "
    ):
        type("Old", (Task,), {"judge": judge, "targets": judge})
    with pytest.raises(TypeError, match="abstract"):
        type("Half", (Task,), {"family": "half"})()


def test_metrics_are_found_where_the_manual_says() -> None:
    import tasks
    import tasks.metrics
    from tasks.metrics.classification import SampleMetric

    assert tasks.SampleMetric is tasks.metrics.SampleMetric is SampleMetric
    with pytest.raises(AttributeError, match="no attribute 'TopK'"):
        tasks.metrics.TopK  # noqa: B018
