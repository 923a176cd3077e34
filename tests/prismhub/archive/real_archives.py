"""A small archive of real H.264 files of the synthetic world, with vectors of `nano`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from core_encoder import Clip, ClipPlan, load_encoder
from core_encoder.extraction import spec_for
from core_encoder.features.failures import Failure
from core_encoder.video.decoders import open_video
from core_encoder.video.video_files import video_digest
from pretrain.world.synthetic_world import SyntheticWorld
from pretrain.world.world_objects import WorldObject
from prismhub.archive.folder_reader import FolderReader
from prismhub.archive.scene_index import FolderIndex
from prismhub.archive.scenes import AdapterRecord, ArchivedVideo, ArchiveRecord, Cue, Finding, Scene
from prismhub.features import clip_source
from prismhub.settings import ReadingSettings
from prismhub.text_spaces import TextSpace, video_vectors
from tests.videos import write_video

FPS, LENGTH = 16, 16  # frames a second, and of a scene


@dataclass(frozen=True)
class Shown:
    """What one second of a video shows, and what is said in it and of it."""

    thing: str
    motion: str
    label: str = ""
    score: float = 0.9
    caption: str = ""
    speech: str = ""


def write_world_video(path: Path, scenes: Sequence[Shown], seed: int = 0, size: int = 64) -> Path:
    """A video of a second for each scene, one after the other."""
    world = SyntheticWorld(seed, size=size, num_frames=LENGTH, neighbours=0.0, distractors=0)
    clips = [world.clip(i, WorldObject.parse(one.thing), one.motion).frames for i, one in enumerate(scenes)]
    return write_video(path, np.concatenate(clips), fps=FPS)


def index_world(root: Path, videos: Mapping[str, Sequence[Shown]], folder: Path) -> FolderIndex:
    """Write videos below `root` and an archive of them to `folder`, a scene a second; open to write."""
    encoder = load_encoder("nano")
    spec = spec_for(encoder, ClipPlan(encoder.num_frames), kind="embedding", dtype="fp32")
    space = TextSpace(encoder.embed_text, clip_source(encoder, spec, ReadingSettings()))
    record = ArchiveRecord(
        "nano",
        encoder.fingerprint,
        "nano",
        spec.describe(),
        "encoder",
        encoder.embedding_dim or 0,
        {"labels": AdapterRecord("labels", "linear", "a" * 64)},
        (str(root),),
    )
    archived = []
    for number, (name, shown) in enumerate(videos.items()):
        path = write_world_video(root / name, shown, seed=number)
        clips = [Clip(str(path), float(i), float(i + 1)) for i in range(len(shown))]
        scenes = []
        for i, (one, vector) in enumerate(zip(shown, video_vectors(space, clips, 8), strict=True)):
            assert not isinstance(vector, Failure), vector
            findings = (Finding("labels", one.label, one.score),) if one.label else ()
            findings += (Finding("captions", text=one.caption),) if one.caption else ()
            cues = (Cue(float(i), i + 1.0, one.speech),) if one.speech else ()
            scenes.append(Scene(float(i), i + 1.0, vector.numpy(), findings, cues, jpeg_at(path, i * LENGTH + 8)))
        about = (float(len(shown)), 64, 64, float(FPS), f"2024-0{number + 1}-01T00:00:00")
        archived.append(ArchivedVideo(str(root), name, {"video": video_digest(path)}, *about, tuple(scenes)))
    index = FolderIndex.create(folder, record)
    index.upsert(archived)
    return index


def jpeg_at(path: Path, frame: int) -> bytes:
    """A frame of a video as a JPEG."""
    with open_video(str(path)) as reader:
        picture = reader.read([frame])[0]
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG")
    return buffer.getvalue()


def archived(archive: Path) -> dict[str, ArchivedVideo]:
    """What an archive holds, by path."""
    with FolderReader.open(archive) as index:
        videos = [index.video(*key) for key in index.made_of()]
        return {video.path: video for video in sorted((one for one in videos if one), key=lambda one: one.path)}


def equal(one: ArchivedVideo, other: ArchivedVideo) -> None:
    """The same in all but the last places of vectors."""
    facts = ("root", "path", "made_of", "duration_s", "width", "height", "fps", "recorded")
    assert [getattr(one, name) for name in facts] == [getattr(other, name) for name in facts]
    for mine, theirs in zip(one.scenes, other.scenes, strict=True):
        assert (mine.start_s, mine.end_s, mine.speech) == (theirs.start_s, theirs.end_s, theirs.speech)
        assert mine.thumbnail == theirs.thumbnail
        np.testing.assert_allclose(mine.vector, theirs.vector, atol=2e-3)
        assert [(f.adapter, f.label, f.text) for f in mine.findings] == [
            (f.adapter, f.label, f.text) for f in theirs.findings
        ]
