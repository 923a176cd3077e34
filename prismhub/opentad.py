"""Dense features as OpenTAD reads them: a NumPy file a video, and the numbers that its configuration wants.

    NAME.npy            float32 (rows, D), a vector a row, for the video NAME of the annotations (`LoadFeats`, "npy")
    missing_files.txt   names of the videos that have none, one a line (`block_list`)
    opentad.json        feature_stride, sample_stride, offset_frames, fps, in_channels; rows, length and frames of each
                        video; what the features are made with

OpenTAD takes row i for the moment `(offset_frames + i * feature_stride) / fps` (`convert_to_seconds` and the data sets
of its `opentad/datasets`), as this project takes a vector for the middle of its window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core_encoder.array_videos import ArrayVideo
from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.errors import InputError
from core_encoder.files.storage import atomic_path, read_json, write_json, write_text, writing_to

if TYPE_CHECKING:
    from core_encoder.features.failures import Failure
    from core_encoder.features.feature_spec import FeatureKind, FeatureSpec, Record

SETTINGS_FILE = "opentad.json"
MISSING_FILE = "missing_files.txt"


@dataclass(frozen=True)
class FeatureGrid:
    """When the rows of a video are: row i in the middle of frame `offset_frames + i * feature_stride`'s start.

    `fps` counts those frames; -1 where they are the frames of the video file, at its own rate.
    """

    feature_stride: int
    offset_frames: int
    fps: float

    @classmethod
    def of(cls, plan: ClipPlan, kind: FeatureKind, tubelet: int = 1) -> FeatureGrid:
        """The grid of dense windows: a row a window, or of `frames` a row a time step, made of `tubelet` frames.

        Raises:
            InputError: the plan has no windows, or frames would come twice.
        """
        if plan.sampling != "dense" or plan.window_stride is None:
            raise InputError(
                f"OpenTAD reads rows at even steps: sampling is dense, or window given, not {plan.sampling}"
            )
        span, hop = plan.num_frames, plan.window_stride  # in slots, of which a view takes one frame each
        if kind == "frames":
            if hop != span:
                raise InputError(
                    f"windows of {span} frames, one every {hop}, overlap, so that frames come twice: "
                    "let one follow another, or take --kind clip"
                )
            span = hop = tubelet
        if plan.stride is not None:
            return cls(hop * plan.stride, span * plan.stride // 2, -1)
        parts = 1 + span % 2  # the middle of an odd number of slots is no whole one, and OpenTAD takes whole numbers
        return cls(hop * parts, span * parts // 2, float(plan.fps or 1) * parts)


@dataclass(frozen=True)
class OpenTadFolder:
    """What was written: the folder, its grid, the rows of each video by name, and the videos that have none."""

    folder: Path
    kind: str
    dim: int
    grid: FeatureGrid
    rows: dict[str, int]
    failures: tuple[Failure, ...] = ()

    def describe(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
        about = {"folder": str(self.folder), "kind": self.kind, "in_channels": self.dim, **asdict(self.grid)}
        return about | {"videos": self.rows, "failed": [asdict(failure) for failure in self.failures]}

    def __str__(self) -> str:
        grid = ", ".join(f"{name} {value:g}" for name, value in asdict(self.grid).items())
        return f"{self.folder}: {self.kind} of {len(self.rows)} videos, in_channels {self.dim}, {grid}"


def check_videos(videos: Sequence[Clip] | Sequence[ArrayVideo]) -> None:
    """Refuse what has no name in OpenTAD's annotations.

    Raises:
        InputError: arrays, parts of videos, or two videos of one name.
    """
    seen: dict[str, str] = {}
    for video in videos:
        if isinstance(video, ArrayVideo):
            raise InputError("OpenTAD names a video by its file, which an array does not have; give videos as files")
        if video.start_s or video.end_s is not None:
            raise InputError(f"{video.path}: OpenTAD reads features of whole videos; leave its start and end out")
        other = seen.setdefault(Path(video.path).stem, video.path)
        if other != video.path:
            raise InputError(f"{other} and {video.path} would both become {Path(video.path).stem}.npy; rename one")


def check_folder(out: Path | None, spec: FeatureSpec | None = None) -> Path:
    """Whether features, of `spec` where it is given, can be written to the folder `out`.

    Raises:
        InputError: none given, a file, or a folder that holds features made in another way.
    """
    if out is None:
        raise InputError("format opentad needs out: the folder to write")
    out = out.expanduser()
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; format opentad wants a folder, a file a video")
    known = out / SETTINGS_FILE
    if spec is not None and known.exists() and _without_version(read_json(known).get("meta")) != spec.describe():
        raise InputError(
            f"{out}: holds features that were made in another way (see {SETTINGS_FILE}); name another folder"
        )
    return out


def write_folder(
    out: Path,
    spec: FeatureSpec,
    dim: int,
    found: Iterable[tuple[str, list[Record] | Failure]],
    failures: Sequence[Failure],
) -> OpenTadFolder:
    """Write the features of videos as they come, each file whole or not at all, and then what OpenTAD must know.

    Videos that lie in the folder already, made in the same way, stay part of it.

    Raises:
        InputError: as `check_folder` and `FeatureGrid.of`, or the disk is full.
    """
    from core_encoder.features.failures import Failure
    from core_encoder.video.decoders import read_facts

    grid = FeatureGrid.of(spec.plan, spec.kind, spec.tubelet)
    out = check_folder(out, spec)
    with writing_to(out):
        out.mkdir(parents=True, exist_ok=True)
    known = read_json(out / SETTINGS_FILE)["videos"] if (out / SETTINGS_FILE).exists() else {}
    missing, written = list(failures), {}
    for path, records in found:
        if isinstance(records, Failure):
            missing.append(records)
            continue
        rows = _rows(records, spec.kind)
        facts = read_facts(path, spec.decoder.partition("-")[0])
        with atomic_path(out / f"{Path(path).stem}.npy") as aside, aside.open("wb") as file:
            np.save(file, rows, allow_pickle=False)
        written[Path(path).stem] = {"rows": len(rows), "duration": facts.duration_s, "frame": facts.num_frames}
    videos = known | written
    names = {Path(failure.path).stem for failure in missing}
    if (out / MISSING_FILE).exists():
        names |= set((out / MISSING_FILE).read_text(encoding="utf-8").splitlines())
    write_text(out / MISSING_FILE, "".join(f"{name}\n" for name in sorted(names - set(videos))))
    about = {"sample_stride": 1, **asdict(grid), "in_channels": dim, "feat_format": "npy", "block_list": MISSING_FILE}
    meta = {"prismhub": version("prismhub"), **spec.describe()}
    write_json(out / SETTINGS_FILE, about | {"videos": videos, "meta": meta})
    rows_of = {name: int(about["rows"]) for name, about in written.items()}
    return OpenTadFolder(out, spec.kind, dim, grid, rows_of, tuple(missing))


def _rows(records: Sequence[Record], kind: FeatureKind) -> NDArray[np.float32]:
    """The rows `(rows, D)` of one video; frames that are padding are none."""
    values = [record.values.float() for record in records]
    if kind == "frames":
        values = [row for value, record in zip(values, records, strict=True) for row in value[record.frame_mask]]
    return np.stack([row.numpy() for row in values])


def _without_version(meta: Any) -> dict[str, Any]:
    return {name: value for name, value in dict(meta or {}).items() if name != "prismhub"}
