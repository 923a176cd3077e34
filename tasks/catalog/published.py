"""Scores that others reported, to stand beside one's own.

Source: VideoPrism (Zhao et al. 2024, arXiv 2402.13217v3), whose tables also give CLIP and the best models before it at
base and at larger scale; `(public)` are those of the released weights, by the README of google-deepmind/videoprism.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from core_encoder.files.storage import read_json


def published_scores(benchmark: str) -> Mapping[str, Mapping[str, float]]:
    """The scores of a benchmark of the catalog in per cent: by metric, then by the name of the model."""
    return _all().get(benchmark, {})


@functools.cache
def _all() -> Mapping[str, Mapping[str, Mapping[str, float]]]:
    scores: Mapping[str, Mapping[str, Mapping[str, float]]] = read_json(Path(__file__).with_name("published.json"))
    return scores
