"""The `README.md` of an exported model: how it is used, what goes in and comes out, what to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prismhub.exporting.checking import WrittenGraph
from prismhub.exporting.subjects import Subject

_JOBS = {
    "encoder": "prints the vector of a video",
    "texts": "says which of some texts fits a video best",
    "classes": "names the class of a video",
    "boxes": "says what someone in a box does",
    "segments": "says when what happens in a video",
}
_GIVEN = {"texts": ' "a text" "another"', "boxes": " LEFT TOP RIGHT BOTTOM"}
_PIXELS = (
    "`frames` are pixels as decoders give them, RGB from 0 to 255, chosen and cut as `preprocessing.json` says; their "
    "scale, mean and deviation are in the graph. Pillow resizes within a grey level of the training."
)
_WHOLE = "A video goes in as a whole, however long it is."
_WINDOWS = "A video is looked at in windows, which `encoder` sees one by one; `model` reads their vectors."
_MASK = "`frame_mask` is true for real frames, at least one in each sample, and false for padding."
_NO_MASK = (
    "The encoder sees several frames as one time step, and its graph has no mask: of a clip that is too short the last "
    "frame counts as if it were shown again."
)
_PLACES = (
    "`logits`, and `distances` to start and end in strides of the level, are those of the places of all levels, each "
    "half as long as the one before. `segments.py` makes seconds of them and suppresses what overlaps."
)
_BOXES = (
    "`boxes` are left, top, right, bottom in each frame, fractions of what the encoder sees; one that moves has "
    "other corners in other frames."
)


def model_page(
    subject: Subject,
    about: Mapping[str, Any],
    graphs: Sequence[WrittenGraph],
    sizes: Mapping[str, str],
    packages: Sequence[str],
) -> str:
    """The page as Markdown; `about` is what `export.json` holds, `sizes` are those of the files of the graphs."""
    given = "VIDEO" if subject.preprocessing is not None else "FEATURES.npz"
    lines = [
        f"# {subject.title}",
        "",
        f"Exported by prismhub as {about['format']}. The script {_JOBS[subject.answers]}:",
    ]
    lines += ["", "```sh", f"pip install {' '.join(packages)}"]
    lines += [f"python use.py {given}{_GIVEN.get(subject.answers, '')}", "```", ""]
    lines += ["| graph | inputs | outputs | dynamic axes | distance |", "| --- | --- | --- | --- | --- |"]
    for one in graphs:
        described = one.graph.describe()
        inputs, outputs = (", ".join(map(_port, described[side])) for side in ("inputs", "outputs"))
        dynamic = ", ".join(name + _bounds(bounds) for name, bounds in described["dynamic_axes"].items()) or "none"
        lines.append(f"| `{one.file}` ({sizes[one.file]}) | {inputs} | {outputs} | {dynamic} | {one.apart:.1g} |")
    lines += [
        "",
        "The distance from the model in PyTorch is the largest difference as a share of the largest value (of at least "
        "1), over the batches and lengths that `export.json` lists.",
        "",
    ]
    return "\n".join([*lines, *(f"- {note}" for note in _notes(subject, about))]) + "\n"


def _notes(subject: Subject, about: Mapping[str, Any]) -> list[str]:
    if subject.preprocessing is None:
        kind = about["features"]["kind"]
        notes = [
            f"Features go in: `prismhub embed VIDEO --kind {kind} --out FEATURES.npz` writes them, with the options of "
            "the training, which `export.json` holds."
        ]
    else:
        notes = [_PIXELS, _WINDOWS if subject.answers == "segments" else _WHOLE]
        notes.append(_MASK if subject.preprocessing["frame_mask"] else _NO_MASK)
    notes += [_PLACES] if subject.answers == "segments" else []
    notes += [_BOXES] if subject.answers == "boxes" else []
    if about["int8_weights"]:
        notes.append(
            f"Weights are int8 with a float32 scale a row. On random input they change what comes out by "
            f"{about['int8_difference']:.2g} of its largest value."
        )
    return notes


def _port(port: Mapping[str, Any]) -> str:
    return f"`{port['name']}` {port['dtype']} ({', '.join(map(str, port['shape']))})"


def _bounds(bounds: Mapping[str, int]) -> str:
    words = [f"at least {bounds['least']}"] if bounds["least"] > 1 else []
    words += [f"a multiple of {bounds['multiple_of']}"] if bounds["multiple_of"] > 1 else []
    words += [f"at most {bounds['most']}"] if "most" in bounds else []
    return f" ({', '.join(words)})" if words else ""
