"""Every option of `prismhub serve` and `prismhub mcp`. No torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from core_encoder.config import group, option
from core_encoder.errors import InputError
from prismhub.settings import OutputSettings, ReadingSettings, RunningSettings, at_least_one

KEY_VARIABLE = "PRISMHUB_API_KEY"


@dataclass(frozen=True, kw_only=True)
class AnsweringSettings:
    """What a server has in memory, and how much one request may ask for."""

    adapter: tuple[str, ...] = option(
        (), "Adapter: registry name[@version], folder or Hub id; several answer from one encoding.", alone=True
    )
    archive: tuple[Path, ...] = option(
        (), "Folder of an archive that `prismhub index` made; scenes are searched in several by name.", alone=True
    )
    running: RunningSettings = group()
    reading: ReadingSettings = group()
    root: Path | None = option(None, "Folder whose videos may be asked about by their paths below it.")
    queue: int = option(32, "So many requests wait or run at once; further ones are refused.")
    max_wait_ms: float = option(
        40.0, "A request waits at most so long for others on their way, to be encoded in one batch with them."
    )
    max_seconds: float = option(120.0, "Seconds a request may take, its upload among them.")
    max_clip_seconds: float = option(900.0, "Longest clip, in seconds of video.")
    max_pixels: int = option(36_000_000, "Most pixels of one picture; 8K has 33 million.")
    max_frames: int = option(750_000, "Most frames of one file; six hours at 30 a second have 648 thousand.")

    def __post_init__(self) -> None:
        at_least_one(self, "queue", "max_seconds", "max_pixels", "max_frames")
        if self.max_clip_seconds <= 0:
            raise InputError(f"max_clip_seconds must be above 0, not {self.max_clip_seconds:g}")
        if self.max_wait_ms < 0:
            raise InputError(f"max_wait_ms must not be negative, not {self.max_wait_ms:g}")
        if self.root is not None and not self.root.expanduser().is_dir():
            raise InputError(f"root {self.root}: no such folder")

    @property
    def key(self) -> str | None:
        """What clients must know to be answered; None where everyone is."""
        return None


@dataclass(frozen=True, kw_only=True)
class ServeSettings(AnsweringSettings):
    """Options of `prismhub serve`."""

    report: Path | None = option(None, "Page of results to show at /report, as prismhub report --html wrote it.")
    open: bool = option(False, "Open the page in a browser once the server is ready.")
    host: str = option("127.0.0.1", "Address to listen on; 0.0.0.0 is every address of this machine.")
    port: int = option(8000, "Port to listen on; 0 takes a free one.")
    allow_host: tuple[str, ...] = option((), "Further names under which the server may be called, as in prism.lan.")
    api_key: str | None = option(
        None, f"Every call but /healthz needs this key (better in {KEY_VARIABLE}, which no process list shows)."
    )
    max_upload_mb: float = option(512.0, "Largest upload, in MB.")
    output: OutputSettings = group()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.port < 65536:
            raise InputError(f"port is a number from 0 to 65535, not {self.port}")
        if self.max_upload_mb <= 0:
            raise InputError(f"max_upload_mb must be above 0, not {self.max_upload_mb:g}")
        if self.report is not None and not self.report.expanduser().is_file():
            raise InputError(f"report {self.report}: no such file; prismhub report RESULTS --html FILE writes one")

    @property
    def key(self) -> str | None:
        """The key that was given, or that of the environment."""
        return self.api_key or os.environ.get(KEY_VARIABLE) or None


@dataclass(frozen=True, kw_only=True)
class McpSettings(AnsweringSettings):
    """Options of `prismhub mcp`."""

    output: OutputSettings = group()
