"""Annotated boxes become samples: one moment of one video, who is there, and what they do. No torch.

A moment is a time at which boxes are given; its clip is some seconds of video around it, cut at the video's ends. Boxes
of one track become a path through the clip. The files and their formats: `tasks.readers.box_rows`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from adapters.boxes import Corners, Track, box_problem
from adapters.predictions import Box
from core_encoder.clip_plan import Clip, VideoFacts
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.files.storage import nearest
from core_encoder.video.video_files import VIDEO_SUFFIXES, find_videos
from tasks.readers.ava import read_ava
from tasks.readers.box_rows import BoxRow, LabelMap
from tasks.readers.coco import read_coco
from tasks.readers.mot import read_mot
from tasks.sample import Sample

DEFAULT_CONTEXT_S = 2.0
_GUESSED_FPS = 25.0  # of a video that cannot be read, and so is never looked at
_OVERHANG = 1.0  # in pixels formats, so many pictures beyond the edge a box may reach: trackers go on outside


@dataclass(frozen=True)
class BoxSample(Sample):
    """One moment of a video: its clip, who is asked about, and what is right.

    `actors` are true boxes at the moment, one a box and label; `asked` are the boxes that the adapter is given.
    `people` are all true boxes, labelled or not, and `source` says where those asked about come from.
    """

    video: str = ""
    time_s: float = 0.0
    actors: tuple[Box, ...] = ()
    people: tuple[Track, ...] = ()
    asked: tuple[Track, ...] = ()
    picture: Iterable[int] | None = None  # width and height in pixels
    source: str = "ground truth"
    context_s: float = DEFAULT_CONTEXT_S  # of video around the moment, before it is cut at the video's ends
    label_map: LabelMap = field(default_factory=lambda: LabelMap((), ()))


@dataclass(frozen=True)
class PictureOf:
    """Width and height of a video's picture, of which the file is opened when they are asked for.

    Raises:
        UnreadableVideo: when they are asked for, and it cannot be read.
    """

    path: str

    def __iter__(self) -> Iterator[int]:
        from core_encoder.video.decoders import read_facts

        facts = read_facts(self.path)
        return iter((facts.width, facts.height))


@dataclass(frozen=True)
class Moments:
    """How moments are taken from boxes: only one every `every_s`, and `context_s` of video around each.

    The videos begin at second `offset_s` of the annotations: AVA's are often cut from second 900. Videos that are known
    to last `length_s` are not opened: of hundreds of thousands it would take most of an hour.
    """

    context_s: float = DEFAULT_CONTEXT_S
    every_s: float | None = None
    offset_s: float = 0.0
    length_s: float | None = None

    def __post_init__(self) -> None:
        for name, value, least in (("context", self.context_s, 0.0), ("every", self.every_s, 0.0)):
            if value is not None and not value > least:
                raise InputError(f"{name} must be above 0 seconds, not {value:g}")


def read_box_rows(path: str | Path) -> list[BoxRow]:
    """The rows of an AVA CSV, a COCO-style JSON, a MOT text or a folder of these texts.

    Raises:
        InputError: no such file, of none of these formats, or one line with file, line, field and the fix.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    if path.is_dir() or path.suffix.lower() == ".txt":
        return read_mot(path)
    if path.suffix.lower() == ".csv":
        return read_ava(path)
    if path.suffix.lower() == ".json":
        return read_coco(path)
    raise InputError(f"{path}: boxes are read from AVA CSV (.csv), COCO-style JSON (.json) or MOT text (.txt)")


def default_label_map(rows: Sequence[BoxRow], categories: Mapping[str, int]) -> LabelMap:
    """The classes that occur: numbers by size and named so, names in the order of their categories, or by name."""
    labels = {row.label for row in rows if row.label is not None}
    if all(label.isdigit() for label in labels):
        ordered = sorted(labels, key=int)
        return LabelMap(tuple(ordered), tuple(map(int, ordered)))
    ordered = sorted(labels, key=lambda label: (categories.get(label, 0), label))
    ids = [categories.get(label, place) for place, label in enumerate(ordered, start=1)]
    return LabelMap(tuple(ordered), tuple(ids))


def box_samples(
    rows: Sequence[BoxRow],
    videos: str | Path | Sequence[Path],
    label_map: LabelMap,
    moments: Moments,
    excluded: Collection[tuple[str, int]] = (),
) -> list[BoxSample]:
    """The moments of rows as samples that are asked about the boxes of the very rows.

    Labels that the map does not have do not count: their boxes are there, and do nothing that has a name.

    Raises:
        InputError: a box that is none, a time without a frame, a label that is unknown by name, or no video at all.
    """
    places = _Places(videos)
    by_video: dict[str, list[BoxRow]] = defaultdict(list)
    for row in rows:
        _check_label(row, label_map)
        by_video[row.video].append(row)
    places.refuse_absent(list(by_video), rows[0].file)
    skipped = set(excluded)
    samples = []
    for video, several in by_video.items():
        path = places.find(video) or (places.root or Path()) / video
        samples += video_moments(video, several, path, label_map, moments, skipped)
    if not samples:
        raise InputError(f"{rows[0].file}: all of its moments are excluded")
    return samples


def video_moments(
    video: str,
    rows: Sequence[BoxRow],
    path: Path,
    label_map: LabelMap,
    moments: Moments,
    excluded: Collection[tuple[str, int]] = (),
) -> list[BoxSample]:
    """The moments of one video, whose file lies at `path`, or would.

    Raises:
        InputError: a box that is none, or a time without a frame.
    """
    facts = _facts(path) if moments.length_s is None else None
    length_s = moments.length_s if facts is None else facts.duration_s
    timed = [(_seconds(row, facts, path, moments), row) for row in rows]
    placed = [(time_s, row, _fractions(row, facts)) for time_s, row in timed]
    paths: dict[str, dict[float, Corners]] = defaultdict(dict)  # of each track, its box at each time
    at: dict[float, list[tuple[BoxRow, Corners]]] = defaultdict(list)
    for time_s, row, corners in placed:
        at[time_s]  # a moment, even if nobody is there
        if corners is not None:
            at[time_s].append((row, corners))
            if row.track:
                paths[row.track][time_s] = corners
    tracks = {name: (sorted(path), path) for name, path in paths.items()}
    picture: Iterable[int] | None = None if moments.length_s is None else PictureOf(str(path))
    if facts is not None:
        picture = (facts.width, facts.height)
    samples = []
    for time_s in _every(sorted(at), moments.every_s):
        stamp = time_s + moments.offset_s
        if (video, round(1000 * stamp)) in excluded:
            continue
        clip = _clip(path, time_s, moments.context_s, length_s)
        people: dict[tuple[str, Corners], Track] = {}
        actors: dict[Box, None] = {}
        for row, corners in at[time_s]:
            if (who := (row.track, corners)) not in people:
                people[who] = _track(row, corners, tracks.get(row.track), clip, time_s)
            if row.label is not None and (label := label_map.name_of(row.label)) is not None:
                actors[Box(time_s, corners, label, 1.0, row.track)] = None
        given = tuple(people.values())
        labels = tuple(dict.fromkeys(box.label for box in actors))
        samples.append(
            BoxSample(
                *(f"{video}@{stamp_text(stamp)}", clip, labels),
                video=video,
                time_s=time_s,
                actors=tuple(actors),
                people=given,
                asked=given,
                picture=picture,
                context_s=moments.context_s,
                label_map=label_map,
            )
        )
    return samples


def asked_about(samples: Sequence[BoxSample], found: Sequence[BoxSample], source: str) -> list[BoxSample]:
    """The samples with the boxes of `found` as those that are asked about; a moment without any is asked of nobody."""
    boxes = {(sample.video, round(1000 * sample.time_s)): sample.people for sample in found}
    if not any((sample.video, round(1000 * sample.time_s)) in boxes for sample in samples):
        raise InputError(
            f"{source}: has boxes at none of the {len(samples)} moments; times and videos must be the same"
        )
    return [
        replace(sample, asked=boxes.get((sample.video, round(1000 * sample.time_s)), ()), source=source)
        for sample in samples
    ]


def stamp_text(time_s: float) -> str:
    """A time as short as its milliseconds allow: `902`, `1.04`."""
    return f"{time_s:.3f}".rstrip("0").rstrip(".")


class _Places:
    """Where the videos are that annotations name: by path, file name or stem below a folder, or among given files."""

    def __init__(self, videos: str | Path | Sequence[Path]) -> None:
        self.root = Path(videos) if isinstance(videos, str | Path) else None
        if self.root is not None and not self.root.is_dir():
            raise InputError(f"{self.root}: is no folder of videos")
        files = find_videos(self.root) if self.root is not None else [Path(one) for one in videos]  # type: ignore[union-attr]
        self._by_stem: dict[str, list[Path]] = defaultdict(list)
        for file in files:
            self._by_stem[file.stem].append(file)

    def find(self, video: str) -> Path | None:
        """The file of a video; None where there is none.

        Raises:
            InputError: there are several.
        """
        named = Path(video.replace("\\", "/"))
        if self.root is not None and named.suffix.lower() in VIDEO_SUFFIXES and (self.root / named).is_file():
            return self.root / named
        stem = named.stem if named.suffix.lower() in VIDEO_SUFFIXES else named.name
        found = self._by_stem.get(stem, [])
        if len(found) > 1:
            raise InputError(f"video {video!r} may be {found[0]} or {found[1]}; give one of them another name")
        return found[0] if found else None

    def refuse_absent(self, names: Sequence[str], file: Path) -> None:
        if not any(self.find(name) for name in names):
            where = f"in {self.root}" if self.root is not None else "among those given"
            raise InputError(
                f"{file}: none of its {len(names)} videos is {where}, e.g. {names[0]}; say where they are with --videos"
            )


def _facts(path: Path) -> VideoFacts | None:
    from core_encoder.video.decoders import read_facts

    try:
        return read_facts(path)
    except UnreadableVideo:
        return None  # it is said, and skipped, where it is encoded


def _seconds(row: BoxRow, facts: VideoFacts | None, path: Path, moments: Moments) -> float:
    """The second of the video that a row is about.

    Raises:
        InputError: the video has no frame then.
    """
    if row.time_s is None:
        frame = row.frame or 0
        if facts is None:
            return frame / _GUESSED_FPS
        if frame >= facts.num_frames:
            raise row.error(f"there is no frame {frame}, counted from 0: {path} has {facts.num_frames}")
        return round(float(facts.timestamps[frame]), 6)
    time_s = round(row.time_s - moments.offset_s, 6)
    if time_s < 0:
        raise row.error(f"time {row.time_s:g} s is before the video begins, at {moments.offset_s:g} s (--time-offset)")
    if facts is not None and time_s > facts.duration_s + facts.tolerance_s:
        hint = "are the times frames? They are read as seconds" if row.time_s == int(row.time_s) else "check the times"
        if 900 <= time_s < 900 + facts.duration_s:
            hint = "AVA's videos are often cut from second 900: then give --time-offset 900"
        raise row.error(f"there is no frame at {time_s:g} s: {path} lasts {facts.duration_s:g} s; {hint}")
    return time_s


def _fractions(row: BoxRow, facts: VideoFacts | None) -> Corners | None:
    """Where the box is, in fractions of the picture.

    Raises:
        InputError: it has no area, lies outside the picture, or is in other units than its format's.
    """
    corners = row.corners
    if corners is None:
        return None
    if row.in_pixels:
        width, height = row.picture or ((facts.width, facts.height) if facts is not None else (1.0, 1.0))
        shown = " ".join(f"{edge:g}" for edge in (*corners[:2], corners[2] - corners[0], corners[3] - corners[1]))
        left, top, right, bottom = corners[0] / width, corners[1] / height, corners[2] / width, corners[3] / height
        if facts is None and row.picture is None:
            return 0.0, 0.0, 1.0, 1.0
        if not (right > left and bottom > top):
            raise row.error(f"box {shown} has no area; it is x, y, width, height in pixels: correct or remove it")
        if (
            min(left, top) < -_OVERHANG
            or max(right, bottom) > 1 + _OVERHANG
            or left >= 1
            or top >= 1
            or min(right, bottom) <= 0
        ):
            raise row.error(
                f"box {shown} lies outside the picture of {width:g} x {height:g} pixels; is it of another video?"
            )
        corners = left, top, right, bottom
    elif problem := box_problem(corners):
        raise row.error(problem)
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in corners)
    return left, top, right, bottom


def _check_label(row: BoxRow, label_map: LabelMap) -> None:
    """A number that is not in the map is a class that is not evaluated; a name that is not is a mistake."""
    if row.label is not None and not row.label.isdigit() and label_map.name_of(row.label) is None:
        raise row.error(f"label {row.label!r} is not a class{nearest(row.label, label_map.names)}")


def _every(times: Sequence[float], every_s: float | None) -> list[float]:
    """All times, or the first and then each that is at least `every_s` after the one taken before."""
    if every_s is None:
        return list(times)
    taken: list[float] = []
    for time_s in times:
        if not taken or time_s >= taken[-1] + every_s - 1e-6:
            taken.append(time_s)
    return taken


def _clip(path: Path, time_s: float, context_s: float, length_s: float | None) -> Clip:
    start_s, end_s = max(time_s - context_s / 2, 0.0), time_s + context_s / 2
    if length_s is not None:
        end_s = max(min(end_s, length_s), start_s + 1e-3)
    return Clip(str(path), round(start_s, 3), round(end_s, 3))


def _track(
    row: BoxRow,
    corners: Corners,
    path: tuple[Sequence[float], Mapping[float, Corners]] | None,
    clip: Clip,
    time_s: float,
) -> Track:
    """The part of a row's track that may be seen in its clip, one box before and after it included."""
    if path is None or len(path[0]) < 2 or path[1][time_s] != corners:  # two boxes of one track at one time: no path
        return Track((corners,), id=row.track, score=row.score)
    times, boxes = path
    first = max(bisect_left(times, clip.start_s) - 1, 0)
    last = bisect_right(times, clip.end_s or clip.start_s) + 1
    shown = times[first:last]
    if len(shown) < 2:
        return Track((corners,), id=row.track, score=row.score)
    return Track(tuple(boxes[one] for one in shown), tuple(shown), row.track, row.score)
