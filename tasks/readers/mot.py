"""MOTChallenge text: tracks of one video a file, frame by frame, in pixels. No torch.

    frame,id,left,top,width,height,conf,class,visibility

Frames count from 1. Rows whose `conf` is 0 are those that the benchmark does not consider. A class of -1 or none is no
label. A file is called like its video, or lies in `<video>/gt/gt.txt` or `<video>/det/det.txt`.
"""

from __future__ import annotations

from pathlib import Path

from core_encoder.errors import InputError
from tasks.readers.box_rows import BoxRow


def read_mot(path: str | Path) -> list[BoxRow]:
    """The rows of one file, or of all files of a folder.

    Raises:
        InputError: no such file, or one line with file, line, field and the fix.
    """
    path = Path(path)
    files = [path]
    if path.is_dir():
        files = sorted(path.glob("*.txt")) or sorted((*path.glob("*/gt/gt.txt"), *path.glob("*/det/det.txt")))
        if not files:
            raise InputError(f"{path}: holds no tracks; expected <video>.txt or <video>/gt/gt.txt")
    return [row for file in files for row in _read_file(file)]


def _read_file(file: Path) -> list[BoxRow]:
    video = file.parent.parent.name if file.name in ("gt.txt", "det.txt") else file.stem
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        cells = [cell.strip() for cell in line.split(",")]
        try:
            frame, track, left, top, width, height = (float(cell) for cell in cells[:6])
            conf = float(cells[6]) if len(cells) > 6 else 1.0
            label = int(float(cells[7])) if len(cells) > 7 else -1
        except ValueError:
            raise InputError(
                f"{file}: line {number}: {line.strip()!r} is not frame,id,left,top,width,height,conf,class"
            ) from None
        if frame < 1 or frame != int(frame):
            raise InputError(f"{file}: line {number}: frame {cells[0]} is no frame; MOT counts them from 1")
        if conf == 0:
            continue
        rows.append(
            BoxRow(
                file,
                f"line {number}",
                video,
                (left, top, left + width, top + height),
                frame=int(frame) - 1,
                label=None if label < 0 else str(label),
                track="" if track < 0 else f"{track:g}",
                score=1.0 if conf < 0 else conf,
                in_pixels=True,
            )
        )
    if not rows:
        raise InputError(f"{file}: holds no boxes")
    return rows
