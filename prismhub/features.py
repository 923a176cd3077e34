"""The encoder and the features that settings ask for: device, precision, clip plan, where they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.cluster.cluster_settings import ClusterSettings
from core_encoder.files.storage import prismhub_home
from core_encoder.models.known_encoders import encoder_path
from fit.device import find_device
from prismhub.progress import Show
from prismhub.settings import EncodingSettings, ReadingSettings

if TYPE_CHECKING:
    from benchmarks.encoding import Reading
    from core_encoder.array_videos import ArrayVideo
    from core_encoder.encoder import Encoder
    from core_encoder.features.array_source import ArraySource
    from core_encoder.features.feature_source import FeatureSource
    from core_encoder.features.feature_spec import FeatureKind, FeatureSpec


def open_encoder(source: str, accelerator: str = "auto", dtype: str = "fp32") -> Encoder:
    """`load_encoder` on the device that Lightning's word `accelerator` means here.

    Raises:
        InputError: the accelerator is unknown or not in this machine, or the encoder cannot be loaded.
    """
    encoder_path(source)
    device = find_device(accelerator)
    from core_encoder.encoder import load_encoder
    from core_encoder.features.dtypes import TORCH_DTYPES

    return load_encoder(source, device=device, dtype=TORCH_DTYPES[dtype])


def clip_plan(settings: EncodingSettings, num_frames: int) -> ClipPlan:
    """Which frames the settings ask for, with an encoder of so many."""
    return ClipPlan(
        num_frames=settings.num_frames or num_frames,
        sampling=settings.sampling,
        fps=settings.fps,
        stride=settings.stride,
        window_stride=settings.window_stride,
        views=settings.views,
    )


WINDOW_FPS = 8.0  # of windows that are chosen for adapters that look at whole videos
WINDOW_HOP = 4  # frames between two of them: a vector every half second


def in_windows(settings: EncodingSettings, kind: FeatureKind, num_frames: int) -> EncodingSettings:
    """The settings of an adapter that looks at whole videos, where they do not say how: dense windows.

    Windows of which one vector is kept overlap; of those whose frames are kept one follows another.
    """
    fps = settings.fps if settings.fps or settings.stride else WINDOW_FPS
    hop = min(WINDOW_HOP, settings.num_frames or num_frames) if kind in ("clip", "embedding") else None
    return replace(settings, sampling="dense", fps=fps, window_stride=settings.window_stride or hop)


def describe_windows(plan: ClipPlan) -> str:
    """A plan of dense windows in a few words."""
    if plan.fps is None:
        return f"windows of {plan.num_frames} frames, every {plan.stride} of the video, one each {plan.window_stride}"
    seconds = f"{plan.num_frames / plan.fps:g} s, one every {(plan.window_stride or plan.num_frames) / plan.fps:g} s"
    return f"windows of {seconds} (--fps and --window-stride choose others)"


def check_encoding(settings: EncodingSettings) -> None:
    """Refuse what can be known to be wrong without loading the encoder.

    Raises:
        InputError: there is no such encoder, or the options of the clip plan contradict each other.
    """
    encoder_path(settings.encoder)
    clip_plan(settings, settings.window_stride or 1)


def feature_spec(encoder: Encoder, settings: EncodingSettings, kind: FeatureKind, layers: Sequence[int]) -> FeatureSpec:
    """The features that the settings ask of this encoder."""
    from core_encoder.extraction import spec_for

    plan = clip_plan(settings, encoder.num_frames)
    preprocessing = encoder.preprocessing
    if settings.geometry is not None:
        preprocessing = preprocessing.with_geometry(settings.geometry)
    return spec_for(
        encoder,
        plan,
        kind=kind,
        layers=layers,
        dtype=settings.feature_dtype,
        preprocessing=preprocessing,
        decoder=settings.decoder,
    )


def vector_kind(encoder: Encoder, show: Show, layers: Sequence[int] = ()) -> FeatureKind:
    """What one vector of a view is where nobody says: the embedding where the encoder makes one, else `clip`."""
    if encoder.embedding_dim is None:
        show.note(f"encoder {encoder.name!r} makes no embeddings: taking clip, the mean of its tokens")
    return "clip" if encoder.embedding_dim is None or layers else "embedding"


def feature_source(
    encoder: Encoder, spec: FeatureSpec, settings: ReadingSettings, videos: Sequence[Clip] | Sequence[ArrayVideo]
) -> FeatureSource | ArraySource:
    """Where features of `videos` come from: looked up or computed for clips, computed for arrays.

    Raises:
        InputError: the plan counts seconds, and the videos are arrays.
    """
    from core_encoder.array_videos import ArrayVideo
    from core_encoder.features.array_source import ArraySource

    if any(isinstance(video, ArrayVideo) for video in videos):
        return ArraySource(encoder, spec, batch_size=settings.clips_per_batch)
    return clip_source(encoder, spec, settings)


def clip_source(encoder: Encoder, spec: FeatureSpec, settings: ReadingSettings) -> FeatureSource:
    """Where features of clips come from: the store, or else the encoder."""
    from core_encoder.features.feature_source import FeatureSource

    root, size = settings.store or default_store(), settings.clips_per_batch
    return FeatureSource(encoder, spec, root, batch_size=size, num_workers=settings.workers)


def reading_of(settings: ReadingSettings, cluster: ClusterSettings | None = None) -> Reading:
    """How and where features are read and computed here, or on a cluster."""
    from benchmarks.encoding import Reading

    where = settings.store or default_store()
    return Reading(where, settings.clips_per_batch, settings.workers, cluster or ClusterSettings())


def default_store() -> Path:
    """Where features are kept unless a command says otherwise."""
    return prismhub_home() / "features"
