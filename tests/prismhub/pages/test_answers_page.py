"""The page of `predict --html`: a picture for every kind of answer, nothing from elsewhere, text escaped, bounded."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from adapters.boxes import BoxScores
from adapters.card import AdapterInfo
from adapters.predictions import Box, Boxes, ClassScores, Embedding, Segment, Segments, Text
from adapters.windows import Window, Windows
from core_encoder.array_videos import ArrayVideo
from core_encoder.clip_plan import Clip
from core_encoder.features.failures import Failure
from prismhub.answers import Predicted
from prismhub.cli import run
from prismhub.pages import answers_page
from prismhub.pages.answers_page import AnsweredBy, write_answers_page
from tests.prismhub.pages.test_report import Page
from tests.videos import moving_square, write_video

LABELS = ("run", "sit", "jump", "fly", "swim", "sleep", "eat")
EVIL = "<script>alert('1')</script> & \"x\""


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two seconds whose left half turns from black to white."""
    frames = np.zeros((32, 64, 96, 3), np.uint8)
    frames[:, :, :48] = np.linspace(0, 255, 32, dtype=np.uint8)[:, None, None, None]
    return str(write_video(tmp_path_factory.mktemp("video") / "turns.mp4", frames, fps=16))


def by(*answers: Any, kind: str = "kind", failures: Sequence[Failure] = (), **wanted: Any) -> AnsweredBy:
    return AnsweredBy(AdapterInfo(kind), Predicted(list(answers), tuple(failures)), **wanted)


def scores(name: str) -> ClassScores:
    return ClassScores(name, torch.tensor([0.05, 0.5, 0.2, 0.1, 0.08, 0.05, 0.02]), LABELS)


def page_of(folder: Path, videos: Any, **answers: AnsweredBy) -> Page:
    path = write_answers_page(folder / "page.html", videos, answers, "prismhub predict a.mp4")
    return Page(path.read_text(encoding="utf-8"))


def pictures(page: Page) -> list[np.ndarray[Any, Any]]:
    """Every picture on the page, as pixels."""
    addresses = [one["src"] for one in page.all("img")] + [one["href"] for one in page.all("image")]
    heads, data = zip(*(str(one).split(",") for one in addresses), strict=True)
    assert set(heads) == {"data:image/jpeg;base64"}
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in data]


def test_frames_and_bars(video: str, tmp_path: Path) -> None:
    page = page_of(tmp_path, [Clip(video)], looks=by(scores(video), kind="linear"), more=by(scores(video), top=7))
    strip = pictures(page)
    brightness = [float(one[:, :30].mean()) for one in strip]
    assert len(strip) == 6 and brightness == sorted(brightness) and brightness[-1] > brightness[0] + 150
    assert strip[0].shape == (64, 96, 3), "small pictures stay as they are"
    bars = [one["style"] for one in page.all("i")]
    assert len(bars) == 5 + 7 and bars[0] == "left: 0; width: 50.0%" and bars[1] == "left: 0; width: 20.0%"
    assert "and 2 more" in page.text and "turns.mp4" in page.text and "prismhub predict a.mp4" in page.text


def test_captions_segments_windows_and_vectors(video: str, tmp_path: Path) -> None:
    spans = (Segment(0.5, 1.0, "jump", 0.9), Segment(1.0, 1.5, "sit", 0.1))
    windows = Windows(video, tuple(Window(start, start + 1.0, scores(video)) for start in (0.0, 0.5, 1.0)))
    page = page_of(
        tmp_path,
        [Clip(video)],
        words=by(Text(video, "a square turns white", -0.25)),
        when=by(Segments(video, spans, threshold=0.3)),
        windows=by(windows),
        space=by(Embedding(video, torch.tensor([0.6, -0.8]))),
        other=by(Windows(video, (Window(0.0, 1.0, Text(video, "dark")), Window(1.0, 2.0, Text(video, "bright"))))),
    )
    assert "a square turns white" in page.text and "log-likelihood -0.25" in page.text
    assert "jump 0.50 to 1.00 s, score 0.900" in page.text
    assert "sit 1.00 to 1.50" not in page.text, "below the threshold"
    for span in ("0.00 to 0.75", "0.75 to 1.25", "1.25 to 2.00"):
        assert f"sit {span} s, score 0.500" in page.text, "of overlapping windows each has its half"
    heights = [float(str(one["height"])) for one in page.all("rect") if one.get("width") == "0.8"]
    assert heights == [0.75, 1.0]
    assert len(page.all("table")) == 1 and "bright" in page.text and "start end caption" in page.text


def test_boxes_are_drawn_on_the_frames_of_their_moments(video: str, tmp_path: Path) -> None:
    corners = ((0.0, 0.25, 0.5, 1.0), (0.5, 0.0, 1.0, 0.5))
    rows = torch.tensor([[0.9, 0.6], [0.1, 0.2], [0.2, 0.8], [0.7, 0.1]])
    times = (0.2, 0.2, 1.8, 1.8)
    answer = BoxScores(video, times, ((0.0, 1.0),) * 4, corners * 2, ("1", "2") * 2, rows, ("run", "red"), True)
    plain = Boxes(video, (Box(1.8, corners[0], "walk", 0.7),))
    page = page_of(tmp_path, [Clip(video)], who=by(answer), plain=by(plain))
    drawn = [one for one in page.all("rect") if one.get("stroke-width") == "3"]
    places = [tuple(one[name] for name in ("x", "y", "width", "height")) for one in drawn]
    assert places[0] == ("0.0", "70.0", "210.0", "210.0") and len(drawn) == 2 + 2 + 1
    labels = [
        (one["x"], one["text-anchor"]) for one in page.all("text") if "text-anchor" in one and "transform" not in one
    ]
    assert labels[:2] == [("2.0", "start"), ("418.0", "end")], "labels stay inside the frame"
    colours = [one["stroke"] for one in drawn]
    assert colours[0] == colours[2] != colours[1] == colours[3], "one colour a track"
    assert "1: run 0.90, red 0.60" in page.text and "2: -" in page.text and "walk 0.70" in page.text
    most = page_of(tmp_path, [Clip(video)], who=by(answer, top=1), every=by(answer, all_scores=True)).text
    assert "1: run 0.90, red" not in most.partition("every")[0], "as many classes as were asked for"
    assert "2: red 0.20" in most and "2: red 0.20, run 0.10" in most
    early, late, again = pictures(page)[6:]
    assert early[:, :40].mean() < 60 < 200 < late[:, :40].mean() and np.array_equal(late, again)


def test_the_page_needs_nothing_else_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    frames = moving_square(8, 32, 32)
    name = "0"
    found = ClassScores(name, torch.tensor([0.7, 0.3]), (EVIL, "b"))
    corners = (0.0, 0.0, 1.0, 1.0)
    page = page_of(
        tmp_path,
        [ArrayVideo(name, frames)],
        **{EVIL: by(found, Text(name, EVIL), kind=EVIL)},
        text=by(Text(name, EVIL)),
        when=by(Segments(name, (Segment(0.0, 4.0, EVIL, 0.5),))),
        who=by(Boxes(name, (Box(1.0, corners, EVIL, 0.5, EVIL),))),
        windows=by(Windows(name, (Window(0.0, 1.0, Text(name, EVIL)),))),
    )
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    raw = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in raw and "default-src 'none'" in raw
    addresses = re.findall(r'(?:src|href)="([^"]{0,40})', raw)
    assert addresses and all(one.startswith("data:image/jpeg") for one in addresses)
    assert "url(" not in raw and "@import" not in raw


def test_what_could_not_be_read_is_said(video: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    failure = Failure.of(Clip(str(broken)), "not a video file")
    page = page_of(tmp_path, [Clip(video), Clip(str(broken))], looks=by(scores(video), failures=[failure]))
    assert len(page.all("article")) == 2 and "not read" in page.text and "not a video file" in page.text


def test_many_videos_answers_and_large_frames_stay_small(
    video: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers_page, "MOST_VIDEOS", 3)
    clips = [Clip(video, 0.01 * place, 1.5) for place in range(9)]
    from prismhub.clips import sample_names

    names = sample_names(clips)
    many = tuple(f"class {number}" for number in range(1000))
    flat = torch.full((1000,), 0.001)
    segments = tuple(Segment(0.0, 1.0, label, 0.5) for label in many)
    boxes = tuple(Box(0.01 * place, (0.0, 0.0, 0.5, 0.5), "x", 0.5, str(place)) for place in range(200))
    page = page_of(
        tmp_path,
        clips,
        looks=by(*(ClassScores(name, flat, many) for name in names), all_scores=True),
        when=by(*(Segments(name, segments) for name in names)),
        who=by(*(Boxes(name, boxes) for name in names)),
    )
    assert len(page.all("article")) == 3 and "6 more were answered" in page.text
    assert len(page.all("i")) == 3 * answers_page.MOST_ROWS and "and 970 more" in page.text
    assert len(page.all("image")) == 3 * answers_page.MOMENTS and "and 192 more" in page.text
    large = ArrayVideo("0", np.zeros((12, 1080, 1920, 3), np.uint8))
    page = page_of(tmp_path / "large", [large], looks=by(ClassScores("0", flat, many)))
    assert {one.shape for one in pictures(page)} == {(135, 240, 3)}


@pytest.mark.usefixtures("trained")
def test_the_command_writes_it(splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "pages" / "answers.html"
    ask = ["predict", str(splits / "test"), "--adapter", "x", "--html"]
    assert run([*ask, str(path)]) == 0
    shown = capsys.readouterr()
    assert f"the page: {path.as_uri()}" in shown.err and "label" in shown.out
    page = Page(path.read_text(encoding="utf-8"))
    assert (
        len(page.all("article")) == 6 and "6 videos, 1 adapter" in page.text and "map_classifier on nano" in page.text
    )
    assert run([*ask, str(tmp_path)]) == 2
    assert "is a folder; --html wants a file" in capsys.readouterr().err
