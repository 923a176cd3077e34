"""The graphs of adapters, by what they answer with: features to answers, or pixels to answers with the encoder.

classes    scores (B, K)               probabilities
pairs      embedding (B, E)            unit vectors, beside the graph of texts
boxes      scores (B, Q, K)            probabilities, of boxes (B, Q, T, 4) in what the encoder saw
segments   logits (B, P, K), distances (B, P, 2)   of the places of all levels, as the head gives them
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from adapters.classifier import Classifier
from adapters.kinds.lit_text import LitText
from adapters.kinds.spatiotemporal_localizer import SpatiotemporalLocalizer
from adapters.kinds.temporal_localizer import TemporalLocalizer
from core_encoder.errors import InputError
from prismhub.exporting.encoder_graphs import VideoFeature, frame_ports
from prismhub.exporting.export_settings import not_exported
from prismhub.exporting.graphs import Axis, Graph, Port, batch_axis

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from core_encoder.encoder import Encoder
    from core_encoder.features.feature_spec import FeatureSpec

Outputs = dict[str, tuple[int | str, ...]]


class Head(nn.Module):
    """An adapter that answers for features."""

    def __init__(self, adapter: Adapter) -> None:
        super().__init__()
        self.adapter = adapter

    def forward(self, features: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Features and real time steps (B, T) -> the raw output."""
        out: Tensor = self.adapter(features, frame_mask)
        return out


class ClassHead(Head):
    def forward(self, features: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """-> probabilities (B, K)."""
        assert isinstance(self.adapter, Classifier)
        return self.adapter.probabilities_of(self.adapter(features, frame_mask))


class BoxHead(nn.Module):
    """Who does what: features, real time steps (B, T), boxes (B, Q, T, 4) -> probabilities (B, Q, K)."""

    def __init__(self, adapter: SpatiotemporalLocalizer) -> None:
        super().__init__()
        self.adapter = adapter

    def forward(self, features: Tensor, frame_mask: Tensor | None, boxes: Tensor) -> Tensor:
        logits = self.adapter(features, frame_mask, boxes).float()
        if logits.ndim == 2:  # all boxes in a row
            logits = logits.unflatten(0, boxes.shape[:2])  # (B, Q, K)
        return logits.sigmoid() if self.adapter.config.multi_label else logits.softmax(-1)


class SegmentHead(nn.Module):
    """When what happens: vectors (B, W, D), real ones (B, W) -> logits (B, P, K), distances (B, P, 2)."""

    def __init__(self, adapter: TemporalLocalizer) -> None:
        super().__init__()
        self.adapter = adapter

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        said = self.adapter(features, mask)
        return said.logits, said.distances


class Whole(nn.Module):
    """An encoder and a head: pixels (B, T, H, W, 3), and what else the head wants -> answers."""

    def __init__(self, feature: VideoFeature, head: nn.Module) -> None:
        super().__init__()
        self.feature, self.head = feature, head

    def forward(self, frames: Tensor, frame_mask: Tensor | None = None, boxes: Tensor | None = None) -> Tensor:
        features, steps = self.feature.seen(frames, frame_mask)
        if self.feature.kind in ("clip", "embedding"):  # which have no time steps
            steps = None
        given = (features, steps) if boxes is None else (features, steps, boxes)
        out: Tensor = self.head(*given)
        return out


def head_graph(adapter: Adapter, spec: FeatureSpec, width: int, patches: int) -> Graph:
    """Features of a spec to answers; they have `width`, and `patches` a time step."""
    if isinstance(adapter, TemporalLocalizer):
        return _segments_graph(adapter)
    batch, steps = batch_axis(), Axis("frames", spec.num_steps)
    axes = {"tokens": (steps, patches), "frames": (steps,), "clip": (), "embedding": ()}[spec.kind]
    layers = (len(spec.layers),) if spec.layers else ()
    features = Port("features", "features", (batch, *layers, *axes, width))
    ports = (features, Port("frame_mask", "mask", (batch, steps))) if axes else (features,)
    head, outputs, boxes = _answers(adapter, steps)
    return Graph("model", head, (*ports, *boxes), outputs)


def whole_graphs(adapter: Adapter, encoder: Encoder, spec: FeatureSpec) -> list[Graph]:
    """Pixels to answers; of adapters that look at whole videos the encoder apart, window by window, and the head."""
    side, feature = spec.preprocessing.image_size, VideoFeature(encoder, spec)
    ports = frame_ports(encoder, spec.plan.num_frames, side)
    if isinstance(adapter, TemporalLocalizer):
        steps = ("frames",) if spec.kind == "frames" else ()
        seen = Graph("encoder", feature, ports, {"features": ("batch", *steps, adapter.dim)})
        return [seen, _segments_graph(adapter)]
    frames = ports[0].shape[1]
    assert isinstance(frames, Axis)
    head, outputs, boxes = _answers(adapter, frames)
    if boxes and encoder.tubelet > 1:
        raise InputError(
            f"encoder {encoder.name!r} makes one time step of {encoder.tubelet} frames, in which a box has no single "
            "place: leave with_encoder out"
        )
    return [Graph("model", Whole(feature, head), (*ports, *boxes), outputs)]


def _answers(adapter: Adapter, frames: Axis) -> tuple[nn.Module, Outputs, tuple[Port, ...]]:
    """The head, what comes out of it, and its further inputs.

    Raises:
        InputError: a kind whose answers are no graph.
    """
    classes = len(adapter.label_names)
    if isinstance(adapter, Classifier):
        return ClassHead(adapter), {"scores": ("batch", classes)}, ()
    if isinstance(adapter, LitText):
        return Head(adapter), {"embedding": ("batch", adapter.text_projection.out_features)}, ()
    if isinstance(adapter, SpatiotemporalLocalizer):
        boxes = Port("boxes", "boxes", (batch_axis(), Axis("boxes", 1), frames, 4))
        return BoxHead(adapter), {"scores": ("batch", "boxes", classes)}, (boxes,)
    raise not_exported(adapter.kind)


def _segments_graph(adapter: TemporalLocalizer) -> Graph:
    unit = 2 ** (adapter.config.levels - 1)  # until each level is half of the one below
    windows = Axis("windows", 3 * unit, least=2 * unit, multiple_of=unit)
    batch = batch_axis()
    ports = (Port("features", "features", (batch, windows, adapter.dim)), Port("mask", "mask", (batch, windows)))
    outputs: Outputs = {"logits": ("batch", "places", len(adapter.classes)), "distances": ("batch", "places", 2)}
    return Graph("model", SegmentHead(adapter), ports, outputs)


def scale_of(adapter: LitText) -> float:
    """What similarities are multiplied by before the softmax."""
    with torch.no_grad():
        return float(adapter.similarity_scale)
