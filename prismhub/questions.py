"""What `predict` asks of which adapter: each gets those of the options that mean something for it. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from adapters.card import AdapterInfo
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from prismhub.answer_files import FORMATS, SUFFIXES, check_places
from prismhub.proposals import check_classifier
from prismhub.saved import moved_parts
from prismhub.settings import PredictSettings

_ALL = ("classes", "segments", "boxes", "text", "pairs")


class _Meaning(NamedTuple):
    """The kinds of targets whose adapters an option means something for, and what is said where there are none."""

    kinds: tuple[str, ...]
    otherwise: str


_NO_BOXES = _Meaning(("boxes",), "{option} means nothing for an adapter that answers with {targets}")
_NO_TIMES = _Meaning(("segments",), "{option} means nothing for {kind}: it does not say when something happens")
_MOMENTS = _Meaning(
    tuple(kind for kind in _ALL if kind != "boxes"), "{option} means nothing with boxes: --every chooses the moments"
)
_MEANINGS: dict[str, _Meaning] = {
    **dict.fromkeys(("boxes", "context", "every", "time_offset"), _NO_BOXES),
    **dict.fromkeys(("timeline", "classifier", "threshold"), _NO_TIMES),
    **dict.fromkeys(("window", "step", "vtt"), _MOMENTS),
    "question": _Meaning(("text",), "question is for adapters that answer with texts; this one learned {targets}"),
    "candidates": _Meaning(("pairs", "text"), "candidates are for adapters of texts; this one learned {targets}"),
}


@dataclass(frozen=True)
class Question:
    """A saved adapter under the name of its section, and the options that are meant for it.

    Of several adapters each writes into places of its own: files called like it, or folders.
    """

    name: str
    ref: str
    info: AdapterInfo
    settings: PredictSettings

    @property
    def targets(self) -> str:
        """The kind of what it learned."""
        return self.info.targets.kind


def read_questions(settings: PredictSettings) -> list[Question]:
    """What is asked of every adapter that the settings name.

    Raises:
        InputError: no such adapter, one that is named twice, an option that means nothing for any of them, or a place
            to write to that holds something else.
    """
    from adapters.registry import describe_adapter

    if not settings.adapter:
        raise InputError("no adapter was given: name one")
    for place, ref in enumerate(settings.adapter):
        if ref in settings.adapter[:place]:
            raise InputError(f"adapter {ref!r} is named twice")
    infos = [describe_adapter(ref) for ref in settings.adapter]
    for option, meaning in _MEANINGS.items():
        if getattr(settings, option) is not None and not any(info.targets.kind in meaning.kinds for info in infos):
            about = {"option": option, "targets": infos[0].targets.kind, "kind": infos[0].kind}
            raise InputError(meaning.otherwise.format(**about))
    _check_format(settings, infos)
    moved_parts(infos, settings.running)
    if settings.html is not None and settings.html.is_dir():
        raise InputError(f"{settings.html}: is a folder; --html wants a file such as {settings.html / 'answers.html'}")
    several = len(infos) > 1
    questions = []
    for name, ref, info in zip(section_names(settings.adapter), settings.adapter, infos, strict=True):
        own = _meant_for(info, settings)
        if any(one.config.get("class_agnostic") for one in infos) and not info.config.get("class_agnostic"):
            own = replace(own, classifier=None)  # which is for the proposals of another
        own = _in_own_places(own, name) if several else own
        check_places(own)
        check_classifier(own.classifier, info)
        questions.append(Question(name, ref, info, own))
    return questions


def section_names(refs: Sequence[str]) -> list[str]:
    """What adapters are called in answers and files: the last part of each reference; of equal ones with a number."""
    names: list[str] = []
    for ref in refs:
        path, at, version = ref.partition("@")
        base = (Path(path).name or Path(path).resolve().name) + at + version.replace("/", "-")
        name, number = base, 2
        while name in names:
            name, number = f"{base}-{number}", number + 1
        names.append(name)
    return names


def _check_format(settings: PredictSettings, infos: Sequence[AdapterInfo]) -> None:
    """Refuse a format that no adapter's answers have, and a place without a format."""
    fitting = list(dict.fromkeys(name for info in infos for name in FORMATS.get(info.targets.kind, ())))
    if settings.format is not None and settings.format not in fitting:
        kinds = " or ".join(dict.fromkeys(info.kind for info in infos))
        hint = nearest(settings.format, fitting) if fitting else "; --json prints them"
        raise InputError(f"answers of {kinds} cannot be written as {settings.format!r}{hint}")
    if settings.format is None and settings.out is not None:
        if not fitting:
            raise InputError(f"answers of {infos[0].kind} have no file format for out; --json prints them")
        raise InputError(f"out needs format: one of {', '.join(fitting)}")
    if len(infos) > 1 and settings.format is not None:
        if settings.out is None:
            raise InputError("format needs out where several adapters are asked: a folder, with files for each of them")
        if settings.out.is_file():
            raise InputError(f"{settings.out}: is a file; --out of several adapters wants a folder")


def _meant_for(info: AdapterInfo, settings: PredictSettings) -> PredictSettings:
    """The settings without what means nothing for an adapter."""
    left_out = [option for option, meaning in _MEANINGS.items() if info.targets.kind not in meaning.kinds]
    if settings.format not in FORMATS.get(info.targets.kind, ()):
        left_out += ["format", "out"]
    nothing: dict[str, Any] = dict.fromkeys(left_out)
    return replace(settings, **nothing)


def _in_own_places(settings: PredictSettings, name: str) -> PredictSettings:
    """The settings with files and folders for the adapter `name` below those that are given."""
    places: dict[str, Any] = {
        option: place / name for option in ("vtt", "timeline") if (place := getattr(settings, option)) is not None
    }
    if settings.out is not None and settings.format is not None:
        places["out"] = settings.out / f"{name}{SUFFIXES[settings.format]}"
    return replace(settings, **places)
