"""The files of graphs: ONNX for ONNX Runtime, and the program of `torch.export` for PyTorch itself.

What the tracers would keep of this machine, the stack with the paths of its files, is left out.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from core_encoder.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

    from prismhub.exporting.graphs import Graph

FormatName = Literal["onnx", "torch-export"]
Run = Callable[[Mapping[str, "Tensor"]], "list[Tensor]"]
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_ONE_FILE_BYTES = 1 << 30  # protobuf ends at 2 GiB: weights of larger graphs lie in a file of their own beside it
_LOUD = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


class Format(NamedTuple):
    """A kind of file: its suffix, who writes a traced graph, and who opens it again to run it."""

    suffix: str
    write: Callable[[ExportedProgram, Graph, Path], None]
    open: Callable[[Path], Run]


def check_installed(name: FormatName) -> None:
    """Refuse a format whose packages are not installed. No torch.

    Raises:
        InputError: the command that installs them.
    """
    missing = [one for one in _PACKAGES if importlib.util.find_spec(one) is None]
    if name == "onnx" and missing:
        raise InputError(f"--format onnx needs {', '.join(missing)}: pip install 'prismhub[export]'")


def trace(graph: Graph) -> ExportedProgram:
    """The graph of a module, for all lengths of its open axes.

    Raises:
        Exception: of any kind; the module does something that no graph can, or that fixes an axis.
    """
    import torch
    from torch.export import Dim, export

    dims: dict[str, Any] = {}
    for name, axis in graph.axes.items():
        if axis.multiple_of > 1:
            dims[name] = axis.multiple_of * Dim(f"{name}_by_{axis.multiple_of}")
        else:
            dims[name] = Dim(name, max=axis.most)
    shapes = {
        port.name: {place: dims[one.name] for place, one in enumerate(port.shape) if not isinstance(one, int)}
        for port in graph.inputs
    }
    with quiet(), torch.no_grad():
        return export(graph.module, (), graph.draw(1), dynamic_shapes=shapes)


def _write_onnx(program: ExportedProgram, graph: Graph, path: Path) -> None:
    import onnx_ir
    import torch

    names: dict[str, Any] = {"input_names": [port.name for port in graph.inputs], "output_names": list(graph.outputs)}
    with quiet():
        made = torch.onnx.export(program, (), dynamo=True, verbose=False, **names)
    assert made is not None
    model = made.model
    about = graph.describe()
    for values, described in ((model.graph.inputs, about["inputs"]), (model.graph.outputs, about["outputs"])):
        for value, one in zip(values, described, strict=True):
            value.shape = onnx_ir.Shape(one["shape"])  # "batch" instead of "s31"
    values = list(model.graph.initializers.values())
    for node in [*model.graph.all_nodes(), *(node for one in model.functions.values() for node in one.all_nodes())]:
        node.metadata_props.clear()
        node.doc_string = None
        values += node.outputs
    for number, value in enumerate(values):  # the operator `embedding` names its own so
        if value.name in graph.outputs and not value.is_graph_output():
            value.name = f"{value.name}_inside_{number}"
    weights = sum(one.const_value.nbytes for one in model.graph.initializers.values() if one.const_value is not None)
    made.save(str(path), external_data=weights > _ONE_FILE_BYTES)


def _open_onnx(path: Path) -> Run:
    import onnxruntime
    from torch import from_numpy

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it refuses to run is raised, too
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, Tensor]) -> list[Tensor]:
        return list(map(from_numpy, session.run(None, {name: one.numpy() for name, one in inputs.items()})))

    return run


def _write_program(program: ExportedProgram, graph: Graph, path: Path) -> None:
    import torch

    for module in program.graph_module.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            for kept in ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node"):
                node.meta.pop(kept, None)
    program._example_inputs = None  # they would be pickled into the file
    _drop_unused_weights(program)
    with quiet():
        torch.export.save(program, path)


def _drop_unused_weights(program: ExportedProgram) -> None:
    """Leave out the weights that no node reads: a text tower is traced as a part of its whole encoder."""
    from torch.export.graph_signature import InputKind

    inputs, specs = program.graph.find_nodes(op="placeholder"), program.graph_signature.input_specs
    read = []
    for node, spec in list(zip(inputs, specs, strict=True)):
        if spec.target in program.state_dict and spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
            if not node.users:
                specs.remove(spec)
                program.graph.erase_node(node)
                continue
            read.append(spec.target)
    for name in program.state_dict.keys() - read:
        del program.state_dict[name]
    program.graph_module.recompile()


def _open_program(path: Path) -> Run:
    import torch

    with quiet():
        module = torch.export.load(path).module()

    def run(inputs: Mapping[str, Tensor]) -> list[Tensor]:
        with torch.no_grad():
            found = module(**inputs)
        return [found] if isinstance(found, torch.Tensor) else list(found)

    return run


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the tracers tell their developers."""
    loggers = [logging.getLogger(name) for name in _LOUD]
    before = [one.level for one in loggers]
    try:
        for one in loggers:
            one.setLevel(logging.CRITICAL)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for one, level in zip(loggers, before, strict=True):
            one.setLevel(level)


FORMATS: dict[FormatName, Format] = {
    "onnx": Format(".onnx", _write_onnx, _open_onnx),
    "torch-export": Format(".pt2", _write_program, _open_program),
}
