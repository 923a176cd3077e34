"""How many seconds of video a run has done, and of how many: known of clips it has opened, guessed of the others."""

from __future__ import annotations

from core_encoder.features.encoding import ViewEncoded
from core_encoder.features.feature_spec import ClipKey


class VideoClock:
    """Counts seconds of video, view by view; clips with nothing to encode have none."""

    def __init__(self, dense: bool) -> None:
        """With `dense` windows, views follow each other in time; else every view is of the whole clip."""
        self._dense = dense
        self._open: dict[ClipKey, tuple[float, float]] = {}  # seconds done and in all, of clips under way
        self._closed_s = 0.0
        self._num_closed = 0
        self._found_s = 0.0  # of clips under way that an earlier run had done

    def view(self, encoded: ViewEncoded) -> None:
        """A view is encoded."""
        source, info = encoded.source, encoded.info
        start_s, span_s = source.clip.start_s, source.span_s
        if source.key not in self._open and self._dense:
            self._found_s += info.start_s - start_s
        part_s = info.end_s - start_s if self._dense else span_s * (encoded.key.view + 1) / info.num_views
        done_s, _ = self._open.get(source.key, (0.0, span_s))
        self._open[source.key] = max(done_s, min(part_s, span_s)), span_s

    def close(self, key: ClipKey | None, span_s: float | None = None) -> None:
        """A clip is done, or has failed; of one whose views were not told, `span_s` says how long it is."""
        if key in self._open:
            span_s = self._open.pop(key)[1]
        if span_s is not None:
            self._closed_s += span_s
            self._num_closed += 1

    def reopen(self, span_s: float) -> None:
        """A clip of so many seconds that was closed is to be done again."""
        self._closed_s -= span_s
        self._num_closed -= 1

    @property
    def done_s(self) -> float:
        """Seconds done, those of an earlier run in clips that this one goes on with among them."""
        return self._closed_s + sum(done_s for done_s, _ in self._open.values())

    @property
    def encoded_s(self) -> float:
        """Seconds done by this run."""
        return self.done_s - self._found_s

    def total_s(self, clips_left: int) -> float | None:
        """Seconds of all clips that are not cached, of which so many are under way or to come; None: not known yet."""
        known_s = self._closed_s + sum(span_s for _, span_s in self._open.values())
        num_known = self._num_closed + len(self._open)
        if not num_known:
            return None
        return known_s + known_s / num_known * max(clips_left - len(self._open), 0)
