"""The options of `prismhub index`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core_encoder.cluster.cluster_settings import ClusterSettings
from core_encoder.config import group, option
from core_encoder.errors import InputError
from fit.device import Accelerator
from prismhub.settings import OutputSettings, PartsSettings, ReadingSettings, at_least_one


@dataclass(frozen=True)
class SceneSettings:
    """How videos are cut into scenes; what is not given is as the archive has it."""

    min_scene: float | None = option(None, "Shots shorter than so many seconds join the one before (default: 1).")
    max_scene: float | None = option(None, "Shots longer than so many seconds are cut (default: 10).")
    threshold: float | None = option(None, "How much two frames must differ for a cut between them (default: 27).")
    window: float | None = option(None, "Cut at every so many seconds instead, without looking for shots.")
    scenes: Path | None = option(None, "Take the scenes that a CSV of video,start,end lists instead.")

    def __post_init__(self) -> None:
        given = {name for name in ("min_scene", "max_scene", "threshold") if getattr(self, name) is not None}
        ways = [name for name in ("window", "scenes") if getattr(self, name) is not None]
        if len(ways) > 1 or (ways and given):
            others = " and ".join(sorted(given or {"scenes"}))
            raise InputError(f"{ways[0]} and {others} cut videos in different ways: give one of them")


@dataclass(frozen=True, kw_only=True)
class IndexSettings(PartsSettings):
    """Options of `prismhub index`."""

    videos: tuple[str, ...] = option(
        help="Folders of videos, or videos; tars and addresses (s3://...), too.", positional=True
    )
    out: Path = option(Path("archive"), "Folder of the archive; made, or brought up to date.")
    encoder: str | None = option(
        None, "Bundled name, Hub id or folder (default: that of the archive or of the adapters, else nano)."
    )
    adapter: tuple[str, ...] = option(
        (), "Adapter that speaks of every scene; several stay from one run to the next.", alone=True
    )
    without: tuple[str, ...] = option((), "Adapter of the archive whose answers are forgotten.", alone=True)
    cuts: SceneSettings = group()
    num_frames: int | None = option(None, "Frames that a scene's vector is made of (default: the encoder's).")
    geometry: Literal["resize", "center_crop"] | None = option(
        None, "resize: the whole frame; center_crop: its middle square (default: the encoder's)."
    )
    keep: tuple[Literal["tokens", "frames", "clip"], ...] = option(
        (), "Features to store beside those that are needed, for adapters to come."
    )
    decoder: Literal["auto", "decord", "pyav"] = option("auto", "Video decoder.")
    accelerator: Accelerator = option("auto", "auto, cpu, gpu or mps.")
    encoder_dtype: Literal["fp32", "bf16", "fp16"] | None = option(
        None, "Precision the encoder runs in (default: as in the archive or in training, else fp32)."
    )
    reading: ReadingSettings = group()
    cluster: ClusterSettings = group()
    output: OutputSettings = group()

    def __post_init__(self) -> None:
        at_least_one(self, "num_frames")
        if not self.videos:
            raise InputError("no video was given; name folders of videos, or videos")
