"""Times as people write them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_encoder.fields import seconds_of


@given(hours=st.integers(0, 200), minutes=st.integers(0, 59), seconds=st.integers(0, 59), millis=st.integers(0, 999))
def test_a_clock_is_its_seconds(hours: int, minutes: int, seconds: int, millis: int) -> None:
    expected = 3600 * hours + 60 * minutes + seconds + millis / 1000
    assert seconds_of(f"{hours}:{minutes:02}:{seconds:02}.{millis:03}") == pytest.approx(expected)
    assert seconds_of(f" {60 * hours + minutes}:{seconds:02}.{millis:03} ") == pytest.approx(expected)
    assert seconds_of(expected) == seconds_of(str(expected)) == seconds_of(np.float64(expected)) == expected


WORDS = ("", "x", "1:", ":1", "1:60", "1:60:00", "1:2:3:4", "-1", "-1:02", "1:-2", "1:2.5:3", "nan", "inf", "1e400")


@pytest.mark.parametrize("value", [*WORDS, "\u0661:02", None, True, -0.1, float("nan"), [1], 10**400])
def test_what_is_no_time(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        seconds_of(value)
