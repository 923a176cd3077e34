"""Something-Something v2: `{"id", "label", "template", "placeholders"}` a video, classes `{template: index}`.

Source: the JSON files of the release, `something-something-v2-validation.json` and so on; the later download calls them
`validation.json` in a folder `labels`. A template without its brackets is the name of a class. Videos are
`<id>.webm`.
"""

from __future__ import annotations

from core_encoder.clip_plan import Clip
from core_encoder.files.storage import nearest
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.official_json import read_class_index, read_entries
from tasks.sample import Sample

_PREFIX = "something-something-v2-"


def read_something_something(data: DatasetFolder, split: str) -> list[Sample]:
    """The videos of `train` or `validation`.

    Raises:
        InputError: one line with file, entry, field and the fix.
    """
    classes, samples = something_something_classes(data), []
    for entry in read_entries(data.file(f"{_PREFIX}{split}.json", f"{split}.json")):
        name = entry.text("id")
        label = entry.text("template").replace("[", "").replace("]", "")
        if label not in classes:
            raise entry.error(f"template {label!r} is not a class{nearest(label, classes)}")
        samples.append(Sample(name, Clip(data.video(name)), (label,), split))
    return samples


def something_something_classes(data: DatasetFolder) -> tuple[str, ...]:
    """The classes in the order of their indices."""
    return read_class_index(data.file(f"{_PREFIX}labels.json", "labels.json"))
