"""Open answers to NExT-QA's questions: judged word by word as NExT-OE does, overall and by the type of question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from adapters.predictions import Text, Truth
from adapters.scores import Score, Scores
from core_encoder.errors import InputError
from tasks.families.language import LanguageTask
from tasks.metrics.answers import open_answer_score
from tasks.metrics.bootstrap import bootstrap_interval, mean_of, means_by
from tasks.metrics.lemmas import Lemmatizer, nltk_tagging
from tasks.metrics.lexicon import Lexicon
from tasks.readers.texts import TextSample
from tasks.sample import Sample
from tasks.task import ByClass, Weighed

PROTOCOL = "nextqa-oe-wups-v1"
"""WUPS at threshold 0 of lemmas without stop words, first meanings alone, words like none of the other answer skipped;
yes-no and counting questions (DB, DC) are right or wrong; TP counts as TN; of several right answers the nearest counts;
intervals are 95 % percentile bootstraps of 1000 draws of whole videos."""

WUPS = "wups"
GUESSED = "-guessed"


@dataclass(frozen=True, repr=False)
class OpenAnswersTask(LanguageTask):
    """Questions with answers in words, judged by WUPS of first meanings; `wups@X` is that of types that begin with X.

    Where NLTK with its tagger is not installed, parts of speech are guessed from the words: then the protocol ends in
    `-guessed`.
    """

    family: ClassVar[str] = "open answers"

    def __post_init__(self) -> None:
        for name in self.metrics:
            if name.partition("@")[0] != WUPS:
                raise InputError(f"task {self.name}: no metric {name!r} of open answers; known: {WUPS}, {WUPS}@<type>")
        if nltk_tagging() is None and not self.protocol.endswith(GUESSED):
            object.__setattr__(self, "protocol", f"{self.protocol}{GUESSED}")
        super(LanguageTask, self).__post_init__()

    def check(self, sample: Sample) -> None:
        super().check(sample)
        if not (isinstance(sample, TextSample) and sample.question and sample.kind):
            raise InputError(f"{sample.id}: is no question of a type")

    def check_targets(self) -> None:
        """Every sample is a question."""

    def check_judging(self) -> None:
        Lexicon.find()

    def check_metric(self, name: str) -> None:
        super(LanguageTask, self).check_metric(name)

    @property
    def warnings(self) -> list[str]:
        guessed = "NLTK or its tagger is not installed: parts of speech are guessed, WUPS is near the official one"
        return [*super().warnings, *([guessed] if self.protocol.endswith(GUESSED) else [])]

    def _given(self, sample: Sample) -> list[str]:
        return [*super()._given(sample), _kind(sample)]

    def metric(self, name: str | None = None) -> OpenAnswersMetric:  # type: ignore[override]
        if (chosen := name or self.main_metric) != WUPS:
            raise InputError(f"task {self.name}: {chosen} is only judged at the end, of all answers")
        kinds = {s.id: _kind(s) for split in self.splits if split != "train" for s in self.samples(split)}
        return OpenAnswersMetric(kinds)

    def judge(
        self, predictions: Iterable[Text], split: str = "test", *, seed: int = 0, num_draws: int = 1000
    ) -> Scores:
        """Score answers against a split; a type of question that does not occur has no score.

        Raises:
            InputError: no prediction, one of no sample in the split, or no WordNet on this machine.
        """
        samples, missing, each = self._scored(predictions, split)
        values = {}
        for name in self.metrics:
            kind = name.partition("@")[2]
            judged = [place for place, sample in enumerate(samples) if _kind(sample).startswith(kind)]
            if not judged:
                continue
            own, groups = [each[place] for place in judged], [samples[place].clip.path for place in judged]
            low, high = bootstrap_interval(own, groups=groups, seed=seed, num_draws=num_draws)
            values[name] = Score(sum(own) / len(own), low, high)
        total = len(samples) + len(missing)
        return Scores(values, self.main_metric, len(samples), total, split, tuple(missing))

    def weighed(self, predictions: Iterable[Text], split: str = "test") -> Weighed:
        samples, _, each = self._scored(predictions, split)
        values, kind = np.array(each), self.main_metric.partition("@")[2]
        places = np.array([place for place, sample in enumerate(samples) if _kind(sample).startswith(kind)])
        return Weighed([samples[place] for place in places], mean_of(values[places]))

    def by_class(self, predictions: Iterable[Text], split: str = "test") -> ByClass:
        """WUPS of each type of question."""
        samples, _, each = self._scored(predictions, split)
        return ByClass("WUPS", "questions", means_by([_kind(sample) for sample in samples], each))

    def _scored(self, predictions: Iterable[Text], split: str) -> tuple[list[Sample], list[str], list[float]]:
        """The samples that were answered, the ids of the others, and WUPS of each answer."""
        given = {one.sample_id: one for one in predictions}
        samples, missing = self.predicted(given.values(), split)
        score = _Scorer()
        right = self.targets(samples)
        return samples, missing, [score(given[s.id].text, r, _kind(s)) for s, r in zip(samples, right, strict=True)]


class _Scorer:
    """WUPS of an answer against the right ones, from 0 to 1."""

    def __init__(self) -> None:
        self._lexicon = Lexicon.find()
        self._words = Lemmatizer(self._lexicon, *(nltk_tagging() or ())).content_words

    def __call__(self, said: str, right: Sequence[str], kind: str) -> float:
        references = [self._words(one) for one in right]
        return open_answer_score(self._words(said), references, kind, self._lexicon.similarity)


class OpenAnswersMetric:
    """WUPS over all answers seen, for use while training; `kinds` are the types of the questions by their id."""

    def __init__(self, kinds: dict[str, str]) -> None:
        self.name = WUPS
        self._score, self._kinds = _Scorer(), kinds
        self._seen: dict[str, float] = {}

    def update(self, predictions: Sequence[Text], samples: Sequence[Truth]) -> None:
        """Take the answers to some questions; a question counts once."""
        for prediction, sample in zip(predictions, samples, strict=True):
            self._seen[sample.id] = self._score(prediction.text, sample.target, self._kinds[sample.id])

    def compute(self) -> float:
        """The mean over everything seen, nan where nothing was."""
        return sum(self._seen.values()) / len(self._seen) if self._seen else float("nan")


def _kind(sample: Sample) -> str:
    """The type of a question; TP counts as TN, as NExT-OE has it."""
    return sample.kind.replace("TP", "TN") if isinstance(sample, TextSample) else ""
