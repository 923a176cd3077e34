"""The folder that a model is exported to: new, or one that holds an exported model and nothing else. No torch."""

from __future__ import annotations

from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.files.storage import read_json

ABOUT_FILE = "export.json"


def check_folder(folder: Path) -> None:
    """Refuse a place that holds something else than an exported model. No torch.

    Raises:
        InputError: it is a file, or a folder with other files.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file; --out wants a folder")
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    there = {name for name in there if "__pycache__" not in name}
    known = set(read_json(folder / ABOUT_FILE).get("files", ())) if ABOUT_FILE in there else set()
    if there - known - {ABOUT_FILE}:
        raise InputError(f"{folder}: holds something else than an exported model; choose a new folder")
