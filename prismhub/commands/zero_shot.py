"""`prismhub zero-shot`: which of some classes a video shows, by an encoder or adapter that knows words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from adapters.prompt_templates import given_templates, read_templates, text_lines
from core_encoder.errors import InputError
from core_encoder.files.storage import is_file
from prismhub.answers import Predicted, gather_answers
from prismhub.clips import find_inputs, sample_names
from prismhub.progress import SILENT, Show
from prismhub.settings import ZeroShotSettings
from prismhub.text_spaces import open_text_space

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
    space = open_text_space(settings, videos, show)
    from adapters.zero_shot import class_vectors, name_by_adapter, name_videos, prompts

    texts = space.embed_text(prompts(labels, templates.templates))  # (K * P, E)
    vectors = class_vectors(texts.unflatten(0, (len(labels), len(templates.templates))))
    about = (vectors, labels, videos, sample_names(videos), space.source, settings.reading.clips_per_batch)
    found = name_videos(*about) if space.adapter is None else name_by_adapter(space.adapter, *about)
    return replace(gather_answers(found, len(videos), show), about=templates.describe())


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
