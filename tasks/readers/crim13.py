"""CRIM13: texts of Piotr's behaviour annotator, one for the synchronized side and top view of a pair of mice.

    Caltech Behavior Annotator - Annotation File

    Configuration file:
    other   o
    attack  a

    S1:    start    end     type
    -----------------------------
           1     146     other

Frames are counted from 1, both ends belong to the span. Texts and videos lie in folders `train` and `test`; a video is
called like its text with `_side` or `_top` (or `_s`, `_t`) behind it, or lies in a folder `side` or `top`. The
recordings (.seq) are to be made videos first.
"""

from __future__ import annotations

import re
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.files.storage import read_utf8
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.labelled_frames import Labels, Windows, frame_samples
from tasks.sample import Sample

WINDOWS = Windows(num_frames=16, every=16)
"""16 frames, laid side by side."""
BACKGROUND = "other"
_TITLE = "Caltech Behavior Annotator"
_SPAN = re.compile(r"\s*(\d+)\s+(\d+)\s+(\S+)\s*")


def read_crim13(data: DatasetFolder, split: str, view: str) -> list[Sample]:
    """The clips of the videos of a view (`side`, `top`) in `train` or `test`.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    samples: list[Sample] = []
    for file in _texts(data, split):
        _, labels = _annotated(file)
        name = file.stem
        path = _video(data, name, view, split)
        samples += frame_samples(name, path, labels, str(file), WINDOWS, split=split)
    return samples


def crim13_classes(data: DatasetFolder) -> tuple[str, ...]:
    """The behaviours that the texts of `train` know, without the background, in alphabetical order."""
    return tuple(sorted({name for file in _texts(data, "train") for name in _annotated(file)[0]} - {BACKGROUND}))


def _video(data: DatasetFolder, name: str, view: str, split: str) -> str:
    return data.video(f"{name}_{view}", f"{name}_{view[0]}", f"{view}/{name}", under=split)


def _texts(data: DatasetFolder, split: str) -> list[Path]:
    texts = []
    for file in data.files(".txt", under=split):
        if read_utf8(file).startswith(_TITLE):
            texts.append(file)
        elif any(Path(_video(data, file.stem, view, split)).is_file() for view in ("side", "top")):
            raise InputError(f"{file}: line 1: must be {_TITLE!r}, for a video is called like this text")
    if not texts:
        raise InputError(
            f"{data.path}: no annotation text (.txt) lies in a folder {split!r}; put those of the split there"
        )
    return texts


def _annotated(file: Path) -> tuple[set[str], list[Labels]]:
    """The behaviours that a text knows, and those of every frame."""
    known: set[str] = set()
    spans: list[tuple[int, int, str]] = []
    part = ""
    for number, line in enumerate(read_utf8(file).split("\n"), start=1):
        text = line.strip()
        if text.startswith("Configuration file"):
            part = "known"
        elif re.match(r"S\d+:", text):
            part = "spans"
        elif part == "known" and text:
            known.add(text.split()[0])
        elif part == "spans" and text and set(text) != {"-"}:
            span = _SPAN.fullmatch(line)
            if span is None or not 1 <= int(span[1]) <= int(span[2]):
                raise InputError(f"{file}: line {number}: {text!r} is no 'start end type' with frames from 1")
            if span[3] not in known:
                raise InputError(f"{file}: line {number}: type {span[3]!r} is not in the configuration above")
            spans.append((int(span[1]) - 1, int(span[2]), span[3]))
    if not spans:
        raise InputError(f"{file}: holds no 'start end type' below a line 'S1:'")
    found: list[list[str]] = [[] for _ in range(max(end for _, end, _ in spans))]
    for start, end, name in spans:
        for frame in range(start, end):
            if name != BACKGROUND and name not in found[frame]:
                found[frame].append(name)
    return known, [tuple(names) for names in found]
