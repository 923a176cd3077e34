"""Features of videos in memory, through the call of `FeatureSource`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from core_encoder.array_videos import ArrayVideo
from core_encoder.clip_plan import Clip, VideoFacts
from core_encoder.encoder import Encoder
from core_encoder.errors import EncoderMismatch, InputError
from core_encoder.features.dtypes import PRECISIONS
from core_encoder.features.encoding import ClipEncoder, ViewEncoded
from core_encoder.features.failures import Failure
from core_encoder.features.feature_source import stored_records
from core_encoder.features.feature_spec import ClipKey, FeatureSpec, Record
from core_encoder.features.shard import UnstorableFeatures
from core_encoder.video.decoding import ClipFrames, Source
from core_encoder.video.frames import ArrayFrame, DecodedFrame
from core_encoder.video.reader import VideoReader


class ArraySource:
    """The features of videos in memory: sampled, resized, encoded and rounded as those of a file; nothing is stored.

    Start, end and times of their records count frames.
    """

    def __init__(self, encoder: Encoder, spec: FeatureSpec, *, batch_size: int = 8) -> None:
        """Features of `spec`.

        Raises:
            EncoderMismatch: `spec` is of another encoder.
            InputError: the encoder runs in another precision, or the plan counts seconds.
        """
        if encoder.fingerprint != spec.fingerprint:
            raise EncoderMismatch(f"these are features of encoder {spec.encoder!r}, not of {encoder.name!r}")
        if PRECISIONS[encoder.dtype] != spec.precision:
            raise InputError(f"these are features computed in {spec.precision}, but the encoder is in {encoder.dtype}")
        if spec.plan.fps is not None:
            raise InputError(
                f"frames are sampled at {spec.plan.fps:g} a second here, and an array knows no seconds: give the video "
                "as a file, or sample by uniform or stride"
            )
        self.spec = spec
        self._encoder = encoder
        self._batch_size = batch_size

    def records(self, videos: Sequence[ArrayVideo]) -> list[list[Record] | Failure]:
        """For each video its records, one a view, or why they cannot be kept in the dtype of the spec."""
        found = encode_arrays(self._encoder, videos, [self.spec], self._batch_size)
        return [one if isinstance(one, Failure) else one[0] for one in found]


def encode_arrays(
    encoder: Encoder, videos: Sequence[ArrayVideo], specs: Sequence[FeatureSpec], batch_size: int
) -> list[tuple[list[Record], ...] | Failure]:
    """For each video its records in every spec of one pass, one a view, or why they cannot be kept."""
    found: list[tuple[list[Record], ...] | Failure] = [tuple([] for _ in specs) for _ in videos]
    for event in ClipEncoder(encoder, specs, batch_size).events(_parts(videos, specs[0])):
        if not isinstance(event, ViewEncoded):
            continue
        place = int(event.key.digest)
        records = found[place]
        if not isinstance(records, Failure):
            try:
                for kept, record in zip(records, stored_records(event, specs), strict=True):
                    kept.append(record)
            except UnstorableFeatures as error:
                found[place] = Failure.of(event.clip, str(error))
    return found


def _parts(videos: Sequence[ArrayVideo], spec: FeatureSpec) -> Iterator[ClipFrames]:
    for place, video in enumerate(videos):
        clip, reader = Clip(video.name), _ArrayReader(video)
        views = spec.plan.views_of(video.facts, clip)
        source = Source(clip, ClipKey(str(place), 0, -1), video.facts, len(views))
        for view in views:
            frames = torch.from_numpy(reader.read(view.frame_indices, spec.preprocessing))
            yield ClipFrames(source, (view,), view.frame_indices, frames, shared=False, last=view is views[-1])


class _ArrayReader(VideoReader):
    """Frames of an array where those of a file are expected."""

    decoder = "array"

    def __init__(self, video: ArrayVideo) -> None:
        self.path = video.name
        self._video = video

    @property
    def facts(self) -> VideoFacts:
        return self._video.facts

    def decode(self, index: int, patient: bool = True) -> DecodedFrame:
        return ArrayFrame(np.array(self._video.frames[index]))  # a copy: torch warns of arrays it may not write to

    def close(self) -> None:
        """Nothing to let go of."""
