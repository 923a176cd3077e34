"""Duplicates in a corpus: the same bytes with the same bounds, and pictures whose embeddings nearly agree.

Of several equal clips the first is kept, clean tiers coming before noisy ones. Against evaluation sets a clip goes when
its file is one of theirs, whatever its bounds, or when its embedding is near one of theirs.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError
from core_encoder.files.storage import writing_to
from core_encoder.preprocessing import Preprocessing
from core_encoder.video.video_files import find_videos
from pretrain.corpus.manifest import Manifest, Tier
from pretrain.corpus.rows import Row
from pretrain.corpus.sources import read_row
from pretrain.curation.corpus_measures import Measured, Progress, TierMeasures, open_tier

_ROWS_AT_ONCE = 2048  # of a similarity matrix: 16 MiB
Duplicates = dict[tuple[str, int], dict[str, Any]]  # (tier, row) -> why it goes


class FolderSource:
    """The videos of a folder, each one whole clip without a caption."""

    def __init__(self, folder: Path) -> None:
        self.videos = [video.absolute() for video in find_videos(folder)]
        names = "\0".join(map(str, self.videos))
        self.digest = hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()
        self.captioned: NDArray[np.int64] | None = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self.videos)

    def row(self, number: int) -> Row:
        return Row(str(self.videos[number]))

    def read(self, number: int, num_frames: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        return read_row(self.row(number), "video", num_frames, preprocessing)


def evaluation_sets(given: Sequence[str | Path], encoder: Any = None, folder: Path | None = None) -> list[TierMeasures]:
    """The clips of folders of videos, and of the tiers of manifests, ready to be measured.

    Raises:
        InputError: no such folder or manifest, or no video in it.
    """
    found: list[TierMeasures] = []
    for word in given:
        path = Path(word).expanduser()
        if path.suffix.lower() in (".yaml", ".yml") and not path.is_dir():
            tiers = Manifest.load(path).tiers
            found += [TierMeasures(tier, open_tier(tier), encoder, folder) for tier in tiers if not tier.synthetic]
        elif path.is_dir():
            tier = Tier(name="evaluation", quality="clean", table=path.absolute())
            found.append(TierMeasures(tier, FolderSource(path), encoder, folder))
        else:
            raise InputError(f"{path}: {'not a folder or a .yaml manifest' if path.exists() else 'no such folder'}")
    return found


def exact_duplicates(corpus: Sequence[TierMeasures], against: Sequence[TierMeasures] = ()) -> Duplicates:
    """Clips whose file is in an evaluation set, and those with the bytes and bounds of an earlier clip."""
    theirs = {clip.file: clip.row.path for part in against for clip in part.read() if clip.file}
    found: Duplicates = {}
    first: dict[bytes, tuple[str, int]] = {}  # 16 bytes a clip name its content
    for part, clip in _clean_first(corpus):
        if clip.file is None or clip.content is None:
            continue
        if clip.file in theirs:
            found[part.tier.name, clip.number] = {"why": "evaluation", "of": theirs[clip.file], "similarity": 1.0}
            continue
        content = hashlib.sha256(clip.content.encode()).digest()[:16]
        tier, number = first.setdefault(content, (part.tier.name, clip.number))
        if (tier, number) != (part.tier.name, clip.number):
            of = {"tier": tier, "row": number}
            found[part.tier.name, clip.number] = {"why": "duplicate", "of": of, "similarity": 1.0}
    return found


def near_duplicates(
    corpus: Sequence[TierMeasures],
    against: Sequence[TierMeasures],
    near: float,
    known: Duplicates,
    folder: Path,
    progress: Progress = lambda done, total, note: None,
) -> Duplicates:
    """Clips whose embedding has a cosine of at least `near` with one of an evaluation set or of an earlier kept clip.

    Clips in `known` are passed over. Vectors lie in a temporary file under `folder`; memory holds blocks of them.

    Raises:
        InputError: `near` is no cosine, or the disk is full.
    """
    if not -1 < near <= 1:
        raise InputError(f"near is a cosine, above -1 and at most 1, not {near}")
    with ExitStack() as stack:
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix=".vectors-", dir=folder))
        ours: list[tuple[str, int]] = []
        names: list[str] = []

        def their_clips() -> Iterator[NDArray[np.float16]]:
            for part in against:
                for clip in part.read():
                    if clip.vector is not None:
                        names.append(clip.row.path)
                        yield clip.vector

        def our_clips() -> Iterator[NDArray[np.float16]]:
            for part, clip in _clean_first(corpus):
                if clip.vector is not None and (part.tier.name, clip.number) not in known:
                    ours.append((part.tier.name, clip.number))
                    yield clip.vector

        evaluation = _stored(Path(scratch) / "evaluation.f16", their_clips())
        vectors = _stored(Path(scratch) / "corpus.f16", our_clips())
        found: Duplicates = {}
        for place, other, similarity in near_pairs(vectors, evaluation, near, progress):
            of: Any = names[-other - 1] if other < 0 else {"tier": ours[other][0], "row": ours[other][1]}
            why = "near_evaluation" if other < 0 else "near_duplicate"
            found[ours[place]] = {"why": why, "of": of, "similarity": round(similarity, 4), "limit": near}
        return found


def near_pairs(
    vectors: NDArray[Any],
    evaluation: NDArray[Any],
    near: float,
    progress: Progress = lambda done, total, note: None,
    block: int = _ROWS_AT_ONCE,
) -> Iterator[tuple[int, int, float]]:
    """(vector that goes, the nearest it goes for, cosine), rising; `-1 - e` stands for vector e of `evaluation`.

    A vector goes when its cosine with one of `evaluation`, or with an earlier vector that stays, is at least `near`;
    one of `evaluation` is named first. Time grows with the square of the number of vectors.

    Args:
        vectors, evaluation: unit vectors `(N, E)` and `(M, E)`, which may be memory-mapped.
    """
    stays = np.ones(len(vectors), dtype=bool)
    starts, theirs = range(0, len(vectors), block), range(0, len(evaluation), block)
    total = len(starts) * len(theirs) + len(starts) * (len(starts) + 1) // 2
    done = 0
    for start in starts:
        mine = _block(vectors, start, block)  # (b, E)
        best = np.full(len(mine), -2.0, dtype=np.float32)
        whom = np.zeros(len(mine), dtype=np.int64)
        for first in theirs:
            _improve(best, whom, mine @ _block(evaluation, first, block).T, -1 - first - np.arange(block))
            done += 1
            progress(done, total, "comparing")
        rest = best < near  # those of an evaluation set are settled
        for first in range(0, start, block):
            scores = mine @ _block(vectors, first, block).T  # (b, b)
            scores[:, ~stays[first : first + block]] = -2.0
            scores[~rest] = -2.0
            _improve(best, whom, scores, first + np.arange(block))
            done += 1
            progress(done, total, "comparing")
        within = np.tril(mine @ mine.T, -1)
        within[np.triu_indices(len(mine))] = -2.0
        for place in range(len(mine)):
            if rest[place]:
                scores = np.where(stays[start : start + place], within[place, :place], -2.0)
                _improve(best[place : place + 1], whom[place : place + 1], scores[None], start + np.arange(place))
            if best[place] >= near:
                stays[start + place] = False
                yield start + place, int(whom[place]), float(min(best[place], 1.0))
        done += 1
        progress(done, total, "comparing")


def _improve(
    best: NDArray[np.float32], whom: NDArray[np.int64], scores: NDArray[np.float32], names: NDArray[np.int64]
) -> None:
    if not scores.shape[1]:
        return
    top = scores.argmax(1)
    values = scores[np.arange(len(scores)), top]
    better = values > best
    best[better] = values[better]
    whom[better] = names[top[better]]


def _block(vectors: NDArray[Any], start: int, size: int) -> NDArray[np.float32]:
    """Unit vectors `(b, E)` in float32; rounding to float16 took some of their length."""
    rows = np.asarray(vectors[start : start + size], dtype=np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _stored(path: Path, rows: Iterator[NDArray[np.float16]]) -> NDArray[Any]:
    """The rows as one memory-mapped array `(N, E)`.

    Raises:
        InputError: the disk is full.
    """
    count = width = 0
    with writing_to(path.parent), path.open("wb") as file:
        for row in rows:
            file.write(row.astype("<f2").tobytes())  # `tofile` says nothing of why it failed
            count, width = count + 1, len(row)
    if not count:
        return np.empty((0, max(width, 1)), dtype=np.float16)
    return np.memmap(path, dtype="<f2", mode="r", shape=(count, width))


def _clean_first(corpus: Sequence[TierMeasures]) -> Iterator[tuple[TierMeasures, Measured]]:
    for part in sorted(corpus, key=lambda part: part.tier.quality != "clean"):  # a stable sort
        for clip in part.read():
            yield part, clip


def verdict_of(found: Duplicates) -> Callable[[TierMeasures, Measured], list[dict[str, Any]]]:
    """What `write_corpus` asks about each clip."""
    return lambda part, clip: [found[key]] if (key := (part.tier.name, clip.number)) in found else []
