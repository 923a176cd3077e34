"""Measures of every clip of a tier: taken in one pass, kept on disk, read back in the order of rows.

A folder under `PRISMHUB_HOME/curation/` named by the digest of the tier's rows holds `pixels/` (what needs no encoder)
and one folder per encoder (grounding score and embedding), each a `MeasureLog`. Statistics, filter and de-duplication
share them; a line counts as long as its video file is as it was.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core_encoder.cluster.cluster_settings import ClusterSettings
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.files.storage import prismhub_home
from pretrain.corpus.manifest import Tier
from pretrain.corpus.rows import Row
from pretrain.corpus.sources import Source, open_source
from pretrain.curation.clip_measures import (
    ClipLook,
    count_words,
    file_digest,
    look_at_drawing,
    look_at_image,
    look_at_video,
)
from pretrain.curation.measure_log import BLOCK, MeasureLog

if TYPE_CHECKING:
    from core_encoder.encoder import Encoder

Progress = Callable[[int, int, str], None]
_PIXEL_CHUNK = 32  # clips between two commits to disk


@dataclass(frozen=True)
class Measured:
    """One clip with what is known of it; None where a measure does not apply or the clip could not be read.

    `file` is the digest of its file's bytes, `content` adds the clip's bounds; `reason` says why it cannot be read;
    `grounding` is the cosine of its caption and its pictures, `vector` its unit embedding `(E,)`, both of one encoder.
    """

    number: int
    row: Row
    words: int
    duration_s: float | None = None
    motion: float | None = None
    file: str | None = None
    content: str | None = None
    reason: str | None = None
    grounding: float | None = None
    vector: NDArray[np.float16] | None = None


class TierMeasures:
    """The measures of one tier: `take` what is missing, then `read`.

    Args:
        encoder: adds embeddings, and grounding scores where it has a text tower.
        folder: where measures are kept (default: `PRISMHUB_HOME/curation`).
    """

    def __init__(
        self, tier: Tier, source: Source, encoder: Encoder | None = None, folder: str | Path | None = None
    ) -> None:
        self.tier = tier
        self.source = source
        self.encoder = encoder
        root = Path(folder) if folder is not None else prismhub_home() / "curation"
        self.folder = root / hashlib.sha256(f"{source.digest} {tier.media}".encode()).hexdigest()[:32]
        self._pixels = MeasureLog(self.folder / "pixels")
        self._encoded = MeasureLog(self.folder / _encoder_folder(encoder)) if encoder else None

    def take(
        self,
        numbers: Sequence[int] | None = None,
        *,
        workers: int = 2,
        clips_per_batch: int = 8,
        progress: Progress = lambda done, total, note: None,
        cluster: ClusterSettings | None = None,
    ) -> None:
        """Measure the clips of these rows (rising numbers; default: all) that are not measured yet.

        Durable batch by batch: a killed run goes on where it stopped. A clip that cannot be read is noted, with the
        reason, and measured again when its file changes. On a cluster, its processes measure and this one writes.

        Raises:
            InputError: the disk is full.
        """
        chosen: Sequence[int] = range(len(self.source)) if numbers is None else numbers
        known, taken, failed, started = 0, 0, 0, time.monotonic()

        def missing() -> Iterator[Task]:
            nonlocal known
            for block, group in itertools.groupby(chosen, lambda number: number // BLOCK):
                pixels = self._pixels.read(block)
                encoded = self._encoded.read(block) if self._encoded else {}
                for number in group:
                    row = self.source.row(number)
                    key = _file_key(row)
                    plain = pixels.get(number, {}).get("key") != key
                    encode = self._encoded is not None and encoded.get(number, {}).get("key") != key
                    if not plain and pixels[number].get("reason"):
                        encode = False
                    if plain or encode:
                        yield Task(number, row, key, plain, encode)
                    else:
                        known += 1

        def tell(where: str = "") -> None:
            rate = taken / max(time.monotonic() - started, 1e-9)
            progress(known + taken, len(chosen), f"{rate:.3g} clips/s, {failed} unreadable{where}")

        chunk = clips_per_batch if self.encoder else _PIXEL_CHUNK
        if cluster is not None and cluster.on_ray:
            from pretrain.curation.measuring_worker import measure_on_ray

            measured = measure_on_ray(self, missing(), chunk, workers, cluster, tell)
        else:
            measured = self.measured(missing(), chunk, workers)
        for lines in measured:
            self._pixels.append(lines.pixels)
            if self._encoded is not None:
                self._encoded.append(lines.encoded)
            taken += lines.count
            failed += lines.failed
            tell()
        tell()

    def measured(self, tasks: Iterable[Task], chunk: int, workers: int) -> Iterator[Lines]:
        """What is known of clips once they are looked at, and encoded where that was asked for, some at a time."""
        pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="measure")
        try:
            left = iter(tasks)
            waiting: list[Future[_Taken]] = []
            while True:
                # The next chunk is decoded while this one is encoded and written.
                coming = [pool.submit(self._look, task) for task in itertools.islice(left, chunk)]
                if waiting:
                    yield self._lines([future.result() for future in waiting])
                waiting = coming
                if not waiting:
                    return
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def read(self, numbers: Iterable[int] | None = None) -> Iterator[Measured]:
        """The clips of these rows (rising numbers; default: all) with their measures, which `take` has taken."""
        chosen = range(len(self.source)) if numbers is None else numbers
        for block, group in itertools.groupby(chosen, lambda number: number // BLOCK):
            pixels = self._pixels.read(block)
            encoded = self._encoded.read(block) if self._encoded else {}
            for number in group:
                yield self._measured(number, pixels.get(number, {}), encoded.get(number, {}))

    def hand_on(self, kept: Sequence[int], to: TierMeasures) -> None:
        """Give the measures of rows `kept` to the tier that holds just these rows, in this order."""
        for mine, other in ((self._pixels, to._pixels), (self._encoded, to._encoded)):
            if mine is None or other is None:
                continue
            for target, group in itertools.groupby(enumerate(kept), lambda pair: pair[0] // BLOCK):
                there = other.read(target)
                pairs = [(new, old) for new, old in group if new not in there]
                for source, few in itertools.groupby(pairs, lambda pair: pair[1] // BLOCK):
                    lines = mine.read(source)
                    other.append([lines[old] | {"row": new} for new, old in few if old in lines])

    def _measured(self, number: int, pixels: dict[str, Any], encoded: dict[str, Any]) -> Measured:
        row = self.source.row(number)
        duration_s, file = pixels.get("duration_s"), pixels.get("file")
        content = None
        if file is not None:
            end_s = row.start_s + duration_s if duration_s else None
            content = f"{file} {row.start_s:.3f} {'-' if end_s is None else f'{end_s:.3f}'}"
        vector = encoded.get("vector")
        return Measured(
            number,
            row,
            count_words(row.caption),
            duration_s,
            pixels.get("motion"),
            file,
            content,
            pixels.get("reason"),
            encoded.get("grounding"),
            None if vector is None else np.frombuffer(base64.b64decode(vector), dtype="<f2"),
        )

    def _look(self, task: Task) -> _Taken:
        """What a worker thread does: read one file."""
        encoder = self.encoder if task.encode else None
        preprocessing = encoder.preprocessing if encoder else None
        try:
            num_frames = encoder.num_frames if encoder else 0
            digest = None
            if self.tier.synthetic:
                look = look_at_drawing(self.source, task.number, num_frames, preprocessing)
            else:
                digest = file_digest(task.row) if task.plain else None
                if self.tier.media == "image":
                    look = look_at_image(task.row, preprocessing)
                else:
                    look = look_at_video(task.row, num_frames, preprocessing)
        except UnreadableVideo as error:
            return _Taken(task, None, None, error.reason)
        except (InputError, MemoryError):  # a full disk or memory says nothing about the clip
            raise
        except Exception as error:  # whatever a damaged file makes a decoder raise costs its clip, never the run
            return _Taken(task, None, None, " ".join(f"{type(error).__name__}: {error}".split()))
        return _Taken(task, look, digest, None)

    def _lines(self, taken: Sequence[_Taken]) -> Lines:
        seen = [one for one in taken if one.task.encode and one.look is not None]
        encoded = _encode(self.encoder, seen) if seen and self.encoder is not None else []
        pixels = [one.line() for one in taken if one.task.plain or one.reason is not None]
        return Lines(pixels, encoded, len(taken), sum(one.reason is not None for one in taken))


@dataclass(frozen=True)
class Lines:
    """What is to be written of some clips: lines of pixels, and of the encoder."""

    pixels: list[dict[str, Any]]
    encoded: list[dict[str, Any]]
    count: int
    failed: int


@dataclass(frozen=True)
class Task:
    """A clip that is to be measured."""

    number: int
    row: Row
    key: str
    plain: bool  # whether duration, motion and digest are missing
    encode: bool  # whether the encoder's measures are


@dataclass(frozen=True)
class _Taken:
    task: Task
    look: ClipLook | None
    digest: str | None
    reason: str | None

    def line(self) -> dict[str, Any]:
        line: dict[str, Any] = {"row": self.task.number, "key": self.task.key}
        if self.reason is not None or self.look is None:
            return line | {"reason": self.reason}
        duration_s = None if self.look.duration_s is None else round(self.look.duration_s, 6)
        motion = None if self.look.motion is None else round(self.look.motion, 6)
        return line | {"duration_s": duration_s, "motion": motion, "file": self.digest}


def _encode(encoder: Encoder, taken: Sequence[_Taken]) -> list[dict[str, Any]]:
    """Lines of a batch: each clip's unit embedding, and its cosine with its caption."""
    import torch
    from torch.nn.functional import normalize

    from core_encoder.preprocessing import to_video_tensor

    looks = [one.look for one in taken if one.look is not None]
    frames = [look.frames for look in looks if look.frames is not None]
    video = to_video_tensor(torch.from_numpy(np.stack(frames)).to(encoder.device))  # (B, T, 3, H, W)
    num_real = torch.tensor([look.num_real for look in looks], device=encoder.device)
    mask = torch.arange(video.shape[1], device=encoder.device) < num_real[:, None]  # (B, T)
    vectors = embed(encoder, video, None if bool(mask.all()) else mask).float()  # (B, E)
    scores: list[float | None] = [None] * len(taken)
    captions = [one.task.row.caption for one in taken]
    told = [place for place, caption in enumerate(captions) if caption]
    if told and _reads_text(encoder):
        texts = normalize(encoder.embed_text([captions[place] for place in told]).float(), dim=-1)
        for place, score in zip(told, (vectors[told] * texts).sum(-1).tolist(), strict=True):
            scores[place] = round(score, 6)
    packed = [base64.b64encode(vector.astype("<f2").tobytes()).decode("ascii") for vector in vectors.cpu().numpy()]
    return [
        {"row": one.task.number, "key": one.task.key, "grounding": score, "vector": vector}
        for one, score, vector in zip(taken, scores, packed, strict=True)
    ]


def _reads_text(encoder: Encoder) -> bool:
    return encoder.has_text and encoder.tokenizer is not None


def _encoder_folder(encoder: Encoder) -> str:
    """Once its tokenizer is there, an encoder that came without one measures again."""
    return encoder.fingerprint[:32] + ("" if _reads_text(encoder) else "-no-text")


def embed(encoder: Encoder, video: Any, mask: Any = None) -> Any:
    """Video (B, T, 3, H, W) -> unit vectors (B, E): the encoder's embedding, or the mean of its real tokens."""
    from torch.nn.functional import normalize

    if encoder.embedding_dim is not None:
        return normalize(encoder.embed_video(video, mask).float(), dim=-1)
    frames = encoder(video, mask).tokens.float().mean(2)  # (B, T, D)
    if mask is None:
        return normalize(frames.mean(1), dim=-1)  # (B, D)
    return normalize((frames * mask[:, :, None]).sum(1), dim=-1)  # (B, D); the count does not matter


def _file_key(row: Row) -> str:
    """Names the state of a row's file: measures of another state do not count."""
    try:
        status = os.stat(row.video)  # noqa: PTH116 (a Path would lose a trailing slash)
        state = f"{status.st_size} {status.st_mtime_ns}"
    except (OSError, ValueError):
        state = "absent"
    return hashlib.sha256(f"{row.path}\0{state}".encode()).hexdigest()[:16]


def open_tier(tier: Tier) -> Source:
    """The source of a tier, to be measured.

    Raises:
        InputError: a Hub stream, or its table or shards cannot be read.
    """
    if tier.hub:
        raise InputError(
            f"tier {tier.name!r} streams from the Hub: store its videos and a table of them on this machine first, "
            "and name the table in the manifest"
        )
    return open_source(tier)
