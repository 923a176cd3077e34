"""The folder of an exported model, whole or not there: graphs, data, and a script that uses them.

model.onnx            pixels or features to answers      (.pt2 as torch-export)
text.onnx             token ids to vectors, where texts are compared
encoder.onnx          pixels to vectors of windows, where the head looks at whole videos
export.json           what it is, inputs, outputs, which axes are dynamic, how far it lies from the model
labels.json           the classes, in the order of the scores
preprocessing.json    how frames are chosen and made square
texts.json, tokenizer.json, segments.json
use.py                about ten lines; its helpers lie beside it
"""

from __future__ import annotations

import importlib.metadata
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from adapters.saved_adapter import aside_of
from core_encoder.errors import InputError
from core_encoder.files.storage import readable_bytes, write_json, write_text, writing_to
from prismhub.exporting.checking import STEPS, WrittenGraph, furthest, write_checked
from prismhub.exporting.formats import FormatName
from prismhub.exporting.int8_weights import with_int8_weights
from prismhub.exporting.model_page import model_page
from prismhub.exporting.subjects import Subject
from prismhub.exporting.target_folder import ABOUT_FILE, check_folder
from prismhub.exporting.texts_as_data import write_texts
from prismhub.progress import Show

SCHEMA_VERSION = 1
_CARRIED = Path(__file__).parent / "carried"
_PACKAGES = {"onnx": ("onnxruntime",), "torch-export": ("torch",)}


@dataclass(frozen=True)
class ExportedModel:
    """A folder that was written: its graphs, and the largest difference that int8 weights make, None without them."""

    folder: Path
    graphs: tuple[WrittenGraph, ...]
    int8_difference: float | None = None

    @property
    def bytes(self) -> int:
        """All files together."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


def write_model(subject: Subject, folder: Path, name: FormatName, int8: bool, show: Show) -> ExportedModel:
    """Write what is exported to `folder`; an exported model that lies there is replaced.

    Raises:
        InputError: the folder holds something else, a graph cannot be traced or differs from its model, or the disk is
            full.
    """
    check_folder(folder)
    total = STEPS * len(subject.graphs) + int(int8)
    with show.bar("exporting") as bar, writing_to(folder):
        difference = None
        if int8:
            bar.update(0, total, "making weights int8")
            difference = _make_int8(subject)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with aside_of(folder.parent, folder.name) as aside:
            graphs: list[WrittenGraph] = []
            for graph in subject.graphs:
                before, started = int(int8) + STEPS * len(graphs), time.monotonic()

                def begins(number: int, what: str, before: int = before) -> None:
                    bar.update(before + number, total, what)

                written = write_checked(graph, aside, name, begins)
                graphs.append(written)
                dynamic = ", ".join(written.graph.axes) or "none"
                within = f"within {written.apart:.1g} of the model"
                show.note(f"{written.file}: dynamic axes {dynamic}; {within}; {time.monotonic() - started:.0f} s")
            bar.update(total, total)
            _write_data(aside, subject, name, int8, difference, graphs)
            if folder.exists():
                shutil.rmtree(folder)
            aside.rename(folder)
    return ExportedModel(folder, tuple(graphs), difference)


def _make_int8(subject: Subject) -> float:
    """Make the weights of a subject int8; the largest difference of what its graphs give.

    Raises:
        InputError: none is large enough.
    """
    plain = [graph.run(graph.draw(0)) for graph in subject.graphs]
    if not sum(map(with_int8_weights, subject.modules)):
        raise InputError(f"{subject.title} has no weight that is large enough for int8: leave int8 out")
    pairs = zip(subject.graphs, plain, strict=True)
    return max(furthest(graph.run(graph.draw(0)), before) for graph, before in pairs)


def _write_data(
    folder: Path, subject: Subject, name: FormatName, int8: bool, difference: float | None, graphs: list[WrittenGraph]
) -> None:
    if subject.labels:
        write_json(folder / "labels.json", list(subject.labels))
    if subject.preprocessing is not None:
        write_json(folder / "preprocessing.json", subject.preprocessing)
    if subject.segments:
        write_json(folder / "segments.json", subject.segments)
    reads_texts = subject.answers == "texts" and write_texts(folder, subject.tokenizer, subject.scale)
    for target, source in _scripts(subject, name, reads_texts).items():
        shutil.copyfile(_CARRIED / f"{source}.py", folder / target)
    given = "VIDEO" if subject.preprocessing is not None else "FEATURES.npz"
    write_text(folder / "use.py", (folder / "use.py").read_text(encoding="utf-8").replace("{given}", given, 1))
    about = {
        "schema_version": SCHEMA_VERSION,
        "format": name,
        **subject.about,
        "int8_weights": int8,
        **({} if difference is None else {"int8_difference": difference}),
        "graphs": [one.describe() for one in graphs],
        "versions": {one: importlib.metadata.version(one) for one in ("prismhub", "torch", *_PACKAGES[name])},
    }
    sizes = {one.file: readable_bytes((folder / one.file).stat().st_size) for one in graphs}
    write_text(folder / "README.md", model_page(subject, about, graphs, sizes, packages_of(subject, name, reads_texts)))
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    write_json(folder / ABOUT_FILE, about | {"files": files})


def _scripts(subject: Subject, name: FormatName, reads_texts: bool) -> dict[str, str]:
    """The names of the scripts in the folder, and which of ours they are."""
    whole = subject.preprocessing is not None
    answers = "encoder" if subject.answers == "texts" and not reads_texts else subject.answers
    scripts = {"use.py": f"use_{answers}", "graph.py": "graph_onnx" if name == "onnx" else "graph_torch"}
    scripts["inputs.py"] = "video" if whole else "features"
    if subject.answers == "segments":
        scripts["segments.py"] = "segments"
        scripts |= {"video.py": "video", "inputs.py": "windows"} if whole else {}
    return scripts | ({"texts.py": "texts"} if reads_texts else {})


def packages_of(subject: Subject, name: FormatName, reads_texts: bool) -> list[str]:
    """What `use.py` needs."""
    seen = ["av", "pillow"] if subject.preprocessing is not None else []
    return ["numpy", *_PACKAGES[name], *seen, *["tokenizers"] * reads_texts]
