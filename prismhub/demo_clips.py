"""Held-out clips of `prismhub demo --all`, with what a hub of all its adapters says of them and what is right."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from core_encoder.clip_plan import Clip
from core_encoder.errors import UnreadableVideo
from core_encoder.features.failures import Failure
from prismhub.demo import evenly
from prismhub.pages.demo_page import Said, ShownClip

if TYPE_CHECKING:
    from adapters.hub import Hub
    from adapters.predictions import ClassScores, Prediction, Segments, Text
    from benchmarks.cell import Trained
    from tasks.readers.boxes import BoxSample
    from tasks.readers.captions import CaptionedSample
    from tasks.readers.texts import TextSample
    from tasks.sample import SegmentSample

LABEL, PAIRS, TEXT, WHEN, WHO = "demo-label", "demo-pairs", "demo-text", "demo-when", "demo-who"
ASKS = {
    LABEL: "which motion",
    PAIRS: "which text fits",
    TEXT: "caption and answers",
    WHEN: "what happens when",
    WHO: "who does what where",
}
SHORT, LONG, WITH_ACTORS = 5, 3, 3  # clips shown of each kind


def shown_clips(hub: Hub, trained: Mapping[str, Trained], constants: Sequence[Segments]) -> list[ShownClip]:
    """Some test clips of every data set, evenly chosen, with the answers of the adapters that learned from it.

    Args:
        hub: of the trained adapters, by the names of `trained`; there may be none of `TEXT`.
        constants: the best constant answer for every long video.
    """
    return [*_short(hub, trained), *_long(hub, trained[WHEN], constants), *_with_actors(hub, trained[WHO])]


def _short(hub: Hub, trained: Mapping[str, Trained]) -> Iterator[ShownClip]:
    """Clips with label, caption and questions."""
    told = {one.clip.path: one for one in cast("list[CaptionedSample]", trained[PAIRS].task.samples("test"))}
    texts = tuple(dict.fromkeys(one.captions[0] for one in told.values()))
    common = most_common(trained[LABEL])
    for sample in evenly(trained[LABEL].task.samples("test"), SHORT):
        clip, [truth] = sample.clip, sample.labels
        label = cast("ClassScores", _ask(hub, LABEL, clip))
        constant = f"the best constant answer: {common}"
        said = [Said(ASKS[LABEL], hub.adapters[LABEL].kind, label, truth, constant, right=label.label == truth)]
        said.append(_fitting(hub, told[clip.path], texts))
        if TEXT in trained:
            said += _texts(hub, trained[TEXT], clip)
        yield ShownClip(Path(clip.path).name, Path(clip.path), said)


def _fitting(hub: Hub, sample: CaptionedSample, texts: Sequence[str]) -> Said:
    """The texts of all test clips, ranked for one of them."""
    answer = cast("ClassScores", _ask(hub, PAIRS, sample.clip, {"candidates": texts}))
    own = sample.captions[0]
    rank = [text for text, _ in answer.top(len(texts))].index(own) + 1
    truth, chance = f"{own}, no. {rank} of {len(texts)} texts", f"by chance no. {(len(texts) + 1) / 2:g}"
    return Said(ASKS[PAIRS], hub.adapters[PAIRS].kind, answer, truth, chance, right=rank == 1)


def _texts(hub: Hub, trained: Trained, clip: Clip) -> Iterator[Said]:
    """The caption of a clip, and the answers to its questions."""
    blind = blind_texts(trained)
    for sample in cast("list[TextSample]", trained.task.samples("test")):
        if sample.clip == clip:
            answer = cast("Text", _ask(hub, TEXT, clip, trained.task.inputs(sample)))
            asks, right = "answer" if sample.question else "caption", answer.text in sample.texts
            twin = f"the blind twin: {blind[sample.id]}"
            yield Said(asks, hub.adapters[TEXT].kind, answer, sample.texts[0], twin, right=right)


def blind_texts(trained: Trained) -> dict[str, str]:
    """What the blind twin of a training says of every test sample, by its id."""
    lines = (trained.run / "blind" / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return {row["id"]: row["caption"] if "caption" in row else row["answer"] for row in rows}


def _long(hub: Hub, trained: Trained, constants: Sequence[Segments]) -> Iterator[ShownClip]:
    """Long videos with several events."""
    constant = {one.sample_id: one.segments[0] for one in constants}
    for sample in evenly(cast("list[SegmentSample]", trained.task.samples("test")), LONG):
        path, events, first = Path(sample.clip.path), sample.timeline.segments, constant[sample.id]
        length = f"{first.end_s - first.start_s:.1f} s"
        everywhere = f"the best constant answer: each class everywhere, in segments of {length}"
        answer, truth = _ask(hub, WHEN, sample.clip), f"{len(events)} events, the black lines"
        said = Said(ASKS[WHEN], hub.adapters[WHEN].kind, answer, truth, everywhere, events)
        yield ShownClip(path.name, path, [said])


def _with_actors(hub: Hub, trained: Trained) -> Iterator[ShownClip]:
    """Videos of two actors, each with the moments that are annotated."""
    videos: dict[str, list[BoxSample]] = {}
    for sample in cast("list[BoxSample]", trained.task.samples("test")):
        videos.setdefault(sample.video, []).append(sample)
    common = most_common(trained)
    adapter = hub.adapters[WHO]
    for name, moments in evenly(list(videos.items()), WITH_ACTORS):
        path = Path(moments[0].clip.path)
        answers = [_ask(hub, WHO, one.clip, trained.task.inputs(one), name) for one in moments]
        answer = adapter.merge(answers, [None] * len(answers))
        truth = "; ".join(f"{one.time_s:.1f} s: {_deeds(one)}" for one in moments)
        constant = f"the best constant answer is the same for everyone, the surest: {common}"
        yield ShownClip(path.name, path, [Said(ASKS[WHO], adapter.kind, answer, truth, constant)])


def _deeds(sample: BoxSample) -> str:
    people: dict[str, list[str]] = {}
    for box in sample.actors:
        people.setdefault(box.track, []).append(box.label)
    return ", ".join(f"{track} {' '.join(labels)}" for track, labels in people.items())


def most_common(trained: Trained) -> str:
    """The label that train has most often."""
    return Counter(label for one in trained.task.samples("train") for label in one.labels).most_common(1)[0][0]


def _ask(hub: Hub, name: str, clip: Clip, given: Mapping[str, Any] | None = None, called: str = "") -> Prediction:
    """What one adapter says of a clip; its features are those that training stored.

    Raises:
        UnreadableVideo: the file was changed since.
    """
    [answers] = hub.answers([clip], given=given, names=[name], ids=[called or clip.path])
    if isinstance(answers, Failure):
        raise UnreadableVideo(answers.path, answers.reason)
    return cast("Prediction", answers[name])
