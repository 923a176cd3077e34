"""A graph to be written: a module, what goes in, what comes out, and which axes may have any length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Axis:
    """An axis whose length stays open where the graph allows; `usual` is the one that it is fixed to where not."""

    name: str
    usual: int
    least: int = 1
    multiple_of: int = 1
    most: int | None = None

    @property
    def tried(self) -> tuple[int, int, int]:
        """The lengths that a graph is checked with: the usual one, a larger and a smaller one, where there are any."""
        larger = self.usual + 2 * self.multiple_of
        smaller = max(self.usual // 2 // self.multiple_of * self.multiple_of, self.least)
        return self.usual, larger if self.most is None or larger <= self.most else self.usual, smaller

    def describe(self) -> dict[str, int]:
        """The bounds of the length, ready for JSON."""
        most = {} if self.most is None else {"most": self.most}
        return {"least": self.least, "multiple_of": self.multiple_of} | most


@dataclass(frozen=True)
class Port:
    """An input of a graph: what it holds decides its dtype, and the values that the graph is checked with."""

    name: str
    holds: Literal["pixels", "mask", "ids", "features", "boxes"]
    shape: tuple[int | Axis, ...]
    vocabulary: int = 0  # of ids

    @property
    def dtype(self) -> str:
        """The name of the dtype, as NumPy has it."""
        return {"pixels": "uint8", "mask": "bool", "ids": "int64"}.get(self.holds, "float32")

    def draw(self, sizes: Mapping[str, int], generator: torch.Generator) -> Tensor:
        """Random values; the length of an axis is that of its name in `sizes`."""
        shape = [one if isinstance(one, int) else sizes[one.name] for one in self.shape]
        if self.holds == "pixels":
            return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        if self.holds == "ids":
            return torch.randint(1, self.vocabulary, shape, generator=generator)
        if self.holds == "mask":  # the first frames are real, at least one
            real = torch.randint(1, shape[1] + 1, (shape[0], 1), generator=generator)
            return torch.arange(shape[1]) < real
        if self.holds == "boxes":  # left, top, right, bottom
            return torch.rand(shape, generator=generator).sort(-1).values
        return torch.randn(shape, generator=generator)


@dataclass(frozen=True, eq=False)
class Graph:
    """What becomes one file called `name`; `outputs` names what the module gives, each with its axes for people."""

    name: str
    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: Mapping[str, tuple[int | str, ...]]

    @property
    def axes(self) -> dict[str, Axis]:
        """The axes that are open, by name."""
        return {one.name: one for port in self.inputs for one in port.shape if isinstance(one, Axis)}

    def fixed(self, *names: str) -> Graph:
        """The same graph with these axes at their usual length."""

        def closed(axis: int | Axis) -> int | Axis:
            return axis.usual if isinstance(axis, Axis) and axis.name in names else axis

        usual: dict[int | str, int] = {name: axis.usual for name, axis in self.axes.items() if name in names}
        return replace(
            self,
            inputs=tuple(replace(port, shape=tuple(map(closed, port.shape))) for port in self.inputs),
            outputs={name: tuple(usual.get(one, one) for one in shape) for name, shape in self.outputs.items()},
        )

    def sizes(self, number: int) -> dict[str, int]:
        """The lengths of the open axes in check 0, 1 or 2."""
        return {name: axis.tried[number] for name, axis in self.axes.items()}

    def draw(self, number: int) -> dict[str, Tensor]:
        """The inputs of check 0, 1 or 2, always the same."""
        generator = torch.Generator().manual_seed(number)
        return {port.name: port.draw(self.sizes(number), generator) for port in self.inputs}

    @torch.no_grad()
    def run(self, inputs: Mapping[str, Tensor | None]) -> list[Tensor]:
        """What the module itself gives, without a graph."""
        found: Any = self.module(**inputs)
        return [found] if isinstance(found, Tensor) else list(found)

    def describe(self) -> dict[str, Any]:
        """Inputs, outputs and open axes, ready for JSON."""
        inputs = [
            {
                "name": port.name,
                "dtype": port.dtype,
                "shape": [one if isinstance(one, int) else one.name for one in port.shape],
            }
            for port in self.inputs
        ]
        outputs = [{"name": name, "dtype": "float32", "shape": list(shape)} for name, shape in self.outputs.items()]
        dynamic = {name: axis.describe() for name, axis in self.axes.items()}
        return {"inputs": inputs, "outputs": outputs, "dynamic_axes": dynamic}


def batch_axis() -> Axis:
    """How many samples go in at once."""
    return Axis("batch", 1)
