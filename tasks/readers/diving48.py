"""Diving48, version 2: `{"vid_name", "label", "start_frame", "end_frame"}` a video, each cut out already.

Source: `Diving48_V2_train.json`, `Diving48_V2_test.json` and `Diving48_vocab.json`, whose four words name a class in
the order of the indices. Version 1 has other labels and must not be mixed with it.
"""

from __future__ import annotations

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.files.storage import read_json
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.official_json import read_entries
from tasks.sample import Sample


def read_diving48(data: DatasetFolder, split: str) -> list[Sample]:
    """The dives of `train` or `test`.

    Raises:
        InputError: one line with file, entry, field and the fix; a label that is no class.
    """
    classes = diving48_classes(data)
    samples = []
    for entry in read_entries(data.file(f"Diving48_V2_{split}.json")):
        name, label = entry.text("vid_name"), entry.whole("label")
        if label >= len(classes):
            raise entry.error(f"label {label} is none of the {len(classes)} classes, counted from 0")
        samples.append(Sample(name, Clip(data.video(name)), (classes[label],), split))
    return samples


def diving48_classes(data: DatasetFolder) -> tuple[str, ...]:
    """The classes in the order of their indices: take-off, somersaults, twists and flight position.

    Raises:
        InputError: the vocabulary is no list of lists of words.
    """
    file = data.file("Diving48_vocab.json")
    content = read_json(file)
    if not isinstance(content, list) or not content:
        raise InputError(f"{file}: must be a list of classes")
    for place, words in enumerate(content, start=1):
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise InputError(f"{file}: entry {place}: must be a list of words that name a dive, not {words!r}")
    return tuple(" ".join(words) for words in content)
