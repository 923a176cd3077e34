from __future__ import annotations

import pytest
import torch

from adapters.predictions import ClassScores


def test_best_first_and_ties_in_class_order() -> None:
    answer = ClassScores("v.mp4", torch.tensor([0.2, 0.4, 0.4]), ("ant", "bee", "cat"))
    assert (answer.label, answer.score) == ("bee", pytest.approx(0.4))
    assert [label for label, _ in answer.top(2)] == ["bee", "cat"]
    assert [label for label, _ in answer.above(0.3)] == ["bee", "cat"]
    assert answer.describe() == {"id": "v.mp4", "label": "bee", "score": pytest.approx(0.4)}
    assert list(answer.describe(all_scores=True)["scores"]) == ["ant", "bee", "cat"]
    assert repr(answer) == "ClassScores('v.mp4': bee 0.400, cat 0.400, ant 0.200)"


def test_scores_and_names_must_fit() -> None:
    with pytest.raises(ValueError, match="3 label names but scores of shape"):
        ClassScores("v.mp4", torch.zeros(2), ("ant", "bee", "cat"))
