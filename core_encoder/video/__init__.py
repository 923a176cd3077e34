"""From video file to decoded frames: timestamps, decoders, decoding threads."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from core_encoder.video.video_files import find_videos

__all__ = ["find_videos"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.video_files"), name)
