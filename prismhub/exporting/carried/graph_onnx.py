"""Run a graph of this folder with ONNX Runtime: arrays in by name, arrays out."""

from pathlib import Path

import onnxruntime


def open_graph(name):
    session = onnxruntime.InferenceSession(Path(__file__).parent / f"{name}.onnx", providers=["CPUExecutionProvider"])
    return lambda **inputs: session.run(None, inputs)
