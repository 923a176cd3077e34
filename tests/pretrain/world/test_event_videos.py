"""Long videos with events: seeded, real H.264 files, annotated as ActivityNet's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from core_encoder.errors import InputError
from core_encoder.video.decoders import read_facts
from pretrain.world.event_videos import EventWorld, write_event_videos
from pretrain.world.synthetic_world import DEMO_OBJECTS
from tasks.readers.segments import read_segments

SHORT = {"length_s": (5.0, 8.0), "event_s": (1.0, 2.0), "pause_s": (0.5, 1.0), "size": 48}


def test_a_video_depends_on_seed_split_and_index_alone() -> None:
    world = EventWorld(3, **SHORT)  # type: ignore[arg-type]
    one, again = world.video(1), EventWorld(3, **SHORT).video(1)  # type: ignore[arg-type]
    assert one.events == again.events and np.array_equal(one.frames, again.frames)
    others = (world.video(2), EventWorld(4, **SHORT).video(1), EventWorld(3, "test", **SHORT).video(1))  # type: ignore[arg-type]
    assert all(other.events != one.events for other in others)


def test_things_are_there_during_their_events_alone() -> None:
    video = EventWorld(0, **SHORT).video(0)  # type: ignore[arg-type]
    frames = video.frames.astype(int)
    changes = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
    edges = {round(time * 8) for one in video.events for time in (one.start_s, one.end_s)}
    edges = {edge for edge in edges if 0 < edge < len(frames)}
    assert all(changes[edge - 1] > 1.2 * np.median(changes) for edge in edges)  # it comes, or is gone
    for before, after in zip(video.events, video.events[1:], strict=False):
        assert before.end_s < after.start_s
    assert video.events[-1].end_s <= len(frames) / 8


def test_files_and_annotations(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    file = write_event_videos(tmp_path, {"train": 2, "test": 1}, progress=lambda *now: told.append(now), **SHORT)
    samples = read_segments(file)
    assert told == [(1, 3), (2, 3), (3, 3)] and [one.split for one in samples] == ["train", "train", "test"]
    database = json.loads(file.read_text())["database"]
    for sample in samples:
        facts = read_facts(sample.clip.path)
        assert facts.duration_s == pytest.approx(database[sample.id]["duration"]) and facts.width == 48
        assert sample.timeline and all(one.end_s <= facts.duration_s for one in sample.timeline)


def test_the_test_split_shows_other_things() -> None:
    seen = {
        one.thing
        for index in range(6)
        for one in EventWorld(0, objects=DEMO_OBJECTS["train"], **SHORT).video(index).events
    }  # type: ignore[arg-type]
    assert not seen & set(DEMO_OBJECTS["test"])


def test_what_it_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown split 'tset'; did you mean 'test'"):
        write_event_videos(tmp_path, {"tset": 1})
    with pytest.raises(InputError, match="no object is a stare; did you mean 'star'"):
        EventWorld(0, shapes=("stare",))
    with pytest.raises(InputError, match="even size"):
        EventWorld(0, size=47)
    with pytest.raises(InputError, match="event_s needs a least and a most"):
        EventWorld(0, event_s=(3.0, 1.0))
