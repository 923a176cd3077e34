"""Features by plain loops, for comparison, and the plans the tests of extraction take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.encoder import Encoder
from core_encoder.features.feature_spec import ClipKey, Record
from core_encoder.features.feature_store import FeatureStore
from core_encoder.preprocessing import to_video_tensor
from core_encoder.video.decoders import open_video, read_clip
from core_encoder.video.video_files import video_digest

DENSE = ClipPlan(8, "dense", stride=1, window_stride=2)
SHORT = ClipPlan(8, "stride", stride=4)  # 24 frames hold 6 of them: two are padding


def records_of(store: FeatureStore, clip: Clip) -> list[Record]:
    """What is stored of a clip, view by view."""
    return [store.read(key) for key in store.views(ClipKey.of(clip, video_digest(clip.path)))]


def plain_tokens(encoder: Encoder, clip: Clip, plan: ClipPlan, layers: Sequence[int] = ()) -> list[Tensor]:
    """Each view alone, through the public call: `(T, N, D)` or `(L, T, N, D)` a view."""
    rows = []
    with open_video(clip.path) as video:
        views = plan.views_of(video.facts, clip)
    for view in views:
        frames = torch.from_numpy(read_clip(clip, plan, encoder.preprocessing, view=view.index))
        mask = (torch.arange(plan.num_frames) < view.num_real)[None]
        features = encoder(to_video_tensor(frames)[None], mask, layers=layers)
        rows.append(torch.stack([features.hidden[i][0] for i in layers]) if layers else features.tokens[0])
    return rows
