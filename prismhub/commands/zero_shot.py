"""`prismhub zero-shot`: which of some classes a video shows, by an encoder that knows words; nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.files.storage import is_file
from core_encoder.models.known_encoders import check_text_tower, no_text_tower
from prismhub.answers import Predicted, gather_answers
from prismhub.clips import find_inputs, sample_names
from prismhub.features import check_encoding, feature_source, feature_spec, open_encoder
from prismhub.progress import SILENT, Show
from prismhub.settings import ZeroShotSettings

DEFAULT_TEMPLATE = "a video of {}"


def zero_shot(settings: ZeroShotSettings, show: Show = SILENT) -> Predicted:
    """Name the class of each video, each a `ClassScores`; those that cannot be read are returned as failures.

    Raises:
        InputError: labels or templates make no sense, there is no such video, or the encoder has no text tower.
    """
    labels = read_labels(settings.labels)
    given = settings.templates or (settings.template or DEFAULT_TEMPLATE,)
    templates = read_templates(given, may_be_file=bool(settings.templates))
    videos = find_inputs(settings.videos)
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
    names, size = sample_names(videos), settings.reading.clips_per_batch
    return gather_answers(name_videos(vectors, labels, videos, names, source, size), len(videos), show)


def read_labels(given: Sequence[str]) -> list[str]:
    """The class names of words, or of the file that a single word names.

    Raises:
        InputError: fewer than two, an empty one, one that comes twice, or a file that cannot be read.
    """
    alone = given[0] if len(given) == 1 else ""
    from_file = bool(alone) and is_file(alone)
    labels = _lines(alone) if from_file else [word.strip() for word in given]
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


def read_templates(given: Sequence[str], may_be_file: bool) -> list[str]:
    """The templates of words, or of the file that a single word names.

    Raises:
        InputError: none, one without `{}`, or a file that cannot be read.
    """
    from_file = may_be_file and len(given) == 1 and is_file(given[0])
    templates = _lines(given[0]) if from_file else list(given)
    where = f"{given[0]}: " if from_file else ""
    if not templates:
        raise InputError(f"{where}no template: write one a line, with {{}} where the label stands")
    for template in templates:
        if "{}" not in template:
            hint = "" if from_file or not may_be_file else ", nor is there a file of this name"
            raise InputError(f"{where}template {template!r} has no {{}} where the label stands{hint}")
    return templates


def _lines(path: str) -> list[str]:
    """The lines of a text file, without blank ones and comments (`#`)."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a UTF-8 text file"
        raise InputError(f"{path}: cannot be read ({reason})") from error
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
