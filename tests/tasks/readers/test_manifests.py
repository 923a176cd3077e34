"""Clips of manifests that carry no labels; what carries labels is in test_annotations.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from tasks.readers.annotations import read_samples
from tasks.readers.manifests import read_clips


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.txt", "a b.mp4\n\nsub/c.mp4\n"),
        ("l.txt", "a b.mp4 3\nsub/c.mp4 12\n"),
        ("l.csv", "path\na b.mp4\nsub/c.mp4\na b.mp4\n"),
        ("l.csv", "a b.mp4\nsub/c.mp4\n"),
        ("l.csv", "a b.mp4,walk\nsub/c.mp4,run\n"),
        ("l.csv", "id;video\n1;a b.mp4\n2;./sub/c.mp4\n"),
        ("l.jsonl", '{"video": "a b.mp4"}\n{"video": "sub/c.mp4"}\n'),
    ],
)
def test_clips_without_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    (tmp_path / "a b.mp4").touch()
    (tmp_path / name).write_text(text)
    expected = [Clip(str(tmp_path / "a b.mp4")), Clip(str(tmp_path / "sub" / "c.mp4"))]
    assert read_clips(tmp_path / name) == expected
    monkeypatch.chdir(tmp_path)
    assert read_clips(name) == expected


def test_times_columns_and_mistakes(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    manifest = tmp_path / "l.csv"
    manifest.write_text("clip,start,end\na.mp4,1,2.5\na.mp4,2.5,\n")
    path = str(tmp_path / "a.mp4")
    assert read_clips(manifest, path_column="clip") == [Clip(path, 1.0, 2.5), Clip(path, 2.5)]
    with pytest.raises(InputError, match="line 1: no path column"):
        read_clips(manifest)
    manifest.write_text("path,start,end\na.mp4,3,2\n")
    with pytest.raises(InputError, match="line 2: end 2 is not after start 3"):
        read_clips(manifest)
    manifest.write_text("path\nb.mp4\n")
    with pytest.raises(InputError, match="none of its 1 videos exists"):
        read_clips(manifest)


PIECES = [
    "a.mp4",
    "path",
    "label",
    "labels",
    "start",
    ",",
    ";",
    "\t",
    " ",
    "\n",
    "\r\n",
    "\r",
    '"',
    "1",
    "|",
    "x y",
    "é",
]
PIECES += [
    "\x00",
    "\ufeff",
    '{"video": "a.mp4", "label": ',
    "[",
    "]",
    "}",
    "{",
    "null",
    "NaN",
    "9" * 400,
    "\x85",
    "\u2028",
]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join),
    st.sampled_from(["csv", "tsv", "txt", "jsonl"]),
    st.booleans(),
)
def test_any_text_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, text: str, suffix: str, labelled: bool
) -> None:
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    (folder / "a.mp4").touch()
    manifest = folder / f"l.{suffix}"
    manifest.write_bytes(text.encode())
    try:
        found = read_samples(manifest) if labelled else read_clips(manifest)
    except InputError as error:
        assert len(str(error).splitlines()) == 1
        assert str(manifest) in str(error)
    else:
        assert found
