"""Data sets of the Hub as data, read over HTTP from a stand-in of the Hub: their splits, labels and videos."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from core_encoder.clip_plan import ClipPlan
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.files.urls import Url
from core_encoder.video.decoders import read_clip
from core_encoder.video.video_files import video_digest
from prismhub.clips import find_clips
from tasks.own_data import read_task
from tasks.readers.annotations import read_samples
from tasks.readers.captions import read_captions
from tasks.readers.hub_data_sets import data_set_address
from tests.hub_server import Hub
from tests.parquet_files import write_parquet
from tests.tasks.readers.test_shards import write_tar


@pytest.fixture
def videos(video_file: Callable[..., Path]) -> list[Path]:
    return [video_file(f"{seed}.mp4", seed=seed, num_frames=4) for seed in range(4)]


@pytest.fixture
def rows(hub: Hub, videos: list[Path]) -> Hub:
    """The data set `org/rows` of videos in Parquet files, with three splits."""
    contents = [file.read_bytes() for file in videos]
    for name in ("train", "validation", "test"):
        write_parquet(hub.folder / "org/rows/data" / f"{name}-00000-of-00001.parquet", contents)
    return hub


def uses(address: str) -> dict[str | None, int]:
    return dict(Counter(one.split for one in read_samples(address)))


def test_the_splits_of_a_data_set(rows: Hub, videos: list[Path]) -> None:
    assert uses("hf://org/rows") == uses("hf://org/rows@v1#train") == {"train": 4, "val": 4, "test": 4}
    assert uses("hf://org/rows#train+test") == {"train": 4, "test": 4}
    assert uses("hf://org/rows#test") == {None: 4}
    assert len(find_clips(["hf://org/rows#train"])) == 4  # where nothing is learned only what is named
    found = read_samples(Path("hf://org/rows@v1#test"))  # as the command line gives it
    assert [one.labels for one in found] == [("run",), ("walk",)] * 2
    assert found[1].id == "data/test-00000-of-00001.parquet/video/000001"
    assert found[1].clip.path == f"hf://datasets/org/rows@v1/{found[1].id}"
    for one, file in zip(found, videos, strict=True):
        assert video_digest(one.clip.path) == video_digest(str(file))
    read_clip(found[0].clip, ClipPlan(4))


def test_a_task_of_a_data_set_draws_what_it_lacks(rows: Hub) -> None:
    options = {"val_fraction": 0.25, "test_fraction": 0.25, "seed": 0}
    given = read_task("hf://org/rows#train", "classes", **options)  # type: ignore[arg-type]
    assert {name: len(given.samples(name)) for name in given.splits} == {"train": 4, "val": 4, "test": 4}
    drawn = read_task("hf://org/rows#test", "classes", **options)  # type: ignore[arg-type]
    assert sum(len(drawn.samples(name)) for name in drawn.splits) == 4 and {"train", "val"} <= set(drawn.splits)


def test_class_folders_of_a_repository(hub: Hub, videos: list[Path]) -> None:
    for number, file in enumerate(videos):
        folder = hub.folder / "org/folders" / ("train", "test")[number // 3] / ("run", "walk")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder)
    found = {one.id: (one.labels, one.split) for one in read_samples("hf://org/folders#train")}
    assert found == {
        "train/run/0.mp4": (("run",), "train"),
        "train/run/2.mp4": (("run",), "train"),
        "train/walk/1.mp4": (("walk",), "train"),
        "test/walk/3.mp4": (("walk",), "test"),
    }
    clip = find_clips(["hf://org/folders#test"])[0]
    hub.sent.clear()
    assert video_digest(clip.path) == video_digest(str(videos[3])) and not hub.sent  # large files are known by it


def test_tables_that_name_files_and_tars(hub: Hub, videos: list[Path]) -> None:
    lists, tars = hub.folder / "org/lists", hub.folder / "org/tars"
    (lists / "clips").mkdir(parents=True)
    for file in videos[:2]:
        shutil.copy(file, lists / "clips")
    lines = [{"video": f"clips/{number}.mp4", "caption": f"a dog, {number}"} for number in range(2)]
    lines += [{"video": None, "caption": "nothing"}, {"video": "/etc/passwd", "caption": "a secret"}]
    (lists / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = read_captions("hf://org/lists")
    assert [one.captions[0] for one in told] == ["a dog, 0", "a dog, 1", "nothing", "a secret"]
    assert video_digest(told[1].clip.path) == video_digest(str(videos[1]))
    for one in told[2:]:  # fail as videos, and open nothing of this machine
        assert one.clip.path.startswith("hf://datasets/org/lists/")
        with pytest.raises(UnreadableVideo, match="there is no such file"):
            read_clip(one.clip, ClipPlan(4))
    write_tar(tars / "train-0.tar", {"0001.mp4": videos[0].read_bytes(), "0001.cls": b"run"})
    (tars / "README.md").write_text("---\nlicense: mit\n---\n")
    assert [(one.id, one.labels) for one in read_samples("hf://org/tars")] == [("train-0.tar/0001.mp4", ("run",))]
    read_clip(find_clips(["hf://org/tars#train"])[0], ClipPlan(4))


def test_subsets_and_splits_of_other_names(hub: Hub) -> None:
    folder = hub.folder / "org/parts"
    write_parquet(folder / "a.parquet", [b"x", b"y"])
    splits = "".join(f"  - split: {name}\n    path: a.parquet\n" for name in ("small", "extra", "test"))
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: one\n  data_files:\n{splits}- config_name: two\n  data_files: a.parquet\n---\n"
    )
    assert {one.split for one in read_samples("hf://org/parts#two/")} == {None}
    assert [len(find_clips([f"hf://org/parts#one/{name}"])) for name in ("small", "extra")] == [2, 2]
    with pytest.raises(InputError, match=r"available configs: \['one', 'two'\].*as hf://org/parts#SUBSET/SPLIT"):
        read_samples("hf://org/parts")
    with pytest.raises(InputError, match="'small' is neither train, val nor test; name the one .*parts#one/small"):
        read_samples("hf://org/parts#one/")


def test_what_is_wrong_is_one_line(rows: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    (rows.folder / "org/none").mkdir()
    (rows.folder / "org/none/README.md").write_text("---\nlicense: mit\n---\n")
    (rows.folder / "org/zips").mkdir()
    with zipfile.ZipFile(rows.folder / "org/zips/train.zip", "w") as archive:
        archive.writestr("run/a.mp4", b"x")
    shutil.copytree(rows.folder / "org/rows", rows.folder / "org/gated")
    rows.gated.add("org/gated")
    for address, problem in (
        ("hf://org/gone", "hf://org/gone: no such repository on the Hub, or a private one"),
        ("hf://org/rows@v9#train", "hf://org/rows@v9: the repository has no revision 'v9'"),
        ("hf://org/rows#trian", r"rows#trian: no split 'trian'; did you mean 'train'\? \(it has train, validation"),
        ("hf://org/rows#", "after # stands a split"),
        ("hf://org/none", "hf://org/none: cannot be opened: EmptyDatasetError"),
        ("hf://org/zips", "its videos are in an archive that is no tar, hf://datasets/org/zips/train.zip"),
        ("hf://org/gated", "gated dataset on the Hub.*set HF_TOKEN"),
    ):
        with pytest.raises(InputError, match=problem) as caught:
            read_samples(address)
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="train-00000-of-00001.parquet: sample 'video/000000': no column 'clas'"):
        read_samples("hf://org/rows#train", label_column="clas")
    with pytest.raises(InputError, match="no column 'clip' with the bytes of videos"):
        read_samples("hf://org/rows#train", path_column="clip")
    monkeypatch.setenv("PRISMHUB_OFFLINE", "1")
    with pytest.raises(InputError, match="hf://org/new: PRISMHUB_OFFLINE is set"):
        read_samples("hf://org/new")


def test_without_network(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match="hf://org/rows: the Hub cannot be asked"):
        read_samples("hf://org/rows")


@pytest.mark.parametrize(
    "address",
    ["hf://datasets/org/rows", "hf://org/rows@main/a.mp4", "hf://org/rows/a.mp4", "s3://org/rows", "hf://org"],
)
def test_other_addresses_are_of_files_and_folders(address: str) -> None:
    assert data_set_address(Url(address)) is None


def test_what_an_address_says() -> None:
    for text in ("hf://org/rows", "hf://org/rows@refs/pr/1#train", "hf://a/b#c/train+test"):
        address = data_set_address(Url(text))
        assert address is not None and address.url == text


def test_real_files_of_the_library(rows: Hub, videos: list[Path], tmp_path: Path) -> None:
    import datasets

    features = {"clip": datasets.Video(), "kind": datasets.ClassLabel(names=["run", "walk"])}
    contents = [{"bytes": file.read_bytes(), "path": file.name} for file in videos]
    data = datasets.Dataset.from_dict({"clip": contents, "kind": [0, 1, 1, 0]}, features=datasets.Features(features))
    (rows.folder / "org/real").mkdir()
    data.to_parquet(rows.folder / "org/real/train.parquet")
    for place in (rows.folder / "org/real", rows.folder / "org/real/train.parquet", "hf://org/real#train"):
        found = read_samples(place)
        assert [one.labels[0] for one in found] == ["run", "walk", "walk", "run"]
        assert video_digest(found[2].clip.path) == video_digest(str(videos[2]))
