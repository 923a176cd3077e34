"""What tests of archives share: a folder of real videos, adapters on `nano`, and who is decoded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters import save_to_registry
from core_encoder.encoder import load_encoder
from tests.adapters.every_kind import ROWS
from tests.prismhub.archive.test_scene_cuts import edited
from tests.prismhub.archive.test_subtitles import with_subtitles

KINDS = ("linear", "map_classifier", "temporal_localizer", "llm_decoder", "lit_text", "spatiotemporal_localizer")
SRT = "1\n00:00:00,200 --> 00:00:01,000\nhello there\n\n2\n00:00:02,500 --> 00:00:04,000\nand good bye\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of videos; to be copied."""
    folder = tmp_path_factory.mktemp("made") / "Vidéos mit Leerzeichen"
    edited(folder / "a.mp4", [20, 15, 30])
    edited(folder / "deep" / "b.mp4", [24, 20])
    with_subtitles(folder / "c.mkv")
    (folder / "a.en.srt").write_text(SRT)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / made.name)


@pytest.fixture(scope="module")
def home_of_adapters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PRISMHUB_HOME with an adapter of every kind on `nano`, called like its kind; to be copied."""
    home = tmp_path_factory.mktemp("home of adapters")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMHUB_HOME", str(home))
        nano = load_encoder("nano")
        for row in ROWS:
            if row.name in KINDS:
                save_to_registry(row.on(nano), row.name)
    return home


@pytest.fixture
def saved(home_of_adapters: Path, private_home: Path) -> Path:
    return shutil.copytree(home_of_adapters, private_home, dirs_exist_ok=True)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The videos that are opened to be decoded, as it happens."""
    from core_encoder.video import clip_decoder, cutting

    seen: list[str] = []
    for module in (clip_decoder, cutting):
        original: Callable[..., Any] = module.open_video

        def opening(path: Any, *rest: Any, original: Callable[..., Any] = original, **more: Any) -> Any:
            seen.append(Path(path).name)
            return original(path, *rest, **more)

        monkeypatch.setattr(module, "open_video", opening)
    return seen
