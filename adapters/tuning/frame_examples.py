"""Frames of clips with their targets: what a head reads that trains together with its encoder."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from adapters.features import Batch, ClipFeatures, Example, example_of, stack
from adapters.predictions import Truth
from adapters.tuning.broken_clips import BrokenClips
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.features.feature_spec import ClipKey, FeatureSpec, Record
from core_encoder.preprocessing import Crop, Preprocessing
from core_encoder.video.decoders import open_video
from core_encoder.video.decoding import Source
from core_encoder.video.video_files import video_digest
from fit.augmentation.augmentation import Augmentation


class FrameExamples:
    """The examples of some clips with frames, uint8 `(T, H, W, 3)`, where features would be.

    Masks `(T,)` are of frames. These are the very frames of which the features of the clips are made. Only in an epoch
    of training are they augmented, by seed, epoch and place of the example. A clip that can no longer be read costs its
    own examples.
    """

    def __init__(
        self, clips: ClipFeatures, spec: FeatureSpec, augmentation: Augmentation, broken: BrokenClips, workers: int = 2
    ) -> None:
        """Frames of `clips` as `spec` samples and shows them; `broken` lists those lost, `workers` threads decode."""
        self.clips = clips
        self.spec = spec
        self.ids, self.targets = clips.ids, clips.targets
        self._augmentation, self._workers = augmentation, workers
        self._epoch: tuple[int, int] | None = None  # seed and number
        self._broken = broken
        self._addresses = clips.addresses()  # now: later a file may be gone

    @property
    def inputs(self) -> dict[str, list[Any]]:
        """What is given beside each example, by name."""
        return self.clips.inputs

    def addresses(self) -> list[str]:
        """The content address of every clip."""
        return self._addresses

    def clip_seconds(self) -> list[float]:
        """How many seconds of video the views of each clip are."""
        return self.clips.clip_seconds()

    def of_epoch(self, epoch: int, seed: int) -> FrameExamples:
        """The same examples as an epoch of training with this seed sees them."""
        other = copy.copy(self)
        other._epoch = (seed, epoch)
        return other

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Example:
        """The frames of one view, or of the next one that can still be read.

        Raises:
            InputError: too many clips have broken.
        """
        return self._next_readable(index)[1]

    def read_batch(self, indices: Sequence[int]) -> Batch:
        """Examples stacked, those of broken clips left out; `places` says which they are.

        Where none is left, the next one that can be read stands for them: other processes wait for this one's share.

        Raises:
            InputError: too many clips have broken.
        """
        chosen = [int(index) for index in indices]
        with ThreadPoolExecutor(self._workers, thread_name_prefix="decode") as pool:
            found = list(pool.map(self._read, chosen))
        readable: dict[int, Example] = {}
        for place, one in zip(chosen, found, strict=True):
            if isinstance(one, UnreadableVideo):
                self._leave_out(place, one)
            else:
                readable[place] = one
        if not readable:
            readable = dict([self._next_readable(chosen[-1] + 1)])
        batch = stack(list(readable.values()))
        batch.places = list(readable)
        return batch

    def _next_readable(self, index: int) -> tuple[int, Example]:
        """The first example from `index` on, round the end, that can be read, with its place."""
        for place in (*range(index, len(self)), *range(min(index, len(self)))):
            found = self._read(place)
            if not isinstance(found, UnreadableVideo):
                return place, found
            self._leave_out(place, found)
        raise InputError(f"{found}: no clip beside it can be read any more; is the disk there?")

    def _read(self, index: int) -> Example | UnreadableVideo:
        """The frames of one view, or why there are none."""
        try:
            return self._decode(index)
        except UnreadableVideo as error:
            return error

    def _leave_out(self, index: int, error: UnreadableVideo) -> None:
        self._broken.add(self.clips.clips[self.clips.places[index][0]], error.reason)

    def _decode(self, index: int) -> Example:
        place, number = self.clips.places[index]
        clip = self.clips.clips[place]
        key = ClipKey.of(clip, video_digest(clip.path))
        with open_video(clip.path, self.spec.decoder.partition("-")[0]) as video:
            views = self.spec.plan.views_of(video.facts, key.clip_in(clip.path))
            view = views[number]

            def read(shown: Preprocessing | Crop) -> Any:
                return video.read(view.frame_indices, shown)

            if self._epoch is None:
                frames = read(self.spec.preprocessing)
            else:
                rng = np.random.default_rng([*self._epoch, index])
                frames = self._augmentation.read(read, self.spec.preprocessing, rng)
            info = Source(clip, key, video.facts, len(views)).info(view)
        known = Truth(self.ids[index], self.targets[index], self.clips.given_beside(place))
        return example_of([Record(key.view(number), torch.from_numpy(frames), info)], known)
