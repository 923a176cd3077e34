"""Answers become records and come back with the same numbers; what is no answer is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from adapters.boxes import BoxScores
from adapters.prediction_records import prediction_record, read_prediction
from adapters.predictions import ClassScores, Embedding, Segment, Segments, Text
from core_encoder.errors import InputError

DRAWN = torch.Generator().manual_seed(0)


def numbers(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=DRAWN) / 3


ANSWERS: list[Any] = [
    ClassScores("a", numbers(3), ("walk", "stürzen", "answer")),
    ClassScores("b", numbers(2), ("x", "y"), multi_label=True),
    Embedding("c", numbers(5)),
    Embedding("d", numbers(5), numbers(2, 5)),
    Segments("e", (Segment(0.1, 2.3, "x", 0.7), Segment(1, 2, "y", 1e-9)), classified_by="k"),
    Segments("f", ()),
    Text("g", "a dog", -1.25),
    Text("h", "", None, "who?", (("man", -0.5), ("woman", -3.0))),
]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda one: one.sample_id)
def test_an_answer_comes_back_equal(answer: Any) -> None:
    back = read_prediction(json.loads(json.dumps(prediction_record(answer))))
    assert type(back) is type(answer)
    for name, value in vars(answer).items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(getattr(back, name), value), name
        else:
            assert getattr(back, name) == value, name


def test_boxes_come_back_in_the_order_of_the_classes() -> None:
    labels = ("sit", "stand", "a walk")
    corners = ((0.1, 0.2, 0.3, 0.4), (0.0, 0.0, 1.0, 0.125))
    answer = BoxScores("a", (1.5, 1.5), ((1, 2), (1, 2)), corners, ("p", ""), numbers(2, 3), labels, multi_label=True)
    record = json.loads(json.dumps(prediction_record(answer)))
    back = read_prediction(record, labels, multi_label=True)
    assert torch.equal(back.scores, answer.scores) and back.label_names == labels and back.multi_label
    assert (back.times_s, back.corners, back.tracks) == (answer.times_s, answer.corners, answer.tracks)
    nobody = BoxScores("b", (), (), (), (), torch.zeros(0, 3), labels)
    assert read_prediction(prediction_record(nobody), labels).scores.shape == (0, 3)
    with pytest.raises(InputError, match="KeyError: 'lie'"):
        read_prediction(record, ("sit", "lie"))


@pytest.mark.parametrize(
    "record", [{}, {"id": "a"}, {"id": "a", "scores": {"x": "high"}}, {"id": "a", "segments": [{"start": 1}]}]
)
def test_what_is_no_answer_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no prediction of a kind that is known"):
        read_prediction(record)
