"""Metrics keyed by sample, and their intervals."""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name != "SampleMetric":  # the address that the manual gave while this was one module
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tasks.metrics.classification import SampleMetric

    return SampleMetric
