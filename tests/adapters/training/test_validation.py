"""Every process answers all batches of its own, whatever it finds: others may wait for its share of the weights."""

from __future__ import annotations

import math
from typing import Any

import pytest

from adapters.context import Context
from adapters.kinds.linear import Linear
from adapters.training.candidate import Candidate
from adapters.training.training_config import TrainingConfig
from adapters.training.validation import validate
from fit.device import OneDevice
from tests.adapters.toy import DIM, LABELS, toy_features


def test_a_broken_batch_is_not_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = Linear.build({}, Context.of_classes(DIM, LABELS))
    device = OneDevice("cpu", "32-true")
    candidate = Candidate("default", adapter, TrainingConfig(), 1, device)
    asked: list[int] = []
    answer = candidate.answer_with_loss

    def counted(batch: Any) -> Any:
        asked.append(len(batch))
        return answer(batch)

    monkeypatch.setattr(candidate, "answer_with_loss", counted)
    features = toy_features(12)
    features.features[1] = math.nan
    (judgement,) = validate([candidate], features, 4, device, lambda: None)
    assert judgement.broken == "features" and asked == [4, 4, 4]
