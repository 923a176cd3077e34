"""Pages as a browser lays them out: nothing is cut off, at the width of a desk and of a phone, in light and dark."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters.boxes import BoxScores
from adapters.card import AdapterInfo
from adapters.predictions import ClassScores, Embedding, Prediction, Segment, Segments, Text
from adapters.scores import Score
from adapters.windows import Window, Windows
from core_encoder.clip_plan import Clip
from prismhub.answers import Predicted
from prismhub.pages.answers_page import AnsweredBy, write_answers_page
from prismhub.pages.demo_page import Contest, DemoPage, Said, ShownClip, write_demo_page
from prismhub.pages.report import write_report
from prismhub.pages.timeline import timeline_svg
from tests.browser import OpenPage
from tests.prismhub.pages.test_report import compared, report
from tests.videos import write_video

LONG = "a person assembling furniture with an electric screwdriver while talking on the telephone"
LABELS = ("run", LONG, "supercalifragilistic_" * 6, "carry/hold (an object)")
CORNERS = ((0.1, 0.2, 0.4, 0.6), (0.45, 0.5, 0.75, 0.9))
SIZES = ((1280, "light"), (390, "dark"))

SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
CUT_OFF = """() => [...document.querySelectorAll('svg text')].filter(text => {
  const box = text.getBBox(), all = text.ownerSVGElement.viewBox.baseVal;
  return box.x < 0 || box.x + box.width > all.width || box.y < 0 || box.y + box.height > all.height;
}).map(text => text.textContent)"""
LETTERS = """() => [...document.querySelectorAll('svg text')].map(text =>
  parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a)"""
PLACES = """() => [...document.querySelectorAll('.moments svg')].map(svg => {
  const all = svg.querySelector('image').getBoundingClientRect();
  return [...svg.querySelectorAll('rect')].map(rect => {
    const one = rect.getBoundingClientRect();  // without its stroke
    return [(one.left - all.left) / all.width, (one.top - all.top) / all.height,
            (one.right - all.left) / all.width, (one.bottom - all.top) / all.height];
  });
})"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of `predict --html` with every kind of answer about a wide, a tall and a tiny video."""
    folder = tmp_path_factory.mktemp("answers")
    sizes = {"wide.mp4": (144, 256), f"tall-{'x' * 90}.mp4": (192, 96), "tiny.mp4": (48, 48)}
    videos = [
        str(write_video(folder / name, np.full((32, *size, 3), 90, np.uint8), fps=16)) for name, size in sizes.items()
    ]

    def scores(name: str) -> ClassScores:
        return ClassScores(name, torch.tensor([0.2, 0.4, 0.3, 0.1]), LABELS)

    def all_of(name: str) -> dict[str, Prediction]:
        boxes = CORNERS * 2
        moments, sure = (0.5, 0.5, 1.5, 1.5), torch.tensor([[0.9, 0.8, 0.1, 0.9]]).expand(4, 4)
        spans = (Segment(0.0, 1.0, LONG, 0.9), Segment(1.0, 2.0, "run", 0.4))
        return {
            "classes": scores(name),
            "words": Text(name, f"{LONG}, and then {LONG}", -12.5),
            "when": Segments(name, spans, threshold=0.3),
            "windows": Windows(name, tuple(Window(start, start + 1.0, scores(name)) for start in (0.0, 1.0))),
            "who": BoxScores(name, moments, ((0.0, 2.0),) * 4, boxes, ("person 1", "2") * 2, sure, LABELS, True),
            "space": Embedding(name, torch.linspace(-1, 1, 64)),
            "other": Windows(name, (Window(0.0, 1.0, Text(name, LONG)), Window(1.0, 2.0, Text(name, "bright")))),
        }

    said = [all_of(name) for name in videos]
    by = {key: AnsweredBy(AdapterInfo(key), Predicted([one[key] for one in said], ())) for key in said[0]}
    command = f"prismhub predict {'a_long_path/' * 20}wide.mp4 --adapter classes"
    return write_answers_page(folder / "page.html", [Clip(name) for name in videos], by, command)


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_answers_of_every_kind_are_readable(answers: Path, open_page: OpenPage, width: int, scheme: str) -> None:
    page = open_page(answers, width, scheme)
    assert page.evaluate(SIDEWAYS) == 0, "nobody scrolls sideways"
    assert page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)")
    assert page.evaluate(CUT_OFF) == []
    assert min(page.evaluate(LETTERS)) >= 8.5, "pixels of the smallest letters in a drawing"
    for moments in page.evaluate(PLACES):
        assert np.allclose(moments, CORNERS, atol=0.003), "boxes lie where they were given"


def test_long_labels_are_whole_where_there_is_room(answers: Path, open_page: OpenPage) -> None:
    page = open_page(answers, 1280)
    widths = page.evaluate("[...document.querySelectorAll('.answer .label')].map(one => one.clientWidth)")
    assert max(widths) > 300 and len(widths) == 3 * 4


def test_a_timeline_shows_the_beginning_of_every_label(open_page: OpenPage, tmp_path: Path) -> None:
    labels = (
        LONG,
        f"{LONG} to somebody",
        "走っている人が家具を組み立てながら電話をしている様子を撮影した動画",
        "WWWWWWWWWW" * 4,
    )
    spans = [Segment(number, number + 1.0, label, 0.5) for number, label in enumerate(labels)]
    drawing = timeline_svg(f"{'a long name ' * 20}.mp4", spans, 10.0, [Segment(0.0, 1.0, LONG, 1.0)])
    (tmp_path / "drawing.html").write_text(f"<meta charset=utf-8><body>{drawing}", encoding="utf-8")
    page: Any = open_page(tmp_path / "drawing.html")
    assert page.evaluate(CUT_OFF) == []
    shown = page.evaluate("[...document.querySelectorAll('text[text-anchor=end] title')].map(one => one.textContent)")
    assert sorted(shown) == sorted(labels), "one row each, the truth in that of its label"


IN_SIGHT = """() => [...document.querySelectorAll('.compared .number, .compared caption')].every(one => {
  const box = one.getBoundingClientRect();
  return box.left >= 0 && box.right <= document.documentElement.clientWidth;
})"""
ROWS = """[...document.querySelectorAll('.compared')].map(table =>
  [...table.querySelectorAll('tr')].map(row => row.getBoundingClientRect().top))"""
PLAYED = """async () => Promise.all([...document.querySelectorAll('video')].map(async video => {
  await video.play();
  await new Promise(done => setTimeout(done, 200));
  return [video.videoWidth, video.videoHeight, video.currentTime > 0, video.getBoundingClientRect().width >= 120];
}))"""


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_every_score_of_the_demo_is_in_sight(open_page: OpenPage, tmp_path: Path, width: int, scheme: str) -> None:
    data = replace(report(("left", LONG, "still")), comparison=compared("colour histogram"))
    page = open_page(write_report(tmp_path / "index.html", data), width, scheme)
    assert page.evaluate(SIDEWAYS) == 0
    assert page.locator(".compared .number").count() > 4 and page.evaluate(IN_SIGHT)
    assert all(tops == sorted(tops) for tops in page.evaluate(ROWS)), "what needs no training stays below"


@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_the_page_of_every_kind_plays_its_videos(open_page: OpenPage, tmp_path: Path, width: int, scheme: str) -> None:
    video = write_video(tmp_path / "clip.mp4", np.full((32, 64, 96, 3), 90, np.uint8), fps=16)
    score = Score(0.812345, 0.7, 0.9)
    contests = [
        Contest("demo-label@v1", "map_classifier", "which motion", "top1", score, {"random weights": Score(0.1)}, "9"),
        Contest(
            "demo-when@v1",
            "temporal_localizer",
            "what happens when",
            "map",
            score,
            {"best constant answer": score},
            "9",
        ),
    ]
    answer = ClassScores(str(video), torch.tensor([0.2, 0.4, 0.3, 0.1]), LABELS)
    said = Said("which motion", "map_classifier", answer, LONG, f"the best constant answer: {LONG}", right=False)
    data = DemoPage("2 adapters", contests, [ShownClip("clip.mp4", video, [said])], commands=["prismhub " + "x" * 300])
    page = open_page(write_demo_page(tmp_path / "adapters.html", data), width, scheme)
    assert page.evaluate(SIDEWAYS) == 0 and page.evaluate(IN_SIGHT)
    assert "and 1 more" in page.inner_text("article")
    assert page.get_attribute("video", "poster") == page.get_attribute(".strip img", "src"), "never black"
    assert page.evaluate(PLAYED) == [[96, 64, True, True]]
