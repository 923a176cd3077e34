"""Videos with captions, or with questions and their answers, become samples: one a clip, and one a question. No torch.

    video,caption[,split]             as in `tasks.readers.captions`
    video,question,answer[,split]     a row for each question; a JSON list, or several rows, hold several right answers
    MSR_VTT.json                      MSR-VTT's own captions; the videos lie beside it, or in the folder `videos`
    train.csv, val.csv, test.csv      NExT-QA's own questions, also one of them or a folder; its videos as well
    folder/MSR_VTT.json, nextqa/      captions and questions of the same videos, which lie anywhere in the folder

A manifest may hold both: rows of JSON lines as they are, and columns of a table where one of the two is left empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.files.storage import is_folder
from core_encoder.files.urls import Location
from tasks.readers.annotations import clip_id, row_split, splits_from_folders
from tasks.readers.captions import (
    CaptionedSample,
    clip_place,
    is_empty_text,
    refuse_same_ids,
    row_texts,
    text_manifests,
)
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.events import Videos
from tasks.readers.manifests import Columns, Row, read_rows, refuse_absent
from tasks.readers.msr_vtt import is_msr_vtt, read_msr_vtt
from tasks.readers.next_qa import is_next_qa, read_next_qa
from tasks.sample import Sample
from tasks.splits import split_name

CaptionReader = Callable[[DatasetFolder, str], Sequence[CaptionedSample]]
_CAPTIONS, _QUESTIONS = "MSR_VTT.json", "nextqa"  # of a folder that holds both


@dataclass(frozen=True)
class TextSample(Sample):
    """One clip and what is right to say of it: its captions, or the right answers to a question."""

    texts: tuple[str, ...] = ()
    question: str = ""
    candidates: tuple[str, ...] = ()  # what the answer is one of, where that is given
    kind: str = ""  # the type of the question, where its data set tells several apart


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
    videos: str | Path | None = None,
) -> list[TextSample]:
    """Read a manifest, or a folder that holds one.

    Captions of one clip become one sample, and so do the answers to one question about it.

    Args:
        path_column, label_column, ...: columns whose name is not one of the usual (`tasks.readers.manifests.ALIASES`);
            `label_column` is that of the caption.
        videos: folder of the videos that files of MSR-VTT or NExT-QA name.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    if label_separator is not None:
        raise InputError("label_separator means nothing for texts: give a row for each, or a JSON list")
    if is_msr_vtt(source):
        told = read_msr_vtt(source, videos)
        return [TextSample(one.name, one.clip, (), one.split, one.captions) for one in told]
    if is_folder(source) and is_msr_vtt(Path(source).expanduser() / _CAPTIONS):
        return _both(Path(source).expanduser(), videos)
    manifests, folder = text_manifests(source)
    official = [(file, split) for file, split in manifests if is_next_qa(file)]
    if len(official) == len(manifests):
        return [sample for file, split in official for sample in _from_next_qa(file, split, videos)]
    if videos is not None:
        raise InputError("videos is for files of MSR-VTT and NExT-QA; the paths in a manifest are relative to it")
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


def texts_of(reader: CaptionReader, data: DatasetFolder, split: str) -> list[TextSample]:
    """What a reader of captions reads, for those who say captions rather than find videos by them."""
    return [TextSample(one.id, one.clip, (), one.split, one.captions) for one in reader(data, split)]


def _both(folder: Path, videos: str | Path | None) -> list[TextSample]:
    """The captions of a folder, and the questions about the same videos where there are some.

    Raises:
        InputError: a video is in one split for its captions and in another for its questions.
    """
    videos = folder if videos is None else videos
    told = read_texts(folder / _CAPTIONS, videos=videos)
    asked = read_texts(folder / _QUESTIONS, videos=videos) if (folder / _QUESTIONS).is_dir() else []
    splits = {one.clip: one.split for one in told}
    for one in asked:
        if splits.get(one.clip, one.split) != one.split:
            raise InputError(
                f"{folder / _QUESTIONS}: {one.clip.path} is in split {one.split or 'none'!r}, but in "
                f"{splits[one.clip] or 'none'!r} of {_CAPTIONS}; give all texts of a video one split"
            )
    return [*told, *asked]


def _from_next_qa(file: Path, split: str | None, videos: str | Path | None) -> list[TextSample]:
    """The questions of one of NExT-QA's files; its name says the split."""
    finder = Videos(file, videos)
    samples = [
        TextSample(
            one.id,
            Clip(finder.path_of(one.video, one.where)),
            (),
            split or split_name(file.stem),
            (one.answer,),
            one.question,
            one.options,
            one.kind,
        )
        for one in read_next_qa(file)
    ]
    refuse_absent(file, [sample.clip for sample in samples], "say where they are with --videos")
    return samples


def _samples(row: Row, root: Location, split: str | None) -> Iterator[TextSample]:
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
        kind = "" if is_empty_text(row.values.get("kind")) else str(row.values["kind"]).strip()
        yield TextSample(name, **known, texts=row_texts(row, "answer"), question=question, kind=kind)
