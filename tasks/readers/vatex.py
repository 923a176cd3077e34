"""VATEX: a list of `{"videoID", "enCap": [10 captions]}`, videos `<videoID>.mp4`, clips of films of YouTube.

Source: vatex_training_v1.0.json, vatex_validation_v1.0.json and vatex_public_test_english_v1.1.json of Wang et al.
(arXiv 1904.03493). An id is that of the film with the clip's first and last second, six digits each.
"""

from __future__ import annotations

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from tasks.readers.captions import CaptionedSample
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.official_json import read_entries
from tasks.readers.official_lists import read_list

_NAMES = {
    "training": ("vatex_training_v1.0.json",),
    "validation": ("vatex_validation_v1.0.json",),
    "public_test": ("vatex_public_test_english_v1.1.json", "vatex_public_test_english_v1.0.json"),
}
HALF = ("vatex_test_list.txt", "test_list.txt")  # of the validation videos, by Chen et al. (HGR): one id a line


def read_vatex(data: DatasetFolder, split: str) -> list[CaptionedSample]:
    """The videos of a split with their English captions, as often as they are written.

    `validation_half` are those of the validation videos that a list beside it names.

    Raises:
        InputError: one line with file, entry, field and the fix.
    """
    half = split == "validation_half"
    whole = "validation" if half else split
    file = data.file(*_NAMES[whole])
    found: dict[str, CaptionedSample] = {}
    for one in read_entries(file):
        name = one.text("videoID")
        if name in found:
            raise one.error(f"videoID {name!r} comes twice; remove one")
        clip = Clip(data.video(name, name.rsplit("_", 2)[0], under=whole))
        found[name] = CaptionedSample(name, clip, (), split, one.texts("enCap"))
    if not half:
        return list(found.values())
    listed = data.file(*HALF)
    names = read_list(listed)
    if strange := next(((line, name) for line, name in names if name not in found), None):
        raise InputError(f"{listed}: line {strange[0]}: {strange[1]!r} is not in {file.name}")
    return [found[name] for _, name in names]
