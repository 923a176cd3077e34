"""`prismhub zero-shot`: which of some classes a video shows, by an encoder or adapter that knows words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adapters.prompt_templates import given_templates, read_templates, text_lines
from core_encoder.array_videos import ArrayVideo
from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.files.storage import is_file
from core_encoder.models.known_encoders import check_text_tower, no_text_tower
from prismhub.answers import Predicted, gather_answers
from prismhub.clips import find_inputs, sample_names
from prismhub.features import check_encoding, feature_source, feature_spec, open_encoder
from prismhub.progress import SILENT, Show
from prismhub.saved import adapter_encoder, recorded_spec
from prismhub.settings import EncodingSettings, RunningSettings, ZeroShotSettings

if TYPE_CHECKING:
    from adapters.predictions import ClassScores
    from core_encoder.features.failures import Failure

Videos = list[Clip] | list[ArrayVideo]

DEFAULT_TEMPLATE = "a video of {}"


def zero_shot(settings: ZeroShotSettings, show: Show = SILENT) -> Predicted:
    """Name the class of each video, each a `ClassScores`; those that cannot be read are returned as failures.

    Raises:
        InputError: labels or templates make no sense, there is no such video or adapter, or it knows no words.
    """
    labels = read_labels(settings.labels)
    if len(settings.templates) == 1:
        templates = read_templates(settings.templates[0])
    else:
        templates = given_templates(settings.templates or (settings.template or DEFAULT_TEMPLATE,))
    videos = find_inputs(settings.videos)
    find = _by_encoder if settings.adapter is None else _by_adapter
    found = find(settings, labels, templates.templates, videos, show)
    return replace(gather_answers(found, len(videos), show), about=templates.describe())


def _by_encoder(
    settings: ZeroShotSettings, labels: list[str], templates: Sequence[str], videos: Videos, show: Show
) -> Iterator[ClassScores | Failure]:
    """By the text tower that the encoder has."""
    check_encoding(settings.encoding)
    check_text_tower(settings.encoding.encoder)

    encoder = open_encoder(settings.encoding.encoder, settings.accelerator, settings.encoding.encoder_dtype)
    if not encoder.has_text:
        raise no_text_tower(encoder.name)
    from adapters.zero_shot import class_vectors, name_videos, prompts

    spec = feature_spec(encoder, settings.encoding, "embedding", ())
    source = feature_source(encoder, spec, settings.reading, videos)
    texts = encoder.embed_text(prompts(labels, templates))  # (K * P, E)
    vectors = class_vectors(texts.unflatten(0, (len(labels), len(templates))))
    return name_videos(vectors, labels, videos, sample_names(videos), source, settings.reading.clips_per_batch)


def _by_adapter(
    settings: ZeroShotSettings, labels: list[str], templates: Sequence[str], videos: Videos, show: Show
) -> Iterator[ClassScores | Failure]:
    """By the space that a saved adapter puts videos and texts into."""
    from adapters.registry import describe_adapter, load_adapter

    assert settings.adapter is not None
    own, default = settings.encoding, EncodingSettings()
    info = describe_adapter(settings.adapter)
    if info.targets.kind != "pairs":
        raise InputError(
            f"adapter {settings.adapter!r} learned {info.targets.kind}, so it knows no words: give one of kind lit_text"
        )
    running = RunningSettings(
        None if own.encoder == default.encoder else own.encoder,
        settings.accelerator,
        None if own.encoder_dtype == default.encoder_dtype else own.encoder_dtype,
    )
    spec = recorded_spec(settings.adapter, info, running, show)
    from adapters.zero_shot import class_vectors, name_by_adapter, prompts

    adapter: Any = load_adapter(settings.adapter)
    if not hasattr(adapter, "embed_text"):
        raise InputError(f"adapter {settings.adapter!r} of kind {info.kind!r} embeds no texts: it has no embed_text")
    source = feature_source(adapter_encoder(adapter, running, spec), spec, settings.reading, videos)
    texts = adapter.embed_text(prompts(labels, templates))  # (K * P, E)
    vectors = class_vectors(texts.unflatten(0, (len(labels), len(templates))))
    size = settings.reading.clips_per_batch
    return name_by_adapter(adapter, vectors, labels, videos, sample_names(videos), source, size)


def read_labels(given: Sequence[str]) -> list[str]:
    """The class names of words, or of the file that a single word names.

    Raises:
        InputError: fewer than two, an empty one, one that comes twice, or a file that cannot be read.
    """
    alone = given[0] if len(given) == 1 else ""
    from_file = bool(alone) and is_file(alone)
    labels = text_lines(alone) if from_file else [word.strip() for word in given]
    where = f"{alone}: " if from_file else ""
    if not labels:
        raise InputError(f"{where}no label: name at least two classes")
    seen: set[str] = set()
    for label in labels:
        if not label:
            raise InputError(f"labels {', '.join(map(repr, given))}: one of them is empty")
        if label in seen:
            raise InputError(f"{where}label {label!r} comes twice")
        if not from_file and is_file(label):
            raise InputError(f"labels: {label!r} is a file; give a file of labels alone, without others beside it")
        seen.add(label)
    if len(labels) == 1:
        hint = "" if from_file else ", and no file of this name is here"
        several = "give a list" if "," in alone else "name at least two, as in running,jumping"
        raise InputError(f"{where}{labels[0]!r} is the only label{hint}: {several}")
    return labels
