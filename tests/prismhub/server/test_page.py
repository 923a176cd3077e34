"""The page of a server in a real browser: each of its uses once, with real videos and adapters, and no error said."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adapters.registry import save_to_registry
from core_encoder import ClipPlan, load_encoder
from core_encoder.extraction import spec_for
from prismhub.archive.scene_index import FolderIndex
from prismhub.archive.scenes import ArchivedVideo, ArchiveRecord, Finding, Scene
from tests.adapters.every_kind import ROWS
from tests.browser import OpenPage
from tests.prismhub.archive.real_archives import Shown, index_world, jpeg_at
from tests.prismhub.server.serving import Running, serving
from tests.videos import moving_square, write_video

KINDS = ("linear", "lit_text", "temporal_localizer", "spatiotemporal_localizer", "llm_decoder")
VIDEOS = {
    "day 1/left.mp4": [
        Shown("red circle", "moving left", "moving", 0.9, "a red circle goes left", "look at this penguin"),
        Shown("green square", "moving right", "moving", 0.7),
        Shown("blue star", "moving up", "flying", 0.8, "<img src=x onerror=alert(1)> & a star"),
    ],
    "right.mp4": [
        Shown("blue star", "moving right", "it's here", 0.6, speech="what a fine walrus"),
        Shown("green heart", "moving down", "flying", 0.5),
    ],
}
SIDEWAYS = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
PLAYED = "[...document.querySelectorAll('video')].map(one => [one.currentTime, one.paused, one.error?.message ?? ''])"


@pytest.fixture(scope="module")
def made_home(home_of_x: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a trained classifier `x` and an adapter of every other kind."""
    home = shutil.copytree(home_of_x, tmp_path_factory.mktemp("page") / "home")
    nano = load_encoder("nano")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMHUB_HOME", str(home))
        for row in ROWS:
            if row.name in KINDS:
                save_to_registry(row.on(nano), row.name)
    return home


@pytest.fixture(autouse=True)
def at_home(made_home: Path, private_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The home of every test here is that of the servers."""
    monkeypatch.setenv("PRISMHUB_HOME", str(made_home))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive `world` of H.264 videos, a large one `many`, a report, and videos to ask about."""
    folder = tmp_path_factory.mktemp("page")
    index_world(folder / "videos", VIDEOS, folder / "world")
    write_video(folder / "short.mp4", moving_square(12, 64, 64))
    write_video(folder / "long.mp4", moving_square(16 * 4, 64, 96))
    (folder / "report.html").write_text("<!doctype html><title>results</title><h1>All results</h1>")
    index_many(folder / "many", jpeg_at(folder / "short.mp4", 3))
    return folder


def index_many(folder: Path, picture: bytes, count: int = 5000) -> None:
    """An archive of so many scenes, a hundred of each video."""
    encoder = load_encoder("nano")
    rng = np.random.default_rng(0)
    spec = spec_for(encoder, ClipPlan(encoder.num_frames), kind="embedding", dtype="fp32")
    width = encoder.embedding_dim or 0
    record = ArchiveRecord("nano", encoder.fingerprint, "nano", spec.describe(), "encoder", width, {})
    index, videos = FolderIndex.create(folder, record), []
    for number in range(count // 100):
        vectors = rng.standard_normal((100, width))
        scenes = [
            Scene(2.0 * i, 2.0 * i + 2, vector, (Finding("x", f"thing {i % 7}", 0.5),), (), picture)
            for i, vector in enumerate((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32))
        ]
        about = (200.0, 64, 64, 16.0, "2024-05-01T10:00:00")
        videos.append(ArchivedVideo("/videos", f"v{number}.mp4", {"video": "0"}, *about, tuple(scenes)))
    index.upsert(videos)


@pytest.fixture(scope="module")
def server(made_home: Path, folder: Path) -> Iterator[Running]:
    """A server with every kind of adapter, both archives and a report."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMHUB_HOME", str(made_home))
        archives = [str(folder / "world"), str(folder / "many")]
        with serving(adapter=["x", *KINDS], archive=archives, report=str(folder / "report.html")) as server:
            yield server


def expect(what: Any) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=30_000)
    return expect(what)


def told(page: Any, part: str) -> Any:
    return page.locator(f"#{part}-told")


def search(page: Any, text: str) -> None:
    page.get_by_role("searchbox").fill(text)
    page.keyboard.press("Enter")


def expect_scenes(page: Any, *wanted: str) -> None:
    """Wait until exactly these scenes are found."""
    expect(page.locator(".card")).to_have_count(len(wanted))
    for place, name in enumerate(wanted):
        expect(page.locator(".card article").nth(place)).to_have_attribute("aria-label", name)


def names(page: Any) -> list[str]:
    """What the cards that are there are called."""
    return page.locator(".card article").evaluate_all("all => all.map(one => one.getAttribute('aria-label'))")


def wait_until_played(page: Any, end_s: float) -> None:
    """Wait until the one video of the page has stopped at a second."""
    for _ in range(150):
        ((at, paused, error),) = page.evaluate(PLAYED)
        assert not error
        if paused and abs(at - end_s) < 0.3:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"it stands at {at} s, paused: {paused}")


def test_words_and_conditions_find_scenes_that_play_from_their_second(server: Running, open_site: OpenPage) -> None:
    page = open_site(server.url)
    expect(told(page, "search")).to_have_text("world: 5 scenes of 2 videos, encoded by nano")
    search(page, '"penguin"')
    expect(told(page, "search")).to_have_text('1 answer for "penguin"')
    expect_scenes(page, "day 1/left.mp4, 0:00-0:01")
    card = page.locator(".card")
    assert card.locator(".caption").inner_text() == "a red circle goes left"
    assert card.locator(".chips li").all_inner_texts() == ["moving0.90"]
    assert card.locator(".shares").inner_text() == "words 100 %"
    assert card.locator("img").evaluate("one => one.decode().then(() => one.naturalWidth)") == 64

    search(page, "")
    page.get_by_label("Label").fill("flying")
    page.get_by_label("Condition").fill("score >= 0.7")
    page.keyboard.press("Enter")
    expect_scenes(page, "day 1/left.mp4, 0:02-0:03")
    assert page.url.endswith("#where=score+%3E%3D+0.7&label=flying")
    assert page.locator(".caption").inner_text() == "<img src=x onerror=alert(1)> & a star", "text stays text"
    page.get_by_role("button", name="Play day 1/left.mp4").click()
    wait_until_played(page, 3.0)
    page.locator(".card video").evaluate("one => one.play()")  # and then goes on where people want it
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Play day 1/left.mp4")).to_be_focused()

    page.go_back()
    page.go_back()
    expect(told(page, "search")).to_have_text('1 answer for "penguin"')
    expect(page.get_by_role("searchbox")).to_have_value('"penguin"')
    page.get_by_label("Label").fill("it's here")
    search(page, "")
    expect_scenes(page, "right.mp4, 0:00-0:01")
    shared = open_site(server.url, page.url.removeprefix(server.url))
    expect(shared.locator(".card")).to_have_count(1)
    expect(shared.get_by_label("Label")).to_have_value("it's here")


def test_more_like_this_and_a_scene_that_is_opened(server: Running, open_site: OpenPage) -> None:
    page = open_site(server.url, "/#q=penguin&mode=text")
    page.get_by_role("link", name="More like day 1/left.mp4").click()
    expect(page.locator(".card").first).to_contain_text("looks")
    assert "like=" in page.url and "day 1/left.mp4, 0:00-0:01" not in names(page)

    page.goto(f"{server.url}/#q=walrus&mode=text")
    page.locator(".card h3 a").click()
    scene = page.get_by_role("dialog", name="right.mp4")
    expect(scene.get_by_text("what a fine walrus")).to_be_visible()
    expect(scene.locator(".bars .label")).to_have_text(["it's here"])
    assert "of 0:02 · 64 x 64" in scene.inner_text() and "scene=" in page.url
    wait_until_played(page, 1.0)
    scene.get_by_role("button", name="scenes, 0:01-0:02").click()
    assert page.evaluate(PLAYED)[0][0] >= 1.0, "a span of the timeline leads to its second"
    scene.get_by_role("link", name="Scene after").click()
    expect(scene.locator(".bars .label")).to_have_text(["flying"])
    page.go_back()
    expect(scene.locator(".bars .label")).to_have_text(["it's here"])
    page.keyboard.press("Escape")
    expect(scene).not_to_be_visible()
    expect(page).to_have_url(re.compile("#q=walrus&mode=text$"))


def test_where_nothing_matches_stands_what_comes_nearest(server: Running, open_site: OpenPage) -> None:
    page = open_site(server.url)
    search(page, "a tax form")
    expect(told(page, "search")).to_contain_text("nothing here matches 'a tax form'")
    expect(page.get_by_role("heading", name="What comes nearest")).to_be_visible()
    assert names(page)
    page.get_by_role("link", name="Show the best anyway").click()
    expect(told(page, "search")).to_contain_text("for “a tax form”")
    page.get_by_label("Label").fill("nothing like it")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Nothing here matches")).to_be_visible()
    page.get_by_role("link", name="Without the filters").click()
    expect(page.get_by_role("heading", name="What comes nearest")).to_be_visible()


def test_a_condition_that_is_wrong_is_told(server: Running, open_site: OpenPage) -> None:
    page = open_site(server.url, "/#where=colour+%3D+1")
    expect(told(page, "search")).to_contain_text("colour")
    assert [one for one in open_site.said if "422" not in one] == []  # type: ignore[attr-defined]
    open_site.said.clear()  # type: ignore[attr-defined] # the browser itself says it of every request that is refused


def drop(page: Any, file: Path) -> None:
    """Drop a file on the page, as from a file manager."""
    content = base64.b64encode(file.read_bytes()).decode()
    make = """([content, name]) => { const held = new DataTransfer();
      const bytes = Uint8Array.from(atob(content), one => one.charCodeAt(0));
      held.items.add(new File([bytes], name, {type: 'video/mp4'})); return held; }"""
    held = page.evaluate_handle(make, [content, file.name])
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("main", event, {"dataTransfer": held})


def test_a_dropped_video_is_shown_beside_what_every_adapter_says(
    server: Running, folder: Path, open_site: OpenPage
) -> None:
    page = open_site(server.url, "/#q=penguin")  # wherever it is dropped
    drop(page, folder / "long.mp4")
    expect(page).to_have_url(re.compile("#ask$"))
    expect(told(page, "ask")).to_contain_text("5 adapters answered")
    part = lambda name: page.get_by_role("region", name=name, exact=True)  # noqa: E731
    assert page.evaluate(PLAYED) == [[0, True, ""]]
    assert page.evaluate("document.querySelector('video').duration") == pytest.approx(4, abs=0.2)

    expect(part("linear").locator(".bars .label")).to_have_count(3)  # labels as bars
    scores = [float(text) for text in part("linear").locator(".bars .number").all_inner_texts()]
    said = server.client.predict(folder / "long.mp4", adapters=["linear"], all_scores=True)["linear"][0]
    assert scores == sorted((round(one, 3) for one in said["scores"].values()), reverse=True)

    windows = part("x").locator("button.span")  # much longer than its clips: a timeline, and bars of the window played
    assert windows.count() > 3
    windows.last.click()
    assert page.evaluate(PLAYED)[0][0] > 2
    assert "now" in (windows.last.get_attribute("class") or "")

    segments = part("temporal_localizer")  # when something happens; how sure it is may be chosen
    segments.get_by_role("slider").fill("0")
    expect(segments.locator("button.span").first).to_be_visible()
    first = segments.locator("button.span").first
    start = float(re.search(r", 0:(\d+(?:\.\d)?)-", first.get_attribute("title") or "")[1])  # type: ignore[index]
    first.click()
    assert page.evaluate(PLAYED)[0][0] == pytest.approx(start, abs=0.1)

    text = part("llm_decoder")
    expect(text.locator("blockquote")).to_have_count(1)  # a caption
    text.get_by_label("A question to llm_decoder").fill("what object is it ?")
    text.get_by_role("button", name="Ask").click()
    expect(told(page, "ask")).to_have_text("llm_decoder answered.")
    expect(text).to_contain_text("what object is it ?")


def test_boxes_are_drawn_over_the_picture_and_named(server: Running, folder: Path, open_site: OpenPage) -> None:
    page = open_site(server.url, "/#ask")
    page.set_input_files("#file", folder / "long.mp4")
    expect(told(page, "ask")).to_contain_text("answered")
    boxes = page.get_by_role("region", name="spatiotemporal_localizer", exact=True)
    expect(boxes.get_by_role("button", name="Ask about the boxes")).to_be_disabled()
    page.evaluate("document.querySelector('video').currentTime = 1.5")
    boxes.get_by_role("button", name="Draw").click()
    stage = page.locator(".stage").bounding_box()
    at = lambda x, y: (stage["x"] + x * stage["width"], stage["y"] + y * stage["height"])  # noqa: E731
    page.mouse.move(*at(0.25, 0.5))
    page.mouse.down()
    page.mouse.move(*at(0.75, 0.9), steps=4)
    page.mouse.up()
    page.keyboard.press("ArrowLeft")  # the box has the focus, and may be moved
    boxes.get_by_role("button", name="Add a box").click()
    page.keyboard.press("Delete")
    expect(boxes.locator(".drawn li")).to_have_count(1)
    boxes.get_by_role("button", name="Ask about the boxes").click()
    expect(told(page, "ask")).to_have_text("spatiotemporal_localizer answered.")
    box = page.locator(".box.said").bounding_box()
    found = [(box["x"] - stage["x"]) / stage["width"], (box["y"] - stage["y"]) / stage["height"]]
    found += [box["width"] / stage["width"], box["height"] / stage["height"]]
    assert found == pytest.approx([0.23, 0.5, 0.5, 0.4], abs=0.01)
    label = page.locator(".box.said span").inner_text()
    assert boxes.locator(".cues").inner_text().endswith(label) and label.split()[0] in ("run", "sit", "red")
    page.evaluate("document.querySelector('video').currentTime = 3.9")
    expect(page.locator(".box.said")).to_have_count(0)  # they are of another moment
    boxes.locator(".cues button").click()
    expect(page.locator(".box.said")).to_have_count(1)


def test_class_names_are_scored_without_training_and_scenes_like_the_video_found(
    server: Running, folder: Path, open_site: OpenPage
) -> None:
    page = open_site(server.url, "/#ask")
    page.set_input_files("#file", folder / "short.mp4")
    expect(told(page, "ask")).to_contain_text("answered")
    names_of = page.get_by_role("region", name="Names without training")
    labels = ["a white square", "a red circle", "nothing, at all"]
    names_of.get_by_label("Class names").fill("a white square, a red circle\nnothing")
    for space in ("", "lit_text"):
        names_of.get_by_label("By").select_option(space)
        names_of.get_by_role("button", name="Which is it?").click()
        asked = {"labels": [*labels[:2], "nothing"], "all_scores": True, "template": "a video of {}"}
        said = server.client.zero_shot(folder / "short.mp4", **asked, **({"adapter": space} if space else {}))[0]
        best = sorted(said["scores"].items(), key=lambda pair: -pair[1])
        expect(names_of.locator(".bars .number")).to_have_text([f"{score:.3f}" for _, score in best])
        expect(names_of.locator(".bars .label")).to_have_text([label for label, _ in best])
    page.get_by_role("button", name="Find scenes like it in world").click()
    expect(told(page, "search")).to_contain_text("like short.mp4")
    expect(page.locator(".card").first).to_be_visible()


def test_adapters_show_their_cards_and_come_and_go(server: Running, open_site: OpenPage) -> None:
    page = open_site(server.url, "/#adapters")
    loaded = page.get_by_role("list", name="Adapters that answer").locator("> li")
    expect(loaded).to_have_count(6)
    loaded.filter(has=page.get_by_role("heading", name="x map_classifier", exact=True)).locator("summary").click()
    card = loaded.first.locator(".card-of")
    expect(card.locator("table")).to_contain_text("top1")
    assert {"b, d", "classification", "data, 6 videos"} <= set(card.locator("dd").all_inner_texts())
    page.get_by_role("button", name="Unload linear").click()
    expect(told(page, "adapters")).to_have_text("linear is unloaded.")
    expect(loaded).to_have_count(5)
    assert "linear" not in server.served.answering.hub.adapters
    page.get_by_role("button", name="Load linear@v1").click()
    expect(told(page, "adapters")).to_have_text("linear@v1 is loaded.")
    expect(loaded).to_have_count(6)
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="The report of results").click()
    expect(opened.value.get_by_role("heading", name="All results")).to_be_visible()


def test_a_server_with_a_key_asks_for_it_once(folder: Path, open_site: OpenPage) -> None:
    archive = str(folder / "world")
    with serving(adapter=["x"], archive=[archive], report=str(folder / "report.html"), api_key="open sesame") as server:
        page = open_site(server.url, "/#q=penguin&mode=text")
        form = page.get_by_role("dialog", name="This server wants its key")
        expect(form.get_by_label("Key")).to_be_focused()
        page.keyboard.press("Escape")
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(form.get_by_role("alert")).to_have_text("This key is not the right one.")
        page.wait_for_timeout(500)  # every call that had begun is refused, too
        assert open_site.said and all("401" in one for one in open_site.said)  # type: ignore[attr-defined]
        open_site.said.clear()  # type: ignore[attr-defined] # which the browser itself says
        form.get_by_label("Key").fill("open sesame")
        page.keyboard.press("Enter")
        expect(form).not_to_be_visible()
        expect(page.locator(".card")).to_have_count(1)
        assert page.locator(".card img").evaluate("one => one.decode().then(() => one.naturalWidth)") == 64
        page.get_by_role("button", name="Play day 1/left.mp4").click()
        wait_until_played(page, 1.0)
        page.reload()
        expect(page.locator(".card")).to_have_count(1)  # this tab still has it
        page.get_by_role("link", name="Adapters", exact=True).click()
        with page.context.expect_page() as opened:
            page.get_by_role("link", name="The report of results").click()
        expect(opened.value.get_by_role("heading", name="All results")).to_be_visible()


def test_everything_can_be_reached_by_keys(server: Running, folder: Path, open_site: OpenPage) -> None:
    page = open_site(server.url, "/#where=duration+%3E+0&all=true")
    expect(page.locator(".card")).to_have_count(5)
    focused = lambda: page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.innerText")  # noqa: E731
    page.keyboard.press("Tab")
    assert focused() == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("moving")
    page.keyboard.press("Enter")
    expect(told(page, "search")).to_contain_text("for “moving and duration > 0”")
    order = []
    for _ in range(14):
        page.keyboard.press("Tab")
        order.append(focused())
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none", order
        if order[-1].startswith("Play"):
            break
    assert order[0] == "Search" and order[-1].startswith("Play "), order
    page.keyboard.press("ArrowRight")
    second = focused()
    assert second.startswith("Play ") and second != order[-1]
    page.keyboard.press("Enter")
    expect(page.locator(".card video")).to_be_focused()
    page.keyboard.press("Escape")
    assert focused() == second

    page.get_by_role("link", name="Ask a video").focus()
    page.keyboard.press("Enter")
    page.set_input_files("#file", folder / "long.mp4")
    expect(told(page, "ask")).to_contain_text("answered")
    spans = page.get_by_role("region", name="x", exact=True).locator("button.span")
    spans.first.focus()
    page.keyboard.press("End")
    expect(spans.last).to_be_focused()
    page.keyboard.press("Space")
    assert page.evaluate(PLAYED)[0][0] > 2
    assert spans.evaluate_all("all => all.filter(one => one.tabIndex === 0).length") == 1


PARTS = ("#", "#where=duration+%3E+0&top=100", "#q=moving", "#ask", "#adapters")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_on_a_phone(server: Running, folder: Path, open_site: OpenPage, scheme: str) -> None:
    page = open_site(server.url, width=360, scheme=scheme)
    for part in PARTS:
        page.goto(f"{server.url}/{part}")
        expect(page.locator("main > section:visible")).to_have_count(1)
        if part == "#ask":
            page.set_input_files("#file", folder / "long.mp4")
            expect(told(page, "ask")).to_contain_text("answered")
        page.wait_for_timeout(300)
        assert page.evaluate(SIDEWAYS) <= 0, part
    for summary in page.locator("#adapters-list summary").all():
        summary.click()
    expect(page.locator(".card-of dl")).to_have_count(6)
    assert page.evaluate(SIDEWAYS) <= 0
    colours = page.evaluate(
        "['backgroundColor', 'color'].map(rule => getComputedStyle(document.body)[rule].match(/[0-9]+/g).map(Number))"
    )
    (paper, ink) = (sum(colour[:3]) / 3 for colour in colours)
    assert (paper > 200 and ink < 60) if scheme == "light" else (paper < 60 and ink > 200)


@pytest.mark.slow
def test_five_thousand_scenes_are_drawn_as_they_are_scrolled_to(server: Running, open_site: OpenPage) -> None:
    page = open_site(server.url, "/#where=duration+%3E+0&archive=many&top=5000&all=true")
    expect(told(page, "search")).to_have_text("5,000 answers for “duration > 0”")
    cards = page.locator(".card")
    assert 24 < cards.count() <= 180
    assert cards.first.get_attribute("aria-setsize") == "5000"
    longest_ms = page.evaluate("""async () => {
      const gaps = [];
      let last = performance.now();
      while (document.querySelector('.end') && gaps.length < 5000) {
        scrollBy(0, 900);
        await new Promise(requestAnimationFrame);
        gaps.push(performance.now() - last);
        last = performance.now();
      }
      return gaps.sort((a, b) => a - b).at(Math.floor(0.95 * gaps.length));
    }""")
    assert cards.count() == 5000
    assert longest_ms < 500, "on a machine that does something else meanwhile"
    cards.last.scroll_into_view_if_needed()
    assert cards.last.locator("img").evaluate("one => one.decode().then(() => one.naturalWidth)") == 64


def test_without_archive_and_adapter_the_page_says_what_to_do(open_site: OpenPage, folder: Path) -> None:
    with serving() as server:
        page = open_site(server.url)
        expect(page.locator("#search-empty")).to_contain_text("prismhub index my_videos/ --encoder nano --out archive")
        page.get_by_role("link", name="asked about").click()
        page.set_input_files("#file", folder / "short.mp4")
        expect(page.locator("#ask-right")).to_contain_text("prismhub train --data my_videos/")
        page.get_by_role("link", name="Adapters").last.click()
        expect(page.locator("#adapters-list")).to_contain_text("Load one of those below.")
        page.get_by_role("button", name="Load linear@v1").click()
        expect(told(page, "adapters")).to_have_text("linear@v1 is loaded.")
        page.set_input_files("#file", folder / "short.mp4")
        page.get_by_role("link", name="Ask a video").click()
        expect(told(page, "ask")).to_contain_text("1 adapter answered")
