"""Captions and answers: what a video is said to show, and what is answered to a question about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from adapters.card import CardText
from adapters.context import TargetSchema
from adapters.predictions import Text
from adapters.scores import Score, Scores
from core_encoder.errors import InputError
from tasks.metrics.bootstrap import bootstrap_interval, value_of
from tasks.metrics.texts import (
    ANSWER_METRICS,
    CAPTION_METRICS,
    WUPS_METRICS,
    TextMetric,
    check_text_metric,
    no_wordnet,
    shown_as,
    text_statistic,
)
from tasks.metrics.wordnet import find_wordnet
from tasks.readers.texts import TextSample, read_texts
from tasks.sample import Sample
from tasks.splits import split_samples, split_warnings
from tasks.task import Task, Weighed, as_text, part_of, told

PROTOCOL = "language-v1"
"""CIDEr-D, BLEU and ROUGE-L of captions as pycocoevalcap computes them, on tokens of our own PTB tokenizer, CIDEr-D
times 100; answers are right where they equal a right one but for case, spaces and a full stop at the end; WUPS after
Malinowski and Fritz; document frequencies are those of the predicted captions' references and stay in every draw;
intervals are 95 % percentile bootstraps of 1000 draws of whole videos."""


@dataclass(frozen=True, repr=False)
class LanguageTask(Task):
    """Clips with captions, with questions and their answers, or both; each judged by metrics of its own.

    `label_names`, where there are some, are the answers that every question is answered with one of: right answers that
    are not among them cannot be given, and count as wrong. `examples` are questions with answers that stand, as text,
    before every question; without any an adapter takes those that it learned.
    """

    examples: tuple[tuple[str, str], ...] = ()
    family: ClassVar[str] = "language"
    card: ClassVar[CardText] = CardText(
        pipeline_tag="video-text-to-text",
        answers="text",
        averaging="Of several views the likeliest text counts.",
        limits="A language model says something whatever it is shown, in the words of its training texts.",
    )

    def __post_init__(self) -> None:
        for name in self.metrics:
            check_text_metric(name)
        super().__post_init__()

    def check(self, sample: Sample) -> None:
        if not _texts(sample):
            raise InputError(f"{sample.id}: has no caption and no answer")

    def check_targets(self) -> None:
        for split in self.splits:
            for name in self.metrics:
                if not any(_judges(name, sample) for sample in self.samples(split)):
                    what = "caption" if name in CAPTION_METRICS else "question"
                    raise InputError(f"task {self.name}: {name} needs a {what} in the {split} split, and there is none")

    def check_judging(self) -> None:
        if set(WUPS_METRICS) & set(self.metrics) and find_wordnet() is None:
            raise no_wordnet(next(name for name in WUPS_METRICS if name in self.metrics))

    def check_metric(self, name: str) -> None:
        check_text_metric(name)
        if name in WUPS_METRICS and name not in self.metrics and set(ANSWER_METRICS) & set(self.metrics):
            raise no_wordnet(name)
        super().check_metric(name)

    @property
    def schema(self) -> TargetSchema:
        return TargetSchema("text")

    @classmethod
    def read_samples(cls, source: str | Path, **columns: Any) -> list[TextSample]:
        """A manifest of videos with captions or questions, as `tasks.readers.texts` reads it."""
        return read_texts(source, **columns)

    @classmethod
    def from_samples(
        cls,
        samples: Sequence[Sample],
        name: str = "data",
        *,
        classes: Sequence[str] | None = None,
        multi_label: bool | None = None,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        seed: int = 0,
    ) -> LanguageTask:
        """A task over clips with texts, split as `split_samples` says; classes mean nothing here.

        With questions the main metric is `accuracy`, otherwise `cider`; WUPS is there where WordNet is.
        """
        splits = split_samples(samples, val_fraction, test_fraction, seed)
        whole = {split: tuple(members) for split, members in splits.items()}
        answers = (*ANSWER_METRICS, *(WUPS_METRICS if find_wordnet() else ()))
        asked = any(_question(sample) for sample in samples)
        told = any(not _question(sample) for sample in samples)
        metrics = (*(answers if asked else ()), *(CAPTION_METRICS if told else ()))
        return cls(name, whole, (), metrics, metrics[0], PROTOCOL)

    @property
    def warnings(self) -> list[str]:
        lacking = set(ANSWER_METRICS) & set(self.metrics) and not set(WUPS_METRICS) & set(self.metrics)
        wups = ["no WordNet on this machine: WUPS is left out (docs/language.md)"] if lacking else []
        return [*split_warnings(self.splits), *wups]

    def targets(self, samples: Sequence[Sample]) -> list[tuple[str, ...]]:
        """The captions, or right answers, of each sample."""
        return [_texts(sample) for sample in samples]

    def inputs(self, sample: Sample) -> Mapping[str, Any]:
        """The question, "" where a caption is wanted, and what the answer is one of, if that is known."""
        asked = _asked(sample)
        if asked["question"] and not asked["candidates"]:
            asked["candidates"] = self.label_names
        return asked | ({"examples": self.examples if asked["question"] else ()} if self.examples else {})

    def describe_target(self, sample: Sample) -> list[str]:
        return list(_texts(sample))

    def metric(self, name: str | None = None) -> TextMetric:
        return TextMetric(name or self.main_metric)

    def judge(
        self, predictions: Iterable[Text], split: str = "test", *, seed: int = 0, num_draws: int = 1000
    ) -> Scores:
        """Score texts against a split: captions by theirs, answers by theirs; only what was predicted counts.

        Raises:
            InputError: no prediction, one of no sample in the split, or none that the main metric judges.
        """
        given = {one.sample_id: one for one in predictions}
        samples, missing = self.predicted(given.values(), split)
        values = {}
        for name in self.metrics:
            judged = [sample for sample in samples if _judges(name, sample)]
            if not judged:
                continue
            statistic = text_statistic(name, [given[one.id].text for one in judged], self.targets(judged))
            groups = [sample.clip.path for sample in judged]
            low, high = bootstrap_interval(statistic, len(groups), groups=groups, seed=seed, num_draws=num_draws)
            times, unit = shown_as(name)
            values[name] = Score(times * value_of(statistic, len(groups)), times * low, times * high, unit)
        total = len(samples) + len(missing)
        return Scores(values, self.main_metric, len(samples), total, split, tuple(missing))

    def weighed(self, predictions: Iterable[Text], split: str = "test") -> Weighed:
        given = {one.sample_id: one for one in predictions}
        samples = [one for one in self.predicted(given.values(), split)[0] if _judges(self.main_metric, one)]
        statistic = text_statistic(self.main_metric, [given[one.id].text for one in samples], self.targets(samples))
        times, _ = shown_as(self.main_metric)
        return Weighed(samples, lambda weights: times * statistic(weights))

    def describe_sample(self, sample: Sample) -> dict[str, Any]:
        about = {"question": _question(sample), "kind": sample.kind if isinstance(sample, TextSample) else ""}
        return super().describe_sample(sample) | {name: value for name, value in about.items() if value}

    def read_sample(self, record: Mapping[str, Any]) -> TextSample:
        said = {"question": record.get("question", ""), "kind": record.get("kind", "")}
        return TextSample(*told(record), (), texts=tuple(record["target"]), **said)

    def _given(self, sample: Sample) -> list[str]:
        """What decides a sample beside its id: question and choices, what is right, and the part of the video it is."""
        asked = _asked(sample)
        return [*(f"{name}={as_text(asked[name])}" for name in sorted(asked)), *_texts(sample), *part_of(sample.clip)]


def _judges(metric: str, sample: Sample) -> bool:
    """Whether a metric is one of the sample's kind: of captions, or of answers."""
    return (metric in CAPTION_METRICS) != bool(_question(sample))


def _asked(sample: Sample) -> dict[str, Any]:
    return {"question": _question(sample), "candidates": sample.candidates if isinstance(sample, TextSample) else ()}


def _texts(sample: Sample) -> tuple[str, ...]:
    return sample.texts if isinstance(sample, TextSample) else ()


def _question(sample: Sample) -> str:
    return sample.question if isinstance(sample, TextSample) else ""
