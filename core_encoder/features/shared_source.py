"""Features of several kinds of the same videos: each video is decoded and encoded once for all of one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from core_encoder.array_videos import ArrayVideo
from core_encoder.clip_bounds import Overrun
from core_encoder.clip_plan import Clip
from core_encoder.encoder import Encoder
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.features.array_source import ArraySource, encode_arrays
from core_encoder.features.encoding import Decoding, EncodingRun, Event, ViewEncoded, decode_files
from core_encoder.features.failures import Failure
from core_encoder.features.feature_source import FeatureSource, encode_clips, overrun_of, stored_records
from core_encoder.features.feature_spec import FeatureSpec, Record
from core_encoder.features.shard import UnstorableFeatures
from core_encoder.video.decoding import ClipFailed

Records = Mapping[FeatureSpec, list[Record]]
"""The records of one video, one a view, by what they are features of."""


class SharedSource:
    """The features of clips in several specs; those that agree in all but kind, layers and dtype come of one pass.

    What is cached under `root` is read there, nothing is stored. `passes` counts the clips that were encoded, once for
    every pass; `overruns` are those of them that end after their video.
    """

    def __init__(
        self,
        encoder: Encoder,
        specs: Sequence[FeatureSpec],
        root: str | Path,
        *,
        batch_size: int = 8,
        workers: int = 2,
        decoding: Decoding = decode_files,
    ) -> None:
        """Features of `specs`, each once; `decoding` brings the frames of what is not cached.

        Raises:
            EncoderMismatch: a spec is of another encoder.
        """
        self._encoder, self._batch_size, self._workers, self._decoding = encoder, batch_size, workers, decoding
        self.passes = 0
        self.overruns: dict[Clip, Overrun] = {}
        self._groups: list[dict[FeatureSpec, FeatureSource]] = []
        for spec in dict.fromkeys(specs):
            source = FeatureSource(encoder, spec, root, batch_size=batch_size, num_workers=workers)
            fitting = (group for group in self._groups if next(iter(group)).of_one_pass == spec.of_one_pass)
            group = next(fitting, None)
            if group is None:
                self._groups.append({spec: source})
            else:
                group[spec] = source

    def records(
        self, clips: Sequence[Clip], hear: Callable[[Event], None] = lambda event: None
    ) -> list[Records | Failure]:
        """For each clip its records in every spec, or why there are none; `hear` is told what is encoded."""

        def note(event: Event) -> None:
            self._note(event)
            hear(event)

        found: dict[Clip, dict[FeatureSpec, list[Record]] | Failure] = {clip: {} for clip in clips}
        for group in self._groups:
            known = {clip: _known(group, clip) for clip, one in found.items() if not isinstance(one, Failure)}
            if missing := [clip for clip, one in known.items() if one is None]:
                run = self._run(group, missing)
                computed, _ = encode_clips(run, missing, note)
                self.passes += len(missing)
                known |= {
                    clip: one if isinstance(one, Failure) else dict(zip(group, one, strict=True))
                    for clip, one in computed.items()
                }
            for clip, one in known.items():
                before = found[clip]
                if isinstance(one, Failure) or isinstance(before, Failure):
                    found[clip] = one if isinstance(one, Failure) else before
                elif one is not None:
                    before.update(one)
        return [found[clip] for clip in clips]

    def stream(self, clip: Clip) -> Iterator[Mapping[FeatureSpec, Record]]:
        """The records of a clip view by view, as they are read or computed; the specs are of one pass.

        Raises:
            InputError: the specs are of several passes, whose views differ.
            UnreadableVideo: it cannot be decoded.
        """
        if len(self._groups) != 1:
            raise InputError("features of different clip plans have different windows: ask for them apart")
        (group,) = self._groups
        if all(source.cached_keys(clip) for source in group.values()):
            views = zip(*(source.stream(clip) for source in group.values()), strict=True)
            yield from (dict(zip(group, several, strict=True)) for several in views)
            return
        self.passes += 1
        with self._run(group, [clip]) as run:
            for event in run:
                self._note(event)
                if isinstance(event, ClipFailed):
                    raise UnreadableVideo(clip.path, event.reason)
                if isinstance(event, ViewEncoded):
                    try:
                        yield dict(zip(group, stored_records(event, list(group)), strict=True))
                    except UnstorableFeatures as error:
                        raise UnreadableVideo(clip.path, str(error)) from error

    def records_of_arrays(self, videos: Sequence[ArrayVideo]) -> list[Records | Failure]:
        """For each video in memory its records in every spec, or why there are none.

        Raises:
            InputError: a plan counts seconds, which an array does not know.
        """
        found: list[dict[FeatureSpec, list[Record]] | Failure] = [{} for _ in videos]
        for group in self._groups:
            for spec in group:
                ArraySource(self._encoder, spec)  # refuses what arrays cannot give
            self.passes += len(videos)
            computed = encode_arrays(self._encoder, videos, list(group), self._batch_size)
            for place, one in enumerate(computed):
                before = found[place]
                if isinstance(one, Failure):
                    found[place] = one
                elif not isinstance(before, Failure):
                    before.update(zip(group, one, strict=True))
        return list(found)

    def _note(self, event: Event) -> None:
        if (overrun := overrun_of(event)) is not None:
            self.overruns[event.clip] = overrun

    def _run(self, group: Mapping[FeatureSpec, FeatureSource], clips: Sequence[Clip]) -> EncodingRun:
        return EncodingRun(
            self._encoder,
            clips,
            list(group),
            batch_size=self._batch_size,
            num_workers=self._workers,
            decoding=self._decoding,
        )


def _known(group: Mapping[FeatureSpec, FeatureSource], clip: Clip) -> dict[FeatureSpec, list[Record]] | Failure | None:
    """What is cached of a clip in every spec of a group, why there can be nothing, or None where any is missing."""
    found: dict[FeatureSpec, list[Record]] = {}
    for spec, source in group.items():
        one = source.known(clip)
        if one is None or isinstance(one, Failure):
            return one
        found[spec] = one
    return found
