"""Features of clips, cached or computed, through one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from core_encoder.clip_bounds import Overrun
from core_encoder.clip_plan import Clip
from core_encoder.encoder import Encoder
from core_encoder.errors import EncoderMismatch, InputError, UnreadableVideo
from core_encoder.features.derivation import FinerStores
from core_encoder.features.encoding import EncodingRun, Event, ViewEncoded
from core_encoder.features.failures import Failure
from core_encoder.features.feature_spec import ClipKey, FeatureKey, FeatureSpec, Record
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.shard import UnstorableFeatures, as_stored, unpack
from core_encoder.video.decoders import open_video
from core_encoder.video.decoding import ClipFailed
from core_encoder.video.video_files import video_digest


class FeatureSource:
    """The features of clips; whoever asks does not know which of them are cached.

    `source[clip]` gives a clip's records, one a view; `records(clips)` encodes what is missing in batches. What is
    computed here is not stored: that is what `extract` does. Values are equal either way, up to batch arithmetic, for
    they go through the same dtype.
    """

    def __init__(
        self,
        encoder: Encoder | None,
        spec: FeatureSpec,
        root: str | Path,
        *,
        compute_missing: bool = True,
        batch_size: int = 8,
        num_workers: int = 2,
    ) -> None:
        """Features of `spec`, cached under `root`; without an encoder only the cached ones can be had.

        Raises:
            EncoderMismatch: `spec` is of another encoder.
        """
        if encoder is not None and encoder.fingerprint != spec.fingerprint:
            raise EncoderMismatch(f"these are features of encoder {spec.encoder!r}, not of {encoder.name!r}")
        self.spec = spec
        self.store = FeatureStore(root, spec)
        self._finer = FinerStores(root, spec)
        self._last: dict[Clip, list[Record]] = {}  # of the clip computed last: its windows are asked for one by one
        self.frames_decoded = 0
        self.overruns: dict[Clip, Overrun] = {}  # of clips computed here that end after their video
        self._encoder = encoder if compute_missing else None
        self._batch_size = batch_size
        self._num_workers = num_workers

    def __getstate__(self) -> dict[str, Any]:
        """Another process gets what is stored, without the encoder."""
        return {**self.__dict__, "_encoder": None, "_last": {}}

    def __repr__(self) -> str:
        return f"FeatureSource({self.store!r}, computes={self._encoder is not None})"

    def cached_keys(self, clip: Clip) -> list[FeatureKey]:
        """The store's keys of a clip's views; empty when it is not cached. Reads no more than the file's digest.

        Raises:
            UnreadableVideo: the file cannot be read.
        """
        return self.store.views(ClipKey.of(clip, video_digest(clip.path)))

    def num_views(self, clip: Clip) -> int:
        """How many views (dense plans: windows) a clip has, by the plan and the file's timestamps; nothing is encoded.

        Raises:
            UnreadableVideo: the file cannot be read.
        """
        if self.spec.plan.sampling != "dense":
            return self.spec.plan.views
        key = ClipKey.of(clip, video_digest(clip.path))
        if known := self.store.num_views(key):
            return known
        with open_video(clip.path, self.spec.decoder.partition("-")[0]) as video:
            return len(self.spec.plan.views_of(video.facts, key.clip_in(clip.path)))

    def __getitem__(self, clip: Clip) -> list[Record]:
        """The records of a clip, one a view.

        Raises:
            UnreadableVideo: it cannot be decoded.
            InputError: it is not cached, and there is no encoder to compute it.
        """
        found = self.records([clip])[0]
        if isinstance(found, Failure):
            raise UnreadableVideo(found.path, found.reason)
        return found

    def records(self, clips: Sequence[Clip]) -> list[list[Record] | Failure]:
        """For each clip its records, one a view, or why there are none.

        Raises:
            InputError: a clip is not cached, and there is no encoder to compute it.
        """
        found: dict[Clip, list[Record] | Failure] = {}
        missing = []
        for clip in dict.fromkeys(clips):
            try:
                keys = self.cached_keys(clip)
            except UnreadableVideo as error:
                found[clip] = Failure.of(clip, error.reason)
                continue
            if keys:
                found[clip] = [self.store.read(key) for key in keys]
            elif clip in self._last:
                found[clip] = self._last[clip]
            else:
                try:
                    derived = self._finer.derive(ClipKey.of(clip, video_digest(clip.path)))
                except UnstorableFeatures as error:
                    found[clip] = Failure.of(clip, str(error))
                    continue
                if derived:
                    found[clip] = derived
                else:
                    missing.append(clip)
        if missing:
            found |= self._compute(missing)
            last = found[missing[-1]]
            self._last = {} if isinstance(last, Failure) else {missing[-1]: last}
        return [found[clip] for clip in clips]

    def stream(self, clip: Clip) -> Iterator[Record]:
        """The records of a clip one by one, in order, as they are read or computed.

        Raises:
            UnreadableVideo: it cannot be decoded.
            InputError: it is not cached, and there is no encoder to compute it.
        """
        if keys := self.cached_keys(clip):
            yield from map(self.store.read, keys)
            return
        run = self._run([clip])
        with run:
            for event in run:
                self._note(event)
                if isinstance(event, ClipFailed):
                    raise UnreadableVideo(clip.path, event.reason)
                if isinstance(event, ViewEncoded):
                    try:
                        record = stored_record(event, self.spec)
                    except UnstorableFeatures as error:
                        raise UnreadableVideo(clip.path, str(error)) from error
                    yield record
        self.frames_decoded += run.encoder.frames_decoded

    def _run(self, clips: Sequence[Clip]) -> EncodingRun:
        if self._encoder is None:
            raise InputError(f"{clips[0].path}: no features of it in {self.store.folder}; encode it first")
        return EncodingRun(
            self._encoder, clips, [self.spec], batch_size=self._batch_size, num_workers=self._num_workers
        )

    def _compute(self, clips: Sequence[Clip]) -> dict[Clip, list[Record] | Failure]:
        run = self._run(clips)
        records: dict[ClipKey, dict[int, Record]] = {}
        reasons: dict[ClipKey | Clip, str] = {}
        keys: dict[Clip, ClipKey | None] = {}
        with run:
            for event in run:
                self._note(event)
                if isinstance(event, ViewEncoded):
                    views = records.setdefault(event.key.clip_key, {})
                    try:
                        views[event.key.view] = stored_record(event, self.spec)
                    except UnstorableFeatures as error:
                        reasons[event.key.clip_key] = str(error)
                else:
                    keys[event.clip] = event.key
                    if isinstance(event, ClipFailed):
                        reasons[event.key or event.clip] = event.reason
        self.frames_decoded += run.encoder.frames_decoded
        found: dict[Clip, list[Record] | Failure] = {}
        for clip in clips:
            key = keys[clip]
            reason = reasons.get(key or clip)
            if reason is None and key is not None:
                found[clip] = [record for _, record in sorted(records[key].items())]
            else:
                found[clip] = Failure.of(clip, reason or "not encoded")
        return found

    def _note(self, event: Event) -> None:
        overrun = event.source.overrun if isinstance(event, ViewEncoded) else None
        if isinstance(event, ClipFailed):
            overrun = event.overrun
        if overrun is not None:
            self.overruns[event.clip] = overrun


def stored_record(encoded: ViewEncoded, spec: FeatureSpec) -> Record:
    """A view that was just encoded as its record would be read back from a store of `spec`.

    Raises:
        UnstorableFeatures: a value is NaN, infinite or beyond the range of the dtype.
    """
    values = torch.empty(encoded.values[0].shape, dtype=spec.float_dtype)
    unpack(as_stored(encoded.values[0], spec.dtype), values)
    return Record(encoded.key, values, encoded.info)
