"""Scores of captions and of answers over a set, as statistics of weighted samples and in running form. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adapters.predictions import Text, Truth
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from tasks.metrics.answers import is_exact, wups
from tasks.metrics.bootstrap import Statistic, mean_of
from tasks.metrics.captions import bleu, bleu_counts, cider_d, rouge_l
from tasks.metrics.ptb_tokens import ptb_tokens
from tasks.metrics.wordnet import find_wordnet, open_wordnet

CAPTION_METRICS = ("cider", "bleu4", "bleu3", "bleu2", "bleu1", "rouge_l")
ANSWER_METRICS = ("accuracy",)
WUPS_METRICS = ("wups@0.9", "wups@0")
TEXT_METRICS = (*CAPTION_METRICS, *ANSWER_METRICS, *WUPS_METRICS)


def check_text_metric(name: str) -> None:
    """Refuse what is no metric of captions or answers.

    Raises:
        InputError: which, and the nearest one.
    """
    if name not in TEXT_METRICS:
        raise InputError(f"unknown metric {name!r}{nearest(name, TEXT_METRICS)}")


def no_wordnet(name: str) -> InputError:
    """What is said where a metric needs WordNet and it is nowhere."""
    return InputError(
        f"{name} needs WordNet, which is not on this machine: install Debian's wordnet-base, or let WNSEARCHDIR name a "
        "folder with index.noun, data.noun and noun.exc"
    )


def shown_as(name: str) -> tuple[float, str]:
    """What a score is multiplied by, and its unit: papers print CIDEr-D times 100."""
    return (100.0, "") if name == "cider" else (1.0, "%")


def text_statistic(name: str, said: Sequence[str], right: Sequence[Sequence[str]]) -> Statistic:
    """A metric of texts as a function of weights of the samples `(R, n)` -> values `(R,)`.

    Raises:
        InputError: no such metric, or it needs WordNet, which is not at hand.
    """
    if name in CAPTION_METRICS:
        tokens = [ptb_tokens(one) for one in said]
        references = [[ptb_tokens(one) for one in several] for several in right]
        if name.startswith("bleu"):
            counts, order = bleu_counts(tokens, references), int(name.removeprefix("bleu"))
            return lambda weights: bleu(weights.astype(np.float64) @ counts, order)
        return mean_of((cider_d if name == "cider" else rouge_l)(tokens, references))
    check_text_metric(name)
    if name in ANSWER_METRICS:
        return mean_of(np.array([is_exact(one, several) for one, several in zip(said, right, strict=True)], np.float64))
    folder = find_wordnet()
    if folder is None:
        raise no_wordnet(name)
    nouns, threshold = open_wordnet(folder), float(name.partition("@")[2])
    return mean_of(np.array([wups(one, several, nouns, threshold) for one, several in zip(said, right, strict=True)]))


class TextMetric:
    """A metric over all texts seen, for use while training."""

    def __init__(self, name: str) -> None:
        check_text_metric(name)
        self.name = name
        self._seen: dict[str, tuple[str, Any]] = {}

    def update(self, predictions: Sequence[Text], samples: Sequence[Truth]) -> None:
        """Take the texts for some samples; those of the other kind, captions or answers, do not count."""
        for prediction, sample in zip(predictions, samples, strict=True):
            if (self.name in CAPTION_METRICS) != bool(sample.inputs.get("question")):
                right = sample.target
                self._seen[sample.id] = (prediction.text, (right,) if isinstance(right, str) else right)

    def compute(self) -> float:
        """The value over everything seen, nan where nothing was."""
        if not self._seen:
            return float("nan")
        said, right = zip(*self._seen.values(), strict=True)
        times, _ = shown_as(self.name)
        weights = np.ones((1, len(said)), dtype=np.float32)
        return times * float(text_statistic(self.name, said, right)(weights)[0])
