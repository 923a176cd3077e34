"""Proposals get their classes from another adapter, which looks at each as a clip of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from prismhub.features import clip_source
from prismhub.progress import Show
from prismhub.saved import adapter_encoder, recorded_spec
from prismhub.settings import ReadingSettings, RunningSettings

if TYPE_CHECKING:
    from adapters.card import AdapterInfo
    from adapters.predictions import Segments


def check_classifier(ref: str | None, info: AdapterInfo) -> None:
    """Refuse an adapter that cannot name what another finds.

    Raises:
        InputError: no such adapter, one that does not answer with a class, or proposals that have classes already.
    """
    from adapters.registry import describe_adapter

    if ref is None:
        return
    other = describe_adapter(ref)
    if other.targets.kind != "classes":
        raise InputError(f"classifier {ref!r} is a {other.kind} and does not answer with classes; take one that does")
    if not info.config.get("class_agnostic"):
        raise InputError("the segments of this adapter have classes already; classifier is for class_agnostic=true")


def check_classes(ref: str, label_names: Sequence[str], task: str) -> None:
    """Refuse, before anything is encoded, a classifier whose answers could not be judged.

    Raises:
        InputError: it knows a class that is none of the task's.
    """
    from adapters.registry import describe_adapter

    known = describe_adapter(ref).label_names
    if foreign := next((name for name in known if name not in label_names), None):
        raise InputError(
            f"classifier {ref!r} knows class {foreign!r}, which is none of task {task}: "
            "take one that was trained on its classes"
        )


def classify_proposals(
    answers: Sequence[Segments],
    clips: Mapping[str, Clip],
    ref: str,
    running: RunningSettings,
    reading: ReadingSettings,
    show: Show,
    top: int | None = None,
    all_scores: bool = False,
) -> list[Segments]:
    """The answers with the class that the adapter `ref` finds the likeliest in each segment; its probability times the
    score.

    Without `all_scores` only the segments that are the answer are kept, and the `top` surest where these are fewer.
    `clips` are the videos by sample id.
    """
    from adapters.predicting import predict_clips
    from adapters.predictions import Segment, Truth
    from adapters.registry import load_adapter
    from core_encoder.features.failures import Failure

    own = replace(running, encoder=None, text_tower=None, llm=None)  # the classifier may have another one
    classifier = load_adapter(ref)
    spec = recorded_spec(ref, classifier.info, own, show)
    source = clip_source(adapter_encoder(classifier, own, spec), spec, reading)
    found = []
    with show.bar("classifying") as bar:
        for done, answer in enumerate(answers, start=1):
            segments = max(answer.shown(all_scores=all_scores), answer.shown(top), key=len)
            path = clips[answer.sample_id].path
            parts = [Clip(path, one.start_s, one.end_s) for one in segments]
            truths = [Truth(f"{answer.sample_id} {place}") for place in range(len(parts))]
            named = []
            for one, said in zip(segments, predict_clips(classifier, parts, truths, source), strict=True):
                if isinstance(said, Failure):
                    raise InputError(f"{said.path}: {said.reason}")
                named.append(Segment(one.start_s, one.end_s, said.label, one.score * said.score))  # type: ignore[attr-defined]
            named.sort(key=lambda one: -one.score)
            found.append(replace(answer, segments=tuple(named), threshold=0.0, classified_by=adapter_id(ref)))
            bar.update(done, len(answers))
    return found


def adapter_id(ref: str) -> str:
    """What names a saved adapter for good: name and version in the registry, else where it lies."""
    from adapters.registry import find_adapter, registry_folder

    folder = Path(find_adapter(ref))
    return f"{folder.parent.name}@{folder.name}" if folder.parent.parent == registry_folder() else ref
