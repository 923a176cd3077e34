"""Clips that are found while videos are decoded: what is stored equals what `extract` stores of the same clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core_encoder.clip_plan import Clip, ClipPlan, VideoFacts
from core_encoder.cut_extraction import CutClip, CutEvent, CutExtraction, CutFailed
from core_encoder.encoder import Encoder
from core_encoder.errors import InputError
from core_encoder.extraction import extract, spec_for
from core_encoder.features.feature_spec import FeatureSpec
from core_encoder.features.feature_store import FeatureStore
from core_encoder.video.cutting import VideoCut, VideoFailed, VideoOpened
from core_encoder.video.frames import DecodedFrame
from tests.videos import moving_square, write_video


class EveryHalfSecond:
    """Settles a clip a while after it has passed, as a detector does; or knows them all beforehand."""

    def __init__(self, path: str, facts: VideoFacts, beforehand: bool) -> None:
        self._all = [
            Clip(path, place / 2, min(place / 2 + 0.5, facts.duration_s)) for place in range(int(facts.duration_s * 2))
        ]
        self.clips: Sequence[Clip] | None = self._all if beforehand else None
        self._facts, self._given = facts, 0
        self.open_s = 0.0
        self.seen: list[int] = []

    def see(self, index: int, frame: DecodedFrame | None) -> Sequence[Clip]:
        self.seen.append(index)
        passed = [clip for clip in self._all[self._given :] if clip.end_s + 0.2 <= self._facts.timestamps[index]]
        return self._take(len(passed))

    def end(self) -> Sequence[Clip]:
        return self._take(len(self._all) - self._given)

    def picture(self, frame: DecodedFrame) -> Any:
        return frame.rgb().shape

    def _take(self, count: int) -> Sequence[Clip]:
        self._given += count
        self.open_s = self._given / 2
        return self._all[self._given - count : self._given]


def cut(encoder: Encoder, videos: list[Clip], specs: list[FeatureSpec], root: Path, **options: Any) -> list[CutEvent]:
    beforehand = options.pop("beforehand", False)
    with CutExtraction(
        encoder,
        [clip.path for clip in videos],
        lambda path, facts: EveryHalfSecond(path, facts, beforehand),
        specs,
        root,
        **options,
    ) as run:
        return list(run)


def values(root: Path, spec: FeatureSpec) -> dict[Any, torch.Tensor]:
    store = FeatureStore(root, spec)
    return {key: store.read(key).values for key in store}


@pytest.mark.parametrize("beforehand", [False, True], ids=["found", "given"])
@pytest.mark.parametrize("held_bytes", [0, 30_000, 1 << 30], ids=["nothing held", "some", "all"])
def test_the_store_holds_what_encoding_the_clips_gives(
    nano: Encoder, videos: list[Clip], tmp_path: Path, beforehand: bool, held_bytes: int
) -> None:
    """Several passes at once: embeddings and tokens, two views, and windows that share frames."""
    specs = [spec_for(nano, kind=kind, dtype="fp32") for kind in ("embedding", "tokens")]
    specs.append(spec_for(nano, ClipPlan(4, views=2), kind="clip", dtype="fp32"))
    specs.append(spec_for(nano, ClipPlan(4, "dense", stride=1, window_stride=2), kind="frames", dtype="fp32"))
    events = cut(nano, videos[:3], specs, tmp_path / "cut", beforehand=beforehand, held_bytes=held_bytes, batch_size=3)
    clips = [event.clip for event in events if isinstance(event, CutClip)]
    assert len(clips) == len(set(clips)) == 9
    for event in events:
        if isinstance(event, CutClip):
            assert event.picture == (48, 64, 3) and set(event.records) == set(specs)
    for spec in specs:
        extract(nano, clips, spec, tmp_path / "encoded", batch_size=3)
        ours, theirs = values(tmp_path / "cut", spec), values(tmp_path / "encoded", spec)
        assert ours.keys() == theirs.keys() and len(ours) >= 9
        for key, found in ours.items():
            torch.testing.assert_close(found, theirs[key], atol=1e-5, rtol=1e-5)
    for video in videos[:3]:
        told = [event for event in events if getattr(event, "path", getattr(event, "clip", video).path) == video.path]
        own = [event for event in told if getattr(event, "path", None) == video.path or isinstance(event, CutClip)]
        assert isinstance(own[0], VideoOpened) and isinstance(own[-1], VideoCut)


def test_a_second_run_reads_what_is_stored(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    specs = [spec_for(nano, kind="embedding"), spec_for(nano, kind="clip")]
    first = cut(nano, videos[:2], specs, tmp_path)
    second = cut(nano, videos[:2], [*specs, spec_for(nano, kind="frames")], tmp_path)
    for before, after in zip(
        sorted((one for one in first if isinstance(one, CutClip)), key=lambda one: (one.clip.path, one.clip.start_s)),
        sorted((one for one in second if isinstance(one, CutClip)), key=lambda one: (one.clip.path, one.clip.start_s)),
        strict=True,
    ):
        for spec in specs:
            torch.testing.assert_close(before.records[spec][0].values, after.records[spec][0].values, rtol=0, atol=0)
    with CutExtraction(
        nano,
        [videos[0].path],
        lambda path, facts: EveryHalfSecond(path, facts, True),
        specs,
        tmp_path,
    ) as run:
        assert len(list(run)) == 5 and run.frames_decoded == 0


def test_given_clips_decode_only_what_they_show(nano: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from core_encoder.video.pyav_reader import PyAVReader

    path = write_video(tmp_path / "a.mp4", moving_square(96), bframes=2)
    expected: list[int] = []
    monkeypatch.setattr(PyAVReader, "expect", lambda self, indices: expected.extend(indices))
    cut(nano, [Clip(str(path))], [spec_for(nano, ClipPlan(2), kind="clip")], tmp_path / "s", beforehand=True)
    assert len(expected) == 24, "two frames of each of twelve clips"


def test_a_broken_video_costs_itself(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    broken = tmp_path / "b.mp4"
    broken.write_bytes(Path(videos[0].path).read_bytes()[:900])
    events = cut(nano, [Clip(str(broken)), videos[1]], [spec_for(nano, kind="clip")], tmp_path / "s")
    assert [event.path for event in events if isinstance(event, VideoFailed)] == [str(broken)]
    assert [event.path for event in events if isinstance(event, VideoCut)] == [videos[1].path]


def test_a_clip_that_cannot_be_stored_fails_alone(
    nano: Encoder, videos: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core_encoder.features import encoding

    told: list[Any] = []
    original = encoding.ClipEncoder._encoded

    def spoiled(self: Any, source: Any, view: Any, given: tuple[torch.Tensor, ...]) -> Any:
        told.append(source.clip)
        return original(self, source, view, tuple(one * float("nan") for one in given) if len(told) == 2 else given)

    monkeypatch.setattr(encoding.ClipEncoder, "_encoded", spoiled)
    events = cut(nano, videos[:1], [spec_for(nano, kind="clip")], tmp_path)
    failed = [event for event in events if isinstance(event, CutFailed)]
    assert [event.clip for event in failed] == [told[1]] and "NaN" in failed[0].reason
    assert sum(isinstance(event, CutClip) for event in events) == 2 and isinstance(events[-1], VideoCut)


def test_no_spec_no_workers_or_a_foreign_encoder(nano: Encoder, videos: list[Clip], tmp_path: Path) -> None:
    spec = spec_for(nano, kind="clip")
    for specs, options in (([], {}), ([spec], {"workers": 0}), ([spec], {"batch_size": 0})):
        with pytest.raises(InputError, match="at least"):
            cut(nano, videos[:1], specs, tmp_path, **options)
    with pytest.raises(InputError, match="not the encoder"):
        cut(nano, videos[:1], [replace(spec, fingerprint="0" * 64)], tmp_path)
