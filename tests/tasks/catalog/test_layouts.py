"""Wherever the files of a data set lie, and whatever its videos' endings are, the same is read, as the manual says."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core_encoder.video.video_files import VIDEO_SUFFIXES
from tasks.catalog import catalog_names
from tasks.registry import find_benchmark
from tests.tasks.miniatures.every import write_data_of
from tests.tasks.miniatures.readings import annotation_files, reading
from tests.tasks.miniatures.video_qa import CLIPS

Layout = Callable[[Path], None]


def videos(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)


def move(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    file.rename(place)


def everything_deeper(folder: Path) -> None:
    for file in [*videos(folder), *annotation_files(folder)]:
        move(file, folder / "release" / "v1" / file.relative_to(folder))


def videos_elsewhere(folder: Path) -> None:
    """Their folders stay as they are, below another one, on another disk."""
    disk = folder.parent / f"disk of {folder.name}"
    for video in videos(folder):
        move(video, disk / video.relative_to(folder))
    (folder / "videos here").symlink_to(disk, target_is_directory=True)


def each_video_linked(folder: Path) -> None:
    for number, video in enumerate(videos(folder)):
        file = folder.parent / f"disk of {folder.name}" / f"{number}.bin"
        move(video, file)
        video.symlink_to(file)


def other_endings(folder: Path) -> None:
    for video, ending in zip(videos(folder), itertools.cycle((".mkv", ".webm", ".avi", ".MP4", ".mov")), strict=False):
        video.rename(video.with_suffix(ending))


def all_videos_in_one_folder(folder: Path) -> None:
    for video in videos(folder):
        move(video, folder / "all" / video.name)


def a_folder_a_video(folder: Path) -> None:
    for video in videos(folder):
        move(video, folder / "clips" / video.stem / video.name)


def annotations_apart(folder: Path) -> None:
    for file in annotation_files(folder):
        move(file, folder / "annotations" / file.relative_to(folder))


def videos_beside_the_annotations(folder: Path) -> None:
    for video in videos(folder):
        move(video, folder / video.name)


ANYWHERE: dict[str, Layout] = {
    one.__name__: one
    for one in (
        *(everything_deeper, videos_elsewhere, each_video_linked, other_endings, all_videos_in_one_folder),
        *(a_folder_a_video, annotations_apart, videos_beside_the_annotations),
    )
}
NOT_FOR = {  # where the folder of a video is part of its name
    "moments-in-time": {"all_videos_in_one_folder", "a_folder_a_video", "videos_beside_the_annotations"},
    "fly-vs-fly": {"all_videos_in_one_folder", "a_folder_a_video", "videos_beside_the_annotations"},
}


def renamed(change: Callable[[Path], str]) -> Layout:
    """Every video has another place below its data set."""

    def layout(folder: Path) -> None:
        for video in videos(folder):
            move(video, folder / change(video))

    return layout


def annotation_renamed(*names: tuple[str, str]) -> Layout:
    def layout(folder: Path) -> None:
        for before, after in names:
            (file,) = folder.rglob(before)
            move(file, folder / after)

    return layout


def kinetics_by_class(video: Path) -> str:
    """As the scripts of cvdfoundation and mmaction2 have them: `train_256/clapping/...`."""
    return f"{video.parent.parent.name}_256/{video.parent.name}/{video.name}"


def film_alone(video: Path) -> str:
    return f"{video.parent.parent.name}/{video.stem.rsplit('_', 2)[0]}.mp4"


SSV2 = "something-something-v2-"
OF_DATA_SETS: dict[str, dict[str, Layout]] = {
    "kinetics400": {
        "in folders of size and class": renamed(kinetics_by_class),
        "called by the film": renamed(film_alone),
        "val.csv": annotation_renamed(("validate.csv", "annotations/val.csv")),
    },
    "kinetics600": {"called by the film": renamed(film_alone)},
    "ssv2": {
        "the later download": annotation_renamed(
            *((f"{SSV2}{name}.json", f"labels/{name}.json") for name in ("labels", "train", "validation"))
        ),
        "webm": renamed(lambda video: f"20bn-something-something-v2/{video.stem}.webm"),
    },
    "charades": {"full size": renamed(lambda video: f"Charades_v1/{video.name}")},
    "activitynet": {
        "without v_": renamed(lambda video: f"Anet_videos_15fps_short256/{video.stem.removeprefix('v_')}.mp4"),
        "in folders of splits": renamed(lambda video: f"v1-3/train_val/{video.stem}.mkv"),
    },
    "ava": {"of CVDF": renamed(lambda video: f"trainval/{video.stem}.mkv")},
    "msrvtt": {
        "of the challenge": renamed(
            lambda video: f"{'Test' if int(video.stem[5:]) > 7009 else 'TrainVal'}Video/{video.name}"
        )
    },
    "msvd": {
        "called by the number": renamed(
            lambda video: f"video/vid{next(n for n, clip in CLIPS.items() if clip == video.stem)}.mp4"
        ),
        "of the archive": renamed(lambda video: f"YouTubeClips/{video.stem}.avi"),
    },
    "nextqa": {
        "called by the id": renamed(lambda video: f"NExTVideo/{video.name}"),
        "mc and oe": annotation_renamed(
            *((f"NExT-QA/dataset/nextqa/{split}.csv", f"mc/{split}.csv") for split in ("train", "val", "test")),
            *((f"NExT-OE/dataset/nextqa/{split}.csv", f"oe/{split}.csv") for split in ("train", "val", "test")),
        ),
    },
    "vatex": {"called by the film": renamed(film_alone)},
    "youcook2": {"in folders of recipes": renamed(lambda video: f"{video.parent.name}/{video.name}")},
    "crim13": {
        "short names of views": renamed(
            lambda video: f"{video.parent.name}/{video.stem.replace('_side', '_s').replace('_top', '_t')}.mp4"
        ),
        "folders of views": renamed(
            lambda video: f"{video.parent.name}/{video.stem.rsplit('_')[-1]}/{video.stem.rsplit('_', 1)[0]}.mp4"
        ),
    },
    "kabr": {"beside the annotations": renamed(lambda video: f"KABR/dataset/{video.name}")},
}


def cases() -> Iterator[Any]:
    for name in catalog_names():
        data_set = find_benchmark(name).folder or name
        several = {what: one for what, one in ANYWHERE.items() if what not in NOT_FOR.get(data_set, ())}
        for what, layout in (several | OF_DATA_SETS.get(data_set, {})).items():
            yield pytest.param(name, layout, id=f"{name}, {what.replace('_', ' ')}")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("all data sets")


def clone(folder: Path, place: Path) -> Path:
    """The same files, as hard links."""
    for file in (file for file in folder.rglob("*") if file.is_file()):
        copy = place / file.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.hardlink_to(file)
    return place


def told(given: Any) -> Any:
    """What is read but for where videos lie."""
    names, samples = given
    return names, {split: [(one.id, one.labels, one.clip.start_s) for one in own] for split, own in samples.items()}


@pytest.mark.parametrize(("name", "layout"), [*cases()])
def test_the_same_is_read_and_every_video_is_found(name: str, layout: Layout, root: Path, tmp_path: Path) -> None:
    benchmark = find_benchmark(name)
    whole = write_data_of(benchmark, root)
    folder = clone(whole, tmp_path / whole.name)
    layout(folder)
    found = reading(benchmark, folder)
    assert told(found) == told(reading(benchmark, whole))
    paths = [sample.clip.path for own in found[1].values() for sample in own]
    assert [path for path in paths if not Path(path).is_file()] == []
    by_id = {sample.id: sample.clip.path for own in reading(benchmark, whole)[1].values() for sample in own}
    for own in found[1].values():
        assert all(Path(one.clip.path).read_bytes() == Path(by_id[one.id]).read_bytes() for one in own[:20])
