"""Videos whose every frame is labelled become clips around frames, each with the labels of the one in its middle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError, UnreadableVideo
from tasks.sample import Sample

Labels = tuple[str, ...]


@dataclass(frozen=True)
class Windows:
    """How clips are laid: `num_frames` frames, `stride` apart, around every `every`-th labelled frame.

    At the ends of the video a clip is cut, and is padded where it is encoded.
    """

    num_frames: int = 16
    stride: int = 1
    every: int = 1

    @property
    def length(self) -> int:
        """How many frames of the video a clip spans."""
        return self.num_frames * self.stride


def frame_samples(
    name: str,
    path: str,
    labels: Sequence[Labels | None],
    where: str,
    windows: Windows,
    fps: float = 30.0,
    split: str | None = None,
) -> list[Sample]:
    """A sample for every `every`-th frame that counts, called `<name>@<frame>`, counted from 0.

    Args:
        name: of the video.
        path: of its file, whose own frame rate is taken where it can be read.
        labels: of every frame from the first on; None where the frame does not count.
        where: the annotations are written, for messages.
        windows: how the clips are laid.
        fps: of a video that cannot be read, and so is never looked at.
        split: of the samples.

    Raises:
        InputError: there are more labels than frames, by more than one in fifty.
    """
    rate = _rate(path, len(labels), where) or fps
    samples = []
    for frame in range(windows.every // 2, len(labels), windows.every):
        if (known := labels[frame]) is not None:
            first = frame - windows.length // 2
            last = min(first + windows.length, len(labels))
            # a quarter of a frame inside, so that rounding never shows the neighbour
            clip = Clip(path, round((max(first, 0) + 0.25) / rate, 6), round((last - 0.25) / rate, 6))
            samples.append(Sample(f"{name}@{frame}", clip, known, split))
    return samples


def _rate(path: str, count: int, where: str) -> float | None:
    from core_encoder.video.decoders import read_facts

    try:
        facts = read_facts(path)
    except UnreadableVideo:
        return None
    if count > facts.num_frames * 1.02 + 2:
        raise InputError(f"{where}: labels {count} frames, but {path} has {facts.num_frames}; is it another video?")
    return facts.fps
