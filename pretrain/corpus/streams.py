"""Data sets of the Hub, streamed: rows come in order, shared out over processes, and a run goes on exactly.

Each process and worker reads its own shards (`split_dataset_by_node`). Rows are read in blocks and shuffled inside
the block by a key, because the shuffle buffer of `datasets` is lost on a resume; where a block began and how far it was
used is all that a resume needs. Every epoch has its own order of shards and of rows.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.files.hub import said
from core_encoder.preprocessing import Preprocessing
from pretrain.corpus.clip_order import keyed, permuted
from pretrain.corpus.manifest import HubSpec, Tier
from pretrain.corpus.rows import Row, RowColumns
from pretrain.corpus.sources import decode_bytes, read_image, read_row

_ROWS_WITHOUT_CAPTION = 10_000  # in a row, after which a stream is taken to have none


def states_of(stream_state: Any, rank: int, world: int, slots: int) -> dict[str, Any]:
    """The states of this rank's slots, from a batch's `stream_state` or from the list of those of all ranks.

    Raises:
        InputError: they were left by another number of processes or workers.
    """
    if stream_state is None:
        return {}
    given = stream_state if isinstance(stream_state, list) else [stream_state]
    before = (given[0]["world"], given[0]["workers"])
    if before != (world, slots) or len(given) != world:
        raise InputError(
            f"a Hub stream left by {before[0]} processes of {before[1]} workers cannot go on with {world} of {slots}"
            ": run it as before, or store the data set locally and name its table"
        )
    return dict(given[rank]["slots"])


def merged(states: Mapping[str, Any], world: int, slots: int) -> dict[str, Any]:
    """What `states_of` reads back."""
    return {"world": world, "workers": slots, "slots": dict(states)}


class StreamSet:
    """The streams of all Hub tiers for one slot: one worker of one process.

    Args:
        share: number of the slot, and how many there are over all processes.
        state: what `state()` gave, to go on from there.
    """

    def __init__(
        self, tiers: Sequence[Tier], seed: int, need_captions: bool, share: tuple[int, int], state: Any = None
    ) -> None:
        self._streams = {
            tier.name: HubStream(tier, seed, need_captions, share, (state or {}).get(tier.name))
            for tier in tiers
            if tier.hub
        }

    def next(self, tier: str) -> tuple[Row, bytes | None]:
        """The next row of a tier, with the bytes of its file where the row holds them."""
        return self._streams[tier].next()

    def state(self) -> dict[str, Any]:
        """Where every stream stands, ready for JSON."""
        return {name: stream.state() for name, stream in self._streams.items()}

    @staticmethod
    def read(
        tier: Tier, row: Row, content: bytes | None, num_frames: int, preprocessing: Preprocessing
    ) -> NDArray[np.uint8]:
        """The frames `(T, H, W, 3)` of a row.

        Raises:
            UnreadableVideo: missing, damaged, or the span lies outside the video.
        """
        if content is None and "://" in row.video:
            content = _fetched(row.video)
        if tier.media == "image":
            return read_image(row, preprocessing, content)
        if content is None:
            return read_row(row, tier.media, num_frames, preprocessing)
        return decode_bytes(content, row, num_frames, preprocessing)


class HubStream:
    """The endless rows of one Hub tier, for one slot.

    Raises:
        InputError: the data set cannot be opened or read, has no rows, or no captions where they are needed.
    """

    def __init__(self, tier: Tier, seed: int, need_captions: bool, share: tuple[int, int], state: Any = None) -> None:
        if tier.hub is None:
            raise ValueError(f"tier {tier.name!r} is no Hub tier")
        self.tier, self.spec, self.seed, self.need_captions, self.share = tier, tier.hub, seed, need_captions, share
        self._where = f"tier {tier.name!r}: {self.spec.path}"
        self._columns: RowColumns | None = None
        self._given = False  # whether this epoch has given a row
        self._without = 0  # rows without a caption since the last one with
        self._unfit = ""  # what was wrong with the last row that did not fit
        self._begin(0)
        if state is not None:
            self._begin(state["epoch"], state["block"], state["began"])
            self._given = True
            if state["place"]:
                self._read_block()
                self._place = state["place"]

    def state(self) -> dict[str, Any]:
        """Where the stream stands, ready for JSON: how much was used of which block, and where that began."""
        used_up = self._place == len(self._block)
        block, began = (self._number + bool(self._block), self._after) if used_up else (self._number, self._began)
        return {"epoch": self._epoch, "block": block, "began": began, "place": 0 if used_up else self._place}

    def next(self) -> tuple[Row, bytes | None]:
        """The next row, with the bytes of its file where the row holds them.

        Raises:
            UnreadableVideo: the row does not fit; the next call goes on behind it.
        """
        while True:
            while self._place == len(self._block):
                self._next_block()
            values = self._block[self._place]
            where = f"{self._where}: epoch {self._epoch}, block {self._number}, row {self._place}"
            self._place += 1
            row, content = self._row(values, where)
            if row.caption or not self.need_captions:
                self._without, self._given = 0, True
                return row, content
            self._without += 1
            if self._without >= _ROWS_WITHOUT_CAPTION:
                raise self._captionless()

    def _begin(self, epoch: int, number: int = 0, began: Any = None) -> None:
        """Stand before a block of an epoch."""
        data = _open(self.spec, self.share, self._where)
        data.set_epoch(1 + keyed(self.seed, self.tier.name, epoch) % 2**31)  # above 0 it names an order of the shards
        if began is not None:
            data.load_state_dict(began)
        self._epoch, self._number, self._began, self._after = epoch, number, began, began
        self._block: list[dict[str, Any]] = []
        self._place, self._given = 0, False
        # Blocks rather than rows: in a worker of a DataLoader iter(data) would share the rows out once more.
        self._data, self._blocks = data, data.iter(self.spec.shuffle_block)

    def _next_block(self) -> None:
        self._number += bool(self._block)
        self._began = self._after
        self._read_block()
        if self._block:
            return
        if not self._given:
            if self._without:
                raise self._captionless()
            if self._unfit:
                raise InputError(f"{self._where}: none of its rows fits; the last one: {self._unfit}")
            raise InputError(
                f"{self._where}: no rows for share {self.share[0] + 1} of {self.share[1]}; use fewer workers"
            )
        self._begin(self._epoch + 1)

    def _read_block(self) -> None:
        columns: dict[str, list[Any]]
        try:
            columns = next(self._blocks, {})
        except Exception as error:  # the rest of the epoch is lost with the iterator, which must not pass for its end
            raise InputError(
                f"{self._where}: epoch {self._epoch}, block {self._number}: cannot be read: {said(error)}"
                "; run the same command again, and repair the file if it is damaged"
            ) from error
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        self._after = self._data.state_dict()
        key = keyed(self.seed, self.tier.name, *self.share, self._epoch, self._number)
        self._block = [rows[permuted(place, len(rows), key)] for place in range(len(rows))]
        self._place = 0

    def _row(self, values: Mapping[str, Any], where: str) -> tuple[Row, bytes | None]:
        if self._columns is None or not self._columns.fits(values):
            self._columns = RowColumns(self.tier, values, self._where)
        video = values[self._columns.names["video"]]
        content: bytes | None = None
        if isinstance(video, dict):  # an undecoded feature of videos or images
            content, video = video.get("bytes"), video.get("path") or ""
        elif isinstance(video, bytes):
            content, video = video, ""
        try:
            if content is None and isinstance(video, str):
                values = {**values, self._columns.names["video"]: video}
            row = self._columns.row(values, where, None if content is None else video)
        except InputError as error:
            self._unfit = str(error).removeprefix(f"{where}: ")
            raise UnreadableVideo(where, self._unfit) from error
        return (row if content is not None else replace(row, video=self._located(row.video))), content

    def _located(self, video: str) -> str:
        """Where a file named in a row lies: beside the local data, or in the repository of the data set."""
        if "://" in video or Path(video).is_absolute():
            return video
        if self.spec.data_files and "/" not in self.spec.path:
            return os.path.normpath(Path(self.spec.data_files[0]).parent / video)
        if Path(self.spec.path).is_dir():
            return os.path.normpath(Path(self.spec.path) / video)
        return f"hf://datasets/{self.spec.path}@{self.spec.revision or 'main'}/{video}"

    def _captionless(self) -> InputError:
        return InputError(
            f"tier {self.tier.name!r} has no captions: stage 1 learns from captions; use it in stage 2 only or drop it"
        )


def _open(spec: HubSpec, share: tuple[int, int], where: str) -> Any:
    """The undecoded rows of one share.

    Raises:
        InputError: there is no such data set, split or file, or the network is away.
    """
    import datasets
    from datasets.distributed import split_dataset_by_node

    files = list(spec.data_files) or None
    try:
        data: Any = datasets.load_dataset(
            spec.path, spec.name, split=spec.split, revision=spec.revision, data_files=files, streaming=True
        )
        if data.features:
            data = data.decode(False)
        return split_dataset_by_node(data, rank=share[0], world_size=share[1])
    except Exception as error:  # a dozen kinds, of several libraries
        raise InputError(f"{where}: cannot be opened: {said(error)}") from error


def _fetched(url: str) -> bytes:
    import fsspec

    with fsspec.open(url, "rb") as file:
        content: bytes = file.read()
    return content
