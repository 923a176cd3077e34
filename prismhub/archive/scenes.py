"""What an archive keeps of a video: its scenes, each with a vector, a picture, and the words that are known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

NO_VECTOR: NDArray[np.float32] = np.zeros(0, np.float32)


@dataclass(frozen=True)
class Cue:
    """What is said from `start_s` to `end_s`, in seconds of the video."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True)
class Finding:
    """What one adapter says of a scene: a label with its score, or a caption, or what happens from when to when.

    `start_s` and `end_s` are seconds of the video where the adapter says when, else None: the whole scene. A caption
    has `text` and an empty `label`.
    """

    adapter: str
    label: str = ""
    score: float = 1.0
    text: str = ""
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True, eq=False)
class Scene:
    """From `start_s` to `end_s`, in seconds of its video; `vector (E,)` has length 1, or no entries without a space.

    `thumbnail` is a JPEG, empty where no frame could be shown.
    """

    start_s: float
    end_s: float
    vector: NDArray[np.float32] = field(default=NO_VECTOR, repr=False)
    findings: tuple[Finding, ...] = ()
    speech: tuple[Cue, ...] = ()
    thumbnail: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, eq=False)
class ArchivedVideo:
    """A video of an archive: `path` with `/`, below one of the archive's roots; `digest` is of its bytes.

    `recorded` is an ISO 8601 date and time, of the container or else of the file; sizes are pixels.
    """

    root: str
    path: str
    digest: str
    duration_s: float
    width: int
    height: int
    fps: float
    recorded: str
    scenes: tuple[Scene, ...]


class SceneIndex(Protocol):
    """Where scenes are kept and found again; a server database can take the place of the folder of files.

    Readers see a video with all its scenes or not at all, and what one search sees does not change while it runs.
    """

    def upsert(self, videos: Sequence[ArchivedVideo]) -> None:
        """Put these videos in the place of those of their root and path, all of them at once."""

    def delete(self, paths: Sequence[tuple[str, str]]) -> int:
        """Take the videos of these roots and paths out; how many there were."""

    def search(self, query: Any) -> Sequence[Any]:
        """The scenes that answer a query, the best first."""

    def digests(self) -> Mapping[tuple[str, str], str]:
        """The digest of every video, by its root and path."""
