"""`Hub`: one frozen encoder and any number of adapters on it. A video is encoded once, and every adapter answers.

Adapters with a LoRA of their own stand on what that makes of the encoder: of their videos each is another encoding.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from adapters.adapter import Adapter
from adapters.features import example_of
from adapters.predicting import answer_batch, answer_clips, check_given, check_needed, truths_of
from adapters.predictions import Prediction, Segments, Truth
from adapters.registry import load_adapter
from adapters.windows import Window, Windows
from core_encoder.array_videos import ArrayVideo, array_videos, is_array
from core_encoder.clip_bounds import Overrun
from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.encoder import Encoder, load_encoder
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.features.dtypes import PRECISIONS
from core_encoder.features.encoding import Decoding, Event, ViewEncoded, decode_files
from core_encoder.features.failures import Failure
from core_encoder.features.shared_source import SharedSource
from core_encoder.files.storage import nearest, prismhub_home
from core_encoder.video.decoders import decoder_id

if TYPE_CHECKING:
    from core_encoder.features.feature_spec import FeatureSpec

Hear = Callable[[Clip, float], None]
"""Is told of a clip that is looked at as a whole or in windows, and up to which second of it all is done."""


@dataclass(frozen=True)
class Gate:
    """Ask adapter `target` only where adapter `source` finds `label`: in the segments that are its answer, or in those
    with a score of at least `least_score`."""

    label: str
    source: str
    target: str
    least_score: float | None = None


@dataclass(frozen=True, eq=False)
class Answers:
    """What the adapters of a hub say of one video, by their names."""

    columns: ClassVar[tuple[str, ...]] = ("adapter", "answer")
    sample_id: str
    answers: Mapping[str, Prediction]

    def __getitem__(self, name: str) -> Any:
        """The answer of one adapter."""
        return self.answers[name]

    def describe(self, top: int | None = None, all_scores: bool = False) -> dict[str, Any]:
        """`{"id", "answers": {name: ...}}`, each as the adapter's own answer describes itself."""
        described = {name: answer.describe(top, all_scores) for name, answer in self.answers.items()}
        for said in described.values():
            del said["id"]
        return {"id": self.sample_id, "answers": described}

    def rows(self, top: int | None = None, all_scores: bool = False) -> list[tuple[str, ...]]:
        """The lines of every answer, with the adapter's name."""
        return [(name, "  ".join(row)) for name, answer in self.answers.items() for row in answer.rows(top, all_scores)]


class Hub:
    """One frozen encoder and the adapters that were trained on it.

    Args:
        encoder: an `Encoder`, or what `load_encoder` takes.
        adapters: adapters or references to saved ones; a mapping gives them names, else they are called as in the
            registry, or by their kind.
        gates: which adapters are asked only where another one found something.
        cache: folder of stored features, which are read where they are there (default: features/ in PRISMHUB_HOME).
        decoder: which one reads videos.
        batch_size: clips that are encoded at once.
        workers: threads that decode.
        decoding: what brings frames to the encoder.

    Raises:
        EncoderMismatch: an adapter was trained on another encoder; it is named.
        InputError: a name is taken, a gate does not fit, or an adapter does not record its features.
    """

    def __init__(
        self,
        encoder: Encoder | str,
        adapters: Iterable[Adapter | str] | Mapping[str, Adapter | str] = (),
        *,
        gates: Sequence[Gate] = (),
        cache: str | Path | None = None,
        decoder: str = "auto",
        batch_size: int = 8,
        workers: int = 2,
        decoding: Decoding = decode_files,
    ) -> None:
        self.encoder = encoder if isinstance(encoder, Encoder) else load_encoder(encoder)
        self.cache = Path(cache) if cache is not None else prismhub_home() / "features"
        self._decoder = decoder_id(decoder)
        self._batch_size, self._workers, self._decoding = batch_size, workers, decoding
        self._changing = threading.Lock()
        self._adapters: dict[str, Adapter] = {}
        self._gates: tuple[Gate, ...] = ()
        self.passes = 0  # how often a clip was decoded and encoded, over all questions
        self.overruns: dict[Clip, Overrun] = {}  # the clips among them that end after their video
        given = adapters.items() if isinstance(adapters, Mapping) else ((None, one) for one in adapters)
        for name, one in given:
            self.add(one, name)
        for gate in gates:
            self.add_gate(gate)

    def __repr__(self) -> str:
        return f"Hub({self.encoder.name!r}: {', '.join(self._adapters) or 'no adapter'})"

    @property
    def adapters(self) -> dict[str, Adapter]:
        """The adapters by name, as they are now."""
        return dict(self._adapters)

    @property
    def gates(self) -> tuple[Gate, ...]:
        """Which adapters are asked only where another one found something."""
        return self._gates

    def add(self, adapter: Adapter | str, name: str | None = None) -> str:
        """Take in an adapter, or the saved one that a reference names; returns what it is called here.

        Raises:
            EncoderMismatch: it was trained on another encoder.
            InputError: the name is taken, or it does not record its features.
        """
        if isinstance(adapter, Adapter):
            called = name or adapter.kind
        else:
            called = name or Path(os.fspath(adapter).partition("@")[0]).name
            adapter = load_adapter(adapter, device=str(self.encoder.device))
        adapter.info.check_encoder(self.encoder.name, self.encoder.fingerprint, f"adapter {called!r}")
        if adapter.info.features is None:
            raise InputError(
                f"adapter {called!r} does not record which features it reads: train it on those of a store"
            )
        adapter.use_encoder(self.encoder)
        with self._changing:
            if name is not None and name in self._adapters:
                raise InputError(f"an adapter called {name!r} is here already: remove it first, or give another name")
            numbered = itertools.chain([called], (f"{called}-{number}" for number in itertools.count(2)))
            called = next(one for one in numbered if one not in self._adapters)
            self._adapters = {**self._adapters, called: adapter}  # a new one: whoever is asking keeps the old
        return called

    def remove(self, name: str) -> None:
        """Let an adapter go.

        Raises:
            InputError: there is none of this name, or a gate needs it.
        """
        with self._changing:
            self._find(name)
            gate = next((gate for gate in self._gates if name in (gate.source, gate.target)), None)
            if gate:
                raise InputError(f"adapter {name!r} is part of {gate}: remove that first")
            self._adapters = {other: one for other, one in self._adapters.items() if other != name}

    def add_gate(self, gate: Gate) -> None:
        """Ask an adapter only where another one found something.

        Raises:
            InputError: an adapter that is not here, a source that does not say when, or a label that it does not know.
        """
        source, target = self._find(gate.source), self._find(gate.target)
        if source.target_kind != "segments" or target is source:
            raise InputError(f"{gate}: the source must be another adapter, one that says when (segments)")
        if source.answer_labels and gate.label not in source.answer_labels:
            raise InputError(f"{gate}: no label {gate.label!r}{nearest(gate.label, source.answer_labels)}")
        with self._changing:
            self._gates = (*self._gates, gate)

    def remove_gate(self, gate: Gate) -> None:
        """Ask the target of a gate about whole videos again."""
        with self._changing:
            self._gates = tuple(other for other in self._gates if other != gate)

    def predict(
        self,
        videos: Any,
        *,
        given: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        window: float | None = None,
        step: float | None = None,
    ) -> list[Answers]:
        """What every adapter says of each video: paths, `Clip`s, or arrays as `adapter.predict` takes them.

        Args:
            given: what the adapters are told beside the video, such as a question; once for all or one mapping each.
            window: answer for every so many seconds of the video; adapters that look at a video as a whole are asked
                once. By default a video is asked about as a whole.
            step: seconds from one window to the next.

        Raises:
            InputError: there is no adapter, none reads what is given, one is not given what it needs, or arrays are
                asked about in seconds.
            UnreadableVideo: a video cannot be decoded.
        """
        alone = is_array(videos) or isinstance(videos, str | os.PathLike | Clip)
        asked = [videos] if alone else list(videos)
        answers = []
        for one in self.answers(asked, given=given, window=window, step=step):
            if isinstance(one, Failure):
                raise UnreadableVideo(one.path, one.reason)
            answers.append(one)
        return answers

    def answers(
        self,
        videos: Sequence[Any],
        *,
        given: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        window: float | None = None,
        step: float | None = None,
        names: Sequence[str] | Mapping[str, Adapter] | None = None,
        ids: Sequence[str] | None = None,
        hear: Hear = lambda clip, at_s: None,
    ) -> Iterator[Answers | Failure]:
        """`predict` for many videos: each answer as it comes, and why there is none where there is none.

        Args:
            names: ask these adapters alone; a gate holds where both of its adapters are asked. A mapping holds adapters
                as `adapters` gave them, some of which may have been removed since.
            ids: what the answers call the videos (default: their paths).
            hear: is told how far a long video is.
        """
        asked_for = self._asked_for(names)
        gates = tuple(gate for gate in self._gates if gate.source in asked_for and gate.target in asked_for)
        if not asked_for:
            raise InputError("the hub has no adapter to ask: add one")
        check_given({**self._adapters, **asked_for}.values(), given)
        check_needed(asked_for, given)
        if any(map(is_array, videos)):
            if gates or window is not None:
                raise InputError("gates and windows count seconds, which an array does not know; give videos as files")
            arrays = array_videos(list(videos))
            known = truths_of([video.name for video in arrays], ids, given)
            yield from self._answer_whole(asked_for, arrays, known, hear)
            return
        clips = [one if isinstance(one, Clip) else Clip(os.fspath(one)) for one in videos]
        known = truths_of([clip.path for clip in clips], ids, given)
        gated = {gate.target for gate in gates}
        now = {name: one for name, one in asked_for.items() if name not in gated}
        windowed = {name: one for name, one in now.items() if window is not None and not one.reads_whole_clips}
        whole = {name: one for name, one in now.items() if name not in windowed}
        asked = self._answer_whole(whole, clips, known, hear)
        for clip, truth, found in zip(clips, known, asked, strict=True):
            if isinstance(found, Failure):
                yield found
                continue
            said = dict(found.answers)
            try:
                if window is not None and windowed:
                    said |= self._answer_windows(windowed, clip, truth, window, step, hear)
                said |= self._answer_gated(asked_for, gates, clip, truth, said)
            except UnreadableVideo as error:
                yield Failure.of(clip, error.reason)
                continue
            yield Answers(truth.id, {name: said[name] for name in asked_for if name in said})

    def _answer_whole(
        self,
        adapters: Mapping[str, Adapter],
        videos: Sequence[Clip] | Sequence[ArrayVideo],
        known: Sequence[Truth],
        hear: Hear,
    ) -> Iterator[Answers | Failure]:
        """What adapters say of whole videos: of each video all that its passes say, or the first failure."""
        passes = [
            self._answer_pass({name: adapters[name] for name in specs}, specs, videos, known, hear)
            for specs in _in_passes({name: self.spec(one) for name, one in adapters.items()})
        ]
        for truth, *found in zip(known, *passes, strict=True):
            if failed := next((one for one in found if isinstance(one, Failure)), None):
                yield failed
            else:
                yield Answers(truth.id, {name: said for one in found for name, said in one.answers.items()})

    def _answer_pass(
        self,
        adapters: Mapping[str, Adapter],
        specs: Mapping[str, FeatureSpec],
        videos: Sequence[Clip] | Sequence[ArrayVideo],
        known: Sequence[Truth],
        hear: Hear,
    ) -> Iterator[Answers | Failure]:
        """What adapters say of whole videos whose features come of one pass: in batches, or one after the other where
        all windows of a video are looked at together."""
        source = self.source(specs.values(), self._encoder_of(adapters))
        long = any(one.reads_whole_clips for one in adapters.values())
        size = 1 if long else self._batch_size

        def heard(event: Event) -> None:
            if long and isinstance(event, ViewEncoded):
                hear(event.clip, event.info.end_s)

        for first in range(0, len(videos), size):
            several: Any = videos[first : first + size]
            if isinstance(several[0], ArrayVideo):
                found = source.records_of_arrays(several)
            else:
                found = source.records(several, heard)
            self._count(source)
            pairs = list(zip(found, known[first:], strict=False))
            read = [(one, truth) for one, truth in pairs if not isinstance(one, Failure)]
            said = {
                name: iter(
                    answer_clips(one, [(records[specs[name]], truth) for records, truth in read], self._batch_size)
                )
                for name, one in adapters.items()
            }
            for one, truth in pairs:
                if isinstance(one, Failure):
                    yield one
                else:
                    yield Answers(truth.id, {name: next(answers) for name, answers in said.items()})

    def _answer_windows(
        self, adapters: Mapping[str, Adapter], clip: Clip, truth: Truth, window: float, step: float | None, hear: Hear
    ) -> dict[str, Prediction]:
        """What adapters say of every window of a clip; of an hour no more than a batch is held."""
        specs = {name: _in_windows(self.spec(one), window, step) for name, one in adapters.items()}
        windows: dict[str, list[Window]] = {name: [] for name in adapters}
        for names in _in_passes(specs):
            source = self.source(names.values(), self._encoder_of({name: adapters[name] for name in names}))
            stream = source.stream(clip)
            while several := list(itertools.islice(stream, self._batch_size)):
                for name in names:
                    records = [one[specs[name]] for one in several]
                    batch = adapters[name].collate([example_of([record], truth) for record in records])
                    for record, answer in zip(records, answer_batch(adapters[name], batch), strict=True):
                        windows[name].append(Window(record.start_s, record.end_s, answer))
                hear(clip, windows[name][-1].end_s)
            self._count(source)
        return {name: Windows(truth.id, tuple(several)) for name, several in windows.items()}

    def _answer_gated(
        self,
        adapters: Mapping[str, Adapter],
        gates: Sequence[Gate],
        clip: Clip,
        truth: Truth,
        said: Mapping[str, Prediction],
    ) -> dict[str, Prediction]:
        """What gated adapters say of the segments that their gates let through."""
        spans: dict[str, set[tuple[float, float]]] = {gate.target: set() for gate in gates}
        for gate in gates:
            found = said.get(gate.source)
            if isinstance(found, Segments):
                spans[gate.target] |= {
                    (one.start_s, one.end_s)
                    for one in found.segments
                    if one.label == gate.label and one.score >= _least(gate, found) and one.end_s > one.start_s
                }
        answers: dict[str, Prediction] = {}
        for name, several in spans.items():
            clips = [Clip(clip.path, start_s, end_s) for start_s, end_s in sorted(several)]
            windows = []
            asked = self._answer_whole({name: adapters[name]}, clips, [truth] * len(clips), lambda clip, at_s: None)
            for part, one in zip(clips, asked, strict=True):
                if isinstance(one, Failure):
                    raise UnreadableVideo(one.path, one.reason)
                assert part.end_s is not None
                windows.append(Window(part.start_s, part.end_s, one[name]))
            answers[name] = Windows(truth.id, tuple(windows))
        return answers

    def passes_for(
        self, names: Sequence[str] | Mapping[str, Adapter], window: float | None = None, step: float | None = None
    ) -> list[tuple[FeatureSpec, ...]]:
        """What `answers` decodes and encodes for some adapters: the features of every pass over the frames."""
        specs = {}
        for name, one in self._asked_for(names).items():
            windowed = window is not None and not one.reads_whole_clips
            specs[name] = _in_windows(self.spec(one), window, step) if windowed else self.spec(one)
        return [tuple(dict.fromkeys(several.values())) for several in _in_passes(specs)]

    def spec(self, adapter: Adapter) -> FeatureSpec:
        """The features that an adapter reads, as they are made here."""
        assert adapter.info.features is not None
        return self.as_made_here(adapter.info.features)

    def as_made_here(self, spec: FeatureSpec) -> FeatureSpec:
        """Features with the decoder and the precision of this hub."""
        return replace(spec, decoder=self._decoder, precision=PRECISIONS[self.encoder.dtype])

    def source(self, specs: Iterable[FeatureSpec], encoder: Encoder | None = None) -> SharedSource:
        """Where features come from here: read in the cache, else computed; by default by the encoder of the hub."""
        encoder, how = encoder or self.encoder, {"batch_size": self._batch_size, "workers": self._workers}
        return SharedSource(encoder, list(specs), self.cache, **how, decoding=self._decoding)

    def _encoder_of(self, adapters: Mapping[str, Adapter]) -> Encoder:
        """What makes the features of adapters of one pass: the encoder of the hub, or what LoRA has made of it."""
        return next(iter(adapters.values())).find_encoder()

    def _asked_for(self, names: Sequence[str] | Mapping[str, Adapter] | None) -> Mapping[str, Adapter]:
        if isinstance(names, Mapping):
            return names
        return self._adapters if names is None else {name: self._find(name) for name in names}

    def _count(self, source: SharedSource) -> None:
        """Take over what a source has counted since it was last asked."""
        self.passes += source.passes
        source.passes = 0
        self.overruns |= source.overruns

    def _find(self, name: str) -> Adapter:
        if name not in self._adapters:
            raise InputError(f"the hub has no adapter {name!r}{nearest(name, self._adapters)}")
        return self._adapters[name]


def _least(gate: Gate, found: Segments) -> float:
    """The score from which on a segment opens a gate."""
    return found.threshold if gate.least_score is None else gate.least_score


def _in_windows(spec: FeatureSpec, window: float | None, step: float | None) -> FeatureSpec:
    """The features of every window of a clip instead of the clip."""
    assert window is not None
    return replace(spec, plan=ClipPlan.windows(spec.plan.num_frames, window, step))


def _in_passes(specs: Mapping[str, FeatureSpec]) -> list[dict[str, FeatureSpec]]:
    """The specs of adapters by name, those together that come of one pass over the frames."""
    passes: dict[Any, dict[str, FeatureSpec]] = {}
    for name, spec in specs.items():
        passes.setdefault(spec.of_one_pass, {})[name] = spec
    return list(passes.values())
