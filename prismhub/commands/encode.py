"""`prismhub encode`: videos into the feature store; also how every other job gets its encoder and features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.encoding import Reading, encode_missing, state_size
from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.errors import InputError
from core_encoder.files.storage import prismhub_home
from prismhub.progress import SILENT, Show
from prismhub.settings import EncodeSettings, EncodingSettings

if TYPE_CHECKING:
    from core_encoder.encoder import Encoder
    from core_encoder.extraction import ExtractionReport
    from core_encoder.features.estimate import Estimate
    from core_encoder.features.feature_spec import FeatureKind, FeatureSpec


@dataclass(frozen=True)
class Encoded:
    """What `encode` did: a report, or after a dry run the estimate alone."""

    spec: FeatureSpec
    estimate: Estimate | None
    report: ExtractionReport | None


def encode(settings: EncodeSettings, show: Show = SILENT) -> Encoded:
    """Encode videos into the feature store.

    Raises:
        InputError: no video, an unknown encoder, or the features do not fit on the disk.
    """
    clips = find_clips(settings.videos)
    encoder = open_encoder(settings.encoder, settings.accelerator, settings.encoder_dtype)
    spec = feature_spec(encoder, settings, settings.kind, settings.layers)
    root = settings.store or default_store()
    if settings.dry_run:
        return Encoded(spec, state_size(encoder, clips, spec, root), None)
    reading = Reading(root, settings.clips_per_batch, settings.workers)
    report = encode_missing(encoder, clips, spec, reading, show, settings.failures)
    return Encoded(spec, None, report)


def find_clips(given: Sequence[str]) -> list[Clip]:
    """The clips of videos, folders of videos and manifests; a manifest needs no labels here.

    Raises:
        InputError: nothing was given, a path does not exist, or a folder holds no video.
    """
    from core_encoder.video.video_files import find_videos
    from tasks.readers.manifests import SUFFIXES, read_clips

    if not given:
        raise InputError("no video was given; name videos, folders of videos or manifests")
    clips: list[Clip] = []
    for word in given:
        path = Path(word).expanduser()
        if not path.exists():
            raise InputError(f"{word}: no such file or folder")
        if path.is_dir():
            clips += [Clip(str(video)) for video in find_videos(path)]
        elif path.suffix.lower() in SUFFIXES:
            clips += read_clips(path)
        else:
            clips.append(Clip(str(path)))
    return list(dict.fromkeys(clips))


def open_encoder(source: str, accelerator: str = "auto", dtype: str = "fp32") -> Encoder:
    """`load_encoder` on the device that Lightning's word `accelerator` means here.

    Raises:
        InputError: the accelerator is unknown or not in this machine, or the encoder cannot be loaded.
    """
    from core_encoder.encoder import load_encoder
    from core_encoder.features.feature_spec import TORCH_DTYPES

    return load_encoder(source, device=find_device(accelerator), dtype=TORCH_DTYPES[dtype])


def find_device(accelerator: str) -> str:
    """PyTorch's word for Lightning's word.

    Raises:
        InputError: the accelerator is unknown or not in this machine.
    """
    import torch

    present = {
        "cpu": True,
        "gpu": torch.cuda.is_available(),
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if accelerator == "auto":
        accelerator = next((name for name in ("gpu", "mps") if present[name]), "cpu")
    if not present.get(accelerator, False):
        raise InputError(f"accelerator {accelerator!r} is not in this machine; take auto, or cpu")
    return {"gpu": "cuda"}.get(accelerator, accelerator)


def feature_spec(encoder: Encoder, settings: EncodingSettings, kind: FeatureKind, layers: Sequence[int]) -> FeatureSpec:
    """The features that the settings ask of this encoder."""
    from core_encoder.extraction import spec_for

    plan = ClipPlan(
        num_frames=settings.num_frames or encoder.num_frames,
        sampling=settings.sampling,
        fps=settings.fps,
        stride=settings.stride,
        window_stride=settings.window_stride,
        views=settings.views,
    )
    preprocessing = encoder.preprocessing
    if settings.geometry is not None:
        preprocessing = replace(preprocessing, geometry=settings.geometry)
    return spec_for(
        encoder,
        plan,
        kind=kind,
        layers=layers,
        dtype=settings.feature_dtype,
        preprocessing=preprocessing,
        decoder=settings.decoder,
    )


def default_store() -> Path:
    """Where features are kept unless a command says otherwise."""
    return prismhub_home() / "features"
