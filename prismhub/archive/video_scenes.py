"""From videos to what an archive keeps of them: cut, encoded and asked about, in one decoding of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from core_encoder.clip_plan import Clip
from core_encoder.video.file_facts import FileFacts, read_file_facts
from prismhub.archive.scene_cuts import SceneCuts
from prismhub.archive.scenes import ArchivedVideo, Cue, Finding, Scene
from prismhub.archive.subtitles import cue_of, read_subtitles, speech_digest, spoken_in
from prismhub.archive.video_folders import FoundVideo

if TYPE_CHECKING:
    from core_encoder.clip_plan import VideoFacts
    from core_encoder.cut_extraction import CutClip
    from core_encoder.video.cutting import Cutter
    from prismhub.archive.scene_answers import SceneAnswers


@dataclass(frozen=True)
class VideoBegun:
    """A video whose scenes follow."""

    path: str
    duration_s: float


@dataclass(frozen=True)
class SceneMade:
    """A clip of a video is encoded."""

    clip: Clip


@dataclass(frozen=True)
class SceneFailed:
    """A clip of a video that could not be encoded."""

    clip: Clip
    reason: str


@dataclass(frozen=True)
class VideoUnread:
    """A video that cannot be read, wholly or from some clip on."""

    path: str
    reason: str


@dataclass(frozen=True)
class VideoMade:
    """A video with all its scenes, which may be none."""

    path: str
    video: ArchivedVideo


MakingEvent = VideoBegun | SceneMade | SceneFailed | VideoUnread | VideoMade


class SceneMaking(Protocol):
    """What makes scenes of some videos: a context manager, and an iterator of events."""

    def __enter__(self) -> SceneMaking: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...
    def __iter__(self) -> Iterator[MakingEvent]: ...
    def commit(self) -> None:
        """Make the features of every scene that has come so far durable."""


class VideoScenes:
    """Makes the scenes of videos in this process."""

    def __init__(
        self,
        videos: Sequence[FoundVideo],
        answers: SceneAnswers,
        cuts: SceneCuts,
        store: Path,
        batch_size: int,
        workers: int,
    ) -> None:
        """Prepare to make scenes of `videos`, as `cuts` and `answers` say, and to store features under `store`."""
        from core_encoder.cut_extraction import CutExtraction

        self._by_file = {video.file: video for video in videos}
        self._opened: dict[str, _OpenVideo] = {}
        self._answers, self._cuts, self._batch_size = answers, cuts, batch_size
        self._space = answers.space_digest()
        self._run = CutExtraction(
            answers.encoder,
            list(self._by_file),
            self._cutter,
            answers.all_specs,
            store,
            batch_size=batch_size,
            workers=workers,
        )
        self._open = ExitStack()

    def __enter__(self) -> VideoScenes:
        self._open.enter_context(self._run)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.__exit__(kind, error, at)

    def commit(self) -> None:
        """Make the features of every scene that has come so far durable.

        Raises:
            InputError: the disk is full.
        """
        self._run.commit()

    def __iter__(self) -> Iterator[MakingEvent]:
        from core_encoder.cut_extraction import CutClip, CutFailed
        from core_encoder.video.cutting import VideoFailed, VideoOpened

        asked: list[CutClip] = []
        for event in self._run:
            if isinstance(event, VideoOpened):
                self._opened[event.path].digest = event.digest
                yield VideoBegun(event.path, event.facts.duration_s)
            elif isinstance(event, CutClip):
                asked.append(event)
                if len(asked) >= self._batch_size:
                    self._ask(asked)
                yield SceneMade(event.clip)
            elif isinstance(event, CutFailed):
                yield SceneFailed(event.clip, event.reason)
            elif isinstance(event, VideoFailed):
                self._opened.pop(event.path, None)
                asked = [one for one in asked if one.clip.path != event.path]
                yield VideoUnread(event.path, event.reason)
            else:
                self._ask(asked)
                yield VideoMade(event.path, self._archived(self._opened.pop(event.path)))

    def _cutter(self, path: str, facts: VideoFacts) -> Cutter:  # in the thread that decodes
        video, extras = self._by_file[path], read_file_facts(path)
        self._opened[path] = _OpenVideo(video, facts, extras, speech(video, extras), speech_digest(video.subtitles))
        return self._cuts.cutter(path, facts)

    def _ask(self, clips: list[CutClip]) -> None:
        """Make scenes of clips that are encoded, and forget their features."""
        asked = [(one.clip, one.records) for one in clips]
        if not asked:
            return
        size = self._batch_size
        vectors = self._answers.vectors(asked, size)
        findings: list[tuple[Finding, ...]] = [() for _ in asked]
        for name in self._answers.adapters:
            said = self._answers.findings(name, asked, size)
            findings = [before + now for before, now in zip(findings, said, strict=True)]
        for one, vector, found in zip(clips, vectors, findings, strict=True):
            video = self._opened[one.clip.path]
            start_s, end_s = one.clip.start_s, round(video.facts.duration_s, 3)
            end_s = end_s if one.clip.end_s is None else min(one.clip.end_s, end_s)
            said_there = spoken_in(video.cues, start_s, end_s)
            video.scenes.append(Scene(start_s, end_s, vector, found, said_there, one.picture or b""))
        clips.clear()

    def _archived(self, one: _OpenVideo) -> ArchivedVideo:
        made_of = {"video": one.digest, "cuts": self._cuts.digest(one.video.file), "space": self._space}
        answered = {f"adapter {name}": digest for name, digest in self._answers.fingerprints.items()}
        return one.archived(made_of | {"speech": one.speech_digest} | answered)


@dataclass
class _OpenVideo:
    """A video under way."""

    video: FoundVideo
    facts: VideoFacts
    extras: FileFacts
    cues: Sequence[Cue]
    speech_digest: str
    digest: str = ""
    scenes: list[Scene] = field(default_factory=list)

    def archived(self, made_of: Mapping[str, str]) -> ArchivedVideo:
        facts = self.facts
        return ArchivedVideo(
            root=self.video.root,
            path=self.video.path,
            made_of=made_of,
            duration_s=facts.duration_s,
            width=facts.width,
            height=facts.height,
            fps=facts.fps,
            recorded=self.extras.recorded,
            scenes=tuple(sorted(self.scenes, key=lambda scene: (scene.start_s, scene.end_s))),
        )


def speech(video: FoundVideo, extras: FileFacts) -> list[Cue]:
    """All that is said in a video: in its files of subtitles, and in its own streams."""
    cues = [cue for file in video.subtitles for cue in read_subtitles(file)]
    cues += [cue_of(start_s, end_s, text) for start_s, end_s, text in extras.cues]
    return sorted(cues, key=lambda cue: (cue.start_s, cue.end_s))
