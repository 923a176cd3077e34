"""The report page: it holds everything it shows, escapes everything it is given, and draws what the numbers say."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prismhub.pages.report import (
    Comparison,
    Confusion,
    Contender,
    Curve,
    CurvePanel,
    Metric,
    ReportData,
    Share,
    ShownVideo,
    Timing,
    nice_ticks,
    readable_seconds,
    write_report,
)
from prismhub.pages.report_picture import report_picture

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """What a page holds: its elements with attributes, its text, and whether every element is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(" ".join(data.split()))

    def all(self, tag: str, css_class: str | None = None) -> list[dict[str, str | None]]:
        return [
            attrs
            for name, attrs in self.elements
            if name == tag and (css_class is None or css_class in (attrs.get("class") or "").split())
        ]

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word)


def report(labels: tuple[str, ...] = ("left", "right", "still")) -> ReportData:
    """A small report; the class names can be chosen."""
    rng = np.random.default_rng(0)
    counts = np.zeros((len(labels), len(labels)), int)
    np.fill_diagonal(counts, 7)
    counts[0, -1] += 3
    frames = rng.integers(0, 256, (16, 24, 32, 3), dtype=np.uint8)
    examples = [
        ShownVideo("a/0.mp4", frames, labels[0], [(labels[0], 0.7), (labels[-1], 0.2)]),
        ShownVideo("a/1.mp4", frames[:3], labels[0], [(labels[-1], 0.6), (labels[0], 0.3)]),
    ]
    curves = [Curve("lr 0.1", [3.0, 2.0, 1.0], kept=True), Curve("lr 0.9", [3.0, math.nan, 4.0])]
    return ReportData(
        title="A test",
        headline="7 of 8 named correctly",
        summary="What was done.",
        metrics=[
            Metric("top-1 accuracy", 0.875, 0.601, 0.942, 80, 82),
            Metric("top-5 accuracy", 1.0, 0.95, 1.0, 80, 82),
        ],
        confusion=Confusion(labels, counts.tolist()),
        examples=examples,
        panels=[CurvePanel("Training loss", curves), CurvePanel("Validation top-1", [Curve("lr 0.1", [0.5])], True)],
        timings=[Timing("encoding", 4.0, "80 clips/s"), Timing("training", 74.0)],
        notices=["The videos are drawn."],
        provenance=[("encoder", "nano"), ("seed", "0")],
        commands=["make demo"],
    )


def compared(name: str = "ours") -> Comparison:
    """Two questions: in the first ours is clearly the best, in the second it is not."""
    return Comparison(
        questions=["which way", "which shape"],
        chances=[0.25, 0.1],
        trained=[
            Contender(name, "pretrained", [Share(0.8, 0.7, 0.9), Share(0.3, 0.2, 0.4)]),
            Contender("untaught", "seed 5", [Share(0.5, 0.4, 0.69), Share(0.35, 0.25, 0.45)]),
            Contender("colours", "no encoder", [Share(0.2, 0.1, 0.3), Share(0.15, 0.1, 0.2)]),
        ],
        untrained=[Contender(name, "by words", [Share(0.6, 0.5, 0.7), Share(0.05, 0.0, 0.1)])],
        about="Learned from the same <12> videos.",
    )


def page_of(data: ReportData, folder: Path) -> Page:
    return Page(write_report(folder / "index.html", data).read_text(encoding="utf-8"))


def test_everything_given_is_on_the_page(tmp_path: Path) -> None:
    page = page_of(report(), tmp_path)
    for words in (
        "A test",
        "7 of 8 named correctly",
        "87.5 %",
        "60.1 % to 94.2 %",
        "80 of 82",
        "left called still: 3 of 10",
        "✓ right",
        "✗ wrong",
        "true class: left",
        "lr 0.1 (kept)",
        "encoding 4.0 s 80 clips/s",
        "in all 1 min 18 s",
        "The videos are drawn.",
        "encoder nano",
        "make demo",
    ):
        assert words in page.text, words


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    text = write_report(tmp_path / "index.html", report()).read_text(encoding="utf-8")
    page = Page(text)
    assert not page.all("script") and not page.all("link") and not page.all("iframe")
    assert "http://" not in text and "https://" not in text and "url(" not in text and "@import" not in text
    for tag, attrs in page.elements:
        for name in ("src", "href", "srcset", "data", "action"):
            assert (attrs.get(name) or "data:").startswith("data:"), f"<{tag} {name}> leaves the page"
        assert not any(name.startswith("on") for name in attrs)


def test_the_pictures_are_the_frames(tmp_path: Path) -> None:
    data = report()
    images = page_of(data, tmp_path).all("img")
    assert len(images) == 8 + 3  # at most eight frames of the first video, all three of the second
    for attrs, index in ((images[0], 0), (images[7], 15)):
        raw = base64.b64decode((attrs["src"] or "").removeprefix("data:image/jpeg;base64,"))
        decoded = np.asarray(Image.open(io.BytesIO(raw)), dtype=int)
        assert np.abs(decoded - data.examples[0].frames[index]).mean() < 12
        assert np.abs(decoded - data.examples[0].frames[7]).mean() > 60
        assert (attrs["width"], attrs["height"]) == ("32", "24")


def test_contenders_stand_side_by_side(tmp_path: Path) -> None:
    page = page_of(replace(report(), comparison=compared()), tmp_path)
    for words in (
        "which way? ours is clearly above untaught, colours and guessing",
        "which shape? ours is clearly above guessing, but not clearly above untaught or colours",
        "Learned from the same <12> videos.",
        "ours pretrained 80.0 % 70.0 % to 90.0 %",
        "untaught seed 5 50.0 % 40.0 % to 69.0 %",
        "guessing 25.0 % without any training ours by words 60.0 %",
    ):
        assert words in page.text, words
    assert page.text.index("Is the encoder worth it?") < page.text.index("Scores")
    assert len(page.all("table", "compared")) == 2
    chances = {place["style"] for place in page.all("i", "chance")}
    assert chances == {"left: 25.0%", "left: 10.0%"}
    assert {"left: 70.0%; right: 10.0%", "left: 0.0%; right: 90.0%"} <= {
        place["style"] for place in page.all("i", "reach")
    }
    assert not page_of(report(), tmp_path).all("table", "compared")


def test_a_comparison_as_a_table_for_the_terminal() -> None:
    header, rows = compared().table()
    assert header == ["", "which way", "which shape"]
    assert rows == [
        ["ours", "80.0 [70.0, 90.0]", "30.0 [20.0, 40.0]"],
        ["untaught", "50.0 [40.0, 69.0]", "35.0 [25.0, 45.0]"],
        ["colours", "20.0 [10.0, 30.0]", "15.0 [10.0, 20.0]"],
        ["guessing", "25.0", "10.0"],
        ["ours, by words", "60.0 [50.0, 70.0]", "5.0 [0.0, 10.0]"],
    ]


def test_intervals_that_touch_are_not_clearly_apart() -> None:
    assert Share(0.5, 0.4, 0.6).clearly_above(Share(0.3, 0.2, 0.39))
    assert not Share(0.5, 0.4, 0.6).clearly_above(Share(0.3, 0.2, 0.4))
    lost = replace(compared(), trained=[replace(compared().trained[2], name="ours"), *compared().trained[1:]])
    assert lost.verdict(0) == "ours is not clearly above untaught, colours or guessing"
    with pytest.raises(ValueError, match="for 2 questions"):
        replace(compared(), chances=[0.5])
    with pytest.raises(ValueError, match="needs a contender"):
        replace(compared(), trained=[])


NASTY = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)


@given(
    word=st.one_of(
        NASTY, st.sampled_from(['<script>alert("x")</script>', "a & b", "'\"><img src=x onerror=y>", "{{ 7 }}"])
    )
)
@settings(deadline=None, max_examples=25)
def test_names_are_escaped(word: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    plain = report()
    data = replace(
        report((word, "x", "y")),
        title=word,
        headline=word,
        summary=word,
        comparison=replace(compared(word), questions=[word, "y"], about=word),
        notices=[word],
        commands=[word],
        provenance=[(word, word)],
        timings=[Timing(word, 1.0, word), Timing("b", 2.0)],
        metrics=[replace(plain.metrics[0], name=word), plain.metrics[1]],
        panels=[
            replace(plain.panels[0], title=word, curves=[Curve(word, [1.0], True), Curve("z", [2.0])]),
            plain.panels[1],
        ],
        examples=[replace(example, name=word) for example in report((word, "x", "y")).examples],
    )
    folder = tmp_path_factory.mktemp("report")
    page = page_of(data, folder)
    usual = page_of(replace(plain, comparison=compared()), folder)
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in usual.elements}
    assert not page.all("script")
    assert len(page.all("img")) == 11
    assert " ".join(word.split()) in page.text or not word.strip()


def test_the_matrix_shades_by_row_share(tmp_path: Path) -> None:
    page = page_of(report(), tmp_path)
    assert [float(rect["fill-opacity"] or 0) for rect in page.all("rect", "right")] == pytest.approx([0.736, 1.0, 1.0])
    assert [float(rect["fill-opacity"] or 0) for rect in page.all("rect", "wrong")] == pytest.approx([0.384])
    assert len(page.all("rect")) == 9


@pytest.mark.parametrize("classes", [2, 8, 40])
def test_labels_and_cells_stay_inside_the_drawing(classes: int, tmp_path: Path) -> None:
    labels = tuple(f"class {index} with quite a long name indeed" for index in range(classes))
    page = page_of(report(labels), tmp_path)
    (drawing,) = page.all("svg", "matrix")
    width, height = float(drawing["width"] or 0), float(drawing["height"] or 0)
    for rect in page.all("rect"):
        x, y, side = (float(rect[name] or 0) for name in ("x", "y", "width"))
        assert side >= 14 and x + side <= width and y + side <= height
        assert x >= 30 * 5.5  # the longest label shown has 30 characters
    assert len(page.all("rect")) == classes**2


def test_curves_break_where_values_are_missing(tmp_path: Path) -> None:
    page = page_of(report(), tmp_path)
    (falling,) = [points for line in page.all("polyline") if len(points := (line["points"] or "").split()) == 3]
    xs, ys = zip(*(map(float, point.split(",")) for point in falling), strict=True)
    assert list(xs) == sorted(xs) and list(ys) == sorted(ys)  # the loss falls, and y points down
    dots = [(float(dot["cx"] or 0), float(dot["cy"] or 0)) for dot in page.all("circle", "c1")]
    assert [x for x, _ in dots] == [xs[0], xs[2]]  # the middle epoch is missing
    assert dots[0][1] == ys[0] > dots[1][1]  # 3.0 as in the other curve, then 4.0, higher up


def test_an_almost_empty_report_is_a_page(tmp_path: Path) -> None:
    page = page_of(ReportData("t", "h", "s", metrics=[]), tmp_path)
    assert not page.all("section") and "h" in page.text
    panels = [CurvePanel("Nothing", [Curve("a", [])]), CurvePanel("All lost", [Curve("a", [math.nan, math.inf])])]
    page = page_of(
        ReportData("t", "h", "s", [], Confusion((), ()), panels=panels, timings=[Timing("a", 0.0)]), tmp_path
    )
    assert "No video was called by a wrong name." in page.text or not page.all("rect")


def test_examples_and_matrices_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="as many rows and columns"):
        Confusion(("a", "b"), [[1, 2]])
    with pytest.raises(ValueError, match="as many rows and columns"):
        Confusion(("a", "b"), [[1, 2], [1]])
    with pytest.raises(ValueError, match="at least one score"):
        ShownVideo("a", np.zeros((1, 2, 2, 3), np.uint8), "x", [])
    with pytest.raises(ValueError, match="uint8 frames"):
        ShownVideo("a", np.zeros((1, 2, 2, 3)), "x", [("x", 1.0)])  # type: ignore[arg-type]


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-6, 1e6))
@settings(max_examples=200)
def test_ticks_are_round_and_cover(low: float, span: float) -> None:
    high = low + span
    ticks = nice_ticks(low, high)
    step = ticks[1] - ticks[0]
    assert 2 <= len(ticks) <= 8
    assert ticks[0] <= low + 1e-6 * step + 1e-9 and ticks[-1] >= high - 1e-6 * step - 1e-9


def test_ticks_of_epochs_are_whole() -> None:
    assert nice_ticks(1, 4, whole=True) == [1, 2, 3, 4]
    assert all(tick == int(tick) for tick in nice_ticks(1, 30, whole=True))
    assert len(nice_ticks(2.0, 2.0)) >= 2


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0, "0 ms"), (0.042, "42 ms"), (0.0996, "0.1 s"), (4.21, "4.2 s"), (59.97, "1 min 0 s"), (74.4, "1 min 14 s")],
)
def test_seconds_are_readable(seconds: float, words: str) -> None:
    assert readable_seconds(seconds).replace("\u00a0", " ") == words


def test_the_picture_is_drawn_from_the_same_data(tmp_path: Path) -> None:
    wrong_names = report(("<b>$x^2$", "right", "still"))  # no formula, no markup
    path = report_picture(tmp_path / "demo.png", wrong_names)
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.width > 1000 and picture.height > 500
        pixels = np.asarray(picture.convert("RGB"), dtype=int)
    assert (np.abs(pixels - (11, 110, 101)).sum(-1) < 12).sum() > 5_000  # the full diagonal cells
    with_bars = report_picture(tmp_path / "bars.png", replace(wrong_names, comparison=compared("$x^2$")))
    with Image.open(with_bars) as picture:
        assert picture.height > pixels.shape[0]
    assert report_picture(tmp_path / "bare.png", replace(report(), examples=(), panels=())).stat().st_size > 5_000
    with pytest.raises(ValueError, match="needs a confusion matrix"):
        report_picture(tmp_path / "none.png", replace(report(), confusion=None))
    assert {file.name for file in tmp_path.iterdir()} == {"demo.png", "bars.png", "bare.png"}
