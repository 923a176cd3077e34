"""The options of `prismhub export`: of archives, which become a Parquet file, and of models, which become a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core_encoder.config import group, option
from core_encoder.errors import InputError
from prismhub.exporting.formats import FormatName
from prismhub.settings import OutputSettings


@dataclass(frozen=True)
class ArchiveExportSettings:
    """Which scenes of an archive are written, and what of them."""

    where: str | None = option(None, "Archive: only scenes of which this holds, such as \"label = 'goal'\".")
    vectors: bool = option(True, "Archive: with the vector of every scene.")
    thumbnails: bool = option(False, "Archive: with the thumbnail of every scene, as JPEG.")


@dataclass(frozen=True)
class ModelExportSettings:
    """How a model leaves PyTorch."""

    format: FormatName | None = option(None, "Model: onnx, for ONNX Runtime, or torch-export (default: onnx).")
    with_encoder: bool = option(False, "Adapter: from frames to answers, with its encoder; else from features.")
    encoder: str | None = option(None, "Where the adapter's encoder lies (default: where it was in training).")
    text_tower: str | None = option(None, "Where the adapter's text tower lies (default: where it was in training).")
    int8: bool = option(False, "Model: weights as int8, a quarter of the size.")

    def __post_init__(self) -> None:
        if self.encoder is not None and not self.with_encoder:
            raise InputError("encoder means nothing without with_encoder: the head alone reads features")


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """Options of `prismhub export`."""

    source: str = option(
        help="Folder of an archive; or an adapter or encoder: name, folder or Hub id.", positional=True
    )
    out: Path = option(help="Archive: file to write, .parquet. Model: folder to write.")
    archive: ArchiveExportSettings = group()
    model: ModelExportSettings = group()
    output: OutputSettings = group()


def not_exported(kind: str) -> InputError:
    """The error that a kind of adapter has no graph."""
    reason = "it writes text word by word" if kind == "llm_decoder" else "its answers are made outside of a graph"
    return InputError(f"adapter kind {kind!r} cannot be exported: {reason}")
