"""The hybrid corpus: mini-batches of clips from the tiers of a manifest, by alternating gradient descent.

Every batch comes from one tier, and tiers alternate by weight (`mixing="mix"` draws every clip by weight instead, for
comparison). Where a run is in the corpus is arithmetic on the step alone: the batch that is a tier's n-th holds the
clips `n B ... (n + 1) B - 1` of an endless stream whose every epoch is another permutation of the tier. So W processes
together see what one would, each its contiguous slice, and a resume needs only the step. Streams of the Hub are the
exception: see `pretrain/corpus/streams.py`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.preprocessing import Preprocessing
from pretrain.corpus.batch import ClipBatch, Skipped, UnreadableCount
from pretrain.corpus.clip_order import WeightedTurns
from pretrain.corpus.manifest import Manifest, Tier
from pretrain.corpus.rows import Row
from pretrain.corpus.streams import StreamSet, merged, states_of
from pretrain.corpus.tier_clips import TierClips

log = logging.getLogger(__name__)

Mixing = Literal["alternate", "mix"]
_MAX_ATTEMPTS = 20  # clips drawn in place of one that cannot be read


class Corpus:
    """Batches of the clips of a manifest.

    Args:
        manifest: its tiers.
        num_frames: frames of a video clip.
        image_size: height and width of the frames.
        seed: names the order of clips and tiers.
        mixing: "alternate" takes every batch from one tier, "mix" every clip.
        need_captions: clips without a caption are passed over.
        max_unreadable: the largest share of unreadable clips; past it `batches` stops.
        curriculum: tier name -> batches that come from it alone, one tier after the other, before all of `tiers`.
        rehearsal: names of tiers that take turns in every second batch of the curriculum instead.
        tiers: names of those that take turns after the curriculum (default: all).

    Attributes:
        digest: identity of the corpus: tiers, weights, and the content of every table and shard index.
        without_caption: tier name -> clips passed over for want of a caption.

    Raises:
        InputError: a table or shard that does not fit, or a tier of which no clip has a caption.
    """

    def __init__(
        self,
        manifest: Manifest,
        *,
        num_frames: int,
        image_size: int,
        seed: int,
        mixing: Mixing = "alternate",
        need_captions: bool = True,
        max_unreadable: float = 0.05,
        curriculum: Mapping[str, int] | None = None,
        rehearsal: Sequence[str] = (),
        tiers: Sequence[str] = (),
    ) -> None:
        if mixing not in ("alternate", "mix"):
            raise InputError(f"mixing must be 'alternate' or 'mix', not {mixing!r}")
        if not 0 <= max_unreadable <= 1:
            raise InputError(f"max_unreadable is a share of clips, between 0 and 1, not {max_unreadable:g}")
        self.manifest = manifest
        self.num_frames = num_frames
        self.preprocessing = Preprocessing(image_size)
        self.seed = seed
        self.mixing = mixing
        self.need_captions = need_captions
        self.max_unreadable = max_unreadable
        names = [tier.name for tier in manifest.tiers]
        self._drawn = [place for place, name in enumerate(names) if not tiers or name in tiers]
        self._turns = WeightedTurns([manifest.tiers[place].weight for place in self._drawn], seed)
        self._beginning = self._begin(curriculum or {}, rehearsal)
        self._shown = Counter(turn for turn, _ in self._beginning)
        self._tiers = tuple(None if tier.hub else TierClips(tier, need_captions, seed) for tier in manifest.tiers)
        self.without_caption = {
            tier.name: clips.without_caption
            for tier, clips in zip(manifest.tiers, self._tiers, strict=True)
            if clips and clips.without_caption
        }
        for name, count in self.without_caption.items():
            log.warning("tier %s: %d clips without a caption are passed over", name, count)
        self.digest = _digest(manifest.tiers, self._tiers)

    def __len__(self) -> int:
        """Clips that can be drawn, without those of Hub streams."""
        return sum(len(clips) for clips in self._tiers if clips)

    def describe(self) -> list[dict[str, Any]]:
        """What each tier is, for logs and cards; `clips` is None for a stream."""
        return [
            {
                "name": tier.name,
                "quality": tier.quality,
                "caption_source": tier.caption_source,
                "media": tier.media,
                "weight": tier.weight,
                "source": tier.source,
                "clips": len(clips) if clips else None,
            }
            for tier, clips in zip(self.manifest.tiers, self._tiers, strict=True)
        ]

    def captions(self, limit: int) -> Iterator[str]:
        """The first captions of each tier, `limit` over all of them, without those of Hub streams."""
        indexed = self._indexed()
        for _, clips in indexed:
            for place in range(min(len(clips), limit // len(indexed))):
                yield clips.source.row(clips.at(place, 0)).caption

    def shared_tiers(self, other: Corpus) -> list[tuple[str, str]]:
        """Tiers of this corpus and of another one that hold the same clips, by name; those of Hub streams left out."""
        theirs = {clips.source.digest: tier.name for tier, clips in other._indexed()}
        return [
            (tier.name, theirs[clips.source.digest]) for tier, clips in self._indexed() if clips.source.digest in theirs
        ]

    def _indexed(self) -> list[tuple[Tier, TierClips]]:
        return [(tier, clips) for tier, clips in zip(self.manifest.tiers, self._tiers, strict=True) if clips]

    def check(self, batch_size: int, world: int = 1) -> None:
        """Refuse a global batch that cannot be made.

        Raises:
            InputError: a tier (when mixing: the corpus) has fewer clips than one batch, or processes cannot share it.
        """
        if batch_size < 1 or batch_size % world:
            raise InputError(f"a global batch of {batch_size} clips cannot be shared by {world} processes")
        sizes = {tier.name: len(clips) for tier, clips in zip(self.manifest.tiers, self._tiers, strict=True) if clips}
        if self.mixing == "mix" and sizes:
            sizes = {} if len(sizes) < len(self._tiers) else {"corpus": sum(sizes.values())}
        for name, size in sizes.items():
            if size < batch_size:
                what = "the corpus" if self.mixing == "mix" else f"tier {name!r}"
                raise InputError(
                    f"{what} has {size} clips, fewer than one global batch of {batch_size}"
                    "; add clips or make the batch smaller"
                )

    def batch(self, step: int, batch_size: int, rank: int = 0, world: int = 1) -> ClipBatch:
        """The share of `rank` in the global batch at `step`, always the same.

        Raises:
            InputError: the batch cannot be made (see `check`), too many clips in a row cannot be read, or the step
                belongs to a Hub stream, which only `batches` can follow.
        """
        self.check(batch_size, world)
        return self._batch(step, batch_size, rank, world, None)

    def each_once(self, limit: int) -> Iterator[tuple[Row, NDArray[np.uint8] | Skipped]]:
        """Up to `limit` clips, none twice, tiers taking turns: frames (T, H, W, 3), or why they cannot be read.

        Clips of Hub streams are not among them.
        """
        tiers = self._indexed()
        longest = max((len(clips) for _, clips in tiers), default=0)
        drawn = ((tier, clips, n) for n in range(longest) for tier, clips in tiers if n < len(clips))
        for tier, clips, number in itertools.islice(drawn, limit):
            chosen = clips.at(number, 0)
            row = clips.source.row(chosen)
            try:
                yield row, clips.source.read(chosen, self.num_frames, self.preprocessing)
            except Exception as error:
                yield row, _skipped(number, tier, row.path, error)

    def batches(
        self,
        batch_size: int,
        *,
        first_step: int = 0,
        steps: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        stream_state: Any = None,
        skipped: int = 0,
        tell_skipped: Callable[[Sequence[Skipped]], None] | None = None,
    ) -> Iterator[ClipBatch]:
        """The shares of `rank` in the global batches `first_step ... steps - 1`, in order.

        Args:
            workers: processes that prepare batches ahead, each whole ones; 0 prepares them here.
            stream_state: of the last batch seen, where there are Hub streams; or the list of all ranks' states.
            skipped: unreadable clips of this rank before `first_step`.
            tell_skipped: is told those of each batch, also of the one whose share is too large.

        Raises:
            InputError: as `batch`; the share of unreadable clips is above `max_unreadable`; a Hub stream is to go on
                with another number of processes or workers.
        """
        self.check(batch_size, world)
        slots = max(workers, 1)
        hubs = tuple(tier for tier in self.manifest.tiers if tier.hub)
        states = states_of(stream_state, rank, world, slots) if hubs else {}
        made = _BatchMaker(self, batch_size, rank, world, slots, states)
        count = UnreadableCount(self.max_unreadable, first_step * (batch_size // world) + skipped, skipped)
        for batch in _in_order(made, range(first_step, steps), workers):
            if isinstance(batch, InputError):
                raise batch
            if tell_skipped and batch.skipped:
                tell_skipped(batch.skipped)
            count.add(batch)
            if hubs:
                states = {**states, str(batch.step % slots): batch.stream_state}
                batch = replace(batch, stream_state=merged(states, world, slots))
            yield batch

    def _batch(self, step: int, batch_size: int, rank: int, world: int, streams: StreamSet | None) -> ClipBatch:
        share = batch_size // world
        positions = range(rank * share, (rank + 1) * share)
        skipped: list[Skipped] = []
        rows: list[Row] = []
        frames: NDArray[np.uint8] | None = None
        for place, position in enumerate(positions):
            turn, number = self._place(step, batch_size, position)
            tier, clips = self.manifest.tiers[turn], self._tiers[turn]
            if clips is not None:
                row, pixels = self._read(step, tier, clips, number, skipped)
            elif streams is not None:
                row, pixels = self._read_stream(step, tier, streams, skipped)
            else:
                raise InputError(f"tier {tier.name!r} streams from the Hub: follow it with `batches`")
            if frames is None:
                frames = np.empty((share, self._length(tier), *pixels.shape[1:]), np.uint8)  # (b, T, H, W, 3)
            frames[place] = pixels
            rows.append(row)
        return ClipBatch(
            step,
            "mixed" if self._is_mixed(step) else self.manifest.tiers[turn].name,
            torch.from_numpy(frames),
            tuple(row.caption for row in rows),
            tuple(row.labels for row in rows),
            tuple(positions),
            tuple(skipped),
            streams.state() if streams else None,
        )

    def _place(self, step: int, batch_size: int, position: int) -> tuple[int, int]:
        """Which tier the clip at `position` of the batch comes from, and its number in that tier's endless stream."""
        if step < len(self._beginning):
            turn, before = self._beginning[step]
            return turn, before * batch_size + position
        step -= len(self._beginning)
        if self.mixing == "mix":
            turn, number = self._turns.at(step * batch_size + position)
        else:
            turn, before = self._turns.at(step)
            number = before * batch_size + position
        turn = self._drawn[turn]
        return turn, self._shown[turn] * batch_size + number

    def _begin(self, curriculum: Mapping[str, int], rehearsal: Sequence[str]) -> list[tuple[int, int]]:
        """For each batch of the curriculum whose turn it is, and how many batches that tier had before."""
        names = [tier.name for tier in self.manifest.tiers]
        rehearsed = [place for place, name in enumerate(names) if name in rehearsal]
        turns = [names.index(name) for name, batches in curriculum.items() for _ in range(batches)]
        if rehearsed:
            weighted = WeightedTurns([self.manifest.tiers[place].weight for place in rehearsed], self.seed)
            turns[1::2] = [rehearsed[weighted.at(turn)[0]] for turn in range(len(turns) // 2)]
        shown: Counter[int] = Counter()
        beginning = []
        for turn in turns:
            beginning.append((turn, shown[turn]))
            shown[turn] += 1
        return beginning

    def _is_mixed(self, step: int) -> bool:
        return self.mixing == "mix" and step >= len(self._beginning)

    def _length(self, tier: Tier) -> int:
        """Frames of the clips in a batch: in mixed ones the same on every rank, whatever each of them draws."""
        media = {other.media for other in self.manifest.tiers} if self.mixing == "mix" else {tier.media}
        return 1 if media == {"image"} else self.num_frames

    def _read(
        self, step: int, tier: Tier, clips: TierClips, number: int, skipped: list[Skipped]
    ) -> tuple[Row, NDArray[np.uint8]]:
        """The clip at `number` of the tier's endless stream, or the first readable one drawn in its place."""
        for attempt in range(_MAX_ATTEMPTS):
            chosen = clips.at(number, attempt)
            row = clips.source.row(chosen)
            try:
                return row, clips.source.read(chosen, self.num_frames, self.preprocessing)
            except Exception as error:
                skipped.append(_skipped(step, tier, row.path, error))
        raise _hopeless(skipped[-1])

    def _read_stream(
        self, step: int, tier: Tier, streams: StreamSet, skipped: list[Skipped]
    ) -> tuple[Row, NDArray[np.uint8]]:
        for _ in range(_MAX_ATTEMPTS):
            path = tier.name
            try:
                row, content = streams.next(tier.name)
                path = row.path
                return row, streams.read(tier, row, content, self.num_frames, self.preprocessing)
            except Exception as error:
                skipped.append(_skipped(step, tier, path, error))
        raise _hopeless(skipped[-1])


class _BatchMaker(torch.utils.data.Dataset):
    """Step -> batch, here or in a worker; a user's error comes back as a value, so that it stays one line."""

    def __init__(
        self, corpus: Corpus, batch_size: int, rank: int, world: int, slots: int, states: Mapping[str, Any]
    ) -> None:
        self._corpus, self._batch_size, self._rank, self._world = corpus, batch_size, rank, world
        self._slots, self._states = slots, states
        self._streams: dict[int, StreamSet] = {}

    def __getitem__(self, step: int) -> ClipBatch | InputError:
        slot = step % self._slots  # of the streams' shards; one worker serves one slot, whatever step a run starts at
        corpus = self._corpus
        try:
            if slot not in self._streams and any(tier.hub for tier in corpus.manifest.tiers):
                self._streams[slot] = StreamSet(
                    corpus.manifest.tiers,
                    corpus.seed,
                    corpus.need_captions,
                    (self._rank * self._slots + slot, self._world * self._slots),
                    self._states.get(str(slot)),
                )
            return corpus._batch(step, self._batch_size, self._rank, self._world, self._streams.get(slot))
        except InputError as error:
            return error


def _in_order(maker: _BatchMaker, steps: Sequence[int], workers: int) -> Iterator[ClipBatch | InputError]:
    if not workers:
        return (maker[step] for step in steps)
    loader: Any = torch.utils.data.DataLoader(maker, batch_size=None, sampler=steps, num_workers=workers)
    return iter(loader)


def _skipped(step: int, tier: Tier, path: str, error: Exception) -> Skipped:
    """Whatever a damaged file makes a decoder raise costs its clip, never the run; want of disk or memory stops it."""
    if isinstance(error, UnreadableVideo):
        return Skipped(step, tier.name, error.path, error.reason)
    if isinstance(error, InputError | MemoryError):
        raise error
    log.debug("%s: not read", path, exc_info=error)
    return Skipped(step, tier.name, path, " ".join(f"{type(error).__name__}: {error}".split()))


def _hopeless(last: Skipped) -> InputError:
    return InputError(
        f"tier {last.tier!r}: {_MAX_ATTEMPTS} clips in a row could not be read, the last one {last.path}: {last.reason}"
    )


def _digest(tiers: Sequence[Tier], clips: Sequence[TierClips | None]) -> str:
    parts = []
    for tier, one in zip(tiers, clips, strict=True):
        source = one.source.digest if one else asdict(tier.hub) if tier.hub else None
        together = [tier.together] if tier.together > 1 else []  # left out, as in corpora from before it was there
        parts.append([tier.name, tier.weight, tier.media, dict(tier.columns), list(tier.labels), source, *together])
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
