"""Features of clips, cached or computed, through one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
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
from core_encoder.files.urls import Location
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
        root: str | Location,
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

    def of(self, encoder: Encoder, spec: FeatureSpec) -> FeatureSource:
        """Other features in the same place, made in the same way."""
        root = self.store.folder.parent
        return FeatureSource(encoder, spec, root, batch_size=self._batch_size, num_workers=self._num_workers)

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
        found = {clip: self.known(clip) for clip in dict.fromkeys(clips)}
        if missing := [clip for clip, known in found.items() if known is None]:
            computed, decoded = encode_clips(self._run(missing), missing, self._note)
            self.frames_decoded += decoded
            found |= {clip: one if isinstance(one, Failure) else one[0] for clip, one in computed.items()}
            last = found[missing[-1]]
            self._last = {missing[-1]: last} if isinstance(last, list) else {}
        return [one for clip in clips if (one := found[clip]) is not None]

    def known(self, clip: Clip) -> list[Record] | Failure | None:
        """The records of a clip that need no encoder, or why there can be none; None where it is to be encoded."""
        try:
            if keys := self.cached_keys(clip):
                return [self.store.read(key) for key in keys]
            if clip in self._last:
                return self._last[clip]
            return self._finer.derive(ClipKey.of(clip, video_digest(clip.path))) or None
        except UnreadableVideo as error:
            return Failure.of(clip, error.reason)
        except UnstorableFeatures as error:
            return Failure.of(clip, str(error))

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
                        (record,) = stored_records(event, [self.spec])
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

    def _note(self, event: Event) -> None:
        if (overrun := overrun_of(event)) is not None:
            self.overruns[event.clip] = overrun


def overrun_of(event: Event) -> Overrun | None:
    """How the clip of an event overruns its video; None where it does not, or where the event does not say."""
    if isinstance(event, ViewEncoded):
        return event.source.overrun
    return event.overrun if isinstance(event, ClipFailed) else None


def encode_clips(
    run: EncodingRun, clips: Sequence[Clip], hear: Callable[[Event], None]
) -> tuple[dict[Clip, tuple[list[Record], ...] | Failure], int]:
    """The records of clips in every spec of a run, one a view, or why there are none; and how many frames it decoded.

    `hear` is told of every event.
    """
    specs = run.encoder.specs
    records: dict[ClipKey, dict[int, tuple[Record, ...]]] = {}
    reasons: dict[ClipKey | Clip, str] = {}
    keys: dict[Clip, ClipKey | None] = {}
    with run:
        for event in run:
            hear(event)
            if isinstance(event, ViewEncoded):
                views = records.setdefault(event.key.clip_key, {})
                try:
                    views[event.key.view] = stored_records(event, specs)
                except UnstorableFeatures as error:
                    reasons[event.key.clip_key] = str(error)
            else:
                keys[event.clip] = event.key
                if isinstance(event, ClipFailed):
                    reasons[event.key or event.clip] = event.reason
    found: dict[Clip, tuple[list[Record], ...] | Failure] = {}
    for clip in clips:
        key = keys[clip]
        reason = reasons.get(key or clip)
        if reason is None and key is not None:
            views = records[key]
            found[clip] = tuple([views[view][place] for view in sorted(views)] for place in range(len(specs)))
        else:
            found[clip] = Failure.of(clip, reason or "not encoded")
    return found, run.encoder.frames_decoded


def stored_records(encoded: ViewEncoded, specs: Sequence[FeatureSpec]) -> tuple[Record, ...]:
    """A view that was just encoded as its records would be read back from the stores of its specs.

    Raises:
        UnstorableFeatures: a value is NaN, infinite or beyond the range of the dtype.
    """
    records = []
    for spec, given in zip(specs, encoded.values, strict=True):
        values = torch.empty(given.shape, dtype=spec.float_dtype)
        unpack(as_stored(given, spec.dtype), values)
        records.append(Record(encoded.key, values, encoded.info))
    return tuple(records)
