"""A user's own benchmark in YAML, without Python: a family reads each split as it reads own data."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from core_encoder.clip_plan import ClipPlan
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest, read_yaml
from tasks.benchmark import Benchmark
from tasks.readers.annotations import label_names, read_class_list
from tasks.readers.boxes import BoxSample
from tasks.readers.dataset_folder import DatasetFolder
from tasks.sample import Sample
from tasks.splits import split_name
from tasks.task import Task

FAMILIES: Mapping[str, tuple[str, str]] = {
    "classification": ("classification:ClassificationTask", "map_classifier"),
    "zero-shot classification": ("zero_shot:ZeroShotTask", ""),
    "multiple choice": ("multiple_choice:MultipleChoiceTask", ""),
    "retrieval": ("retrieval:RetrievalTask", "lit_text"),
    "temporal localization": ("temporal_localization:TemporalLocalizationTask", "temporal_localizer"),
    "spatiotemporal localization": ("spatiotemporal:SpatiotemporalTask", "spatiotemporal_localizer"),
    "language": ("language:LanguageTask", "llm_decoder"),
    "open answers": ("open_answers:OpenAnswersTask", "llm_decoder"),
}
"""Families by name: the class, and the kind of head that is trained unless another is named; "" for none."""

_PATHS = ("videos", "labels", "excluded", "detections")  # of the options of reading: relative to the data set's folder
_TEXTS = ("name", "metric", "suite", "protocol", "head", "licence", "citation", "folder", "annotations", "videos")
_LISTS = ("metrics", "unverified")
_MAPPINGS = ("splits", "read", "options", "head_options", "plan", "sizes", "published")
_NEEDED = ("name", "family", "splits", "metric")
_WITHOUT_CLASSES = ("multiple choice", "retrieval", "language", "open answers")


@dataclass(frozen=True)
class _OwnReader:
    """Reads the splits of a data set as the family reads own data.

    `sources` are files or folders below that of the data set, by our split; `inside` says that a source holds several
    splits, of which ours is taken.
    """

    family: type[Task]
    sources: Mapping[str, str]
    options: Mapping[str, Any]
    inside: bool

    def __call__(self, data: DatasetFolder, split: str) -> list[Sample]:
        options = {name: _below(data.path, value) if name in _PATHS else value for name, value in self.options.items()}
        if split == "train":
            options.pop("detections", None)  # those are to be judged on
        source = data.path / self.sources[split]
        samples = self.family.read_samples(source, **options)
        given = {sample.split for sample in samples} - {None}
        if self.inside:
            samples = [sample for sample in samples if sample.split == split]
            if not samples:
                held = ", ".join(sorted(map(str, given))) or "none"
                raise InputError(f"{source}: holds nothing of the split {split!r}; it holds {held}")
        elif len(given) > 1:
            raise InputError(f"{source}: holds several splits ({', '.join(sorted(map(str, given)))}); name it as data")
        return [replace(sample, split=split) for sample in samples]


def read_benchmark_file(path: str | Path) -> Benchmark:
    """The benchmark that a YAML file declares; `docs/add-a-task.md` lists its keys.

    Raises:
        InputError: one line with the file, the key and the fix.
    """
    path = Path(path).expanduser()
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: must hold keys and values, such as name: my-birds")
    _check_keys(path, content)
    family, head = _family(content["family"])
    inside = "data" in content
    sources = _sources(path, content)
    reader = _OwnReader(family, sources, content.get("read", {}), inside)
    given: dict[str, Any] = {key: content[key] for key in (*_TEXTS, *_LISTS, *_MAPPINGS) if key in content}
    for key in ("read", "splits", "plan"):
        given.pop(key, None)
    given |= {key: tuple(content[key]) for key in _LISTS if key in content}
    rules = importlib.import_module(family.__module__)
    try:
        _check_options(family, content.get("options", {}))
        return Benchmark(
            **{"suite": "own", "licence": "", "citation": "", "protocol": rules.PROTOCOL, "head": head}
            | {"annotations": ", ".join(dict.fromkeys(sources.values()))}
            | given,
            family=family,
            reader=reader,
            splits={split: split for split in sources},
            classes=_classes(path, content, reader, "train" if "train" in sources else "test"),
            plan=ClipPlan.from_dict(content.get("plan", {})),
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _family(name: str) -> tuple[type[Task], str]:
    """The class of a family, and the head that is trained for it."""
    place, head = FAMILIES[name]
    module, _, of_class = place.partition(":")
    return getattr(importlib.import_module(f"tasks.families.{module}"), of_class), head


def _check_keys(path: Path, content: Mapping[Any, Any]) -> None:
    known = (*_TEXTS, *_LISTS, *_MAPPINGS, "family", "classes", "data")
    for key, value in content.items():
        if key not in known:
            raise InputError(f"{path}: unknown key {key!r}{nearest(str(key), known)}")
        kind, what = (
            (dict, "keys and values") if key in _MAPPINGS else (list, "a list") if key in _LISTS else (str, "text")
        )
        if key == "splits":
            kind, what = (dict | list, "a list, or our split and its file") if "data" in content else (dict, what)  # type: ignore[assignment]
        if key == "classes":
            kind, what = list | str, "a list, or the file of one"  # type: ignore[assignment]
        if not isinstance(value, kind):
            raise InputError(f"{path}: {key} must be {what}, not {value!r}")
    if missing := next((key for key in _NEEDED if key not in content), None):
        raise InputError(f"{path}: there is no key {missing!r}; it is needed")
    if content["family"] not in FAMILIES:
        raise InputError(f"{path}: unknown family {content['family']!r}{nearest(content['family'], FAMILIES)}")


def _sources(path: Path, content: Mapping[str, Any]) -> dict[str, str]:
    """The file or folder of each of our splits."""
    splits = content["splits"]
    sources = dict.fromkeys(splits, content["data"]) if "data" in content else splits
    for split, source in sources.items():
        if split_name(str(split)) != split:
            raise InputError(f"{path}: splits: {split!r} is none of train, val and test")
        if not isinstance(source, str):
            raise InputError(f"{path}: splits: {split} must be a file or folder, not {source!r}")
    return dict(sources)


def _classes(
    path: Path, content: Mapping[str, Any], reader: _OwnReader, split: str
) -> tuple[str, ...] | Callable[[DatasetFolder], Sequence[str]]:
    """The class names, or how to read them: of a file, or those that occur in a split."""
    if content["family"] in _WITHOUT_CLASSES:
        if "classes" in content:
            raise InputError(f"classes means nothing in the family {content['family']}")
        return ()
    given = content.get("classes")
    if isinstance(given, list):
        return tuple(map(str, given))
    return partial(_read_classes, given) if given else partial(_occurring, reader, split)


def _read_classes(name: str, data: DatasetFolder) -> tuple[str, ...]:
    return read_class_list(data.file(name))


def _occurring(reader: _OwnReader, split: str, data: DatasetFolder) -> tuple[str, ...]:
    samples = reader(data, split)
    first = samples[0] if samples else None
    return first.label_map.names if isinstance(first, BoxSample) else label_names(samples)


def _check_options(family: type[Task], options: Mapping[str, Any]) -> None:
    known = {field.name for field in fields(family)} - {field.name for field in fields(Task)}
    for name in options:
        if name not in known:
            raise InputError(f"options: {name!r} is no option of the family {family.family}{nearest(str(name), known)}")


def _below(folder: Path, value: Any) -> Any:
    """A path, or several, relative to a folder."""
    return [folder / one for one in value] if isinstance(value, list) else folder / value
