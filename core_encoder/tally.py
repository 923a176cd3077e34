"""How the clips of an extraction went: counted as they come, told as progress, summed up in a report."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core_encoder.clip_bounds import Overrun
from core_encoder.clip_plan import Clip
from core_encoder.errors import one_line
from core_encoder.features.encoding import Bottleneck, EncodingWork, ViewEncoded
from core_encoder.features.failures import Failure, FailureLog
from core_encoder.features.feature_spec import ClipKey
from core_encoder.features.video_clock import VideoClock
from core_encoder.files.urls import Location

_PROGRESS_S = 0.1
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Crew:
    """The processes at work on a cluster, and how many had to be replaced because they died."""

    decoding: int
    encoding: int
    replaced: int


@dataclass(frozen=True)
class ExtractionProgress:
    """How far a run is; clips that were cached count as done but not in the rate."""

    done: int
    total: int
    cached: int
    failed: int
    views_encoded: int
    clips_per_s: float
    video_s: float  # seconds of video done, of clips that were not cached
    total_video_s: float | None  # and in all, partly guessed while some are not opened; None: not known yet
    times_real_time: float  # seconds of video encoded in one second
    eta_s: float | None  # None: not known yet
    bottleneck: Bottleneck
    crew: Crew | None = None  # of a cluster


@dataclass(frozen=True)
class ExtractionReport:
    """What a run did: `n_clips` is the sum of the cached, the derived, the encoded and the failed."""

    folders: tuple[Location, ...]  # of the stores, one a spec
    failures_path: Path  # the list of clips that could not be encoded, where there are any
    n_clips: int
    n_cached: int  # before the run, or the content of another clip of the run
    n_derived: int  # made of a finer kind that was cached, without decoding
    n_encoded: int
    failures: tuple[Failure, ...]
    overruns: tuple[Overrun, ...]  # clips that end after their video: cut there, or among the failures; none cached
    views_encoded: int
    frames_decoded: int
    video_s: float  # seconds of video encoded
    decode_wait_s: float  # the encoder waiting for frames
    encode_s: float
    elapsed_s: float
    bottleneck: Bottleneck
    batch_size: int  # at the end: smaller than asked for after running out of memory
    crew: Crew | None = None  # of a cluster

    @property
    def folder(self) -> Location:
        """The folder of the first store."""
        return self.folders[0]

    @property
    def clips_per_s(self) -> float:
        return self.n_encoded / self.elapsed_s if self.elapsed_s else 0.0

    @property
    def times_real_time(self) -> float:
        """Seconds of video encoded in one second."""
        return self.video_s / self.elapsed_s if self.elapsed_s else 0.0


class Tally:
    """Counts how the clips of a run went, lists those that failed, and tells the progress."""

    def __init__(
        self,
        total: int,
        work: Callable[[], EncodingWork],
        listed: FailureLog,
        clock: VideoClock,
        progress: Callable[[ExtractionProgress], None] | None = None,
        crew: Callable[[], Crew | None] = lambda: None,
    ) -> None:
        self.num_derived = 0  # of the cached
        self._total = total
        self._work = work
        self._listed = listed
        self._clock = clock
        self._progress = progress
        self._crew = crew
        self._reasons: dict[ClipKey, str] = {}  # of the failures
        self._repeated: list[tuple[Clip, ClipKey]] = []
        self._overruns: dict[Clip, Overrun] = {}
        self._num_cached = 0
        self._num_encoded = 0
        self._failures: list[Failure] = []
        self._started = time.monotonic()
        self._told = 0.0

    def cached(self) -> None:
        """A clip had nothing to encode."""
        self._num_cached += 1
        self.tell()

    def repeated(self, clip: Clip, key: ClipKey) -> None:
        """A clip has the content of another one of the run; how that one went is known at the end."""
        self._repeated.append((clip, key))

    def view(self, encoded: ViewEncoded) -> None:
        """A view is encoded; a clip may have thousands."""
        self._clock.view(encoded)
        self.bounds(encoded.clip, encoded.source.overrun)
        self.tell()

    def bounds(self, clip: Clip, overrun: Overrun | None) -> None:
        """How a clip ends after its video, if it does."""
        if overrun is not None:
            self._overruns[clip] = overrun

    def encoded(self, key: ClipKey, span_s: float | None = None) -> None:
        """A clip is encoded; given `span_s`, its seconds of video count now, else its views have counted."""
        self._clock.close(key, span_s)
        self._num_encoded += 1
        self.tell()

    def lost(self, span_s: float) -> None:
        """A clip of so many seconds that counted as encoded was lost before it was saved: it begins anew."""
        self._clock.reopen(span_s)
        self._num_encoded -= 1

    def failed(self, clip: Clip, key: ClipKey | None, reason: str) -> None:
        """A clip could not be encoded.

        Raises:
            InputError: the list of failures cannot be written to.
        """
        failure = Failure.of(clip, reason)
        self._failures.append(failure)
        self._clock.close(key)
        if key is not None:
            self._reasons[key] = failure.reason
        log.warning("%s: not encoded: %s", one_line(clip.path), failure.reason)
        self._listed.add(failure)
        self.tell()

    def twice(self, clip: Clip) -> None:
        """A clip that was asked for twice: it went as before."""
        before = next((one for one in self._failures if one.clip == clip), None)
        if before is None:
            self.cached()
        else:
            self.failed(clip, None, before.reason)

    def settle(self) -> None:
        """At the end: clips that have the content of others went as these did."""
        repeated, self._repeated = self._repeated, []
        for clip, key in repeated:
            if key in self._reasons:
                self.failed(clip, key, self._reasons[key])
            else:
                self.cached()

    def tell(self) -> None:
        """Tell the progress, unless that was a moment ago."""
        done = self._num_cached + self._num_encoded + len(self._failures)
        now = time.monotonic()
        if self._progress is None or (done < self._total and now - self._told < _PROGRESS_S):
            return
        self._told = now
        elapsed_s = now - self._started
        total_s, rate = self._clock.total_s(self._total - done), self._clock.encoded_s / elapsed_s if elapsed_s else 0.0
        work = self._work()
        self._progress(
            ExtractionProgress(
                done=done,
                total=self._total,
                cached=self._num_cached,
                failed=len(self._failures),
                views_encoded=work.views_encoded,
                clips_per_s=self._num_encoded / elapsed_s if elapsed_s else 0.0,
                video_s=self._clock.done_s,
                total_video_s=total_s,
                times_real_time=rate,
                eta_s=(total_s - self._clock.done_s) / rate if total_s is not None and rate else None,
                bottleneck=work.bottleneck,
                crew=self._crew(),
            )
        )

    def report(self, folders: tuple[Location, ...], elapsed_s: float) -> ExtractionReport:
        """What the run did."""
        work = self._work()
        return ExtractionReport(
            folders=folders,
            failures_path=self._listed.path,
            n_clips=self._total,
            n_cached=self._num_cached - self.num_derived,
            n_derived=self.num_derived,
            n_encoded=self._num_encoded,
            failures=tuple(self._failures),
            overruns=tuple(self._overruns.values()),
            views_encoded=work.views_encoded,
            frames_decoded=work.frames_decoded,
            video_s=self._clock.encoded_s,
            decode_wait_s=work.decode_wait_s,
            encode_s=work.encode_s,
            elapsed_s=elapsed_s,
            bottleneck=work.bottleneck,
            batch_size=work.batch_size,
            crew=self._crew(),
        )
