"""The commands that are killed: what they work on, what they have committed at any moment, what they end with."""

from __future__ import annotations

import json
import shutil
import sqlite3
from abc import ABC, abstractmethod
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from adapters.training.training_loop import CHECKPOINT_FILE
from benchmarks.reliability.commands import Ended, prismhub
from benchmarks.reliability.stored import file_digest, stored_records
from benchmarks.reliability.tally import Ground
from core_encoder.errors import InputError
from pretrain.run.checkpoint import checkpoints
from pretrain.world.synthetic_world import SyntheticWorld, write_video

VECTOR_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Place:
    """Where one run of a command keeps everything."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def out(self) -> Path:
        return self.folder / "out"


class Job(ABC):
    """A command, and how to tell what it did; names map to digests."""

    name = ""

    @abstractmethod
    def prepare(self, data: Path, ground: Ground) -> None:
        """Write what all runs read."""

    def furnish(self, data: Path, place: Place) -> None:  # noqa: B027 (most begin with nothing)
        """Put what is there before the command into its place."""

    @abstractmethod
    def words(self, data: Path, place: Place) -> list[str | Path]:
        """The command."""

    def kept(self, place: Place) -> dict[str, str]:
        """What is committed: it must be there for ever."""
        return _features(place)

    def stands(self, place: Place) -> int:
        """How far the run has come, as its files say: it must never fall."""
        return 0

    def end(self, place: Place, ended: Ended) -> dict[str, str]:
        """What the command has made."""
        return _features(place)


class Encode(Job):
    """Outputs of all layers of some hundred videos: several shards."""

    name = "encode"

    def prepare(self, data: Path, ground: Ground) -> None:
        write_classes(data, ground.many(240, 24), ground.seed)

    def words(self, data: Path, place: Place) -> list[str | Path]:
        return ["encode", data, "--layers", "1,2,3,4,5,6", "--feature-dtype", "fp32", "--quiet", "--json"]


class Train(Job):
    """An adapter of many epochs, which keeps where it stands after every step."""

    name = "train"

    def prepare(self, data: Path, ground: Ground) -> None:
        write_classes(data, ground.many(48, 16), ground.seed)
        self.epochs = ground.many(60, 10)

    def words(self, data: Path, place: Place) -> list[str | Path]:
        how = ["--epochs", str(self.epochs), "--batch-size", "8", "--checkpoint-every-s", "0", "--accelerator", "cpu"]
        return ["train", "--data", data, "--name", "killed", *how, "--quiet", "--json"]

    def stands(self, place: Place) -> int:
        return max((_step(file) for file in place.home.glob(f"runs/*/{CHECKPOINT_FILE}")), default=0)

    def end(self, place: Place, ended: Ended) -> dict[str, str]:
        weights = sorted(place.home.glob("adapters/*/v*/adapter_model.safetensors"))
        scores = {"scores": json.dumps(ended.json["result"]["scores"], sort_keys=True)}
        return _features(place) | _files(place.home, weights) | scores


class Bench(Job):
    """Three benchmarks and two kinds of adapters: six cells."""

    name = "bench"

    def prepare(self, data: Path, ground: Ground) -> None:
        self.names = [f"birds{number}" for number in range(ground.many(3, 2))]
        for number, name in enumerate(self.names):
            folder = data / name
            for place, split in enumerate(("train", "val", "test")):
                write_classes(folder / split, ground.many(24, 6), ground.seed + 10 * number + place)
            about: dict[str, Any] = {"name": name, "family": "classification", "metric": "top1"}
            about |= {"splits": {split: split for split in ("train", "val", "test")}}
            (data / f"{name}.yaml").write_text(yaml.safe_dump(about))

    def words(self, data: Path, place: Place) -> list[str | Path]:
        tasks = [word for name in self.names for word in ("--task", data / f"{name}.yaml")]
        how = ["--encoder", "nano", "--adapter", "linear", "--adapter", "map_classifier", "--epochs", "3"]
        return ["bench", *tasks, "--data-root", data, "--output", place.out, *how, "--accelerator", "cpu", "--quiet"]

    def kept(self, place: Place) -> dict[str, str]:
        return _features(place) | _files(place.out, self._cells(place))

    def stands(self, place: Place) -> int:
        return len(self._cells(place))

    def end(self, place: Place, ended: Ended) -> dict[str, str]:
        logs = sorted(place.out.rglob("*.predictions.jsonl"))
        found = _features(place) | _files(place.out, logs)
        for path in self._cells(place):
            cell = json.loads(path.read_text())
            told = {name: cell[name] for name in ("state", "scores", "identity", "digests", "n_evaluated")}
            found[path.name] = json.dumps(told, sort_keys=True)
        return found

    def _cells(self, place: Place) -> list[Path]:
        return sorted(path for path in place.out.glob("*/*/*.json") if not path.name.startswith("."))


class Index(Job):
    """An archive with videos in it, brought up to date with new, changed and removed ones."""

    name = "index"

    def __init__(self) -> None:
        self.vectors: dict[str, NDArray[np.float64]] = {}

    def prepare(self, data: Path, ground: Ground) -> None:
        count = ground.many(24, 6)
        world = SyntheticWorld(seed=ground.seed, size=64, num_frames=64)
        for number in range(count):
            write_video(data / "before" / f"{number:03}.mp4", world.clip(number).frames)
        shutil.copytree(data / "before", data / "videos")
        (data / "videos" / "000.mp4").unlink()
        write_video(data / "videos" / "001.mp4", world.clip(1000).frames)
        for number in range(count, 3 * count):
            write_video(data / "videos" / f"{number:03}.mp4", world.clip(number).frames)
        made = Place(data / "made")
        (made.folder / "videos").parent.mkdir()
        shutil.copytree(data / "before", made.folder / "videos")
        first = prismhub(*self._index(made), home=made.home)
        if first.code:
            raise InputError(f"the archive cannot be made: {first.err}")

    def furnish(self, data: Path, place: Place) -> None:
        shutil.copytree(data / "made", place.folder, dirs_exist_ok=True)
        shutil.rmtree(place.folder / "videos")
        (place.folder / "videos").symlink_to(data / "videos")

    def words(self, data: Path, place: Place) -> list[str | Path]:
        return self._index(place)

    def _index(self, place: Place) -> list[str | Path]:
        return ["index", place.folder / "videos", "--out", place.out, "--window", "1", "--encoder", "nano", "--quiet"]

    def kept(self, place: Place) -> dict[str, str]:
        """The scenes of videos that neither changed nor went, and the features."""
        gone = ("000.mp4", "001.mp4")
        scenes = {name: content for name, content in _scenes(place.out).items() if not name.startswith(gone)}
        return scenes | _features(place)

    def end(self, place: Place, ended: Ended) -> dict[str, str]:
        from pyarrow import parquet

        file = place.folder / "scenes.parquet"
        written = prismhub("export", place.out, "--out", file, "--thumbnails", home=place.home)
        if written.code:
            return {"export": written.err}
        rows = parquet.read_table(file).drop_columns(["root"]).to_pylist()
        found = {f"{row['video']} {row['start']}": np.array(row.pop("vector")) for row in rows}
        self.vectors = self.vectors or found  # of the undisturbed run, which comes first
        scenes = {f"{row['video']} {row['start']}": repr(sorted(row.items())) for row in rows}
        return scenes | {f"vector of {name}": self._compared(name, vector) for name, vector in found.items()}

    def _compared(self, name: str, vector: NDArray[np.float64]) -> str:
        """Whether a vector is that of the undisturbed run: batches of other clips round the last bit otherwise."""
        known = self.vectors.get(name)
        return "equal" if known is not None and np.abs(known - vector).max() <= VECTOR_TOLERANCE else str(vector)


class Pretrain(Job):
    """Two stages of a tiny encoder, with a checkpoint after every step and a process that reads clips."""

    name = "pretrain"

    def prepare(self, data: Path, ground: Ground) -> None:
        data.mkdir(parents=True)
        tiers = [{"name": "clips", "quality": "clean"}, {"name": "web", "quality": "noisy"}]
        world = [
            tier | {"weight": 1, "synthetic": {"split": tier["name"], "size": 16, "length": 400}} for tier in tiers
        ]
        (data / "world.yaml").write_text(yaml.safe_dump({"tiers": world}))
        part = {"steps": ground.many(60, 8), "batch_size": 8, "num_frames": 4, "warmup_steps": 2, "checkpoint_every": 1}
        layers = {"width": 16, "heads": 2, "mlp_dim": 32}
        recipe = {
            "name": "killed",
            "vision": layers
            | {"spatial_layers": 1, "temporal_layers": 1, "patch_size": 8, "image_size": 16, "num_frames": 4},
            "video_head": {"auxiliary_layers": 0, "pooling_dim": 32},
            "text": layers | {"vocab_size": 300, "layers": 1, "max_length": 12},
            "corpus": "world.yaml",
            "stage1": part | {"ema": 0.9},
            "stage2": part | {"decoder_layers": 1, "decoder_width": 16, "decoder_heads": 2, "decoder_mlp": 32},
            "compute": {"accelerator": "cpu", "devices": 1, "keep_checkpoints": 1000, "workers": 1},
        }
        (data / "recipe.yaml").write_text(yaml.safe_dump(recipe))

    def words(self, data: Path, place: Place) -> list[str | Path]:
        return ["pretrain", data / "recipe.yaml", "--out", place.out, "--quiet", "--json"]

    def kept(self, place: Place) -> dict[str, str]:
        return _files(place.out, self._checkpoints(place))

    def stands(self, place: Place) -> int:
        return len(self._checkpoints(place))

    def end(self, place: Place, ended: Ended) -> dict[str, str]:
        return _files(place.out, sorted(place.out.rglob("encoder/model.safetensors")))

    def _checkpoints(self, place: Place) -> list[Path]:
        return [file for part in ("stage1", "stage2") for file in checkpoints(place.out / part)]


JOBS: dict[str, type[Job]] = {one.name: one for one in (Encode, Train, Bench, Index, Pretrain)}


def write_classes(folder: Path, count: int, seed: int, num_frames: int = 16) -> None:
    """So many videos of two motions, a folder a motion."""
    world = SyntheticWorld(seed=seed, size=64, num_frames=num_frames)
    for number in range(count):
        motion = ("moving left", "moving right")[number % 2]
        write_video(folder / motion.replace(" ", "_") / f"{number:04}.mp4", world.clip(number, motion=motion).frames)


def _features(place: Place) -> dict[str, str]:
    return {f"{store}/{key}": digest for (store, key), digest in stored_records(place.home / "features").items()}


def _files(folder: Path, paths: list[Path]) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in paths}


def _step(file: Path) -> int:
    """How far the checkpoint of a training says it is, as one number.

    Its header is read by hand: the file may be replaced meanwhile, and one that is open stays as it was.
    """
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    about = json.loads(header["__metadata__"]["about"])
    return int(about["epoch"] * 10**6 + about["step"] + about["done"] * 10**9)


def _scenes(archive: Path) -> dict[str, str]:
    """What the database of an archive holds of each scene, read from a copy: opening it would mend it."""
    query = (
        "SELECT videos.path, place, start_s, end_s, made_of, jpeg FROM scenes JOIN videos ON videos.id = video "
        "JOIN thumbnails ON thumbnails.scene = scenes.id"
    )
    with TemporaryDirectory() as copied:
        shutil.copytree(archive, copied, dirs_exist_ok=True)
        with closing(sqlite3.connect(Path(copied, "scenes.sqlite"))) as database:
            return {f"{path} {place}": repr(rest) for path, place, *rest in database.execute(query)}
