"""Predictions as lines of JSON: each is on the disk before the next one is made, and all can be read back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_encoder.errors import InputError
from core_encoder.files.storage import writing_to

if TYPE_CHECKING:
    from adapters.predictions import Prediction


@contextmanager
def prediction_log(path: Path, part: Path) -> Iterator[Callable[[Prediction, Mapping[str, Any]], None]]:
    """Yield a function that writes a prediction with what is known of its sample as one line.

    It returns when the disk has it. The file is called `path` once the block has ended well; until then, and after an
    accident, `part`, of which the lines that it holds already stay.

    Raises:
        InputError: the disk is full, or a folder cannot be written to.
    """
    from adapters.prediction_records import prediction_record

    with writing_to(path):
        for one in (path, part):
            one.parent.mkdir(parents=True, exist_ok=True)
        with part.open("a", encoding="utf-8") as file:

            def write(prediction: Prediction, sample: Mapping[str, Any]) -> None:
                record = prediction_record(prediction) | dict(sample)
                file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())

            yield write
        part.replace(path)


def kept_predictions(part: Path, label_names: Sequence[str] = (), multi_label: bool = False) -> list[Any]:
    """The predictions that an accident left in `part`; a line that was not finished is cut off.

    What cannot be read back, such as the answers of a plug-in's own kind, is removed: it is answered again.
    """
    if not part.is_file():
        return []
    content = part.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    with part.open("r+b") as file:
        file.truncate(len(whole))
    try:
        return read_predictions(part, label_names, multi_label)
    except InputError:
        part.unlink()
        return []


def read_predictions(path: str | Path, label_names: Sequence[str] = (), multi_label: bool = False) -> list[Any]:
    """The predictions of a file of lines; `label_names` and `multi_label` as in `read_prediction`.

    Raises:
        InputError: the file cannot be read, or a line is no prediction; file and line are named.
    """
    from adapters.prediction_records import read_prediction

    path = Path(path)
    found = []
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                try:
                    record = json.loads(line)
                    if not isinstance(record, Mapping):
                        raise InputError("not an object of JSON")
                    found.append(read_prediction(record, label_names, multi_label))
                except ValueError as error:  # an InputError, or no JSON
                    raise InputError(f"{path}: line {number}: {error}") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return found
