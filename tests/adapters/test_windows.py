"""Answers of windows as lines, JSON and subtitles."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapters.predictions import ClassScores, Prediction
from adapters.windows import Window, Windows

NAMES = ("run & jump", "<sit>", "a --> b\nc")


def answered(labels: list[int], window_s: float = 2.0, step_s: float = 1.0) -> Windows:
    windows = [
        Window(place * step_s, place * step_s + window_s, ClassScores("v", torch.eye(3)[label], NAMES))
        for place, label in enumerate(labels)
    ]
    return Windows("v", tuple(windows))


def test_lines_and_json_know_their_times() -> None:
    windows = answered([0, 1])
    assert isinstance(windows, Prediction)
    assert windows.columns == ("start", "end", "label", "score")
    assert windows.rows() == [("0.00", "2.00", NAMES[0], "1.000"), ("1.00", "3.00", NAMES[1], "1.000")]
    assert windows.describe() == {
        "id": "v",
        "windows": [
            {"start": 0.0, "end": 2.0, "label": NAMES[0], "score": 1.0},
            {"start": 1.0, "end": 3.0, "label": NAMES[1], "score": 1.0},
        ],
    }


def test_subtitles_by_hand() -> None:
    text = answered([0, 0, 1, 2], window_s=2, step_s=1800.5).webvtt()
    assert text == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:45:01.750\nrun &amp; jump\n\n"
        "00:45:01.750 --> 01:15:02.250\n&lt;sit&gt;\n\n"
        "01:15:02.250 --> 01:30:03.500\na --&gt; b c\n"
    )


@given(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.sampled_from([0.5, 1.0, 2.0]))
def test_cues_cover_the_video_once_and_never_repeat_themselves(labels: list[int], step_s: float) -> None:
    cues = [cue.split("\n", 1) for cue in answered(labels, step_s=step_s).webvtt().strip().split("\n\n")[1:]]
    times = [cue[0].split(" --> ") for cue in cues]
    assert times[0][0] == "00:00:00.000"
    assert all(before[1] == after[0] for before, after in pairwise(times))
    assert all(before[1] != after[1] for before, after in pairwise(cues))
    end_s = (len(labels) - 1) * step_s + 2
    assert times[-1][1] == f"00:00:{end_s:06.3f}"


def test_an_adapter_of_whole_clips_is_not_asked_in_windows() -> None:
    from adapters.windows import answer_windows

    class Whole:
        reads_whole_clips, kind = True, "when"

    with pytest.raises(Exception, match="'when' looks at a video as a whole"):
        next(answer_windows(Whole(), None, None, None))  # type: ignore[arg-type]
