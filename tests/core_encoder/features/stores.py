"""Small feature stores to test with."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from core_encoder.clip_plan import ClipPlan
from core_encoder.features.feature_spec import ClipKey, FeatureSpec, RecordInfo
from core_encoder.features.feature_store import FeatureStore
from core_encoder.preprocessing import Preprocessing

SPEC = FeatureSpec(
    encoder="nano",
    fingerprint="f" * 64,
    plan=ClipPlan(4),
    preprocessing=Preprocessing(32),
    decoder="pyav-18.1.0",
    dtype="fp32",
)


def clip_key(number: int) -> ClipKey:
    return ClipKey(f"{number:064x}", 0, -1)


def info(num_views: int = 1, num_real: int = 4) -> RecordInfo:
    return RecordInfo(num_views, num_real, 0.5, 1.25, (0.5, 0.75, 1.0, 1.125), "ein Vidéo.mp4")


def values(seed: int, shape: tuple[int, ...] = (4, 6, 8)) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def filled(root: Path, numbers: range, spec: FeatureSpec = SPEC, shard_bytes: int = 1 << 20) -> FeatureStore:
    store = FeatureStore(root, spec)
    with store.writer(shard_bytes=shard_bytes) as writer:
        for number in numbers:
            writer.add(clip_key(number).view(0), values(number), info())
    return store


def flip_byte(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
