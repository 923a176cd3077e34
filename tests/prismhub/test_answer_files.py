"""Names of the files that answers are written to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from adapters.predictions import Segment, Segments
from prismhub.answer_files import formatted, write_formatted


@pytest.mark.parametrize("folders", [("/one", "/two"), ("C:\\one", "D:\\two")])
def test_subtitles_of_videos_of_one_name_lie_side_by_side(folders: tuple[str, str], tmp_path: Path) -> None:
    """Whatever separates the folders of their paths where they were made."""
    settings: Any = SimpleNamespace(format="vtt", out=tmp_path / "out", top=None, all_scores=False)
    info: Any = SimpleNamespace(targets=SimpleNamespace(kind="segments"))
    slash = "\\" if "\\" in folders[0] else "/"
    answers = [Segments(f"{folder}{slash}a.mp4", (Segment(0.0, 1.0, "run", 0.9),)) for folder in folders]
    written = write_formatted(settings, formatted(settings, info, answers))
    assert len(written) == 2 and all(path.parent == tmp_path / "out" and path.is_file() for path in written)
    assert not any(set(path.name) & set('\\/:*?"<>|') for path in written)
