"""Videos with captions, or with questions and their answers, become samples: one a clip, and one a question. No torch.

    video,caption[,split]             as in `tasks.readers.captions`
    video,question,answer[,split]     a row for each question; a JSON list, or several rows, hold several right answers

A manifest may hold both: rows of JSON lines as they are, and columns of a table where one of the two is left empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from tasks.readers.annotations import clip_id, row_split, splits_from_folders
from tasks.readers.captions import clip_place, is_empty_text, refuse_same_ids, row_texts, text_manifests
from tasks.readers.manifests import Columns, Row, read_rows, refuse_absent
from tasks.sample import Sample


@dataclass(frozen=True)
class TextSample(Sample):
    """One clip and what is right to say of it: its captions, or the right answers to a question."""

    texts: tuple[str, ...] = ()
    question: str = ""


def read_texts(
    source: str | Path,
    *,
    path_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    start_column: str | None = None,
    end_column: str | None = None,
    id_column: str | None = None,
    label_separator: str | None = None,
) -> list[TextSample]:
    """Read a manifest, or a folder that holds one.

    Captions of one clip become one sample, and so do the answers to one question about it.

    Args:
        path_column, label_column, ...: columns whose name is not one of the usual (`tasks.readers.manifests.ALIASES`);
            `label_column` is that of the caption.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    if label_separator is not None:
        raise InputError("label_separator means nothing for texts: give a row for each, or a JSON list")
    manifests, folder = text_manifests(source)
    columns = Columns(path_column, None, split_column, start_column, end_column, id_column, label_column)
    found: dict[object, tuple[Row, TextSample]] = {}
    asked: Counter[object] = Counter()
    splits: dict[object, tuple[Row, str | None]] = {}
    for file, split in manifests:
        for row in read_rows(file, columns, needed="caption", instead="question"):
            for sample in _samples(row, folder, split):
                place = clip_place(sample.clip)
                first_row, first_split = splits.setdefault(place, (row, sample.split))
                if sample.split != first_split:
                    raise row.error(
                        f"split {sample.split or 'none'!r}, but {first_split or 'none'!r} in line {first_row.line}, "
                        "of the same clip; give all texts of a clip one split"
                    )
                key = (place, sample.question.lower())
                if key in found:
                    row_before, before = found[key]
                    texts = tuple(dict.fromkeys(before.texts + sample.texts))
                    found[key] = (row_before, replace(before, texts=texts))
                    continue
                if sample.question and sample.id == clip_id(sample.clip, row.values["path"], folder):
                    asked[place] += 1
                    sample = replace(sample, id=f"{sample.id}?{asked[place]}")
                found[key] = (row, sample)
    refuse_same_ids(found.values())
    samples = splits_from_folders([sample for _, sample in found.values()], folder)
    refuse_absent(manifests[0][0], [sample.clip for sample in samples])
    return samples


def _samples(row: Row, root: Path, split: str | None) -> Iterator[TextSample]:
    """What a row says: a caption, a question with its answers, or both."""
    clip = row.clip()
    has = {role: not is_empty_text(row.values.get(role)) for role in ("caption", "question", "answer")}
    own_id = "" if row.values.get("id") is None else str(row.values["id"]).strip()
    row.check_text(own_id, "id")
    name = own_id or clip_id(clip, row.values["path"], root)
    known: dict[str, Any] = {"clip": clip, "labels": (), "split": row_split(row, split)}
    if has["caption"] or not (has["question"] or has["answer"]):
        if "caption" not in row.names:
            raise row.error(f"{row.names['question']} is empty; give a question or remove the row")
        yield TextSample(name, **known, texts=row_texts(row, "caption"))
    if has["question"] or has["answer"]:
        if not has["question"]:
            raise row.error("an answer without a question; give the question or remove the row")
        if "answer" not in row.names:
            raise row.error("a question without an answer; give a column answer")
        [question, *more] = row_texts(row, "question")
        if more:
            raise row.error(f"{row.names['question']} holds several questions; give each a row of its own")
        if own_id and has["caption"]:
            name = clip_id(clip, row.values["path"], root)  # the row's id is that of the caption
        yield TextSample(name, **known, texts=row_texts(row, "answer"), question=question)
