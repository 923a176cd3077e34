"""Video-text pairs: find the video that a text belongs to, and the text that belongs to a video."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from adapters.card import CardText
from adapters.context import TargetSchema
from adapters.predictions import Embedding
from adapters.scores import Score, Scores
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from tasks.metrics.bootstrap import bootstrap_interval, value_of
from tasks.metrics.retrieval import (
    STATISTICS,
    RetrievalMetric,
    clip4clip_ranks,
    clip4clip_statistic,
    predicted_similarities,
    rank_predictions,
    rank_statistic,
)
from tasks.readers.captions import CaptionedSample, read_captions
from tasks.sample import Sample
from tasks.splits import split_samples, split_warnings
from tasks.task import Task, Weighed, told

PROTOCOL = "retrieval-v1"
"""Every text is a query among all videos of the split, every video one among all texts, where any of its own counts;
ties count by their mean rank; intervals are 95 % percentile bootstraps of 1000 draws of whole videos as queries, the
gallery stays as it is."""


@dataclass(frozen=True, repr=False)
class RetrievalTask(Task):
    """Clips with one caption or several, judged by recall and rank in both directions.

    `ties` says how equal similarities rank: by their mean, or as CLIP4Clip's evaluator counts them, then without
    intervals.
    """

    ties: Literal["mean", "clip4clip"] = "mean"
    family: ClassVar[str] = "retrieval"
    card: ClassVar[CardText] = CardText(
        pipeline_tag="feature-extraction",
        answers="values[:5]",
        averaging="The vectors of several views are averaged.",
        limits="Recall and rank depend on how many videos are searched.",
    )

    def __post_init__(self) -> None:
        for name in self.metrics:
            if name not in STATISTICS:
                raise InputError(f"task {self.name}: no metric {name!r} of retrieval{nearest(name, STATISTICS)}")
        super().__post_init__()

    def check(self, sample: Sample) -> None:
        if not _captions(sample):
            raise InputError(f"{sample.id}: has no caption")

    @property
    def schema(self) -> TargetSchema:
        return TargetSchema("pairs")

    @classmethod
    def read_samples(cls, source: str | Path, **columns: Any) -> list[CaptionedSample]:
        """A manifest of videos with captions, as `tasks.readers.captions` reads it."""
        return read_captions(source, **columns)

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
    ) -> RetrievalTask:
        """A task over captioned samples, split as `split_samples` says; classes mean nothing here."""
        splits = split_samples(samples, val_fraction, test_fraction, seed)
        whole = {split: tuple(members) for split, members in splits.items()}
        return cls(name, whole, (), STATISTICS, "t2v_r1", PROTOCOL)

    @classmethod
    def read(cls, source: str | Path, name: str | None = None, **options: Any) -> RetrievalTask:
        """A task over a manifest; options are `val_fraction`, `test_fraction` and `seed`."""
        return cls.from_samples(cls.read_samples(source), name or Path(source).stem, **options)

    @property
    def warnings(self) -> list[str]:
        return split_warnings(self.splits)

    def targets(self, samples: Sequence[Sample]) -> list[tuple[str, ...]]:
        """The captions of each sample."""
        return [_captions(sample) for sample in samples]

    def inputs(self, sample: Sample) -> Mapping[str, Any]:
        """The captions: whoever answers with the video's vector brings theirs too."""
        return {"captions": _captions(sample)}

    def describe_target(self, sample: Sample) -> list[str]:
        return list(_captions(sample))

    def metric(self, name: str | None = None) -> RetrievalMetric:
        return RetrievalMetric(name or self.main_metric)

    def judge(
        self, predictions: Iterable[Embedding], split: str = "test", *, seed: int = 0, num_draws: int = 1000
    ) -> Scores:
        """Score the vectors of the videos of a split, each with those of its captions; only predicted videos count.

        Raises:
            InputError: no prediction, one of no sample in the split, or one without the vectors of its captions.
        """
        given = {one.sample_id: one for one in predictions}
        samples, missing = self.predicted(given.values(), split)
        total = len(samples) + len(missing)
        about = (self.main_metric, len(samples), total, split, tuple(missing))
        answers, captions = [given[sample.id] for sample in samples], self.targets(samples)
        if self.ties == "clip4clip":
            return Scores(self._as_clip4clip(answers, captions), *about)
        ranks = rank_predictions(answers, captions)
        groups = [sample.clip.path for sample in samples]
        values = {}
        for name in self.metrics:
            statistic = rank_statistic(name, ranks)
            low, high = bootstrap_interval(statistic, len(groups), groups=groups, seed=seed, num_draws=num_draws)
            values[name] = Score(value_of(statistic, len(groups)), low, high, _unit(name))
        return Scores(values, *about)

    def weighed(self, predictions: Iterable[Embedding], split: str = "test") -> Weighed | None:
        """None where ties count as CLIP4Clip counts them, more than once."""
        if self.ties == "clip4clip":
            return None
        given = {one.sample_id: one for one in predictions}
        samples, _ = self.predicted(given.values(), split)
        ranks = rank_predictions([given[sample.id] for sample in samples], self.targets(samples))
        return Weighed(samples, rank_statistic(self.main_metric, ranks))

    def read_sample(self, record: Mapping[str, Any]) -> CaptionedSample:
        return CaptionedSample(*told(record), (), captions=tuple(record["target"]))

    def _as_clip4clip(self, answers: Sequence[Embedding], captions: Sequence[Sequence[str]]) -> dict[str, Score]:
        similarities, owners = predicted_similarities(answers, captions)
        try:
            ranks = clip4clip_ranks(similarities, owners)
        except ValueError as error:
            raise InputError(f"retrieval: {error}") from error
        several = len(owners) > len(answers)
        return {name: Score(clip4clip_statistic(name, ranks, several), unit=_unit(name)) for name in self.metrics}


def _unit(metric: str) -> str:
    return "rank" if metric.endswith("rank") else "%"


def _captions(sample: Sample) -> tuple[str, ...]:
    return sample.captions if isinstance(sample, CaptionedSample) else ()
