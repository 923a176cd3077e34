"""Scores that others reported, in per cent: VideoPrism's paper and its released weights apart, and what came before it.

Source: the tables of arXiv 2402.13217v3; those marked "(public)" are those of the README of google-deepmind/videoprism.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core_encoder.files.storage import read_json


def published(benchmark: str) -> Mapping[str, Mapping[str, float]]:
    """By metric, then by the name of the model; nothing where nobody reported any."""
    found: Mapping[str, Mapping[str, float]] = _all().get(benchmark, {})
    return found


@functools.cache
def _all() -> dict[str, Any]:
    content: dict[str, Any] = read_json(Path(__file__).with_name("published.json"))
    return content
