"""Multiple choice: which of some texts a clip shows, or which of some answers to a question about it is right."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from adapters.card import CardText
from adapters.context import TargetSchema
from adapters.predictions import ClassScores, Text, Truth
from adapters.scores import Score, Scores
from core_encoder.errors import InputError
from tasks.metrics.bootstrap import bootstrap_interval, mean_of, means_by
from tasks.readers.choices import read_choices
from tasks.sample import ChoiceSample, Sample
from tasks.task import ByClass, Task, Weighed, part_of, told

PROTOCOL = "multiple-choice-v1"
"""An option stands with its question in one text; the answer is the option whose text scores highest, and a tie counts
against it. Equal options are one. Where there is one option alone it is right. Samples without a prediction are left
out and counted; intervals are 95 % percentile bootstraps of 1000 draws of whole videos."""

ACCURACY = "accuracy"


@dataclass(frozen=True, repr=False)
class MultipleChoiceTask(Task):
    """Clips with some options, judged by how often the right one is chosen.

    `accuracy@X` is that of the questions whose kind begins with X. `wording` makes one text of `{question}` and
    `{option}`.
    """

    wording: str = "{question} {option}"
    family: ClassVar[str] = "multiple choice"
    card: ClassVar[CardText] = CardText(
        pipeline_tag="video-classification",
        answers="label",
        averaging="Scores of several views are averaged as probabilities.",
        limits="One of the options is chosen, whether any of them is right or not.",
    )

    def __post_init__(self) -> None:
        for name in self.metrics:
            if name != ACCURACY and not (name.startswith(f"{ACCURACY}@") and name.partition("@")[2]):
                raise InputError(
                    f"task {self.name}: no metric {name!r} of multiple choice; known: {ACCURACY}, {ACCURACY}@<kind>"
                )
        if "{option}" not in self.wording:
            raise InputError(f"task {self.name}: wording {self.wording!r} has no {{option}}")
        super().__post_init__()

    def check(self, sample: Sample) -> None:
        if not isinstance(sample, ChoiceSample) or sample.answer not in sample.options:
            raise InputError(f"{sample.id}: its answer is not one of its options")

    @classmethod
    def read_samples(cls, source: str | Path, **columns: Any) -> list[ChoiceSample]:
        """A manifest of videos with texts to choose from, as `tasks.readers.choices` reads it."""
        return read_choices(source, **columns)

    @property
    def schema(self) -> TargetSchema:
        return TargetSchema("pairs")

    @property
    def record(self) -> Mapping[str, Any]:
        """The wording, with its sha256."""
        return {"wording": self.wording, "wording_sha256": hashlib.sha256(self.wording.encode()).hexdigest()}

    def targets(self, samples: Sequence[Sample]) -> list[tuple[str, ...]]:
        """The text of the right option of each sample."""
        return [(self._worded(sample, _choice(sample).answer),) for sample in samples]

    def inputs(self, sample: Sample) -> Mapping[str, Any]:
        """The texts to choose from, each once."""
        options = _choice(sample).options
        return {"candidates": tuple(dict.fromkeys(self._worded(sample, option) for option in options))}

    def describe_target(self, sample: Sample) -> str:
        return _choice(sample).answer

    def metric(self, name: str | None = None) -> ChoiceMetric:
        if (chosen := name or self.main_metric) != ACCURACY:
            raise InputError(f"task {self.name}: {chosen} is only judged at the end, of all answers")
        return ChoiceMetric()

    def judge(
        self, predictions: Iterable[ClassScores | Text], split: str = "test", *, seed: int = 0, num_draws: int = 1000
    ) -> Scores:
        """Score choices against a split; a kind of question that does not occur has no score.

        Raises:
            InputError: no prediction, one of no sample in the split, or one that chose from other texts.
        """
        samples, missing, hits = self._hits(predictions, split)
        values = {}
        for name in self.metrics:
            kind = name.partition("@")[2]
            judged = [(s, hit) for s, hit in zip(samples, hits, strict=True) if _choice(s).kind.startswith(kind)]
            if not judged:
                continue
            own, groups = [float(hit) for _, hit in judged], [sample.clip.path for sample, _ in judged]
            low, high = bootstrap_interval(own, groups=groups, seed=seed, num_draws=num_draws)
            values[name] = Score(sum(own) / len(own), low, high)
        total = len(samples) + len(missing)
        return Scores(values, self.main_metric, len(samples), total, split, tuple(missing))

    def weighed(self, predictions: Iterable[ClassScores | Text], split: str = "test") -> Weighed:
        samples, _, hits = self._hits(predictions, split)
        kind = self.main_metric.partition("@")[2]
        places = [place for place, sample in enumerate(samples) if _choice(sample).kind.startswith(kind)]
        return Weighed([samples[place] for place in places], mean_of(np.array(hits, dtype=np.float64)[places]))

    def by_class(self, predictions: Iterable[ClassScores | Text], split: str = "test") -> ByClass | None:
        """The accuracy of each type of question, where there are some."""
        samples, _, hits = self._hits(predictions, split)
        kinds = [_choice(sample).kind for sample in samples]
        return ByClass("accuracy", "questions", means_by(kinds, map(float, hits))) if any(kinds) else None

    def describe_sample(self, sample: Sample) -> dict[str, Any]:
        choice = _choice(sample)
        about = {"question": choice.question, "kind": choice.kind, "options": list(choice.options)}
        return super().describe_sample(sample) | {name: value for name, value in about.items() if value}

    def read_sample(self, record: Mapping[str, Any]) -> ChoiceSample:
        said = {"question": record.get("question", ""), "kind": record.get("kind", "")}
        return ChoiceSample(*told(record), (), options=tuple(record["options"]), answer=record["target"], **said)

    def _hits(
        self, predictions: Iterable[ClassScores | Text], split: str
    ) -> tuple[list[Sample], list[str], list[bool]]:
        """The samples that were answered, the ids of the others, and which answers are right."""
        given = {one.sample_id: one for one in predictions}
        samples, missing = self.predicted(given.values(), split)
        hits = []
        for sample, (right,) in zip(samples, self.targets(samples), strict=True):
            scores = _scores(given[sample.id])
            if strange := next((text for text in scores if text not in self.inputs(sample)["candidates"]), None):
                raise InputError(f"{sample.id}: {strange!r} was chosen from, which is not one of its options")
            hits.append(is_chosen(scores, right))
        return samples, missing, hits

    def _worded(self, sample: Sample, option: str) -> str:
        words = self.wording.replace("{question}", _choice(sample).question).replace("{option}", option)
        return " ".join(words.split())

    def _given(self, sample: Sample) -> list[str]:
        return [*super()._given(sample), _choice(sample).answer, *part_of(sample.clip)]


def is_chosen(scores: Mapping[str, float], right: str) -> bool:
    """Whether the right text scores higher than all others."""
    own = scores.get(right)
    return own is not None and all(score < own for text, score in scores.items() if text != right)


class ChoiceMetric:
    """Accuracy over all answers seen, for use while training."""

    def __init__(self) -> None:
        self.name = ACCURACY
        self._hits: dict[str, bool] = {}

    def update(self, predictions: Sequence[ClassScores | Text], samples: Sequence[Truth]) -> None:
        """Take the answers for some samples, whose target is the right text; a sample counts once."""
        for prediction, sample in zip(predictions, samples, strict=True):
            self._hits[sample.id] = is_chosen(_scores(prediction), sample.target[0])

    def compute(self) -> float:
        """The share that was right, nan where nothing was seen."""
        return sum(self._hits.values()) / len(self._hits) if self._hits else float("nan")


def _scores(prediction: ClassScores | Text) -> dict[str, float]:
    """The score of every text that was chosen from; a text that was made freely chose from none."""
    if isinstance(prediction, Text):
        return dict(prediction.ranked)
    return dict(zip(prediction.label_names, prediction.scores.tolist(), strict=True))


def _choice(sample: Sample) -> ChoiceSample:
    if not isinstance(sample, ChoiceSample):
        raise InputError(f"{sample.id}: has no options to choose from")
    return sample
