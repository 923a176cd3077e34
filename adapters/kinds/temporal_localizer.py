"""`temporal_localizer`: when something happens in a long video, from one feature vector every so many seconds.

    vectors (B, W, D) --scale--> pyramid over time --> at each place class scores and the distances to start and end
    --> segments in seconds --> soft-NMS

An anchor-free head on several scales, as ActionFormer (Zhang et al., ECCV 2022); `boundary=tridet` locates starts and
ends as TriDet does. Seconds, stride and offset of the vectors are read from their times and checked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from adapters.adapter import Adapter, Loss
from adapters.classifier import FeatureScale
from adapters.context import Context, TargetKind
from adapters.features import Batch, Example, FeatureDataset, Times
from adapters.head_options import TemporalLocalizerConfig
from adapters.predictions import PROPOSAL, Prediction, Segment, Segments, Timeline
from adapters.temporal.boundaries import (
    BoundaryHead,
    Said,
    assign,
    distance_iou_loss,
    focal_loss,
    places_of,
)
from adapters.temporal.pyramid import Pyramid
from adapters.temporal.soft_nms import soft_nms
from adapters.temporal.vector_grid import VectorGrid, example_vectors
from core_encoder.errors import InputError
from core_encoder.features.feature_spec import FeatureKind

FIRST_REACH = 4.0  # the lowest level looks after boundaries up to so many vectors away, each further one twice as far
CANDIDATES = 2000  # the surest segments of a video that go into soft-NMS


class TemporalLocalizer(Adapter):
    """Segments of a whole video, with class and score, in seconds."""

    kind: ClassVar[str] = "temporal_localizer"
    Config: ClassVar[type] = TemporalLocalizerConfig
    feature_kind: ClassVar[FeatureKind] = "clip"
    input_names = ()
    target_kind: ClassVar[TargetKind] = "segments"
    reads_whole_clips: ClassVar[bool] = True
    batch_size: ClassVar[int] = 4
    stride_s: Tensor

    def __init__(self, config: TemporalLocalizerConfig, context: Context) -> None:
        super().__init__(config, context)
        if not self.label_names or len(set(self.label_names)) < len(self.label_names):
            raise InputError(f"{self.kind} needs different label names, not {list(self.label_names)[:5]}")
        self.classes = (PROPOSAL,) if config.class_agnostic else self.label_names
        self.scale = FeatureScale(context.dim)
        self.pyramid = Pyramid(context.dim, config.hidden, config.heads, config.reach, config.levels, config.dropout)
        bins = config.bins if config.boundary == "tridet" else None
        self.head = BoundaryHead(config.hidden, len(self.classes), config.levels, bins)
        self.register_buffer("stride_s", torch.zeros((), dtype=torch.float64))

    @classmethod
    def feature_kind_for(cls, config: Any) -> FeatureKind:
        return config.reads

    @property
    def answer_labels(self) -> tuple[str, ...]:
        return self.classes

    def calibrate(self, dataset: FeatureDataset) -> None:
        """Measure the feature scale, and from which stride the head learns; every video must have that one.

        Raises:
            InputError: times that are not even or of different strides, or a segment outside of its video.
        """
        parts, grids = [], []
        for index in range(len(dataset)):
            example = dataset[index]
            vectors, grid = example_vectors(example)
            grids.append((grid, example.id))
            parts.append(vectors)
        strides = [grid.stride_s for grid, _ in grids if grid.stride_s is not None]
        if not strides:
            raise InputError("no training video has two feature vectors; encode more densely, or give longer videos")
        self.stride_s.fill_(float(np.median(strides)))
        for grid, name in grids:
            grid.check_stride(float(self.stride_s), name)
        self.scale.measure(parts)

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Videos side by side, the shorter ones padded: vectors `(B, W, D)`, mask `(B, W)`."""
        vectors, grids = zip(*map(example_vectors, examples), strict=True)
        features = nn.utils.rnn.pad_sequence(list(vectors), batch_first=True)
        mask = torch.arange(features.shape[1]) < torch.tensor([len(one) for one in vectors])[:, None]
        times = [Times(*_grid_times(grid)) for grid in grids]
        targets = [example.target for example in examples]
        return Batch(features, mask, targets, [example.id for example in examples], times=times)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Said:
        """What every place of every level says."""
        if mask is None:
            mask = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        return self.head(self.pyramid(self.scale(features) * mask[..., None], mask))

    def loss(self, batch: Batch) -> Loss:
        return self._loss(batch, self(batch.features, batch.mask))

    def answer(self, batch: Batch) -> list[Prediction]:
        return self._answer(batch, self(batch.features, batch.mask))

    def answer_with_loss(self, batch: Batch) -> tuple[list[Prediction], Loss]:
        said = self(batch.features, batch.mask)
        return self._answer(batch, said), self._loss(batch, said)

    def _places(self, said: Said) -> Any:
        levels = self.config.levels
        top = said.mask.shape[1] // (2**levels - 1)  # of lengths top, 2 top, 4 top, ...
        lengths = [top * 2 ** (levels - 1 - number) for number in range(levels)]
        return places_of(lengths, FIRST_REACH, said.mask.device)

    def _loss(self, batch: Batch, said: Said) -> Loss:
        places, device = self._places(said), said.logits.device
        index = {label: k for k, label in enumerate(self.classes)}
        total, positives = said.logits.new_zeros(()), 0
        for row, target in enumerate(batch.targets):
            first_s, stride_s, count = self._grid(batch, row)
            known = Timeline.of(target)
            timeline = known.without_classes(self.label_names) if self.config.class_agnostic else known
            spans = torch.tensor([(one.start_s, one.end_s) for one in timeline.segments], dtype=torch.float64)
            spans = ((spans.reshape(-1, 2) - first_s) / stride_s).to(device, torch.float32)  # (G, 2) in strides
            labels = torch.tensor([index[one.label] for one in timeline.segments], dtype=torch.long, device=device)
            wanted = assign(places, spans, labels, len(self.classes), self.config.radius, count)
            counts = said.mask[row]  # (N,)
            if timeline.annotated is not None:
                seconds = places.at * stride_s + first_s
                inside = [(seconds >= start) & (seconds <= end) for start, end in timeline.annotated]
                counts = counts & torch.stack(inside).any(0) if inside else counts & False
            weight = counts[:, None].float()  # (N, 1)
            if timeline.classes is not None:
                looked_for = torch.tensor([label in timeline.classes for label in self.classes], device=device)
                weight = weight * looked_for
            total = total + (focal_loss(said.logits[row], wanted.classes) * weight).sum()
            mine = wanted.inside & counts
            if mine.any():
                found, right = said.distances[row][mine], wanted.distances[mine]
                total = total + self.config.iou_weight * distance_iou_loss(found, right).sum()
                positives += int(mine.sum())
        return Loss(total / max(positives, 1), float(max(positives, 1)))

    def _answer(self, batch: Batch, said: Said) -> list[Prediction]:
        places = self._places(said)
        scores = (said.logits.float().sigmoid() * said.mask[..., None]).cpu()  # (B, N, K)
        reached = (said.distances.float() * places.step[:, None]).cpu()  # (B, N, 2) in strides
        at = places.at.cpu()
        answers: list[Prediction] = []
        for row, name in enumerate(batch.ids):
            first_s, stride_s, _ = self._grid(batch, row)
            start_s, end_s = _times(batch, row).span.tolist()
            surest = scores[row].flatten().topk(min(CANDIDATES, scores[row].numel()))
            place, label = surest.indices // len(self.classes), surest.indices % len(self.classes)
            spans = torch.stack([at[place] - reached[row, place, 0], at[place] + reached[row, place, 1]], -1).double()
            seconds = (spans * stride_s + first_s).clamp(start_s, end_s).numpy()  # (C, 2)
            found = self._segments(seconds, surest.values.double().numpy(), label.numpy())
            answers.append(Segments(name, found, self.config.threshold))
        return answers

    def _segments(self, spans: Any, scores: Any, labels: Any) -> tuple[Segment, ...]:
        """The candidates of one video after soft-NMS within each class, the surest first."""
        options = self.config
        worth = (scores > 0) & (scores >= options.min_score) & (spans[:, 1] - spans[:, 0] > 1e-3)
        found: list[Segment] = []
        for label in np.unique(labels[worth]):
            mine = np.flatnonzero(worth & (labels == label))
            kept, final = soft_nms(
                spans[mine], scores[mine], options.nms_sigma, options.min_score, options.max_segments
            )
            rows = zip(spans[mine[kept]].tolist(), final.tolist(), strict=True)
            found += [Segment(start, end, self.classes[label], score) for (start, end), score in rows]
        found.sort(key=lambda one: (-one.score, one.start_s, one.end_s, one.label))
        return tuple(found[: options.max_segments])

    def _grid(self, batch: Batch, row: int) -> tuple[float, float, int]:
        """First moment and stride of a video in a batch, in seconds, and how many vectors it has.

        Raises:
            InputError: the stride is not the one the head learned from.
        """
        times = _times(batch, row)
        moments = times.frames
        stride_s = float(self.stride_s)
        if not stride_s:
            raise InputError(
                f"adapter {self.kind!r} was not calibrated: it does not know how far its vectors are apart"
            )
        if len(moments) > 1:
            own = float(moments[1] - moments[0])
            grid = VectorGrid(float(moments[0]), own, len(moments), *times.span.tolist())
            stride_s = grid.check_stride(stride_s, batch.ids[row])
        return float(moments[0]), stride_s, len(moments)


def _times(batch: Batch, row: int) -> Times:
    """When the vectors of a video in a batch are, as `collate` brings it."""
    times = batch.times[row]
    if times is None:
        raise InputError(f"{batch.ids[row]}: the times of its features are not known: use the adapter's `collate`")
    return times


def _grid_times(grid: VectorGrid) -> tuple[Tensor, Tensor]:
    """The moment of each vector `(N,)`, and what the video shows `(2,)`: start and end, in seconds."""
    moments = grid.first_s + torch.arange(grid.count, dtype=torch.float64) * (grid.stride_s or 0.0)
    return moments, torch.tensor([grid.start_s, grid.end_s], dtype=torch.float64)
