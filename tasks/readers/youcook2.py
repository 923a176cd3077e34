"""YouCook2: `{"database": {id: {"subset", "annotations": [{"segment": [start, end], "id", "sentence"}]}}}`.

Source: youcookii_annotations_trainval.json of Zhou et al. (AAAI 2018, arXiv 1703.09788); the sentences of the testing
subset are kept secret. Videos lie in `<split>/<recipe type>/<id>.mp4`.
"""

from __future__ import annotations

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.official_json import read_object
from tasks.readers.texts import TextSample

ANNOTATIONS = "youcookii_annotations_trainval.json"


def read_youcook2(data: DatasetFolder, split: str) -> list[TextSample]:
    """The segments of a subset (`training`, `validation`), each with its sentence.

    Raises:
        InputError: one line with file, video, field and the fix, or no video is of the subset.
    """
    file = data.file(ANNOTATIONS)
    database, samples = read_object(file).entry("database"), {}
    for video in database.values:
        entry = database.entry(video)
        if entry.text("subset") != split:
            continue
        for one in entry.entries("annotations"):
            name = f"{video}_{one.whole('id')}"
            if name in samples:
                raise one.error(f"id {one.whole('id')} comes twice in this video; number the segments apart")
            clip = Clip(data.video(video), *one.span("segment"))
            samples[name] = TextSample(name, clip, (), split, (one.text("sentence"),))
    if not samples:
        raise InputError(f"{file}: no segment of it is of subset {split!r}")
    return list(samples.values())
