"""`spatiotemporal_localizer`: what everyone in a clip does, as VideoPrism's frozen evaluation of AVA asks it.

    tokens (T, N, D) --RoI pooling of a box, frame by frame, mean over frames, max over bins--> (D,) --linear--> query
    query --one cross-attention transformer layer over all tokens--> (H,) --norm, dropout--> linear -> K classes

Boxes are given: found by a detector or drawn by people, at one moment or as tracks through the clip, in which case
pooling follows the individual from frame to frame (Gu et al., AVA, CVPR 2018; Yuan et al., VideoGLUE, 2307.03166).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adapters.adapter import Adapter, Loss
from adapters.boxes import BoxScores, Corners, Track, given_tracks, joined_scores, overlaps
from adapters.classifier import SCALE_SAMPLES
from adapters.context import Context, TargetKind, TargetSchema
from adapters.features import Batch, FeatureDataset, Times, inputs_of, read_batch, targets_of
from adapters.head_options import SpatiotemporalLocalizerConfig
from adapters.kinds.map_classifier import DEFAULT_HEADS, PoolingRound, nearest_divisor
from adapters.predictions import Box, Prediction
from adapters.reweighting import ClassificationLoss
from adapters.roi_pooling import roi_pool
from core_encoder.errors import InputError
from core_encoder.features.feature_spec import FeatureKind


class Asked(NamedTuple):
    """Whom a sample is asked about: tracks that are there, Q of them, at one moment of a span."""

    tracks: list[Track]
    moment_s: float
    span_s: tuple[float, float]
    corners: NDArray[np.float64]  # (Q, 4) at the moment, fractions of the picture
    in_frames: Tensor  # (Q, T, 4) in every frame, fractions of what the encoder saw


class SpatiotemporalLocalizer(Adapter):
    """RoI pooling, one cross-attention layer over all tokens, and a linear classifier."""

    kind: ClassVar[str] = "spatiotemporal_localizer"
    Config: ClassVar[type] = SpatiotemporalLocalizerConfig
    feature_kind: ClassVar[FeatureKind] = "tokens"
    input_names = ("boxes", "time_s", "picture")
    needed_inputs = ("boxes",)
    target_kind: ClassVar[TargetKind] = "boxes"
    config: SpatiotemporalLocalizerConfig

    def __init__(self, config: SpatiotemporalLocalizerConfig, context: Context) -> None:
        super().__init__(config, context)
        names = self.label_names
        least = 1 if config.multi_label else 2
        if len(names) < least or len(set(names)) < len(names):
            raise InputError(f"{self.kind} needs at least {least} different label names, not {list(names)[:5]}")
        hidden = config.hidden or context.dim
        heads = config.heads or nearest_divisor(hidden, DEFAULT_HEADS)
        if hidden % heads:
            raise InputError(f"heads {heads} do not divide the hidden width {hidden}")
        self.query = nn.Linear(context.dim, hidden)
        self.pooling = PoolingRound(context.dim, hidden, heads, config.mlp_ratio, config.positions)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(hidden, len(names))
        nn.init.normal_(self.classifier.weight, std=0.02)
        nn.init.zeros_(self.classifier.bias)
        self.criterion = ClassificationLoss(
            len(names), config.multi_label, config.class_weights, config.label_smoothing
        )

    @classmethod
    def options_for(cls, targets: TargetSchema) -> dict[str, Any]:
        return {"multi_label": True} if targets.multi_label else {}

    def calibrate(self, dataset: FeatureDataset) -> None:
        """Count the classes of the boxes and measure the feature scale on some evenly spread samples.

        Raises:
            InputError: no box is somebody's, or features are not finite or of another width.
        """
        counts, boxes = torch.zeros(len(self.label_names), dtype=torch.long), 0
        for inputs, target in zip(inputs_of(dataset), targets_of(dataset), strict=True):
            moment_s = float(inputs.get("time_s", 0.0))
            tracks = given_tracks(inputs["boxes"], "training set")
            found = self._whose(_at_moment(tracks, moment_s), target)
            counts += found.sum(0).long()
            boxes += len(found) if self.config.multi_label else int(found.any(1).sum())
        if not int(counts.sum()):
            raise InputError(f"{self.kind}: no given box of the training set overlaps one that has a label")
        self.criterion.set_counts(counts, boxes)
        chosen = np.unique(np.linspace(0, len(dataset) - 1, SCALE_SAMPLES).round().astype(int))
        parts = []
        for batch in (read_batch(dataset, [int(i)]) for i in chosen):
            if batch.features.shape[-1] != self.dim:
                raise InputError(f"features of {batch.ids[0]!r} have width {batch.features.shape[-1]}, not {self.dim}")
            if not batch.features.isfinite().all():
                raise InputError(f"features of {batch.ids[0]!r} hold NaN or infinity: encode again")
            tokens = batch.features if batch.mask is None else batch.features[batch.mask]
            parts.append(tokens.flatten(0, -2))
        self.pooling.scale.measure(parts)

    def forward(
        self, features: Tensor, mask: Tensor | None = None, in_frames: Sequence[Tensor] | Tensor = ()
    ) -> Tensor:
        """Logits `(R, K)` of all boxes, sample after sample; tokens `(B, T, N, D)`, boxes `(Q, T, 4)` of each sample.

        In a traced graph boxes are a tensor `(B, Q, T, 4)`, and logits `(B, Q, K)`.

        Raises:
            InputError: tokens of another shape.
        """
        if features.ndim != 4 or features.shape[-1] != self.dim:
            raise InputError(f"{self.kind} wants features (B, T, N, {self.dim}), not {tuple(features.shape)}")
        frames, patches = features.shape[1:3]
        rows, columns = self.context.patch_grid(patches)
        if torch.compiler.is_exporting():
            assert isinstance(in_frames, Tensor)
            return self._traced(features, mask, in_frames, (frames, rows, columns))
        found = [features.new_zeros(0, self.query.out_features, dtype=torch.float32)]
        for b, boxes in enumerate(in_frames):
            if not len(boxes):
                continue
            tokens, real = features[b, None], None if mask is None else mask[b, None]
            grid = tokens.unflatten(2, (rows, columns))  # (1, T, R, C, D)
            bins = roi_pool(grid, boxes[None], self.config.bins, mask=real)[0].flatten(1, 2)  # (Q, S*S, D)
            pooled = bins.amax(1) if self.config.pool == "max" else bins.mean(1)  # (Q, D)
            query = self.query(self.pooling.scale(pooled))  # (Q, H)
            token_mask = None if real is None else real.repeat_interleave(patches, 1)  # (1, T*N)
            found.append(self.pooling(query, tokens.flatten(1, 2), (frames, rows, columns), token_mask).float())
        return self.classifier(self.dropout(self.norm(torch.cat(found))))  # (R, K)

    def _traced(self, features: Tensor, mask: Tensor | None, boxes: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """`forward` for graphs that fit every size: as many boxes in each sample, `(B, Q, T, 4)`, asked at once."""
        bins = roi_pool(features.unflatten(2, grid[1:]), boxes, self.config.bins, mask=mask).flatten(2, 3)
        pooled = bins.amax(2) if self.config.pool == "max" else bins.mean(2)  # (B, Q, D)
        query = self.query(self.pooling.scale(pooled))  # (B, Q, H)
        token_mask = None if mask is None else mask.repeat_interleave(features.shape[2], 1)  # (B, T*N)
        found = self.pooling(query, features.flatten(1, 2), grid, token_mask)  # (B, Q, H)
        return self.classifier(self.norm(found.float()))  # (B, Q, K)

    def loss(self, batch: Batch) -> Loss:
        """The mean loss of the boxes; in one-of-K training of those that are somebody's."""
        asked = self._asked(batch)
        return self._loss(self._logits(batch, asked), batch, asked)

    def answer(self, batch: Batch) -> list[Prediction]:
        """`BoxScores` of every sample."""
        asked = self._asked(batch)
        return self._answers(self._logits(batch, asked), batch, asked)

    def answer_with_loss(self, batch: Batch) -> tuple[list[Prediction], Loss]:
        asked = self._asked(batch)
        logits = self._logits(batch, asked)
        return self._answers(logits, batch, asked), self._loss(logits, batch, asked)

    def merge(self, answers: Sequence[Prediction], times: Sequence[Times | None]) -> Prediction:
        """Views of one moment are averaged; windows follow each other, and `segments` joins them by track."""
        return joined_scores(cast("Sequence[BoxScores]", answers))

    def _asked(self, batch: Batch) -> list[Asked]:
        """Whom each sample is asked about; without a moment, that is the middle of what was looked at.

        Raises:
            InputError: no boxes were given, they are none, or their place in what the encoder saw is not known.
        """
        moments = batch.inputs.get("time_s", [None] * len(batch))
        pictures = batch.inputs.get("picture", [None] * len(batch))
        rows = zip(batch.ids, batch.inputs["boxes"], batch.times, moments, pictures, strict=True)
        return [self._asked_of(*row, num_frames=batch.features.shape[1]) for row in rows]

    def _asked_of(
        self, name: str, given: Any, times: Times | None, moment: Any, picture: Any, num_frames: int
    ) -> Asked:
        tracks = list(given_tracks(given, name))
        span = (0.0, 0.0)
        if times is not None:
            span = (float(times.span[0]), float(times.span[1]))
            tracks = [track for track in tracks if moment is not None or track.is_seen(*span)]
        elif any(len(track.corners) > 1 for track in tracks):
            raise InputError(f"{name}: tracks need features whose times are known; give each one box")
        moment_s = sum(span) / 2 if moment is None else float(moment)
        corners = _at_moment(tracks, moment_s)
        if self.config.follow and times is not None and tracks:
            in_frames = np.stack([track.at(times.frames.tolist()) for track in tracks])  # (Q, T, 4)
        else:
            in_frames = corners[:, None].repeat(num_frames, axis=1)
        seen = torch.as_tensor(self._seen(in_frames, picture, name), dtype=torch.float32, device=self.device)
        return Asked(tracks, moment_s, span, corners, seen)

    def _seen(self, corners: NDArray[np.float64], picture: Any, name: str) -> NDArray[np.float64]:
        """Corners of the picture as corners of the square that the encoder saw."""
        spec = self.context.features
        if spec is None or spec.preprocessing.geometry == "resize":
            return corners
        if picture is None:
            raise InputError(
                f"{name}: the encoder saw a part of the picture: give its size too, as in 'picture': (640, 360)"
            )
        return spec.preprocessing.map_boxes(corners, *map(int, picture))

    def _logits(self, batch: Batch, asked: Sequence[Asked]) -> Tensor:
        in_frames = [one.in_frames for one in asked]
        if self.training and self.config.jitter:
            in_frames = [jittered(boxes, self.config.jitter) for boxes in in_frames]
        return self(batch.features, batch.mask, in_frames)

    def _whose(self, corners: NDArray[np.float64], target: Sequence[Box]) -> Tensor:
        """The labels `(Q, K)`, zeros and ones, of given boxes: those of the individual that each overlaps the most."""
        labels = torch.zeros(len(corners), len(self.label_names))
        if not len(target) or not len(corners):
            return labels
        people: dict[tuple[str, Corners], list[int]] = {}
        for box in target:
            people.setdefault((box.track, box.corners), []).append(self.label_names.index(box.label))
        shared = overlaps(corners, np.array([box for _, box in people]))  # (Q, G)
        several = list(people.values())
        for row, best in enumerate(shared.argmax(1)):
            if shared[row, best] >= self.config.match_iou:
                labels[row, several[best]] = 1
        return labels

    def _loss(self, logits: Tensor, batch: Batch, asked: Sequence[Asked]) -> Loss:
        whose = [self._whose(one.corners, target) for one, target in zip(asked, batch.targets, strict=True)]
        labels = torch.cat(whose).to(logits.device)  # (R, K)
        if not self.config.multi_label:  # a box of nobody says nothing of which of the classes it is
            known = labels.any(1)
            logits, labels = logits[known], labels[known].argmax(1)
        if not len(labels):
            return Loss(0.0 * logits.sum() + 0.0 * self.classifier.bias.sum(), 0.0)
        return Loss(self.criterion(logits, labels).mean(), len(labels))

    def _answers(self, logits: Tensor, batch: Batch, asked: Sequence[Asked]) -> list[Prediction]:
        logits = logits.detach().float()
        scores = (logits.sigmoid() if self.config.multi_label else logits.softmax(-1)).cpu()
        answers: list[Prediction] = []
        for name, one, rows in zip(batch.ids, asked, scores.split([len(one.tracks) for one in asked]), strict=True):
            count = len(one.tracks)
            corners = tuple((box[0], box[1], box[2], box[3]) for box in one.corners.tolist())
            tracks = tuple(track.id for track in one.tracks)
            about = (rows, self.label_names, self.config.multi_label)
            answers.append(BoxScores(name, (one.moment_s,) * count, (one.span_s,) * count, corners, tracks, *about))
        return answers


def _at_moment(tracks: Sequence[Track], moment_s: float) -> NDArray[np.float64]:
    """Where tracks are at one moment, `(Q, 4)`."""
    return np.stack([track.at([moment_s])[0] for track in tracks]) if tracks else np.zeros((0, 4))


def jittered(boxes: Tensor, jitter: float) -> Tensor:
    """Boxes `(Q, T, 4)` moved and resized at random, a track alike in all its frames, and cut at the picture's edge.

    The middle moves by up to `jitter` of width and height, which change by up to a factor of `1 + jitter`.
    """
    draws = 2 * torch.rand(4, len(boxes), 1, device=boxes.device) - 1  # (4, Q, 1)
    left, top, right, bottom = boxes.unbind(-1)  # (Q, T)
    width, height = right - left, bottom - top
    x, y = (left + right) / 2 + jitter * draws[0] * width, (top + bottom) / 2 + jitter * draws[1] * height
    width, height = width * (1 + jitter) ** draws[2], height * (1 + jitter) ** draws[3]
    moved = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    return torch.stack(moved, -1).clamp(0, 1)
