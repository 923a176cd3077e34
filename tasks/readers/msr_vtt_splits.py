"""MSR-VTT as its benchmarks take it: the 1,000 pairs of split 1K-A, and the official splits with all captions.

Sources: MSRVTT_JSFUSION_test.csv (`key,vid_key,video_id,sentence`; Yu et al. 2018, given out by CLIP4Clip); or the
MSR_VTT.json of Frozen in Time with val_list_jsfusion.txt, the videos, and jsfusion_val_caption_idx.pkl, which of the
captions each is asked for with. The official splits are those of the data set's own JSON.
"""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import Any

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest, read_json
from tasks.readers.captions import CaptionedSample
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.msr_vtt import told_captions
from tasks.readers.official_json import as_entry, read_entries
from tasks.readers.official_lists import read_list
from tasks.readers.official_tables import read_table

TABLE, PAIRS = "MSRVTT_JSFUSION_test.csv", "msrvtt_test1k.json"
LIST, PLACES = "val_list_jsfusion.txt", "jsfusion_val_caption_idx.pkl"
CAPTIONS = ("MSR_VTT.json", "MSRVTT_data.json", "videodatainfo_2017.json")
_PARTS = {"test": "test_videodatainfo.json", "train": "train_val_videodatainfo.json"}
_FIRST = {"train": 0, "val": 6513, "test": 7010}  # the number that the official splits begin at
_TEXTS, _NUMBERS = ("BINUNICODE", "SHORT_BINUNICODE"), ("BININT", "BININT1", "BININT2")  # of pickles
_PASSED_OVER = frozenset(
    ("PROTO", "FRAME", "EMPTY_DICT", "MARK", "BINPUT", "LONG_BINPUT", "MEMOIZE", "SETITEM", "SETITEMS", "STOP")
)


def read_msr_vtt_1k(data: DatasetFolder, split: str) -> list[CaptionedSample]:
    """The pairs of split 1K-A, each video with its one caption.

    Raises:
        InputError: one line with file, line or entry, field and the fix.
    """
    if not data.has_file(TABLE) and data.has_file(PAIRS):
        pairs = [(one.text("video"), one.text("caption"), one.where) for one in read_entries(data.file(PAIRS))]
    elif not data.has_file(TABLE) and data.has_file(LIST):
        pairs = _listed(data)
    else:
        rows = read_table(data.file(TABLE, PAIRS), ("video_id", "sentence"))
        pairs = [(row.text("video_id"), row.text("sentence"), row.where) for row in rows]
    found: dict[str, CaptionedSample] = {}
    for written, caption, where in pairs:
        name = written.removesuffix(".mp4")
        if name in found:
            raise InputError(f"{where}: video {name!r} comes twice; this split has one caption a video")
        found[name] = CaptionedSample(name, Clip(data.video(name)), (), split, (caption,))
    return list(found.values())


def read_msr_vtt(data: DatasetFolder, split: str) -> list[CaptionedSample]:
    """The videos of an official split (`train`, `val`, `test`) with all their captions, as often as they are written.

    Raises:
        InputError: one line with file, entry, field and the fix, or no video is of the split.
    """
    part = _PARTS["test" if split == "test" else "train"]
    file = data.file(*CAPTIONS, part) if data.has_file(*CAPTIONS) else data.file(part, *CAPTIONS)
    told = [(name, captions) for name, own, captions in _told(file) if (own or _split_by_number(name)) == split]
    if not told:
        raise InputError(f"{file}: no video of it is of split {split!r}; get the file of all 10,000 videos")
    return [CaptionedSample(name, Clip(data.video(name)), (), split, captions) for name, captions in told]


def _listed(data: DatasetFolder) -> list[tuple[str, str, str]]:
    """Video, caption and where it is listed, of Frozen in Time's three files."""
    listed, places = data.file(LIST), _read_places(data.file(PLACES))
    file = data.file(*CAPTIONS)
    captions = {name: several for name, _, several in _told(file)}
    pairs = []
    for line, name in read_list(listed):
        where = f"{listed}: line {line}"
        if name not in captions:
            raise InputError(f"{where}: video {name!r} is not in {file.name}{nearest(name, captions)}")
        if not 0 <= places.get(name, -1) < len(captions[name]):
            raise InputError(f"{where}: {PLACES} names none of the {len(captions[name])} captions of video {name!r}")
        pairs.append((name, captions[name][places[name]], where))
    return pairs


def _told(file: Path) -> list[tuple[str, str | None, tuple[str, ...]]]:
    """Name, split and captions of every video, in the data set's own format or in COCO's, as Frozen in Time has it."""
    content = read_json(file)
    if not isinstance(content, dict) or not {"annotations", "images"} & content.keys():
        return told_captions(file)
    captions: dict[str, list[str]] = {}
    entries = as_entry(content, str(file)).entries("annotations")
    if not entries:
        raise InputError(f"{file}: annotations is empty; get the whole file")
    for one in entries:
        captions.setdefault(one.text("image_id"), []).append(one.text("caption"))
    return [(name, None, tuple(several)) for name, several in captions.items()]


def _split_by_number(name: str) -> str:
    number = name.removeprefix("video")
    if not (number.isascii() and number.isdigit()):
        return ""
    return next(split for split in ("test", "val", "train") if int(number) >= _FIRST[split])


def _read_places(file: Path) -> dict[str, int]:
    """A pickled dictionary of texts and whole numbers, read opcode by opcode: nothing that it holds is run.

    Raises:
        InputError: it holds anything else.
    """
    values: list[Any] = []
    try:
        for opcode, value, _ in pickletools.genops(file.read_bytes()):
            if opcode.name in _TEXTS + _NUMBERS:
                values.append(value)
            elif opcode.name not in _PASSED_OVER:
                raise ValueError(f"it holds {opcode.name}")
        names, places = values[::2], values[1::2]
        if not all(isinstance(one, str) for one in names) or not all(isinstance(one, int) for one in places):
            raise ValueError("its keys or values are of another kind")
        return {str(name): int(place) for name, place in zip(names, places, strict=True)}
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not a dictionary of videos and numbers ({error}); get {TABLE} instead") from error
