"""Answers as records of JSON and back: what is written of a prediction is enough to judge it again. Torch when read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adapters.predictions import ClassScores, Embedding, Prediction, Segment, Segments, Text
from core_encoder.errors import InputError

if TYPE_CHECKING:
    from adapters.boxes import BoxScores


def prediction_record(prediction: Prediction) -> dict[str, Any]:
    """All that a prediction has to say, ready for JSON."""
    return prediction.describe(all_scores=True)


def read_prediction(record: Mapping[str, Any], label_names: Sequence[str] = (), multi_label: bool = False) -> Any:
    """The prediction that `prediction_record` wrote, with the same numbers.

    Args:
        label_names: the classes of boxes in the order of their scores, which their record does not tell.
        multi_label: whether scores of boxes are independent.

    Raises:
        InputError: it is none, or of a kind that a plug-in brought.
    """
    import torch

    try:
        name = record["id"]
        if "scores" in record:
            names = tuple(record["scores"])
            return ClassScores(name, torch.tensor([*record["scores"].values()]), names, "labels" in record)
        if "embedding" in record:
            texts = torch.tensor(record["texts"]) if "texts" in record else None
            return Embedding(name, torch.tensor(record["embedding"]), texts)
        if "segments" in record:
            found = [Segment(one["start"], one["end"], one["label"], one["score"]) for one in record["segments"]]
            return Segments(name, tuple(found), classified_by=record.get("classified_by", ""))
        if "boxes" in record:
            return _boxes(record, tuple(label_names), multi_label)
        what = next(one for one in ("answer", "caption") if one in record)
        ranked = tuple((one[what], one["log_likelihood"]) for one in record.get("candidates", ()))
        return Text(name, record[what], record.get("log_likelihood"), record.get("question", ""), ranked)
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise InputError(f"no prediction of a kind that is known ({type(error).__name__}: {error})") from error


def _boxes(record: Mapping[str, Any], label_names: tuple[str, ...], multi_label: bool) -> BoxScores:
    import torch

    from adapters.boxes import BoxScores

    rows = record["boxes"]
    scores = torch.zeros(len(rows), len(label_names))  # (R, K)
    for row, box in zip(scores, rows, strict=True):
        by_name = {one["label"]: one["score"] for one in box["labels"]}
        row[:] = torch.tensor([by_name[label] for label in label_names])
    times = tuple(box["time"] for box in rows)
    return BoxScores(
        sample_id=record["id"],
        times_s=times,
        spans_s=tuple((time_s, time_s) for time_s in times),  # how much was looked at decides no score
        corners=tuple(tuple(box["box"]) for box in rows),
        tracks=tuple(box.get("track", "") for box in rows),
        scores=scores,
        label_names=label_names,
        multi_label=multi_label,
    )
