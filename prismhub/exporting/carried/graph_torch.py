"""Run a graph of this folder with PyTorch: arrays in by name, arrays out."""

from pathlib import Path

import torch


def open_graph(name):
    graph = torch.export.load(Path(__file__).parent / f"{name}.pt2").module()

    def run(**inputs):
        with torch.no_grad():
            found = graph(**{key: torch.from_numpy(array) for key, array in inputs.items()})
        return [one.numpy() for one in ([found] if isinstance(found, torch.Tensor) else found)]

    return run
