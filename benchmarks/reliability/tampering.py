"""Ways to tamper with what is loaded: safetensors, JSON, links, pickles that would run code.

Each changes one file of a folder in place; `canary` is the file that its code would create if it were ever run.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Tamper = Callable[[Path, random.Random, Path], None]
HUGE_JSON_BYTES = 400_000_000


class _Payload:
    """What creates the canary when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch '{self.canary}'",)


def code(canary: Path) -> str:
    """Python that creates the canary wherever it is imported or run."""
    return f"import pathlib\npathlib.Path({str(canary)!r}).touch()\nclass Model:\n    pass\n"


# Safetensors: eight bytes of length, a header in JSON, the values


def bit_flipped(path: Path, rng: random.Random, canary: Path) -> None:
    """One bit of the values is another."""
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    content[rng.randrange(header, len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def header_bits_flipped(path: Path, rng: random.Random, canary: Path) -> None:
    """Some bits of the header are others."""
    content = bytearray(path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    for _ in range(5):
        content[rng.randrange(8, header)] ^= 1 << rng.randrange(7)
    path.write_bytes(content)


def header_length_lies(path: Path, rng: random.Random, canary: Path) -> None:
    """The header claims to be longer than memory."""
    path.write_bytes((1 << rng.choice((33, 47, 63))).to_bytes(8, "little") + path.read_bytes()[8:])


def offsets_negative(path: Path, rng: random.Random, canary: Path) -> None:
    """A tensor begins before the file."""
    _edit(path, lambda header: _first(header).update(data_offsets=[-(1 << 40), -(1 << 39)]))


def offsets_beyond(path: Path, rng: random.Random, canary: Path) -> None:
    """A tensor ends after the file."""
    _edit(path, lambda header: _first(header).update(data_offsets=[0, 1 << 50]))


def offsets_overlap(path: Path, rng: random.Random, canary: Path) -> None:
    """All tensors are the same bytes."""
    _edit(path, lambda header: [one.update(data_offsets=[0, 4]) for one in _tensors(header).values()])


def shape_huge(path: Path, rng: random.Random, canary: Path) -> None:
    """A tensor says that it has 10^18 values."""
    _edit(path, lambda header: _first(header).update(shape=[1_000_000_000, 1_000_000_000]))


def shape_other(path: Path, rng: random.Random, canary: Path) -> None:
    """A tensor has as many values in another shape."""
    _edit(path, lambda header: _first(header).update(shape=[1, 1, *_first(header)["shape"]]))


def dtype_unknown(path: Path, rng: random.Random, canary: Path) -> None:
    """A tensor is of a type that there is not."""
    _edit(path, lambda header: _first(header).update(dtype="PYOBJECT"))


def tensor_renamed(path: Path, rng: random.Random, canary: Path) -> None:
    """A tensor has the name of a file elsewhere."""
    _edit(path, lambda header: header.update({"../../../../tmp/x": header.pop(max(_tensors(header)))}))


def values_nan(path: Path, rng: random.Random, canary: Path) -> None:
    """Every weight is NaN."""
    from safetensors.numpy import load_file, save_file

    save_file(
        {
            name: np.full_like(values, np.nan) if values.dtype.kind == "f" else values
            for name, values in load_file(path).items()
        },
        path,
        metadata=_header(path).get("__metadata__"),
    )


def cut(path: Path, rng: random.Random, canary: Path) -> None:
    """The file ends early."""
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(8, len(content))])


def empty(path: Path, rng: random.Random, canary: Path) -> None:
    """Nothing is left of it."""
    path.write_bytes(b"")


def pickled(path: Path, rng: random.Random, canary: Path) -> None:
    """A pickle that runs code, under the name of the file."""
    path.write_bytes(pickle.dumps(_Payload(canary)))


def pickled_in_zip(path: Path, rng: random.Random, canary: Path) -> None:
    """The same in a zip file, as `torch.save` writes it, under the name of the file."""
    path.unlink()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(_Payload(canary)))
        archive.writestr("archive/version", "3\n")


def pickle_instead(path: Path, rng: random.Random, canary: Path) -> None:
    """A pickle under the name that PyTorch's own files have, and no safetensors."""
    path.unlink()
    (path.parent / "pytorch_model.bin").write_bytes(pickle.dumps(_Payload(canary)))


# JSON


def json_huge(path: Path, rng: random.Random, canary: Path) -> None:
    """Four hundred megabytes of numbers in the midst of it."""
    whole = path.read_text().rstrip().removesuffix("}")
    with path.open("w") as file:
        file.write(whole + ', "x": [')
        for _ in range(HUGE_JSON_BYTES // 2_000_000):
            file.write("1," * 1_000_000)
        file.write("1]}")


def json_deep(path: Path, rng: random.Random, canary: Path) -> None:
    """A hundred thousand lists in one another."""
    path.write_text("[" * 100_000 + "]" * 100_000)


def json_cut(path: Path, rng: random.Random, canary: Path) -> None:
    """It ends early."""
    path.write_text(path.read_text()[: path.stat().st_size // 2])


def json_list(path: Path, rng: random.Random, canary: Path) -> None:
    """A list instead of names and values."""
    path.write_text(json.dumps([path.read_text()]))


def json_binary(path: Path, rng: random.Random, canary: Path) -> None:
    """No text at all."""
    path.write_bytes(rng.randbytes(4000))


def changed(**values: Any) -> Tamper:
    """JSON in which some values are others; names with `__` lead into what is nested."""

    def change(path: Path, rng: random.Random, canary: Path) -> None:
        whole = json.loads(path.read_text())
        for name, value in values.items():
            *outer, last = name.split("__")
            inside = whole
            for one in outer:
                inside = inside[one]
            inside[last] = value
        path.write_text(json.dumps(whole))

    return change


def auto_map(path: Path, rng: random.Random, canary: Path) -> None:
    """A config that names classes of its own, and the module with them beside it, for `transformers` to import."""
    (path.parent / "modeling_evil.py").write_text(code(canary))
    names = dict.fromkeys(("AutoConfig", "AutoModel", "AutoTokenizer"), "modeling_evil.Model")
    changed(auto_map=names, custom_pipelines={"x": {"impl": "modeling_evil.Model"}})(path, rng, canary)


# Links and other things that are no files


def link_to(target: str) -> Tamper:
    """The file is a link to another place."""

    def link(path: Path, rng: random.Random, canary: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return link


def pipe(path: Path, rng: random.Random, canary: Path) -> None:
    """A pipe that nobody ever writes to."""
    path.unlink()
    os.mkfifo(path)


def folder_instead(path: Path, rng: random.Random, canary: Path) -> None:
    """A folder of that name."""
    path.unlink()
    path.mkdir()


def _header(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    header: dict[str, Any] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return header


def _tensors(header: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: about for name, about in header.items() if name != "__metadata__"}


def _first(header: dict[str, Any]) -> dict[str, Any]:
    """The first tensor of floats: others may be left out, or not looked at."""
    return next(about for about in _tensors(header).values() if about["dtype"].startswith("F"))


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the header of a safetensors file."""
    content = path.read_bytes()
    header = _header(path)
    change(header)
    encoded = json.dumps(header).encode()
    path.write_bytes(
        len(encoded).to_bytes(8, "little") + encoded + content[8 + int.from_bytes(content[:8], "little") :]
    )
