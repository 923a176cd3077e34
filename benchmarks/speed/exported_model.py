"""What leaving PyTorch costs and brings: a saved classifier with its encoder as ONNX, in float32 and with int8 weights.

    prismhub demo --out demo
    python -m benchmarks.speed.exported_model --adapter demo --data demo/motions-0 --json exported_model.json

Every clip of the split is decoded once. The same pixels go through PyTorch and through ONNX Runtime: score against the
labels, the largest difference of a probability, clips a second on frames in memory, processor time of a clip (the least
of all rounds, which other work on the machine changes little with --threads 1), and the size of the file. Beside the
int8 weights of `prismhub export --int8` stands ONNX Runtime's own dynamic quantization, which rounds activations.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from adapters.registry import load_adapter
from benchmarks.speed.timing import Report, arguments, take_turns
from core_encoder.features.feature_spec import FeatureSpec
from core_encoder.video.decoders import open_video
from prismhub.exporting.formats import quiet
from prismhub.exporting.model_folder import write_model
from prismhub.exporting.subjects import Subject, adapter_subject
from prismhub.progress import Show
from tasks import ClassificationTask, Sample

FLOAT, WEIGHTS, DYNAMIC = "onnxruntime float32", "onnxruntime int8 weights", "onnxruntime dynamic int8"
Run = Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[np.float32]]


def main() -> None:
    parser = arguments("A saved classifier in PyTorch and in ONNX Runtime.", rounds=5)
    parser.add_argument("--adapter", default="demo", help="registered name or folder of a classifier")
    parser.add_argument("--data", type=Path, required=True, help="labelled videos")
    parser.add_argument("--split", default="test")
    parser.add_argument("--batch", type=int, default=8, help="clips at once")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    adapter = load_adapter(options.adapter)
    spec = adapter.info.features
    assert spec is not None
    task = ClassificationTask.read(options.data)
    samples = task.samples(options.split)
    frames, masks = decoded(samples, spec)
    right = np.array([adapter.label_names.index(sample.labels[0]) for sample in samples])
    batches = [slice(first, first + options.batch) for first in range(0, len(frames), options.batch)]

    def scores(run: Run) -> NDArray[np.float32]:
        return np.concatenate([run(frames[part], masks[part]) for part in batches])

    with tempfile.TemporaryDirectory() as folder:
        files = written(options.adapter, Path(folder))
        runs: dict[str, Run] = {"PyTorch": in_torch(subject_of(options.adapter))}
        runs |= {name: in_onnx(path, options.threads) for name, path in files.items()}
        found = {name: scores(run) for name, run in runs.items()}
        spent: dict[str, list[float]] = {name: [] for name in runs}

        def timed(name: str) -> None:
            before = time.process_time()
            scores(runs[name])
            spent[name].append(time.process_time() - before)

        timings = take_turns({name: partial(timed, name) for name in runs}, options.rounds)
        sizes = {name: path.stat().st_size / 1e6 for name, path in files.items()}
    settings = {"adapter": options.adapter, "clips": len(frames), "batch": options.batch, "threads": options.threads}
    report = Report("exported model", timings, settings)
    for name, one in found.items():
        report.note(f"right, % ({name})", 100 * float((one.argmax(1) == right).mean()))
        report.note(f"clips/s ({name})", len(frames) / timings.median_s(name))
        report.note(f"processor ms a clip ({name})", 1000 * min(spent[name]) / len(frames))
        if name != "PyTorch":
            difference = float(np.abs(one - found["PyTorch"]).max())
            report.note(f"speed against PyTorch ({name})", timings.ratio("PyTorch", name))
            report.note(f"MB ({name})", sizes[name])
            if name == FLOAT:
                report.at_most(f"largest difference of a probability ({name})", difference, 1e-4)
            else:
                report.note(f"largest difference of a probability ({name})", difference)
    report.publish(options.json)


def decoded(samples: Sequence[Sample], spec: FeatureSpec) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The first view of every clip: pixels (n, T, H, W, 3), and which frames are real (n, T)."""
    frames, masks = [], []
    for sample in samples:
        with open_video(sample.clip.path) as video:
            view = spec.plan.views_of(video.facts, sample.clip)[0]
            frames.append(video.read(view.frame_indices, spec.preprocessing))
        masks.append(np.arange(spec.plan.num_frames) < view.num_real)
    return np.stack(frames), np.stack(masks)


def subject_of(ref: str) -> Subject:
    """The adapter with its encoder, loaded afresh: int8 weights are put in place."""
    adapter = load_adapter(ref)
    return adapter_subject(adapter, ref, adapter.find_encoder())


def written(ref: str, folder: Path) -> dict[str, Path]:
    """The files by what they are called here."""
    from onnxruntime.quantization import quantize_dynamic

    for name, int8 in ((FLOAT, False), (WEIGHTS, True)):
        write_model(subject_of(ref), folder / name, "onnx", int8, Show(quiet=False))
    files = {name: folder / name / "model.onnx" for name in (FLOAT, WEIGHTS)}
    files[DYNAMIC] = folder / "dynamic.onnx"
    logging.disable(logging.WARNING)  # it wants another tool to be run before
    with quiet():
        quantize_dynamic(str(files[FLOAT]), str(files[DYNAMIC]))
    logging.disable(logging.NOTSET)
    return files


def in_torch(subject: Subject) -> Run:
    """The model as PyTorch runs it."""

    @torch.no_grad()
    def run(frames: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.float32]:
        return subject.graphs[0].module(torch.from_numpy(frames), torch.from_numpy(masks)).numpy()

    return run


def in_onnx(path: Path, threads: int) -> Run:
    """A file as ONNX Runtime runs it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda frames, masks: session.run(["scores"], {"frames": frames, "frame_mask": masks})[0]


if __name__ == "__main__":
    main()
