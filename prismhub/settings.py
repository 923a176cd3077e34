"""Every option of every command, once: these fields are the command line, the YAML keys and the Python arguments."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from adapters.training.training_config import TrainingConfig
from core_encoder.config import config_to_dict, option
from core_encoder.errors import InputError

_COUNTS = ("num_frames", "views", "clips_per_batch", "workers", "seeds", "top")


@dataclass(frozen=True)
class DataSettings:
    """Which videos, and what is known of them."""

    data: Path | None = option(
        None, "Folder of videos (one per class, or with metadata), or a CSV, JSONL or list file."
    )
    path_column: str | None = option(None, "Column of the video's path (default: found by name).")
    label_column: str | None = option(None, "Column of the label (default: found by name).")
    split_column: str | None = option(None, "Column of train, val or test (default: found by name).")
    start_column: str | None = option(None, "Column of a clip's start in seconds (default: found by name).")
    end_column: str | None = option(None, "Column of a clip's end in seconds (default: found by name).")
    label_separator: str | None = option(None, "Character between several labels in one field.")
    multi_label: bool | None = option(None, "A video may have several labels (default: if any has).")
    max_unreadable: float = option(0.1, "Stop when a larger share of the videos cannot be read; the rest is skipped.")


@dataclass(frozen=True)
class ReadingSettings:
    """How features are read and computed on this machine; changes no value."""

    clips_per_batch: int = option(8, "Clips encoded at once; halved when memory runs out.")
    workers: int = option(2, "Decoding threads.")
    store: Path | None = option(None, "Feature store (default: features/ in PRISMHUB_HOME).")


@dataclass(frozen=True)
class EncodingSettings(ReadingSettings):
    """How videos become features."""

    encoder: str = option("nano", "Bundled name, Hub id, checkpoint folder or Flax .npz file.")
    num_frames: int | None = option(None, "Frames per view (default: the encoder's).")
    sampling: Literal["uniform", "fps", "stride", "dense"] = option("uniform", "How frames are chosen.")
    fps: float | None = option(None, "Frames per second, with --sampling fps or dense.")
    stride: int | None = option(None, "Every n-th source frame, with --sampling stride or dense.")
    window_stride: int | None = option(None, "Sampled frames between two dense windows.")
    views: int = option(1, "Temporal views of a clip; scores are averaged over them.")
    geometry: Literal["resize", "center_crop"] | None = option(
        None, "resize: the whole frame; center_crop: its middle square (default: the encoder's)."
    )
    layers: tuple[int, ...] = option((), "Outputs of these encoder layers instead of the last (MLAP).")
    feature_dtype: Literal["fp32", "fp16", "bf16", "int8"] = option("fp16", "Precision of stored features.")
    decoder: Literal["auto", "decord", "pyav"] = option("auto", "Video decoder; part of the cache key.")
    encoder_dtype: Literal["fp32", "bf16", "fp16"] = option("fp32", "Precision the encoder runs in.")


@dataclass(frozen=True)
class OutputSettings:
    """What a command shows."""

    quiet: bool = option(False, "No progress and no notes, only the result.")
    json: bool = option(False, "The result as JSON on stdout.")

    def __post_init__(self) -> None:
        for name in _COUNTS:
            value = getattr(self, name, None)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, not {value}")
        if not 0 <= getattr(self, "max_unreadable", 0.0) <= 1:
            raise InputError(f"max_unreadable is a share from 0 to 1, not {getattr(self, 'max_unreadable', None)}")


@dataclass(frozen=True)
class EncodeSettings(OutputSettings, EncodingSettings):
    """Options of `prismhub encode`."""

    videos: tuple[str, ...] = option((), "Videos, folders of videos, or manifests.")
    kind: tuple[Literal["tokens", "frames", "clip", "embedding"], ...] = option(
        ("tokens",), "What to keep of each view; several, as in tokens,embedding, in one pass."
    )
    accelerator: str = option("auto", "auto, cpu, gpu or mps.")
    failures: Path | None = option(None, "List of unreadable videos (default: failures.jsonl in the store).")
    dry_run: bool = option(False, "Only say how large the features will be.")


@dataclass(frozen=True)
class TrainSettings(OutputSettings, TrainingConfig, EncodingSettings, DataSettings):
    """Options of `prismhub train`."""

    adapter: str = option("map_classifier", "Kind of adapter.")
    name: str | None = option(None, "Name in the registry (default: the data's name with the kind).")
    val_fraction: float = option(0.15, "Share of the training videos kept for validation where the data names none.")
    test_fraction: float = option(0.15, "Share kept for the test where the data names no split at all.")
    head: tuple[str, ...] = option((), "Options of the head, as key=value ...")
    grid: tuple[str, ...] = option((), "Settings trained side by side, as key=value,value ...; the best is kept.")
    seeds: int = option(1, "Train so many times with seeds from --seed on; gives mean and standard deviation.")
    metric: str | None = option(None, "Validation metric (default: top1, or map when multi-label).")
    run: Path | None = option(None, "Folder of the run (default: runs/ in PRISMHUB_HOME).")
    restart: bool = option(False, "Train anew instead of going on.")

    def __post_init__(self) -> None:
        OutputSettings.__post_init__(self)
        TrainingConfig.__post_init__(self)


@dataclass(frozen=True)
class SavedAdapterSettings(OutputSettings, ReadingSettings):
    """Which saved adapter, and how its encoder runs."""

    adapter: str = option("", "Adapter: registry name[@version], folder or Hub id.")
    encoder: str | None = option(None, "Where the adapter's encoder lies (default: where it was in training).")
    accelerator: str = option("auto", "auto, cpu, gpu or mps.")
    encoder_dtype: Literal["fp32", "bf16", "fp16"] | None = option(
        None, "Precision the encoder runs in (default: as in training)."
    )


@dataclass(frozen=True)
class EvaluateSettings(SavedAdapterSettings, DataSettings):
    """Options of `prismhub evaluate`."""

    split: Literal["test", "val", "train", "all"] | None = option(None, "Split (default: test, val, or all there is).")
    seed: int = option(0, "Seed of the bootstrap.")
    out: Path | None = option(None, "Where to write the result (default: results/ in PRISMHUB_HOME).")


@dataclass(frozen=True)
class PredictSettings(SavedAdapterSettings):
    """Options of `prismhub predict`."""

    videos: tuple[str, ...] = option((), "Videos or folders of videos.")
    top: int | None = option(None, "So many best answers of each video (default: what the adapter finds right).")
    all_scores: bool = option(False, "Every score, not only the best.")


def settings_record(settings: Any) -> dict[str, Any]:
    """The settings, ready for JSON."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in config_to_dict(settings).items()}


def columns(settings: DataSettings) -> dict[str, str | None]:
    """The columns of a manifest that the settings name."""
    names = ("path_column", "label_column", "split_column", "start_column", "end_column", "label_separator")
    return {name: getattr(settings, name) for name in names}


def given_or_refused(value: Any, name: str) -> Any:
    """`value`, which the command cannot do without.

    Raises:
        InputError: it was not given.
    """
    if not value:
        raise InputError(f"--{name} is missing")
    return value


def run_command() -> str | None:
    """The command line of this process, where it is one of ours."""
    return " ".join(["prismhub", *sys.argv[1:]]) if Path(sys.argv[0]).stem == "prismhub" else None
