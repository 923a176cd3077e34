"""Segments written for other tools, and read back."""

from __future__ import annotations

import json
from pathlib import Path

from adapters.predictions import Segment, Segments
from tasks.readers.segments import read_segments
from tasks.writers.segments import activitynet_text, apart, boris_text, csv_text, video_names, vtt_text

FIRST = Segments(
    "data/a.mp4",
    (
        Segment(4.0, 6.0, "run", 0.9),
        Segment(1.0, 2.5, "sit & <rest>", 0.8),
        Segment(5.0, 7.0, "run", 0.6),
        Segment(8.0, 9.0, "rear", 0.5),
        Segment(0.0, 1.0, "run", 0.1),
    ),
    threshold=0.3,
)
SECOND = Segments("data/b.mp4", (), threshold=0.3)


def test_csv_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.mp4").touch()
    (tmp_path / "found.csv").write_text(csv_text([FIRST, SECOND]))
    (one,) = read_segments(tmp_path / "found.csv")
    assert [(s.start_s, s.label) for s in one.timeline] == [(1, "sit & <rest>"), (4, "run"), (5, "run"), (8, "rear")]


def test_boris_is_read_again_with_states_that_do_not_overlap(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    text = boris_text([FIRST, SECOND], {"data/a.mp4": (12.0, 25.0), "data/b.mp4": (5.0, 25.0)}, moments=("rear",))
    (tmp_path / "events.tsv").write_text(text)
    (one,) = read_segments(tmp_path / "events.tsv")
    assert [(s.start_s, s.end_s, s.label) for s in one.timeline] == [
        (1.0, 2.5, "sit & <rest>"),
        (4.0, 6.0, "run"),
        (8.0, 9.0, "rear"),
    ]
    assert one.moments == ("rear",) and "player #1:a.mp4" in text and "score 0.900" in text


def test_states_that_touch_stay_apart() -> None:
    touching = Segments("a.mp4", (Segment(1.0, 2.0, "run", 0.9), Segment(2.0, 3.0, "run", 0.8)))
    assert apart(touching.segments) == list(touching.segments)
    rows = boris_text([touching], {"a.mp4": (5.0, 25.0)}).splitlines()[1:]
    assert [row.split("\t")[12] for row in rows] == ["START", "STOP", "START", "STOP"]


def test_activitynet_holds_everything_unless_told_otherwise() -> None:
    whole = json.loads(activitynet_text([FIRST, SECOND]))
    assert set(whole) == {"version", "results", "external_data"} and whole["results"]["b"] == []
    assert whole["results"]["a"][0] == {"label": "run", "score": 0.9, "segment": [4.0, 6.0]}
    assert len(whole["results"]["a"]) == 5
    assert len(json.loads(activitynet_text([FIRST], all_scores=False))["results"]["a"]) == 4
    assert len(json.loads(activitynet_text([FIRST], top=2, all_scores=False))["results"]["a"]) == 2
    named = Segments("a.mp4", (), classified_by="other@v2")
    assert json.loads(activitynet_text([named]))["external_data"] == {"used": True, "details": "classified by other@v2"}


def test_subtitles() -> None:
    cues = vtt_text(FIRST).split("\n\n")
    assert cues[0] == "WEBVTT" and len(cues) == 5
    assert cues[1] == "00:00:01.000 --> 00:00:02.500\nsit &amp; &lt;rest&gt;"


def test_two_videos_of_one_name_keep_their_paths() -> None:
    assert video_names([Segments("x/a.mp4", ()), Segments("y/a.mp4", ()), FIRST]) == [
        "x/a.mp4",
        "y/a.mp4",
        "data/a.mp4",
    ]
    assert video_names([FIRST, SECOND]) == ["a", "b"]
