"""The folder of a run: what is in it, whose it is, and how things in it come and go at once.

out/
  recipe.json               what runs here
  tokenizer.json            learned from the corpus's captions, where the recipe names none
  <part>/run.json           identity of the part: a resume compares it
  <part>/checkpoint-*.safetensors, metrics.jsonl, tensorboard/, skipped.jsonl
  <part>/encoder/           what the part made
  encoder/                  what the last part made
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.files.storage import atomic_path, half_written, locked, writing_to
from pretrain.recipe import PARTS
from pretrain.run.export import RECORD

RECIPE_FILE, RUN_FILE, TOKENIZER_FILE, ENCODER = "recipe.json", "run.json", "tokenizer.json", "encoder"
_ASIDE = ".aside"  # how the hidden names end of what comes or goes


@contextmanager
def run_lock(out: Path) -> Iterator[None]:
    """Keep other runs out of `out` while the block runs.

    Raises:
        InputError: another run is at work there, or `out` cannot be made.
    """
    with ExitStack() as stack:
        try:
            with writing_to(out):
                stack.enter_context(locked(out, wait=False))
        except BlockingIOError as error:
            raise InputError(f"{out}: another run is at work there; wait for it, or use another --out") from error
        yield


def check_folder(out: Path, parts: Sequence[str]) -> None:
    """Leave alone what a user keeps under the names that a run of these parts writes.

    Raises:
        InputError: a folder of such a name is not a run's, or there is a `recipe.json` without any part; a later part
            has been begun, whose encoder would be replaced; `out` cannot be looked into.
    """
    with writing_to(out):
        foreign = [out / name for name in parts if _is_filled(out / name) and not (out / name / RUN_FILE).exists()]
        made = [_record(out / name / ENCODER) for name in PARTS]
        if _is_filled(out / ENCODER) and (_record(out / ENCODER) is None or _record(out / ENCODER) not in made):
            foreign.append(out / ENCODER)
        if (out / RECIPE_FILE).exists() and not holds_run(out):
            foreign.append(out / RECIPE_FILE)
        later = [part for part in PARTS[PARTS.index(parts[-1]) + 1 :] if (out / part / RUN_FILE).exists()]
    if foreign:
        raise InputError(f"{foreign[0]}: is there, but not from a run; use another --out, or remove it")
    if later:
        raise InputError(f"{out / later[0]}: is of a recipe with more parts than this one; use another --out")


def holds_run(out: Path) -> bool:
    """Whether a part has been begun in `out`."""
    return any((out / part / RUN_FILE).exists() for part in PARTS)


def _is_filled(folder: Path) -> bool:
    """Whether there is more of that name than a folder in which a first write was killed."""
    if not folder.is_dir():
        return folder.exists()
    return any(not (file.name.startswith(".") and file.suffix == ".tmp") for file in folder.iterdir())


def _record(encoder: Path) -> bytes | None:
    return (encoder / RECORD).read_bytes() if (encoder / RECORD).exists() else None


def aside(path: Path) -> Path:
    """A hidden name beside `path`, for what is to become it or no longer is; `sweep` removes what is left of it."""
    return path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}{_ASIDE}")


def forget(out: Path, names: Sequence[str]) -> None:
    """Put aside what has these names in `out`, each at once.

    A part that is deleted file by file, and killed, could pass for a finished one of the next run.
    """
    with writing_to(out):
        for name in names:
            if (out / name).exists():
                (out / name).rename(aside(out / name))


def sweep(out: Path) -> None:
    """Remove what lies aside, from now or from a run that was killed; no other run may be at work in `out`."""
    with writing_to(out):
        for folder in (out, *(out / part for part in PARTS)):
            for file, _ in half_written(folder):
                file.unlink(missing_ok=True)
        for left in out.glob(f".*-????????{_ASIDE}"):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def publish(made: Path, folder: Path) -> None:
    """Make `folder` a copy of the encoder `made`, all of it or nothing.

    Raises:
        InputError: the disk is full.
    """
    files = [file for file in made.iterdir() if not file.name.startswith(".")]
    there = all((folder / one.name).is_file() and _size(folder / one.name) == _size(one) for one in files)
    if there and _record(folder) == _record(made):
        return
    copy = aside(folder)
    for file in files:
        with atomic_path(copy / file.name) as written:
            shutil.copyfile(file, written)
    with writing_to(folder):
        if folder.exists():
            folder.rename(aside(folder))
        copy.rename(folder)
    sweep(folder.parent)


def _size(file: Path) -> int:
    return file.stat().st_size
