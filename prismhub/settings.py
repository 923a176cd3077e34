"""Every option of every command, once: these fields are the command line, the YAML keys and the Python arguments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters.config import option


@dataclass(frozen=True)
class DataSettings:
    """Which videos, and what is known of them."""

    data: Path | None = option(
        None, "Folder of videos (one per class, or with metadata), or a CSV, JSONL or list file."
    )
    path_column: str | None = option(None, "Column that holds the video's path (default: found by name).")
    label_column: str | None = option(None, "Column that holds the label (default: found by name).")
    split_column: str | None = option(None, "Column that holds train, val or test (default: found by name).")
    val_fraction: float = option(0.15, "Share of the training videos kept for validation where the data names none.")
    test_fraction: float = option(0.15, "Share kept for the test where the data names no split at all.")
    multi_label: bool | None = option(None, "A video may have several labels (default: when any row has several).")


@dataclass(frozen=True)
class EncodingSettings:
    """How videos become features."""

    encoder: str = option("nano", "Bundled name, Hub id, checkpoint folder or Flax .npz file.")
    num_frames: int | None = option(None, "Frames per view (default: the encoder's).")
    sampling: Literal["uniform", "fps", "stride", "dense"] = option("uniform", "How frames are chosen.")
    fps: float | None = option(None, "Frames per second, with --sampling fps or dense.")
    stride: int | None = option(None, "Every n-th source frame, with --sampling stride or dense.")
    window_stride: int | None = option(None, "Sampled frames between two dense windows.")
    views: int = option(1, "Temporal views per clip; scores are averaged over them.")
    layers: tuple[int, ...] = option((), "Keep the outputs of these encoder layers instead of the last (MLAP).")
    feature_dtype: Literal["fp32", "fp16", "bf16", "int8"] = option("fp16", "Precision of stored features.")
    decoder: Literal["auto", "decord", "pyav"] = option("auto", "Video decoder; its name is part of the cache key.")
    store: Path | None = option(None, "Feature store folder (default: features/ in PRISMHUB_HOME).")
    clips_per_batch: int = option(8, "Clips encoded at once; halved when memory runs out.")
    workers: int = option(2, "Decoding threads.")
    accelerator: str = option("auto", "auto, cpu, gpu or mps.")
    encoder_dtype: Literal["fp32", "bf16", "fp16"] = option("fp32", "Precision the encoder runs in.")


@dataclass(frozen=True)
class OutputSettings:
    """What a command shows."""

    quiet: bool = option(False, "No progress bars and no notes, only the result.")
    json: bool = option(False, "Print the result as JSON on stdout.")
