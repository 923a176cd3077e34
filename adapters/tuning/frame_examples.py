"""Frames of clips with their targets: what a head reads that trains together with its encoder."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from adapters.features import Batch, ClipFeatures, Example, example_of, stack
from adapters.predictions import Truth
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.features.feature_spec import ClipKey, FeatureSpec, Record
from core_encoder.preprocessing import Crop, Preprocessing
from core_encoder.video.decoders import open_video
from core_encoder.video.decoding import Source
from core_encoder.video.video_files import video_digest
from fit.augmentation.augmentation import Augmentation

log = logging.getLogger(__name__)


class FrameExamples:
    """The examples of some clips with frames, uint8 `(T, H, W, 3)`, where features would be.

    Masks `(T,)` are of frames. These are the very frames of which the features of the clips are made. Only in an epoch
    of training are they augmented, by seed, epoch and place of the example; then a video that can no longer be read
    costs its own example.
    """

    def __init__(self, clips: ClipFeatures, spec: FeatureSpec, augmentation: Augmentation, workers: int = 2) -> None:
        """Frames of `clips` as `spec` samples and shows them; `workers` threads decode."""
        self.clips = clips
        self.spec = spec
        self.ids, self.targets = clips.ids, clips.targets
        self._augmentation, self._workers = augmentation, workers
        self._epoch: tuple[int, int] | None = None  # seed and number
        self._broken: set[str] = set()

    @property
    def inputs(self) -> dict[str, list[Any]]:
        """What is given beside each example, by name."""
        return self.clips.inputs

    def addresses(self) -> list[str]:
        """The content address of every clip."""
        return self.clips.addresses()

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
        """The frames of one view.

        Raises:
            InputError: the video can no longer be read.
        """
        try:
            return self._read(index)
        except UnreadableVideo as error:
            raise InputError(f"{error}: it could be read before; is the disk there?") from error

    def read_batch(self, indices: Sequence[int]) -> Batch:
        """Examples stacked; in training those of broken videos are left out, which is said once.

        Raises:
            InputError: none is left, or one broke that is judged.
        """
        with ThreadPoolExecutor(self._workers, thread_name_prefix="decode") as pool:
            jobs = [pool.submit(self._read, int(index)) for index in indices]
        examples: list[Example] = []
        problem: UnreadableVideo | None = None
        for job in jobs:
            try:
                examples.append(job.result())
            except UnreadableVideo as error:
                problem = error
                if self._epoch is None:
                    break
                if error.path not in self._broken:
                    self._broken.add(error.path)
                    log.warning("%s: it could be read before; training goes on without it", error)
        if problem is not None and (self._epoch is None or not examples):
            raise InputError(f"{problem}: it could be read before; is the disk there?") from problem
        return stack(examples)

    def _read(self, index: int) -> Example:
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
