"""What an archive keeps of a video: its scenes, each with a vector, a picture, and the words that are known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from core_encoder.files.urls import as_location

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
    vector: NDArray[np.float32] = field(default_factory=lambda: NO_VECTOR, repr=False)
    findings: tuple[Finding, ...] = ()
    speech: tuple[Cue, ...] = ()
    thumbnail: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, eq=False)
class ArchivedVideo:
    """A video of an archive: `path` with `/`, below one of the archive's roots.

    `made_of` names what its scenes were made of, each with a digest: `video` (the sha256 of its bytes), `cuts`,
    `space`, `speech`, and `adapter NAME` of all that have answered. `recorded` is an ISO 8601 date and time, of the
    container or else of the file, empty where neither is known; sizes are pixels.
    """

    root: str
    path: str
    made_of: Mapping[str, str]
    duration_s: float
    width: int
    height: int
    fps: float
    recorded: str
    scenes: tuple[Scene, ...]

    @property
    def key(self) -> tuple[str, str]:
        return self.root, self.path

    @property
    def place(self) -> str:
        """The path or address of its file."""
        return str(as_location(self.root) / self.path)


@dataclass(frozen=True)
class AdapterRecord:
    """An adapter whose answers are in an archive: `ref` as `load_adapter` takes it, and the sha256 of its weights."""

    ref: str
    kind: str
    fingerprint: str


@dataclass(frozen=True)
class ArchiveRecord:
    """What holds for all scenes of an archive, kept in it beside the version of its schema.

    `source` is what `load_encoder` takes, `features` the features that vectors are made of (`FeatureSpec.describe`).
    Vectors are of the text-video space of the encoder where `space` is `encoder`, of the `lit_text` adapter that
    `space` names, or of `features`, which know no words: then it is empty. `cuts` says how videos are cut into scenes.
    """

    encoder: str
    fingerprint: str
    source: str
    features: Mapping[str, Any]
    space: str
    width: int  # of a vector
    adapters: Mapping[str, AdapterRecord] = field(default_factory=dict)
    roots: tuple[str, ...] = ()
    cuts: Mapping[str, Any] = field(default_factory=dict)


class SceneIndex(Protocol):
    """Where scenes are kept and found again; a server database can take the place of the folder of files.

    Readers see a video with all its scenes or not at all, and what one search sees does not change while it runs.
    """

    @property
    def record(self) -> ArchiveRecord:
        """What holds for all scenes."""

    def describe(self, record: ArchiveRecord) -> None:
        """Keep another record: other roots, more adapters or fewer; what one that is no more in it said is forgotten.

        Raises:
            InputError: its vectors are others than those of the scenes here.
        """

    def upsert(self, videos: Sequence[ArchivedVideo]) -> None:
        """Put these videos in the place of those of their root and path, all of them at once."""

    def add_findings(
        self, root: str, path: str, adapter: str, digest: str, findings: Sequence[Sequence[Finding]]
    ) -> None:
        """Keep what an adapter says of every scene of a video, in order, and its digest in the video's `made_of`.

        What it said before is forgotten; nothing else of the video changes.
        """

    def delete(self, videos: Sequence[tuple[str, str]]) -> int:
        """Take the videos of these roots and paths out; how many there were."""

    def made_of(self) -> Mapping[tuple[str, str], Mapping[str, str]]:
        """What every video was made of, by its root and path."""

    def video(self, root: str, path: str) -> ArchivedVideo | None:
        """A video as it was put in."""

    def optimize(self) -> None:
        """Make searching fast again after many changes; to be called when an ingestion ends."""

    def search(self, query: Any) -> Any:
        """The scenes that answer a `SceneQuery`, ranked (see `Rankings`)."""
