"""The options of the heads that come with the hub, one class a kind: known, and checked, without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from core_encoder.config import option
from core_encoder.errors import InputError

LARGEST_SCALE = 100.0  # of the similarities of `lit_text`: CLIP's bound
Reweighting = Literal["none", "balanced", "eql"]


@dataclass(frozen=True)
class ClassifierConfig:
    """Options of every classification head."""

    multi_label: bool = option(False, "a video may have several labels: binary cross entropy, sigmoid", grid=False)
    dropout: float = option(0.5, "dropout before the linear classifier")
    label_smoothing: float = option(0.1, "share of the target spread over all classes")
    class_weights: Reweighting = option(
        "none",
        "long tails: 'balanced' weights classes by inverse frequency, 'eql' spares rare ones (equalization loss)",
    )

    def __post_init__(self) -> None:
        for name in ("dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class LinearConfig(ClassifierConfig):
    """Options of `linear`."""

    dropout: float = option(0.0, "dropout before the linear classifier")


@dataclass(frozen=True)
class MapClassifierConfig(ClassifierConfig):
    """Options of `map_classifier`."""

    heads: int | None = option(None, "attention heads; by default the divisor of the hidden width nearest to 12")
    hidden: int | None = option(None, "hidden width; by default the width of the features")
    mlp_ratio: float = option(4.0, "width of the MLP in units of the hidden width")
    positions: bool = option(True, "add learned embeddings of a token's place, one in time and one in space")
    layers: tuple[int, ...] = option(
        (), "encoder layers to attend to in turn (MLAP); by default its output", grid=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("heads", "hidden"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"{name} must be at least 1, not {value}")
        if not self.mlp_ratio > 0:
            raise InputError(f"mlp_ratio must be above 0, not {self.mlp_ratio}")
        if len(set(self.layers)) < len(self.layers):
            raise InputError(f"layers {list(self.layers)} name a layer twice")


@dataclass(frozen=True)
class LitTextConfig:
    """Options of `lit_text`."""

    text_tower: str | None = option(
        None, "encoder name, folder or Hub id of the text tower; by default that of the video encoder", grid=False
    )
    tune: Literal["tower", "lora", "projection"] = option(
        "tower", "what trains of the text side: all, LoRA of rank lora_rank, or only the projection into the space"
    )
    loss: Literal["softmax", "sigmoid"] = option("softmax", "symmetric cross entropy (CLIP), or every pair (SigLIP)")
    width: int | None = option(None, "width of the shared space; by default that of the text tower")
    scale: float = option(10.0, "where the learned scale of similarities begins; CLIP's is 14.29, the largest is 100")
    tower_rate: float = option(
        0.1, "learning rate of the text tower, which starts pretrained, as a share of the rest's"
    )
    lora_rank: int = option(16, "rank of LoRA's matrices")
    heads: int | None = option(None, "attention heads of the MAP head; by default the divisor of hidden nearest to 12")
    hidden: int | None = option(None, "hidden width of the MAP head; by default the width of the features")
    mlp_ratio: float = option(4.0, "width of its MLP in units of the hidden width")
    positions: bool = option(True, "add learned embeddings of a token's place, one in time and one in space")
    dropout: float = option(0.0, "dropout on the video side, before the projection")

    def __post_init__(self) -> None:
        for name in ("width", "lora_rank", "heads", "hidden"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"{name} must be at least 1, not {value}")
        for name in ("mlp_ratio", "tower_rate", "scale"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.scale > LARGEST_SCALE:
            raise InputError(f"scale must be at most {LARGEST_SCALE:g}, not {self.scale:g}")
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout must be at least 0 and below 1, not {self.dropout}")


@dataclass(frozen=True)
class LlmDecoderConfig:
    """Options of `llm_decoder`."""

    llm: str = option("smollm2", "language model: smollm2, a folder, or a Hub id", grid=False)
    bridge: Literal["resampler", "pool"] = option(
        "resampler", "one-layer Perceiver resampler, or pooled cells and an MLP"
    )
    queries: int | None = option(None, "vectors of the resampler (default: one for 16 tokens, from 8 to 256)")
    cells: int = option(2, "bridge=pool: each frame becomes so many cells in height and in width")
    heads: int | None = option(
        None, "attention heads (default: the divisor of the language model's width nearest to 12)"
    )
    mlp_ratio: float = option(4.0, "width of the resampler's MLP in units of the language model's")
    positions: bool = option(True, "resampler: add learned embeddings of a token's place; the paper does not")
    tune: Literal["bridge", "lora"] = option("bridge", "what trains: the bridge, or LoRA of rank lora_rank beside it")
    lora_rank: int = option(16, "rank of LoRA's matrices")
    llm_dtype: Literal["fp32", "bf16"] = option("fp32", "precision of the language model", grid=False)
    chat: bool = option(True, "use the tokenizer's chat template where it has one", grid=False)
    caption_prompt: str = option("Describe the video.", "what asks for a caption in a chat", grid=False)
    shots: int = option(
        0, "so many training questions with their answers, as text, before each question (2: as published)"
    )
    vocabulary: int | None = option(None, "answer by choosing among so many most frequent training answers")
    max_new_tokens: int = option(32, "the most tokens of a caption or answer")
    beams: int = option(1, "beams of the search for a caption or answer; 1 is greedy")
    blind: bool = option(False, "see no video: what words alone are worth", grid=False)

    def __post_init__(self) -> None:
        for name in ("queries", "cells", "heads", "lora_rank", "max_new_tokens", "beams"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"{name} must be at least 1, not {value}")
        if not self.mlp_ratio > 0:
            raise InputError(f"mlp_ratio must be above 0, not {self.mlp_ratio}")
        if self.shots < 0:
            raise InputError(f"shots must not be negative, not {self.shots}")
        if self.vocabulary is not None and self.vocabulary < 2:
            raise InputError(f"vocabulary must be at least 2 answers, not {self.vocabulary}")


@dataclass(frozen=True)
class TemporalLocalizerConfig:
    """Options of `temporal_localizer`."""

    boundary: Literal["direct", "tridet"] = option(
        "direct", "how starts and ends are found: ActionFormer's or TriDet's way"
    )
    class_agnostic: bool = option(False, "say when something happens, not what: proposals", grid=False)
    reads: Literal["clip", "embedding", "frames"] = option(
        "clip", "a vector a window: its mean, or the encoder's own embedding; or one a frame", grid=False
    )
    hidden: int = option(128, "width of the pyramid")
    heads: int = option(4, "attention heads")
    levels: int = option(6, "levels of the pyramid, each half as long as the one below")
    reach: int = option(8, "a place attends to so many places on either side")
    bins: int = option(16, "with boundary=tridet: the farthest place at which a boundary is looked for")
    radius: float = option(1.5, "places so many steps from the middle of a segment learn it")
    dropout: float = option(0.1, "dropout in the pyramid")
    iou_weight: float = option(1.0, "weight of the IoU loss beside the focal loss")
    nms_sigma: float = option(0.5, "soft-NMS: the larger, the more overlapping segments are kept")
    min_score: float = option(0.001, "segments below it are left out")
    threshold: float = option(0.3, "segments of at least this score are the answer; --all-scores shows the rest")
    max_segments: int = option(100, "segments kept of a video")

    def __post_init__(self) -> None:
        for name in ("hidden", "heads", "levels", "reach", "bins", "max_segments"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("radius", "iou_weight", "nms_sigma"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("dropout", "min_score", "threshold"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 0 and below 1, not {getattr(self, name)}")
        if self.hidden % self.heads:
            raise InputError(f"hidden={self.hidden} is no multiple of heads={self.heads}")


@dataclass(frozen=True)
class SpatiotemporalLocalizerConfig(ClassifierConfig):
    """Options of `spatiotemporal_localizer`."""

    label_smoothing: float = option(0.0, "share of the target spread over all classes")
    heads: int | None = option(None, "attention heads; by default the divisor of the hidden width nearest to 12")
    hidden: int | None = option(None, "hidden width; by default the width of the features")
    mlp_ratio: float = option(4.0, "width of the MLP in units of the hidden width")
    positions: bool = option(True, "add learned embeddings of a token's place, one in time and one in space")
    bins: int = option(7, "a box is pooled in so many bins a side")
    pool: Literal["max", "mean"] = option("max", "what of its bins a box is: the largest of each channel, or the mean")
    follow: bool = option(True, "pool a track where it is in each frame, not only where it is at its moment")
    jitter: float = option(0.1, "in training boxes are moved and resized at random by up to this share of their size")
    match_iou: float = option(0.5, "a given box is whom it overlaps the most, by at least this IoU; else nobody")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("heads", "hidden", "bins"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"{name} must be at least 1, not {value}")
        if not self.mlp_ratio > 0:
            raise InputError(f"mlp_ratio must be above 0, not {self.mlp_ratio}")
        if not 0 <= self.jitter < 1:
            raise InputError(f"jitter must be at least 0 and below 1, not {self.jitter}")
        if not 0 < self.match_iou <= 1:
            raise InputError(f"match_iou must be above 0 and up to 1, not {self.match_iou}")
