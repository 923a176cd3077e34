"""Videos with texts to choose from, of which one is right, become samples: one a question. No torch.

    list.jsonl       {"video": "a.mp4", "options": ["sits", "stands"], "answer": 1}: the right one, or its place from 0
    list.csv         video,question,options,answer[,kind,split]; options are separated by `|`
    train.csv, ...   one manifest a split; or NExT-QA's own files

`question` and `kind`, the type of the question, may be missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from tasks.readers.annotations import clip_id, row_split, splits_from_folders
from tasks.readers.captions import is_empty_text, refuse_same_ids, row_texts, text_manifests
from tasks.readers.events import Videos
from tasks.readers.manifests import Columns, Row, read_rows, refuse_absent
from tasks.readers.next_qa import is_next_qa, read_next_qa
from tasks.sample import ChoiceSample
from tasks.splits import split_name


def read_choices(
    source: str | Path,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    start_column: str | None = None,
    end_column: str | None = None,
    id_column: str | None = None,
    label_separator: str | None = None,
    videos: str | Path | None = None,
) -> list[ChoiceSample]:
    """Read a manifest, or a folder that holds one.

    Args:
        path_column, label_column, ...: columns whose name is not one of the usual (`tasks.readers.manifests.ALIASES`);
            `label_column` is that of the answer.
        label_separator: between two options of one field, by default `|`.
        videos: folder of the videos that files of NExT-QA name.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    manifests, folder = text_manifests(source)
    official = [(file, split) for file, split in manifests if is_next_qa(file)]
    if len(official) == len(manifests):
        return [sample for file, split in official for sample in _from_next_qa(file, split, videos)]
    if videos is not None:
        raise InputError("videos is for files of NExT-QA; the paths in a manifest are relative to it")
    columns = Columns(path_column, None, split_column, start_column, end_column, id_column, answer=label_column)
    placed: list[tuple[Row, ChoiceSample]] = []
    asked: dict[Clip, int] = {}
    for file, split in manifests:
        for row in read_rows(file, columns, needed=None):
            clip = row.clip()
            asked[clip] = asked.get(clip, 0) + 1
            own_id = "" if row.values.get("id") is None else str(row.values["id"]).strip()
            row.check_text(own_id, "id")
            name = own_id or f"{clip_id(clip, row.values['path'], folder)}?{asked[clip]}"
            placed.append((row, _sample(row, name, clip, row_split(row, split), label_separator or "|")))
    refuse_same_ids(placed)
    samples = splits_from_folders([sample for _, sample in placed], folder)
    refuse_absent(manifests[0][0], [sample.clip for sample in samples])
    return samples


def _sample(row: Row, name: str, clip: Clip, split: str | None, separator: str) -> ChoiceSample:
    for role in ("options", "answer"):
        if role not in row.names:
            raise row.error(f"there is no {role}; columns are video, options and answer")
    given = row.values["options"]
    options = tuple(" ".join(one.split()) for one in given.split(separator)) if isinstance(given, str) else ()
    options = options or row_texts(row, "options")
    if len(options) < 2 or not all(options):
        raise row.error(f"{row.names['options']} {given!r} is not several texts; separate them by {separator!r}")
    return ChoiceSample(
        *(name, clip, (), split, options, _right(row, options)),
        question=_text(row.values.get("question")),
        kind=_text(row.values.get("kind")),
    )


def _right(row: Row, options: tuple[str, ...]) -> str:
    """The right option: its text, or its place from 0."""
    given: Any = row.values["answer"]
    text = _text(given)
    if text in options:
        return text
    if text.isascii() and text.isdigit() and int(text) < len(options):
        return options[int(text)]
    hint = nearest(text, options) if isinstance(given, str) and not text.isdigit() else ""
    raise row.error(
        f"{row.names['answer']} {given!r} is none of the {len(options)} options, nor its place from 0{hint}"
    )


def _text(value: Any) -> str:
    return "" if is_empty_text(value) else " ".join(str(value).split())


def _from_next_qa(file: Path, split: str | None, videos: str | Path | None) -> list[ChoiceSample]:
    """The questions of one of NExT-QA's files; its name says the split."""
    finder, samples = Videos(file, videos), []
    for one in read_next_qa(file):
        if not one.options:
            raise InputError(f"{one.where}: has no options a0, a1, ...: it is a question with an answer in words")
        clip = Clip(finder.path_of(one.video, one.where))
        about = (one.options, one.answer, one.question, one.kind)
        samples.append(ChoiceSample(one.id, clip, (), split or split_name(file.stem), *about))
    refuse_absent(file, [sample.clip for sample in samples], "say where they are with videos")
    return samples
