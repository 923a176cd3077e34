"""Short videos of the synthetic world with captions, and questions with answers: H.264 files, annotated as MSR-VTT and
NExT-QA are.

A video shows one named object and its motion, among others, as the demo's do. It has several captions that are right
(`MSR_VTT.json`), and is asked what the object does, which colour it has and which shape (`nextqa/<split>.csv`): one
right answer among five. `labels.csv` names the motion as the class of each.
"""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest, write_json, write_text
from pretrain.world.captions import motion_captions
from pretrain.world.drawing import COLOURS, SHAPES
from pretrain.world.synthetic_world import DEMO_MOTIONS, DEMO_OBJECTS, SyntheticWorld, write_video
from pretrain.world.world_objects import WorldObject

CAPTIONED_VIDEOS: dict[str, int] = {"train": 240, "val": 40, "test": 120}
SPLITS = {"train": "train", "val": "validate", "test": "test"}  # as MSR-VTT calls them
OPTIONS = 5
_QUESTIONS = 3  # motion, colour, shape
_HEADER = ("video", "frame_count", "width", "height", "question", "answer", "qid", "type")
_DESCRIPTIVE = "DO"  # NExT-QA's type of a question about what is seen


@dataclass(frozen=True)
class WorldQuestion:
    """A question, its options, one of which is right, and the index of that one."""

    question: str
    options: tuple[str, ...]
    right: int


@dataclass(frozen=True)
class CaptionedVideo:
    """One video: frames `(T, H, W, 3)` uint8, its motion, captions that are all right, and questions about it."""

    frames: NDArray[np.uint8] = field(repr=False)
    motion: str
    captions: tuple[str, ...]
    questions: tuple[WorldQuestion, ...]


def captioned_video(world: SyntheticWorld, index: int) -> CaptionedVideo:
    """The video at `index` of a world; a video depends on the world's fields and its index alone."""
    clip = world.clip(index)
    thing = WorldObject.parse(clip.object_name)
    rng = np.random.default_rng((world.seed, zlib.crc32(f"questions {world.split}".encode()), index))
    asked = (
        (f"what does the {thing.colour} {thing.shape} do", clip.motion, world.motions),
        (f"which colour is the {thing.shape} that is {clip.motion}", thing.colour, tuple(COLOURS)),
        (f"which shape is the {thing.colour} thing that is {clip.motion}", thing.shape, tuple(SHAPES)),
    )
    questions = tuple(_question(*parts, rng) for parts in asked)
    return CaptionedVideo(clip.frames, clip.motion, motion_captions(clip.object_name, clip.motion), questions)


def _question(question: str, answer: str, known: Sequence[str], rng: np.random.Generator) -> WorldQuestion:
    others = [one for one in known if one != answer]
    options = [others[int(i)] for i in rng.choice(len(others), OPTIONS - 1, replace=False)]
    right = int(rng.integers(OPTIONS))
    options.insert(right, answer)
    return WorldQuestion(question, tuple(options), right)


def write_captioned_videos(
    folder: str | Path,
    videos: Mapping[str, int] = CAPTIONED_VIDEOS,
    seed: int = 0,
    size: int = 96,
    num_frames: int = 16,
    fps: int = 8,
    questions: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write `videos/video<number>.mp4`, `labels.csv`, `nextqa/` with a file a split, and last `MSR_VTT.json`.

    Args:
        videos: split name (train, val, test) -> how many. Test shows objects that the pretraining of `nano` and the
            other splits never show.
        questions: so many of the three are asked of each video, in turn.
        progress: called with (files written, files in all) after each file.

    Raises:
        InputError: an unknown split, an odd size, no such number of questions, or the disk is full.
    """
    if size % 2:
        raise InputError(f"H.264 pictures need an even size, not {size}")
    if not 1 <= questions <= _QUESTIONS:
        raise InputError(f"a video is asked 1 to {_QUESTIONS} questions, not {questions}")
    for split in videos:
        if split not in SPLITS:
            raise InputError(f"unknown split {split!r}{nearest(split, SPLITS)}")
    folder = Path(folder)
    listed: list[dict[str, object]] = []
    sentences: list[dict[str, object]] = []
    labels = [("video", "label", "split")]
    total = sum(videos.values())
    for split, count in videos.items():
        world = SyntheticWorld(seed, f"captioned {split}", size, num_frames, DEMO_OBJECTS[split], DEMO_MOTIONS)
        rows: list[tuple[object, ...]] = []
        for index in range(count):
            video, number = captioned_video(world, index), len(listed)
            name = f"video{number}"
            labels.append((f"videos/{name}.mp4", video.motion, split))
            write_video(folder / "videos" / f"{name}.mp4", video.frames, fps)
            times = {"start time": 0.0, "end time": num_frames / fps}
            listed.append({"id": number, "video_id": name, "category": 0, "url": "", **times, "split": SPLITS[split]})
            sentences += [
                {"sen_id": len(sentences) + k, "video_id": name, "caption": caption}
                for k, caption in enumerate(video.captions)
            ]
            about = (number, num_frames, size, size)
            rows += [
                (*about, one.question, one.right, qid, _DESCRIPTIVE, *one.options)
                for qid, one in enumerate(video.questions)
                if (qid - index) % _QUESTIONS < questions
            ]
            if progress:
                progress(len(listed), total)
        write_text(folder / "nextqa" / f"{split}.csv", _table([(*_HEADER, *(f"a{k}" for k in range(OPTIONS))), *rows]))
    write_text(folder / "labels.csv", _table(labels))
    write_json(folder / "nextqa" / "map_vid_vidorID.json", {str(k): f"video{k}" for k in range(len(listed))})
    about_all = {"contributor": "", "version": "1.0", "description": "videos of a synthetic world"}
    return write_json(folder / "MSR_VTT.json", {"info": about_all, "videos": listed, "sentences": sentences})


def _table(rows: Sequence[tuple[object, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
