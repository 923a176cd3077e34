"""Archives of the tests: scenes with given or random vectors, no video behind them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prismhub.archive.scene_index import FolderIndex
from prismhub.archive.scenes import AdapterRecord, ArchivedVideo, ArchiveRecord, Cue, Finding, Scene

WIDTH = 8
RECORD = ArchiveRecord(
    "nano", "f" * 64, "nano", {"kind": "embedding"}, "encoder", WIDTH, {"x": AdapterRecord("x", "linear", "a" * 64)}
)


def unit(values: np.ndarray) -> np.ndarray:
    """Rows of length 1, as they come back from fp16."""
    values = values / np.linalg.norm(values, axis=-1, keepdims=True)
    return values.astype(np.float32)


def scene(
    start_s: float,
    vector: np.ndarray | None = None,
    labels: Sequence[str] = (),
    caption: str = "",
    speech: str = "",
    score: float = 0.9,
) -> Scene:
    """A scene of two seconds."""
    findings = tuple(Finding("x", label, score) for label in labels)
    findings += (Finding("y", text=caption),) if caption else ()
    cues = (Cue(start_s, start_s + 1, speech),) if speech else ()
    given = {} if vector is None else {"vector": vector}
    return Scene(start_s, start_s + 2, findings=findings, speech=cues, thumbnail=b"jpeg", **given)


def video(path: str, *scenes: Scene, digest: str = "0", recorded: str = "2024-05-01T10:00:00") -> ArchivedVideo:
    """A video of a root `/videos`."""
    made_of = {"video": digest, "adapter x": "a"}
    return ArchivedVideo("/videos", path, made_of, 2.0 * len(scenes), 96, 64, 16.0, recorded, scenes)


def random_videos(count: int, scenes: int = 3, seed: int = 0) -> list[ArchivedVideo]:
    """Videos of scenes with random vectors and a word of their own, `wordNUMBER`."""
    rng = np.random.default_rng(seed)
    return [
        video(
            f"v{i}.mp4",
            *(
                scene(2.0 * j, unit(rng.standard_normal(WIDTH)), caption=f"word{i * scenes + j} everywhere")
                for j in range(scenes)
            ),
        )
        for i in range(count)
    ]


def make(folder: Path, videos: Sequence[ArchivedVideo], record: ArchiveRecord = RECORD) -> FolderIndex:
    """An archive of these videos, open to write."""
    index = FolderIndex.create(folder, record)
    index.upsert(videos)
    return index
