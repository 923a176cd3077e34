"""Naming classes without training: embeddings of videos against those of texts, in the space both share.

A class is a unit vector: the mean of the unit embeddings of its texts ("a video of running", "someone running"), of
unit length again. A video's scores are the softmax over its cosines with the classes, divided by a temperature; where
videos are ranked by one class at a time, the cosines themselves, since a softmax mixes in the other classes. The
functions take vectors, not an encoder: whatever puts videos and texts into one space can use them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn.functional import normalize

from adapters.predicting import predict_clips, records_of
from adapters.predictions import ClassScores, Embedding, Truth, mean_scores
from core_encoder.errors import InputError

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from core_encoder.array_videos import ArrayVideo
    from core_encoder.clip_plan import Clip
    from core_encoder.features.array_source import ArraySource
    from core_encoder.features.failures import Failure
    from core_encoder.features.feature_source import FeatureSource

TEMPERATURE = 0.01  # the least that CLIP's learned one may become (a scale of 100), and that of VideoPrism's own demo


def prompts(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """The texts of K classes in P templates, class by class: K * P of them; `{}` in a template is the label."""
    return [template.replace("{}", label) for label in labels for template in templates]


def class_vectors(texts: Tensor) -> Tensor:
    """Embeddings of the texts of every class `(K, P, E)` -> one unit vector a class `(K, E)`, float32 on the CPU."""
    return normalize(normalize(texts.detach().float().cpu(), dim=-1).mean(1), dim=-1)


def class_scores(
    videos: Tensor,
    vectors: Tensor,
    label_names: Sequence[str],
    ids: Sequence[str],
    temperature: float = TEMPERATURE,
    independent: bool = False,
) -> list[ClassScores]:
    """Embeddings of videos `(B, E)` against the vectors of the classes `(K, E)`.

    Scores sum to 1, or are `independent` of each other: cosines, moved from -1 ... 1 to 0 ... 1.

    Raises:
        InputError: the widths differ, or labels or ids are not as many.
    """
    if videos.shape[-1] != vectors.shape[-1]:
        raise InputError(f"videos have width {videos.shape[-1]} but texts {vectors.shape[-1]}: not of one space")
    if (len(ids), len(label_names)) != (len(videos), len(vectors)):
        raise InputError(
            f"{len(videos)} videos with {len(ids)} ids, {len(vectors)} classes with {len(label_names)} names"
        )
    cosines = normalize(videos.detach().float().cpu(), dim=-1) @ vectors.T  # (B, K)
    scores = (1 + cosines) / 2 if independent else (cosines / temperature).softmax(-1)
    return [ClassScores(one, row, tuple(label_names), independent) for one, row in zip(ids, scores, strict=True)]


def name_by_adapter(
    adapter: Adapter,
    vectors: Tensor,
    label_names: Sequence[str],
    clips: Sequence[Clip] | Sequence[ArrayVideo],
    ids: Sequence[str],
    source: FeatureSource | ArraySource,
    batch_size: int = 8,
    independent: bool = False,
) -> Iterator[ClassScores | Failure]:
    """The scores of each clip by an adapter that answers with `Embedding`s, at the scale that it learned.

    `source` gives the features that the adapter reads; the vectors of a clip's views are averaged.
    """
    with torch.no_grad():
        temperature = 1.0 / float(getattr(adapter, "similarity_scale", 1.0 / TEMPERATURE))
    for found in predict_clips(adapter, clips, [Truth(one) for one in ids], source, batch_size):
        if isinstance(found, Embedding):
            about = (label_names, [found.sample_id], temperature, independent)
            yield class_scores(found.values[None], vectors, *about)[0]
        else:
            yield cast("Failure", found)


def name_videos(
    vectors: Tensor,
    label_names: Sequence[str],
    clips: Sequence[Clip] | Sequence[ArrayVideo],
    ids: Sequence[str],
    source: FeatureSource | ArraySource,
    batch_size: int = 8,
    independent: bool = False,
) -> Iterator[ClassScores | Failure]:
    """The scores of each clip, or why there are none; those of a clip's views are averaged.

    `source` gives features of kind `embedding`: stored ones, or computed in batches of clips.
    """
    from core_encoder.features.failures import Failure

    for one, found in zip(ids, records_of(source, clips, batch_size), strict=True):
        if isinstance(found, Failure):
            yield found
        else:
            views = torch.stack([record.values for record in found])  # (V, E)
            yield mean_scores(class_scores(views, vectors, label_names, [one] * len(views), independent=independent))


def answer_by_words(
    embed_text: Callable[[Sequence[str]], Tensor],
    clips: Sequence[Clip] | Sequence[ArrayVideo],
    known: Sequence[Truth],
    source: FeatureSource | ArraySource,
    batch_size: int = 8,
) -> Iterator[ClassScores | Embedding | Failure]:
    """What an encoder that knows words says of each clip, or why nothing, in the answers of an adapter of texts.

    Of candidates given beside a clip the `ClassScores`; else the `Embedding`, with those of the captions that are
    given. `source` gives features of kind `embedding`; those of a clip's views are averaged, of candidates the scores.
    """
    from core_encoder.features.failures import Failure

    for one, found in zip(known, records_of(source, clips, batch_size), strict=True):
        if isinstance(found, Failure):
            yield found
            continue
        views = torch.stack([record.values.float().cpu() for record in found])  # (V, E)
        if candidates := one.inputs.get("candidates"):
            vectors = class_vectors(embed_text(list(candidates))[:, None])  # (C, E)
            yield mean_scores(class_scores(views, vectors, list(candidates), [one.id] * len(views)))
            continue
        video = normalize(normalize(views, dim=-1).mean(0), dim=-1)
        captions = one.inputs.get("captions")
        texts = None if captions is None else class_vectors(embed_text(list(captions))[:, None])
        yield Embedding(one.id, video, texts)
