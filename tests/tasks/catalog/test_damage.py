"""Every official file of every benchmark, damaged in every way: read as before, or refused in one line that helps.

Files and damage are found in the miniatures, so that a further data set is tested by its miniature alone.
"""

from __future__ import annotations

import functools
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from core_encoder.errors import InputError
from core_encoder.video import decoders
from tasks.benchmark import Benchmark
from tasks.catalog import catalog_names
from tasks.registry import find_benchmark
from tests.tasks.miniatures.damage import Damage, damages_of
from tests.tasks.miniatures.every import VARIANTS, write_data_of
from tests.tasks.miniatures.readings import content_of, files_read, reading

ALLOWED = (  # file, damage, why it is no fault; all other damage is read as before or refused
    ("Charades_v1_*.csv", "'actions' empty*", "nothing is done in a video"),
    ("activity_net*.json", "*.duration*", "segments count whatever the duration"),
    ("activity_net*.json", "*.annotations is []", "nothing happens in a video"),
    ("activity_net*.json", "*taxonomy*", "the classes are those that occur, the taxonomy is for comparison"),
    ("ava_*_v2.2.csv", "no column 8", "AVA's rows may have 7 fields, without a person"),
    ("*_excluded_timestamps_*.csv", "no row", "every moment counts, as in train"),
    ("vatex_*.json", "*.enCap one shorter", "a video may have any number of captions"),
    ("youcookii_*.json", "*.annotations is []", "nothing is told of a video"),
    ("calms21_*.json", "no *.keypoints", "they are only counted"),
    ("calms21_*.json", "no *.scores", "they are only counted"),
    ("val.csv", "'type' empty in the last row", "it is no question of ATP-Hard"),
    ("map_vid_vidorID.json", "an empty object", "a video may be called by its id"),
    ("MSRVTT_data.json", "*videos*.split*", "splits go by the number of the video where they are not written"),
    ("*_videodatainfo.json", "*videos*.split*", "as there"),
)


NOT_NEEDED = (  # file, why it may be lacking
    ("map_vid_vidorID.json", "a video may be called by its id"),
    ("atp-hard-ct4.txt", "the list comes with the package"),
    ("*_actions.mat", "there may be any number of movies"),
    ("*_track.mat", "frames without a position are then unknown"),
    ("*Block*.txt", "there may be any number of videos"),
)
CASES = [
    *((name, "") for name in catalog_names()),
    *((name, variant) for variant, (names, _) in VARIANTS.items() for name in names),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("all data sets")


def found(benchmark: Benchmark, folder: Path, file: Path, content: bytes) -> Any:
    """What is read while a file holds something else, or the error."""
    with content_of(file, content):
        try:
            return reading(benchmark, folder)
        except InputError as error:
            return error
        except Exception as error:  # whatever it is, it is no answer to a user
            return f"{type(error).__name__}: {error}"


def fault(benchmark: Benchmark, folder: Path, file: Path, damage: Damage, whole: Any) -> str:
    """What is wrong with the answer to damage; nothing where it is right."""
    given = found(benchmark, folder, file, damage.content)
    if isinstance(given, str):
        return given
    if not isinstance(given, InputError):
        if given == whole and (damage.right == "equal" or is_allowed(file, damage)):
            return ""
        if damage.right == "error if used" and given == whole:
            return "" if found(benchmark, folder, file, damage.probe) == whole else "is not said"
        return "" if is_allowed(file, damage) else "is read otherwise"
    if damage.right == "equal":
        return f"is refused: {given}"
    lacking = [part for part in (file.name, *damage.says) if not any(one in str(given) for one in part.split("|"))]
    several = len(str(given).splitlines()) != 1
    return f"the message does not say {lacking}: {given}" if lacking or several else ""


def is_allowed(file: Path, damage: Damage) -> bool:
    return any(fnmatch(file.name, names) and fnmatch(damage.what, what) for names, what, _ in ALLOWED)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant"), CASES)
def test_damage_is_read_as_before_or_named(
    name: str, variant: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "read_facts", functools.cache(decoders.read_facts))  # of videos that stay as they are
    benchmark = find_benchmark(name)
    folder = write_data_of(benchmark, root, variant)
    whole = reading(benchmark, folder)
    files = files_read(benchmark, folder)
    assert files
    faults = {}
    for file in files:
        for damage in damages_of(file):
            if wrong := fault(benchmark, folder, file, damage, whole):
                faults[f"{file.relative_to(folder)}, {damage.what}"] = wrong.replace(str(root), "")
    assert reading(benchmark, folder) == whole
    assert not faults, "\n" + "\n".join(f"{where}: {what}" for where, what in faults.items())


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_a_file_that_is_not_there_is_named(name: str, variant: str, root: Path) -> None:
    benchmark = find_benchmark(name)
    folder = write_data_of(benchmark, root, variant)
    whole = reading(benchmark, folder)
    for file in files_read(benchmark, folder):
        if any(fnmatch(file.name, names) for names, _ in NOT_NEEDED):
            continue
        away = file.rename(file.with_name(f".{file.name}"))
        try:
            assert reading(benchmark, folder) == whole, "it is needed"
        except InputError as error:
            message = str(error)
            assert file.name in message and str(folder) in message
            another = ("NExT-QA's of the same name", "NExT-OE's of the same name")  # was taken for it
            assert f"get it from {benchmark.annotations}" in message or message.endswith(another)
        finally:
            away.rename(file)
    assert reading(benchmark, folder) == whole
