"""From folders of videos to an archive: what is new is cut, encoded and asked about, in one decoding of each video.

    find files -> cut and encode (decoding once) -> ask adapters, scene by scene -> whole videos into the index

The same call again touches what is new, changed or gone. Features are stored before the videos they are of are put into
the index, so that a run that was killed at any moment goes on and ends like one that was not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError, UnreadableVideo, one_line
from core_encoder.files.storage import locked, writing_to
from core_encoder.files.urls import Url
from core_encoder.video.file_facts import read_file_facts
from core_encoder.video.video_bytes import open_bytes
from core_encoder.video.video_files import video_digest
from prismhub.archive.scene_cuts import SceneCuts
from prismhub.archive.scenes import ArchivedVideo, ArchiveRecord, SceneIndex
from prismhub.archive.subtitles import speech_digest, spoken_in
from prismhub.archive.video_folders import FoundVideo, FoundVideos, is_missing
from prismhub.archive.video_scenes import (
    SceneFailed,
    SceneMade,
    SceneMaking,
    VideoBegun,
    VideoScenes,
    VideoUnread,
    speech,
)

if TYPE_CHECKING:
    from core_encoder.features.failures import Failure
    from prismhub.archive.scene_answers import SceneAnswers
    from prismhub.settings import ReadingSettings

FAILURES_FILE = "failures.jsonl"
LOCK_FOLDER = ".writing"  # of its own: the list of failures locks the folder it is in
_FLUSH_S = 15.0  # whole videos wait at most so long for others to be put into the index with them
_FLUSH_SCENES = 2000
log = logging.getLogger(__name__)
Key = tuple[str, str]


@dataclass(frozen=True)
class IngestProgress:
    """How far a run is: seconds of video done and in all (guessed of what is not opened yet), and how fast it goes."""

    done_s: float
    total_s: float | None
    times_real_time: float
    left_s: float | None
    videos: int
    total_videos: int
    failed: int


@dataclass
class Ingested:
    """What a run did to an archive, in numbers of videos."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    answered: int = 0  # unchanged videos that an adapter was asked about for the first time
    unlisted: int = 0  # no scene of theirs is in the list of scenes
    scenes: int = 0  # that were cut
    video_s: float = 0.0
    failures: list[Failure] = field(default_factory=list)


class Ingestion:
    """One run over an archive; `locked_for_writing` keeps others out meanwhile."""

    def __init__(
        self,
        folder: Path,
        index: SceneIndex,
        answers: SceneAnswers,
        cuts: SceneCuts,
        store: Path,
        reading: ReadingSettings,
        progress: Callable[[IngestProgress], None] = lambda told: None,
        make_scenes: Callable[[Sequence[FoundVideo]], SceneMaking] | None = None,
    ) -> None:
        """Prepare a run; `make_scenes` says who makes the scenes of videos, by default this process."""
        from core_encoder.features.failures import FailureLog

        self._index, self._answers, self._cuts = index, answers, cuts
        self._store, self._reading = store, reading
        self._listed = FailureLog(folder / FAILURES_FILE)
        self._progress = progress
        self._make_scenes = make_scenes or self._scenes_here
        self._space = answers.space_digest()
        self.done = Ingested()

    def run(self, found: FoundVideos, record: ArchiveRecord) -> Ingested:
        """Bring the index up to date with the files; `record` is what it is to record then.

        Raises:
            InputError: the disk is full, the features cannot fit on it, or what is needed is not at hand.
        """
        known = dict(self._index.made_of())
        self._forget_failures(found)
        to_cut, respoken, unchanged = self._sorted(found, known)
        silent = {
            name: [video for video in unchanged if known[video.key].get(f"adapter {name}") != digest]
            for name, digest in self._answers.fingerprints.items()
        }
        if to_cut or any(silent.values()):
            _ = self._answers.encoder  # at hand, before anything is changed
        self._index.describe(record)
        gone = found.gone(known)
        self.done.removed = self._index.delete(gone) if gone else 0
        self._cut(to_cut, known)
        for video in respoken:
            self._speak_again(video)
        self._ask_again(silent)
        self.done.changed += len(respoken)
        self.done.unchanged = len(unchanged) - len(respoken)
        self._index.optimize()
        return self.done

    def _sorted(
        self, found: FoundVideos, known: Mapping[Key, Mapping[str, str]]
    ) -> tuple[list[FoundVideo], list[FoundVideo], list[FoundVideo]]:
        """The videos that are to be cut; of the others those whose speech changed; and all of the others."""
        to_cut: list[FoundVideo] = []
        respoken: list[FoundVideo] = []
        unchanged: list[FoundVideo] = []
        for video in found.videos:
            if self._cuts.spans is not None and not self._cuts.spans_of(video.file):
                self.done.unlisted += 1
                continue
            try:
                made_of = known.get(video.key)
                if made_of is None or any(made_of.get(part) != one for part, one in self._wanted(video).items()):
                    to_cut.append(video)
                else:
                    unchanged.append(video)
                    if made_of.get("speech") != speech_digest(video.subtitles):
                        respoken.append(video)
            except InputError as error:  # it or its subtitles cannot be opened: what is known of it stays
                self._fail(Clip(video.file), _reason(error))
        return to_cut, respoken, unchanged

    def _wanted(self, video: FoundVideo) -> dict[str, str]:
        """What the scenes of a video are to be made of."""
        return {"video": video_digest(video.file), "cuts": self._cuts.digest(video.file), "space": self._space}

    # New and changed videos

    def _scenes_here(self, videos: Sequence[FoundVideo]) -> SceneMaking:
        size, workers = self._reading.clips_per_batch, self._reading.workers
        return VideoScenes(videos, self._answers, self._cuts, self._store, size, workers)

    def _cut(self, videos: Sequence[FoundVideo], known: Mapping[Key, Any]) -> None:
        if not videos:
            return
        by_file = {video.file: video for video in videos}
        clock = _Clock(videos)
        with self._make_scenes(videos) as made:
            batch = _Batch(self._index, made)
            try:
                for event in made:
                    if isinstance(event, VideoBegun):
                        clock.opened(event.path, event.duration_s)
                    elif isinstance(event, SceneMade):
                        clock.at(event.clip)
                    elif isinstance(event, SceneFailed):
                        self._fail(event.clip, event.reason)
                    elif isinstance(event, VideoUnread):
                        self._fail(Clip(event.path), event.reason)
                        key, elsewhere = by_file[event.path].key, isinstance(event.path, Url)
                        if key in known and not elsewhere:  # its scenes are of a file that is no more
                            self._index.delete([key])
                        clock.close(event.path)
                    else:
                        video = event.video
                        clock.close(event.path)
                        if video.scenes:
                            batch.add(video)
                            self._count(video, known)
                        elif video.key in known:
                            self._index.delete([video.key])
                    self._progress(clock.told(len(self.done.failures)))
            except KeyboardInterrupt:  # what was finished is kept
                batch.flush()
                raise
            batch.flush()

    def _count(self, video: ArchivedVideo, known: Mapping[Key, Any]) -> None:
        if video.key in known:
            self.done.changed += 1
        else:
            self.done.added += 1
        self.done.scenes += len(video.scenes)
        self.done.video_s += video.duration_s

    # Videos whose scenes are as they were

    def _speak_again(self, video: FoundVideo) -> None:
        """Hear the subtitles of a video anew, which were added, changed or removed."""
        kept = self._index.video(*video.key)
        assert kept is not None
        cues = speech(video, read_file_facts(video.file))
        scenes = tuple(replace(one, speech=spoken_in(cues, one.start_s, one.end_s)) for one in kept.scenes)
        made_of = dict(kept.made_of) | {"speech": speech_digest(video.subtitles)}
        self._index.upsert([replace(kept, scenes=scenes, made_of=made_of)])

    def _ask_again(self, silent: Mapping[str, Sequence[FoundVideo]]) -> None:
        """Ask adapters that have not spoken of some videos yet; nothing is decoded where their features are stored."""
        answered = set()
        for name, videos in silent.items():
            for several in _in_turn(videos, self._index):
                answered |= {video.key for video, _ in several}
                self._ask_of(name, self._answers.fingerprints[name], several)
        self.done.answered = len(answered)

    def _ask_of(self, name: str, digest: str, several: Sequence[tuple[FoundVideo, ArchivedVideo]]) -> None:
        from core_encoder.extraction import extract
        from core_encoder.features.failures import Failure
        from core_encoder.features.feature_source import FeatureSource

        spec, size = self._answers.specs[name], self._reading.clips_per_batch
        clips = {
            video.key: [Clip(video.file, scene.start_s, scene.end_s) for scene in kept.scenes]
            for video, kept in several
        }
        encoder, workers = self._answers.encoder, self._reading.workers
        every = [clip for own in clips.values() for clip in own]
        extract(encoder, every, spec, self._store, batch_size=size, workers=workers)
        source = FeatureSource(encoder, spec, self._store, batch_size=size, num_workers=workers)
        for video, _ in several:
            own, found = clips[video.key], []
            for first in range(0, len(own), size):
                some = own[first : first + size]
                pairs = list(zip(some, source.records(some), strict=True))
                failed = [clip for clip, one in pairs if isinstance(one, Failure)]
                read: list[Any] = [(clip, {spec: one}) for clip, one in pairs if not isinstance(one, Failure)]
                said = dict(zip([clip for clip, _ in read], self._answers.findings(name, read, size), strict=True))
                for clip in failed:
                    self._fail(clip, f"adapter {name!r} could not be asked: its frames cannot be decoded")
                found += [said.get(clip, ()) for clip in some]
            self._index.add_findings(*video.key, name, digest, found)

    # What cannot be read

    def _fail(self, clip: Clip, reason: str) -> None:
        from core_encoder.features.failures import Failure

        failure = Failure.of(clip, reason)
        self.done.failures.append(failure)
        self._listed.add(failure)
        log.warning("%s: not indexed: %s", one_line(clip.path), failure.reason)

    def _forget_failures(self, found: FoundVideos) -> None:
        """Strike out what will be tried again, and what is gone."""
        here = {video.file for video in found.videos}
        listed = [one.clip for one in self._listed.read()]
        self._listed.forget(clip for clip in listed if clip.path in here or is_missing(clip.path))


class _Batch:
    """Whole videos that go into the index together, after their features are durable."""

    def __init__(self, index: SceneIndex, run: SceneMaking) -> None:
        self._index, self._run = index, run
        self._videos: list[ArchivedVideo] = []
        self._since = time.monotonic()

    def add(self, video: ArchivedVideo) -> None:
        self._videos.append(video)
        scenes = sum(len(one.scenes) for one in self._videos)
        if scenes >= _FLUSH_SCENES or time.monotonic() - self._since > _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        videos, self._videos = self._videos, []
        if videos:
            self._run.commit()
            self._index.upsert(videos)
        self._since = time.monotonic()


class _Clock:
    """Counts seconds of video; those of files that are not opened yet are guessed from their bytes."""

    def __init__(self, videos: Sequence[FoundVideo]) -> None:
        elsewhere = any(isinstance(video.file, Url) for video in videos)  # to ask for each size would take long
        self._left = {video.file: 1 if elsewhere else _size(video.file) for video in videos}  # not opened yet
        self._left_bytes = sum(self._left.values())
        self._bytes = 0
        self._known_s = 0.0
        self._lasts_s: dict[str, float] = {}  # of videos under way
        self._at_s: dict[str, float] = {}
        self._closed_s = 0.0
        self._closed = 0
        self._total = len(videos)
        self._started = time.monotonic()

    def opened(self, path: str, duration_s: float) -> None:
        self._bytes += self._no_longer_left(path)
        self._known_s += duration_s
        self._lasts_s[path], self._at_s[path] = duration_s, 0.0

    def at(self, clip: Clip) -> None:
        end_s = self._lasts_s[clip.path] if clip.end_s is None else min(clip.end_s, self._lasts_s[clip.path])
        self._at_s[clip.path] = max(self._at_s[clip.path], end_s)

    def close(self, path: str) -> None:
        self._no_longer_left(path)
        self._at_s.pop(path, None)
        self._closed_s += self._lasts_s.pop(path, 0.0)
        self._closed += 1

    def _no_longer_left(self, path: str) -> int:
        size = self._left.pop(path, 0)
        self._left_bytes -= size
        return size

    def told(self, failed: int) -> IngestProgress:
        done_s, elapsed_s = self._closed_s + sum(self._at_s.values()), time.monotonic() - self._started
        rate = done_s / elapsed_s if elapsed_s else 0.0
        total_s = None
        if self._bytes:
            total_s = self._known_s * (1 + self._left_bytes / self._bytes)
        left_s = (total_s - done_s) / rate if total_s is not None and rate else None
        return IngestProgress(done_s, total_s, rate, left_s, self._closed, self._total, failed)


@contextmanager
def locked_for_writing(folder: Path) -> Iterator[None]:
    """Keep other runs of `prismhub index` out of an archive while the block runs.

    Raises:
        InputError: one is at work, or the folder cannot be written to.
    """
    with ExitStack() as held:
        try:
            with writing_to(folder):
                held.enter_context(locked(folder / LOCK_FOLDER, wait=False))
        except BlockingIOError as error:
            raise InputError(f"{folder}: another prismhub index is writing to this archive; wait for it") from error
        yield


def _in_turn(
    videos: Sequence[FoundVideo], index: SceneIndex, at_once: int = 64
) -> Iterator[list[tuple[FoundVideo, ArchivedVideo]]]:
    """Videos with what is kept of them, some at a time."""
    for first in range(0, len(videos), at_once):
        kept = [(video, index.video(*video.key)) for video in videos[first : first + at_once]]
        yield [(video, one) for video, one in kept if one is not None]


def _reason(error: InputError) -> str:
    return error.reason if isinstance(error, UnreadableVideo) else str(error)


def _size(file: str) -> int:
    try:
        with open_bytes(file) as video:
            return video.size
    except InputError:
        return 0
