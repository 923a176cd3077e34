"""What of a judged split was in training too: the same bytes, and, on request, clips that look nearly the same."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.results import NearClip, NearClips

if TYPE_CHECKING:
    from torch import Tensor

    from core_encoder.features.feature_source import FeatureSource
    from tasks.sample import Sample

RECORDED = "videos"  # the key in `AdapterInfo.training`
_DIGEST_BYTES = 6  # of a video's sha256: a million videos against a million agree by chance once in 300 times
_NAMED = 5
_ROWS_AT_ONCE = 1024


def digests_of(samples: Sequence[Sample]) -> set[str]:
    """The digests of the videos of samples; known since they were encoded, nothing is read for it."""
    from core_encoder.video.video_files import video_digest

    return {video_digest(path) for path in {sample.clip.path for sample in samples}}


def repeated_videos(samples: Mapping[str, Sequence[Sample]], split: str) -> tuple[int, int]:
    """How many videos of a split are also in train, byte for byte, and how many it has."""
    train, judged = (digests_of(samples[name]) for name in ("train", split))
    return len(judged & train), len(judged)


def record_videos(samples: Sequence[Sample]) -> dict[str, str]:
    """What an adapter records of the videos it was trained on: the beginnings of their digests, as base64."""
    begins = sorted(bytes.fromhex(digest)[:_DIGEST_BYTES] for digest in digests_of(samples))
    return {RECORDED: base64.b64encode(b"".join(begins)).decode()}


def trained_on(samples: Sequence[Sample], record: Mapping[str, Any]) -> int | None:
    """How many videos of samples an adapter was trained on, by what it recorded; None where it recorded none."""
    try:
        whole = base64.b64decode(record[RECORDED], validate=True)
    except (KeyError, TypeError, ValueError):
        return None
    known = {whole[at : at + _DIGEST_BYTES] for at in range(0, len(whole), _DIGEST_BYTES)}
    return sum(bytes.fromhex(digest)[:_DIGEST_BYTES] in known for digest in digests_of(samples))


def near_clips(features: FeatureSource, samples: Mapping[str, Sequence[Sample]], split: str, least: float) -> NearClips:
    """Clips of a split whose features have a cosine of at least `least` with those of a clip in train.

    Compared are the means of stored features over patches, frames and views, less their mean over train: what all clips
    share tells nothing. Nothing is decoded. Clips of the same file are left out, which `repeated_videos` tells.
    """
    import torch
    from torch.nn.functional import normalize

    from core_encoder.features.feature_source import FeatureSource
    from core_encoder.video.video_files import video_digest

    coarse = features.spec if features.spec.kind == "embedding" else replace(features.spec, kind="clip")
    source = FeatureSource(None, coarse, features.store.root)
    train, judged = (list(samples[name]) for name in ("train", split))
    ours, theirs = _means(source, judged), _means(source, train)
    centre = theirs.mean(0)
    ours, theirs = normalize(ours - centre), normalize(theirs - centre)
    files = {path: video_digest(path) for path in {sample.clip.path for sample in (*train, *judged)}}
    num_pairs, near, found = 0, set(), []
    for first in range(0, len(judged), _ROWS_AT_ONCE):
        cosines = ours[first : first + _ROWS_AT_ONCE] @ theirs.T
        for row, column in torch.nonzero(cosines >= least).tolist():
            one, other = judged[first + row], train[column]
            if files[one.clip.path] != files[other.clip.path]:
                num_pairs += 1
                near.add(one.id)
                found.append(NearClip(one.id, other.id, round(float(cosines[row, column]), 4)))
        found = _nearest(found)
    return NearClips(least, len(near), num_pairs, found)


def _nearest(found: Iterable[NearClip]) -> list[NearClip]:
    return sorted(found, key=lambda pair: -pair.cosine)[:_NAMED]


def _means(source: FeatureSource, samples: Sequence[Sample]) -> Tensor:
    """A row a clip: the mean of its views, layers side by side."""
    import torch

    return torch.stack(
        [torch.stack([record.values.float().flatten() for record in source[one.clip]]).mean(0) for one in samples]
    )
