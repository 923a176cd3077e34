"""One encoder and its adapters behind the requests: facts, frames, batches, answers.

request -> facts (a decode process) -> frames, where they are few -> lane -> encoder and adapters -> answers
"""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

from adapters.hub import Answers, Hub
from adapters.predicting import check_given
from adapters.predictions import Segments
from core_encoder.clip_plan import Clip, ClipPlan, VideoFacts
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.features.encoding import Event, ViewEncoded, encoder_may_share
from core_encoder.features.failures import Failure
from core_encoder.files.storage import nearest
from prismhub.answers import Predicted
from prismhub.long_videos import MUCH_LONGER, is_much_longer, window_seconds
from prismhub.printing import answer_records
from prismhub.progress import SILENT
from prismhub.server.asked import Asked
from prismhub.server.clip_limits import check_length, check_windows, seconds_of
from prismhub.server.decode_pool import DecodePool, Soon
from prismhub.server.given_boxes import moments_of, wants_boxes
from prismhub.server.lane import Lane
from prismhub.server.lanes import Lanes
from prismhub.server.metrics import Metrics
from prismhub.server.questions import EmbedQuestion, PredictQuestion, ZeroShotQuestion
from prismhub.server.refusal import Refused
from prismhub.server.settings import AnsweringSettings

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from core_encoder.encoder import Encoder
    from core_encoder.features.feature_source import FeatureSource
    from core_encoder.features.feature_spec import FeatureSpec, Record
    from prismhub.archive.archive_space import ArchiveSpace

Way = tuple[float | None, float | None]
"""Window and step in seconds of a question about windows; none of one about a whole clip."""


@dataclass(frozen=True, eq=False)
class _One:
    """One clip of a batch and what is given beside it."""

    asked: Asked
    given: Mapping[str, Any] = field(default_factory=dict)


class Answering:
    """Answers questions about clips; every method that does may be called from any thread."""

    def __init__(self, hub: Hub, pool: DecodePool, settings: AnsweringSettings, metrics: Metrics) -> None:
        self.hub, self._pool, self._settings = hub, pool, settings
        size, wait_s = settings.reading.clips_per_batch, settings.max_wait_ms / 1000
        self.lanes = Lanes(size, wait_s, hub.encoder.device.type == "cpu", metrics)
        self._changing = threading.Lock()
        for one in hub.adapters.values():
            one.eval()

    def close(self) -> None:
        """Finish what runs."""
        self.lanes.close()

    def add_adapter(self, ref: str, name: str | None) -> str:
        """Take in an adapter of the registry of this machine; what it is called here.

        Raises:
            InputError: there is none of this name, the name is taken, or it is one of another encoder.
        """
        from adapters.registry import describe_adapter, list_adapters, load_adapter

        known = {one.name for one in list_adapters()}
        if ref.partition("@")[0] not in known:  # nor is it looked for in folders or on the Hub
            raise Refused(404, f"the registry of this server has no adapter {ref!r}{nearest(ref, known)}")
        describe_adapter(ref)
        adapter = load_adapter(ref, device=str(self.hub.encoder.device)).eval()
        with self._changing:
            called = name or ref.partition("@")[0]
            if called in self.hub.adapters:
                raise Refused(409, f"an adapter called {called!r} is here already: unload it, or give another name")
            return self.hub.add(adapter, called)

    def remove_adapter(self, name: str) -> None:
        """Let an adapter go; whoever asks it now gets the answer.

        Raises:
            Refused: there is none of this name.
        """
        if name not in self.hub.adapters:
            raise Refused(404, f"the server has no adapter {name!r}{nearest(name, self.hub.adapters)}")
        self.hub.remove(name)

    def predict(self, asked: Asked, question: PredictQuestion) -> Future[Any]:
        """What adapters say of a clip, by their names: each as `prismhub predict --json` prints it."""
        adapters = self._adapters(question.adapters, question.boxes is not None)
        with_boxes = {name: one for name, one in adapters.items() if wants_boxes(one)}
        if question.boxes is not None and not with_boxes:
            raise InputError("boxes mean nothing here: none of the adapters says what those in boxes do")
        given: dict[str, Any] = {}
        if question.question is not None:
            given["question"] = question.question
        if question.candidates is not None:
            if len(set(question.candidates)) < max(len(question.candidates), 2):
                raise InputError("candidates must be at least two different texts")
            given["candidates"] = tuple(question.candidates)
        check_given(adapters.values(), given)
        if question.threshold is not None and not any(one.target_kind == "segments" for one in adapters.values()):
            raise InputError("threshold means nothing here: none of the adapters says when something happens")
        plain = {name: one for name, one in adapters.items() if name not in with_boxes}
        facts = self._facts(asked, *self._soon(plain, question))
        ways = self._ways(plain, question, facts, asked.clip) if plain else {}
        parts: list[Future[Any]] = []
        for name, one in with_boxes.items():
            parts += self._moments(asked, facts, name, one, question)
        for (window, step), names in ways.items():
            several = {name: adapters[name] for name in names}  # whoever asks them now is answered, unloaded or not
            passes = self.hub.passes_for(several, window, step)
            lane = self._lane(asked, facts, passes, window is not None)

            def run(items: Sequence[_One], several: Any = several, window: Any = window, step: Any = step) -> list[Any]:
                return self._predict(items, several, window, step)

            parts.append(
                self._submit(lane, asked, ("predict", tuple(several.items()), window, step), _One(asked, given), run)
            )
        return _joined(parts, lambda found: self._described(adapters, found, question))

    def _moments(
        self, asked: Asked, facts: VideoFacts, name: str, adapter: Adapter, question: PredictQuestion
    ) -> list[Future[Any]]:
        """What an adapter says of the boxes of each moment."""
        alone = {name: adapter}

        def run(items: Sequence[_One]) -> list[Any]:
            return self._predict(items, alone, None, None)

        passes = self.hub.passes_for(alone, None, None)
        parts = []
        for clip, given in moments_of(adapter, question.boxes or (), asked.clip.path, facts):
            one = replace(asked, clip=clip)  # its frames and its tasks are those of the question
            lane = self._lane(one, facts, passes, windowed=False)
            parts.append(self._submit(lane, one, ("boxes", name, adapter), _One(one, given), run))
        return parts

    def embed(self, asked: Asked, question: EmbedQuestion) -> Future[Any]:
        """The features of a clip, a row a view, as `prismhub embed` makes them."""
        spec = self._embed_spec(question.window, question.step)

        def describe(records: list[Record]) -> dict[str, Any]:
            return self._embedded(spec) | {
                "video": asked.name,
                "values": [record.values.float().tolist() for record in records],
                "start": [record.start_s for record in records],
                "end": [record.end_s for record in records],
            }

        return _joined([self._records(asked, spec)], lambda found: describe(found[0]))

    def embed_texts(self, texts: Sequence[str], deadline: float) -> Future[Any]:
        """The unit vectors of texts in the space of the encoder."""
        self._check_words()

        def run(items: Sequence[Sequence[str]]) -> list[Any]:
            vectors = self.hub.encoder.embed_text([text for several in items for text in several]).float().cpu()
            rows = iter(vectors.tolist())
            return [[next(rows) for _ in several] for several in items]

        done = self.lanes.short.submit("texts", list(texts), run)
        about = self._embedded(self._embed_spec(None, None))
        return _joined([done], lambda found: about | {"text": list(texts), "values": found[0]})

    def zero_shot(self, asked: Asked, question: ZeroShotQuestion) -> Future[Any]:
        """Which of some classes a clip shows, as `prismhub zero-shot --json` prints it."""
        from adapters.prompt_templates import bundled_templates, given_templates, read_templates
        from adapters.zero_shot import class_vectors, name_by_adapter, name_videos, prompts

        labels = list(question.labels)
        if len(labels) < 2 or len(set(labels)) < len(labels):
            raise InputError("labels must be at least two different names")
        if question.template is not None and question.templates is not None:
            raise InputError("give template or templates, not both")
        named = question.templates[0] if question.templates and len(question.templates) == 1 else ""
        if named in bundled_templates():  # files are never read for a client
            templates = read_templates(named)
        else:
            templates = given_templates(question.templates or [question.template or "a video of {}"])
        adapter: Any = None
        if question.adapter is None:
            self._check_words()
            spec, embed_text = self._embed_spec(None, None), self.hub.encoder.embed_text
        else:
            adapter = self._adapters([question.adapter])[question.adapter]
            if not hasattr(adapter, "embed_text"):
                raise InputError(f"adapter {question.adapter!r} embeds no texts: name one of kind lit_text")
            spec, embed_text = self.hub.spec(adapter), adapter.embed_text

        def describe(records: list[Record]) -> list[dict[str, Any]]:
            texts = embed_text(prompts(labels, templates.templates))  # (K * P, E)
            vectors = class_vectors(texts.unflatten(0, (len(labels), len(templates.templates))))
            about = (vectors, labels, [asked.clip], [asked.name], _known(records))
            found = name_videos(*about) if adapter is None else name_by_adapter(adapter, *about)
            answers = Predicted([cast(Any, next(found))], (), templates.describe())
            return answer_records(answers, question.top, question.all_scores)

        return _joined([self._records(asked, spec, describe)], lambda found: found[0])

    def example(self, asked: Asked, space: ArchiveSpace) -> Future[Any]:
        """The unit vector (E,) of a clip in the space of an archive."""
        encoder = space.open()
        hub = self.hub if encoder is self.hub.encoder else self._hub_of(encoder)
        spec = hub.as_made_here(space.features)
        return _joined(
            [self._records(asked, spec, lambda records: space.example(asked.clip, source=_known(records)), hub)],
            lambda found: found[0],
        )

    def over(self, asked: Asked) -> None:
        """Nobody waits any more: let go of frames, and of what has not begun."""
        for task in asked.tasks:
            task.cancel()
        self._pool.forget(asked.clip.path, asked.ahead)
        self.hub.overruns.pop(asked.clip, None)  # a server would keep them for every upload

    def _adapters(self, names: Sequence[str] | None, boxes: bool = False) -> dict[str, Adapter]:
        """The adapters that are asked; where nobody says which, all that need nothing beside the video and `boxes`."""
        here = self.hub.adapters
        known = {"boxes"} if boxes else set()
        if names is None:
            names = [name for name, one in here.items() if known.issuperset(one.needed_inputs)]
            if not names:
                raise Refused(409, "the server has no adapter to ask: load one by POST /v1/adapters")
        for name in names:
            if name not in here:
                raise Refused(404, f"the server has no adapter {name!r}{nearest(name, here)}")
            if not known.issuperset(here[name].needed_inputs):
                needed = " and ".join(here[name].needed_inputs)
                raise InputError(f"adapter {name!r} needs {needed} beside a video: give `boxes`, as docs/serve.md says")
        return {name: here[name] for name in names}

    def _soon(
        self, adapters: Mapping[str, Adapter], question: PredictQuestion
    ) -> tuple[Sequence[Sequence[FeatureSpec]], float]:
        """What adapters see of a clip that is not asked about in windows, and up to how many seconds it is not."""
        if question.window is not None or question.step is not None or not adapters:
            return (), 0.0
        longest = [self._settings.max_clip_seconds]
        for one in adapters.values():
            if not one.reads_whole_clips and self.hub.spec(one).plan.sampling != "dense":
                longest.append(MUCH_LONGER * (_longest_s(one) or math.inf))
        return self.hub.passes_for(adapters, None, None), min(longest)

    def _facts(
        self,
        asked: Asked,
        passes: Sequence[Sequence[FeatureSpec]] = (),
        longest_s: float | None = None,
        encoder: Encoder | None = None,
    ) -> VideoFacts:
        """The facts of a clip that is short enough; its frames come with them where one pass shows them all."""
        limit_s = self._settings.max_clip_seconds
        soon = None
        if len(passes) == 1:
            specs, encoder = passes[0], encoder or self.hub.encoder
            soon = Soon(specs[0], encoder_may_share(encoder, specs), limit_s if longest_s is None else longest_s)
        facts = self._pool.facts(asked.clip, asked.deadline, soon, asked.ahead)
        check_length(asked.name, asked.clip, facts, limit_s)
        return facts

    def _ways(
        self, adapters: Mapping[str, Adapter], question: PredictQuestion, facts: VideoFacts, clip: Clip
    ) -> dict[Way, list[str]]:
        """How each adapter is asked: about the whole clip, or in windows, as `prismhub predict` does."""
        windows_asked = question.window is not None or question.step is not None
        if windows_asked and all(one.reads_whole_clips for one in adapters.values()):
            raise InputError("these adapters look at a video as a whole: they cannot be asked window by window")
        seconds = seconds_of(clip, facts)
        ways: dict[Way, list[str]] = defaultdict(list)
        for name, one in adapters.items():
            spec = self.hub.spec(one)
            window_s = window_seconds(one.info, spec, question.window, question.step)
            long = is_much_longer(seconds, spec, _longest_s(one))
            windowed = not one.reads_whole_clips and (windows_asked or long)
            ways[(window_s, question.step) if windowed else (None, None)].append(name)
        return ways

    def _lane(
        self,
        asked: Asked,
        facts: VideoFacts,
        passes: Sequence[Sequence[FeatureSpec]],
        windowed: bool,
        encoder: Encoder | None = None,
    ) -> Lane:
        """Where a question is answered; for the lane of short clips all frames are decoded now.

        Raises:
            InputError: there are more windows than an answer holds.
        """
        for specs in passes:
            check_windows(asked.name, asked.clip, facts, specs[0].plan)
        self._pool.deadlines[asked.clip.path] = asked.deadline
        about = (asked.clip, facts, encoder or self.hub.encoder)
        ahead = not windowed and all(
            self._pool.decode_ahead(*about, specs, asked.ahead, asked.deadline) for specs in passes
        )
        return self.lanes.short if ahead else self.lanes.long

    def _submit(self, lane: Lane, asked: Asked, kind: Hashable, item: Any, run: Any) -> Future[Any]:
        asked.tasks.append(lane.submit(kind, item, run))
        return asked.tasks[-1]

    def _predict(
        self, items: Sequence[_One], adapters: Mapping[str, Adapter], window: float | None, step: float | None
    ) -> list[Any]:
        """What adapters say of a batch of clips, or why nothing; what fails for one clip fails for no other."""
        try:
            return self._predict_together(items, adapters, window, step)
        except Exception as error:
            if len(items) == 1:
                return [error]
            return [self._predict([one], adapters, window, step)[0] for one in items]

    def _predict_together(
        self, items: Sequence[_One], adapters: Mapping[str, Adapter], window: float | None, step: float | None
    ) -> list[Any]:
        found = self.hub.answers(
            [one.asked.clip for one in items],
            names=adapters,
            ids=[one.asked.name for one in items],
            given=[one.given for one in items],
            window=window,
            step=step,
            hear=items[0].asked.hear if len(items) == 1 else lambda clip, at_s: None,
        )
        return [UnreadableVideo(one.path, one.reason) if isinstance(one, Failure) else one for one in found]

    def _described(
        self, adapters: Mapping[str, Adapter], found: Sequence[Answers], question: PredictQuestion
    ) -> dict[str, Any]:
        said: dict[str, list[Any]] = defaultdict(list)
        for one in found:
            for name, answer in one.answers.items():
                said[name].append(answer)
        records: dict[str, Any] = {}
        for name, adapter in adapters.items():
            answer = said[name][0] if len(said[name]) == 1 else adapter.merge(said[name], [None] * len(said[name]))
            if isinstance(answer, Segments) and question.threshold is not None:
                answer = replace(answer, threshold=question.threshold)
            records[name] = answer_records(Predicted([answer], ()), question.top, question.all_scores)
        return records

    def _hub_of(self, encoder: Encoder) -> Hub:
        """A hub of an archive's own encoder, which reads files as the other one does."""
        reading = self._settings.reading
        size, workers = reading.clips_per_batch, reading.workers
        return Hub(encoder, cache=self.hub.cache, batch_size=size, workers=workers, decoding=self._pool)

    def _records(
        self, asked: Asked, spec: FeatureSpec, finish: Any = lambda records: records, hub: Hub | None = None
    ) -> Future[Any]:
        """The records of a clip, or what `finish` makes of them in the lane."""
        hub = hub or self.hub
        facts = self._facts(asked, [(spec,)], encoder=hub.encoder)
        lane = self._lane(asked, facts, [(spec,)], windowed=False, encoder=hub.encoder)

        def run(items: Sequence[tuple[Asked, Any]]) -> list[Any]:
            def heard(event: Event) -> None:
                if len(items) == 1 and isinstance(event, ViewEncoded):
                    items[0][0].hear(event.clip, event.info.end_s)

            results: list[Any] = []
            records = hub.source([spec]).records([one.clip for one, _ in items], heard)
            for (one, end), found in zip(items, records, strict=True):
                if isinstance(found, Failure):
                    results.append(UnreadableVideo(one.clip.path, found.reason))
                    continue
                try:
                    results.append(end(found[spec]))
                except InputError as error:
                    results.append(error)
            return results

        return self._submit(lane, asked, ("records", spec), (asked, finish), run)

    def _embed_spec(self, window: float | None, step: float | None) -> FeatureSpec:
        from prismhub.features import feature_spec, vector_kind
        from prismhub.settings import EncodingSettings

        encoder = self.hub.encoder
        spec = self.hub.as_made_here(feature_spec(encoder, EncodingSettings(), vector_kind(encoder, SILENT), ()))
        if window is None and step is not None:
            raise InputError("step needs window: it is the time from one window to the next")
        return spec if window is None else replace(spec, plan=ClipPlan.windows(spec.plan.num_frames, window, step))

    def _embedded(self, spec: FeatureSpec) -> dict[str, Any]:
        return {"encoder": spec.encoder, "fingerprint": spec.fingerprint, "kind": spec.kind}

    def _check_words(self) -> None:
        from core_encoder.models.known_encoders import no_text_tower

        if not self.hub.encoder.has_text:
            raise no_text_tower(self.hub.encoder.name)


def _longest_s(adapter: Adapter) -> float | None:
    """The longest clip that an adapter has learned from, where that is known."""
    return (adapter.info.training.get("clip_s") or {}).get("longest")


def _known(records: list[Record]) -> FeatureSource:
    """Records that are here, where a source of them is expected."""

    class Known:
        def records(self, clips: Sequence[Clip]) -> list[list[Record]]:
            return [records for _ in clips]

    return cast("FeatureSource", Known())


def _joined(parts: Sequence[Future[Any]], finish: Any) -> Future[Any]:
    """A future of what `finish` makes of the results of all parts; the first failure is its own."""
    done: Future[Any] = Future()
    left = [len(parts)]
    lock = threading.Lock()

    def one_is_done(part: Future[Any]) -> None:
        with lock:
            left[0] -= 1
            last = left[0] == 0
        if not last or not done.set_running_or_notify_cancel():  # nobody waits any more
            return
        try:
            done.set_result(finish([part.result() for part in parts]))
        except BaseException as error:
            done.set_exception(error)

    for part in parts:
        part.add_done_callback(one_is_done)
    return done
