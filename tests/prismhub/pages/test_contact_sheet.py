"""The contact sheet of `search --html`: every scene, nothing from elsewhere, text escaped."""

from __future__ import annotations

import base64
from pathlib import Path

from prismhub.archive.found_scenes import Found, FoundScene
from prismhub.archive.scenes import Cue, Finding
from prismhub.pages.contact_sheet import write_contact_sheet
from tests.prismhub.pages.test_report import Page

EVIL = "<script>alert('1')</script> & \"x\""


def found_scene(number: int, **more: object) -> FoundScene:
    given = {"parts": {"text": 0.016, "vector": 0.008}, "score": 0.024} | more
    return FoundScene(number, f"/videos/folder {number}/{EVIL.replace('/', '')}.mp4", 1.0, 62.5, **given)  # type: ignore[arg-type]


def test_a_page_shows_every_scene_and_escapes_what_it_says(tmp_path: Path) -> None:
    findings = (
        Finding("x", EVIL, 0.91),
        *(Finding("x", f"label {i}", 0.5 - i / 100) for i in range(9)),
        Finding("y", text=EVIL),
    )
    scenes = (
        found_scene(1, findings=findings, speech=(Cue(1, 2, EVIL),), thumbnail=b"\xff\xd8 jpeg", scenes=3),
        found_scene(2, parts={"text": 0.0, "vector": 0.016}),
    )
    path = write_contact_sheet(
        tmp_path / "page.html", Found(EVIL, scenes, notes=(EVIL,)), "my archive", f"search {EVIL}"
    )
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert "<script" not in text and "http" not in text.replace("http-equiv", "")
    assert len(page.all("article")) == 2 and len(page.all("img")) == 1
    assert page.all("img")[0]["src"] == "data:image/jpeg;base64," + base64.b64encode(b"\xff\xd8 jpeg").decode()
    for words in (
        "2 scenes in my archive",
        "0:01-1:02",
        "61.5 s, 3 scenes",
        "folder 1,",
        "0.91",
        "4 more",
        "words 67 %",
        "looks 33 %",
    ):
        assert words in page.text, words
    assert "found by looks" in page.text and "no picture" in page.text and "videos in /videos/" in page.text


def test_a_page_of_nothing_says_so(tmp_path: Path) -> None:
    found = Found("a giraffe", (), (found_scene(1),))
    page = Page(write_contact_sheet(tmp_path / "page.html", found, "archive").read_text(encoding="utf-8"))
    assert "Nothing here matches" in page.text and "the nearest is /videos/folder 1/" in page.text
    assert not page.all("article")
