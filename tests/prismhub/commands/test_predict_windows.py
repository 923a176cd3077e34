"""Long videos: an adapter of short clips answers window by window, as table, JSON and WebVTT."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import prismhub
from adapters.windows import Windows
from core_encoder.clip_plan import Clip
from prismhub.cli import run
from tests.prismhub.small_data import read_json
from tests.videos import moving_square, write_video

WINDOW_S = 0.75  # of the training: twelve frames at 16 a second


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds: bright, dark, bright, two seconds each."""
    frames = moving_square(96, 64, 64, seed=7).astype(np.float32)
    frames[32:64] *= 0.3
    return write_video(tmp_path_factory.mktemp("long") / "a <long> one.mp4", frames.astype(np.uint8), fps=16)


def test_a_long_video_is_answered_in_windows_and_that_is_said(
    trained: Path, long: Path, splits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = splits / "test" / "b" / "0.mp4"
    assert run(["predict", str(long), str(short), "--adapter", "x"]) == 0
    shown = capsys.readouterr()
    assert "note: 1 of 2 videos are much longer than the clips of the training (up to 0.75 s)" in shown.err
    assert "answering for every 0.75 s; --window and --step choose" in shown.err
    header, *rows = [line.split() for line in shown.out.splitlines() if line.strip("─ ")]
    assert header == ["video", "start", "end", "label", "score"]
    assert len(rows) == 15 + 1 and rows[0][-4:-2] == ["0.00", "0.75"] and len(rows[-1]) == 3

    first, second = read_json(capsys, "predict", str(long), str(short), "--adapter", "x", "--quiet")
    assert second.keys() == {"video", "label", "score"}
    assert [window["start"] for window in first["windows"]] == pytest.approx([0.375 * i for i in range(15)])
    said = [window["label"] for window in first["windows"]]
    assert (said[0], said[7], said[-1]) == ("d", "b", "d")


def test_the_answer_of_a_window_is_that_of_the_clip_cut_out(trained: Path, long: Path) -> None:
    whole = prismhub.predict(videos=[str(long)], adapter="x", window=1.0, step=0.5).predictions[0]
    assert isinstance(whole, Windows)
    spans = [(window.start_s, window.end_s) for window in whole.windows]
    assert spans == [(0.5 * i, 0.5 * i + 1) for i in range(11)]
    adapter = prismhub.load_adapter("x")
    cut = adapter.predict([Clip(str(long), start, end) for start, end in spans])
    for window, answer in zip(whole.windows, cut, strict=True):
        assert window.answer.scores.tolist() == pytest.approx(answer.scores.tolist(), abs=2e-3)


def test_webvtt_joins_neighbours_and_takes_no_markup(
    trained: Path, long: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(long), "--adapter", "x", "--window", "1", "--vtt", str(tmp_path / "out")]) == 0
    assert f"the subtitles: {(tmp_path / 'out').as_uri()}" in capsys.readouterr().err
    text = (tmp_path / "out" / "a <long> one.vtt").read_text(encoding="utf-8")
    head, *cues = text.strip().split("\n\n")
    assert head == "WEBVTT" and len(cues) == 3
    times, said = zip(*(cue.split("\n") for cue in cues), strict=True)
    assert said == ("d", "b", "d")
    starts, ends = zip(*(one.split(" --> ") for one in times), strict=True)
    assert starts[0] == "00:00:00.000" and ends[-1] == "00:00:06.000" and starts[1:] == ends[:-1]


def test_windows_that_cannot_be(trained: Path, long: Path, says, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    ask = ("predict", str(long), "--adapter", "x")
    assert "step=2 is above window=1" in says(2, *ask, "--window", "1", "--step", "2")
    assert "take 0.25 or 0.375" in says(2, *ask, "--window", "1", "--step", "0.3")
    assert "window must be a finite number above 0" in says(2, *ask, "--window", "0")
    (tmp_path / "file").write_text("x")
    assert "is a file; --vtt wants a folder" in says(2, *ask, "--vtt", str(tmp_path / "file"))


def test_a_broken_long_video_is_listed_beside_the_others(
    trained: Path, long: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(long.read_bytes()[:3000])
    assert run(["predict", str(broken), str(long), "--adapter", "x", "--window", "1", "--json", "--quiet"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert [list(one) for one in found] == [["video", "windows"], ["video", "error"]]
