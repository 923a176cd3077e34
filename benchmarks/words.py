"""Answers by words alone: an encoder with a text tower, or an adapter of videos and texts, is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from adapters.prompt_templates import read_templates
from benchmarks.encoding import Watch
from core_encoder.errors import InputError
from tasks.families.zero_shot import ZeroShotTask

if TYPE_CHECKING:
    from adapters.predictions import Prediction
    from core_encoder.encoder import Encoder
    from core_encoder.features.failures import Failure
    from core_encoder.features.feature_source import FeatureSource
    from tasks.sample import Sample
    from tasks.task import Task


def answer_in_words(
    encoder: Encoder, adapter: Any, task: Task, samples: Sequence[Sample], source: FeatureSource, watch: Watch
) -> Iterator[Prediction]:
    """What is said of each sample: classes by their names in templates, choices and captions by their own texts.

    Args:
        adapter: one of kind `lit_text`, whose features `source` gives; None for the encoder's own embeddings.

    Raises:
        InputError: it embeds no texts, or a video that was encoded can no longer be read.
    """
    from core_encoder.features.failures import Failure

    with watch.bar("predicting") as bar:
        for done, found in enumerate(_asked(encoder, adapter, task, samples, source), start=1):
            if isinstance(found, Failure):
                raise InputError(f"{found.path}: {found.reason}")
            bar.update(done, len(samples))
            yield found


def _asked(
    encoder: Encoder, adapter: Any, task: Task, samples: Sequence[Sample], source: FeatureSource
) -> Iterator[Prediction | Failure]:
    from adapters.predicting import predict_clips
    from adapters.predictions import Truth
    from adapters.zero_shot import answer_by_words, class_vectors, name_by_adapter, name_videos, prompts

    embed_text = encoder.embed_text if adapter is None else getattr(adapter, "embed_text", None)
    if embed_text is None:
        raise InputError(f"adapter of kind {adapter.kind!r} embeds no texts: it has no embed_text")
    clips, ids = [sample.clip for sample in samples], [sample.id for sample in samples]
    if isinstance(task, ZeroShotTask):
        templates = read_templates(task.templates).templates
        texts = embed_text(prompts(task.label_names, templates))  # (K * P, E)
        vectors = class_vectors(texts.unflatten(0, (len(task.label_names), len(templates))))  # (K, E)
        about = (vectors, task.label_names, clips, ids, source)
        if adapter is None:
            yield from name_videos(*about, independent=task.ranks_clips)
        else:
            yield from name_by_adapter(adapter, *about, independent=task.ranks_clips)
        return
    known = [Truth(sample.id, None, task.inputs(sample)) for sample in samples]
    if adapter is None:
        yield from answer_by_words(embed_text, clips, known, source)
    else:
        yield from predict_clips(adapter, clips, known, source)
