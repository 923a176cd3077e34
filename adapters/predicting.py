"""Asking adapters: the one loop that turns features into answers, for `predict`, evaluation and validation alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from adapters.features import Batch, Example, Times, example_of
from adapters.predictions import Prediction, Truth
from core_encoder.array_videos import ArrayVideo, is_float_array
from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.files.storage import nearest

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from core_encoder.encoder import Encoder
    from core_encoder.features.array_source import ArraySource
    from core_encoder.features.failures import Failure
    from core_encoder.features.feature_source import FeatureSource
    from core_encoder.features.feature_spec import FeatureSpec, Record


@contextmanager
def evaluating(adapter: Adapter) -> Iterator[None]:
    """Evaluation mode without gradients while the block runs."""
    was_training = adapter.training
    if any(module.training for module in adapter.modules()):  # to set it everywhere takes as long as a small head
        adapter.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if was_training:
            adapter.train()


def answer_batch(adapter: Adapter, batch: Batch) -> list[Prediction]:
    """What the adapter says of every example of a batch.

    Raises:
        InputError: it answers fewer or more times than there are examples.
    """
    with evaluating(adapter):
        answers = list(adapter.answer(batch.to(adapter.device)))
    if len(answers) != len(batch):
        raise InputError(f"adapter {adapter.kind!r} gave {len(answers)} answers for {len(batch)} examples")
    return answers


def merge_views(adapter: Adapter, answers: Sequence[Prediction], times: Sequence[Times | None]) -> list[Prediction]:
    """One answer a sample from those of its views, in the order in which samples first come."""
    places: dict[str, list[int]] = {}
    for place, one in enumerate(answers):
        places.setdefault(one.sample_id, []).append(place)
    return [
        adapter.merge([answers[place] for place in several], [times[place] for place in several])
        for several in places.values()
    ]


def answer_records(adapter: Adapter, records: Sequence[Record], known: Truth, batch_size: int = 8) -> Prediction:
    """The answer for one clip from the records of its views."""
    if adapter.reads_whole_clips:
        examples = [example_of(records, known, whole_clip=True)]
    else:
        examples = [example_of([record], known) for record in records]
    answers: list[Prediction] = []
    for first in range(0, len(examples), batch_size):
        answers += answer_batch(adapter, adapter.collate(examples[first : first + batch_size]))
    return merge_views(adapter, answers, [example.times for example in examples])[0]


def answer_clips(
    adapter: Adapter, several: Sequence[tuple[Sequence[Record], Truth]], batch_size: int = 8
) -> list[Prediction]:
    """The answers for clips from the records of their views, given with what is known of each.

    Kinds that answer together are asked in batches over all of them.
    """
    if not adapter.answers_together:
        return [answer_records(adapter, records, known, batch_size) for records, known in several]
    examples = [example_of([record], known) for records, known in several for record in records]
    answers: list[Prediction] = []
    for first in range(0, len(examples), batch_size):
        answers += answer_batch(adapter, adapter.collate(examples[first : first + batch_size]))
    views = iter(zip(answers, examples, strict=True))
    merged = []
    for records, _ in several:
        own = list(itertools.islice(views, len(records)))
        merged.append(adapter.merge([answer for answer, _ in own], [example.times for _, example in own]))
    return merged


def predict_clips(
    adapter: Adapter,
    clips: Sequence[Clip] | Sequence[ArrayVideo],
    known: Sequence[Truth],
    source: FeatureSource | ArraySource,
    batch_size: int = 8,
) -> Iterator[Prediction | Failure]:
    """The answer for each clip, or why there is none; features are looked up, or computed in batches of clips.

    Clips go with a `FeatureSource`, videos in memory with an `ArraySource`.
    """
    from core_encoder.features.failures import Failure

    pairs = zip(known, records_of(source, clips, batch_size), strict=True)
    while some := list(itertools.islice(pairs, batch_size if adapter.answers_together else 1)):
        read = [(records, one) for one, records in some if not isinstance(records, Failure)]
        answers = iter(answer_clips(adapter, read, batch_size))
        for _, found in some:
            yield found if isinstance(found, Failure) else next(answers)


def records_of(
    source: FeatureSource | ArraySource, clips: Sequence[Clip] | Sequence[ArrayVideo], batch_size: int = 8
) -> Iterator[list[Record] | Failure]:
    """For each clip its records, one a view, or why there are none; asked for in batches of clips."""
    for first in range(0, len(clips), batch_size):
        yield from source.records(clips[first : first + batch_size])  # type: ignore[arg-type]


def truths_of(
    names: Sequence[str], ids: Sequence[str] | None, given: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
) -> list[Truth]:
    """What is known of samples that are asked about: `ids` or else `names`, and what is given beside each.

    Raises:
        InputError: there are not as many ids, or not as many givens.
    """
    ids = list(names if ids is None else ids)
    several = [given or {}] * len(names) if given is None or isinstance(given, Mapping) else list(given)
    if not len(ids) == len(several) == len(names):
        raise InputError(f"{len(names)} samples, {len(ids)} ids and {len(several)} givens must be equally many")
    return [Truth(name, None, inputs) for name, inputs in zip(ids, several, strict=True)]


def check_given(adapters: Iterable[Adapter], given: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> None:
    """Refuse what is given beside videos and no adapter reads.

    Raises:
        InputError: its name, and the nearest one that an adapter reads.
    """
    known: set[str] = set()
    for one in adapters:
        if one.input_names is None:
            return
        known.update(one.input_names)
    for names in [given] if isinstance(given, Mapping) else given or ():
        for name in names:
            if name not in known:
                raise InputError(f"given: no adapter reads {name!r}{nearest(str(name), known)}")


def check_needed(asked: Mapping[str, Adapter], given: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None) -> None:
    """Refuse, before anything is decoded, to ask adapters that are not given what they cannot answer without.

    Raises:
        InputError: the adapter's name and what it wants.
    """
    several = [given or {}] if given is None or isinstance(given, Mapping) else given
    for adapter, one in asked.items():
        for name in one.needed_inputs:
            if not all(name in inputs for inputs in several):
                how = f"predict(videos, given={{{name!r}: ...}})"
                raise InputError(f"adapter {adapter!r} wants {name!r} beside each video: give it, as in {how}")


def predict_features(
    adapter: Adapter, features: Tensor, mask: Tensor | None, known: Sequence[Truth], batch_size: int
) -> list[Prediction]:
    """The answer for each row of a batch of features."""
    masks = [None] * len(features) if mask is None else list(mask)
    examples = [
        Example(row, frames, None, one.id, one.inputs) for row, frames, one in zip(features, masks, known, strict=True)
    ]
    if examples:
        adapter.check_example(examples[0])
    answers: list[Prediction] = []
    for first in range(0, len(examples), batch_size):
        answers += answer_batch(adapter, adapter.collate(examples[first : first + batch_size]))
    return answers


def is_features(adapter: Adapter, given: Any, mask: Tensor | None) -> bool:
    """Whether an array given to an adapter is a batch of features; otherwise it is videos (see `array_videos`).

    Features are floats and have a mask where one is given. Floats of five axes are a video `(B, T, 3, H, W)`, except
    for an adapter that reads layers or whole clips, whose own features have five axes.

    Raises:
        InputError: a video would have this shape, and so would the adapter's features.
    """
    if mask is not None or not is_float_array(given) or given.ndim != 5:
        return mask is not None or is_float_array(given)
    if not (adapter.layers or adapter.reads_whole_clips):
        return False
    shape = tuple(given.shape)
    fits = shape[-1] == adapter.dim and (adapter.reads_whole_clips or shape[1] == len(adapter.layers))
    spec = adapter.info.features
    if shape[2] != 3 or (fits and spec is not None and spec.num_steps == 3):
        return True
    if fits:
        raise InputError(
            f"{shape} may be videos (B, T, 3, H, W) or features of adapter {adapter.kind!r}: give each video as uint8 "
            "(T, H, W, 3), or features with their mask"
        )
    return False


def predict_arrays(
    adapter: Adapter, videos: Sequence[ArrayVideo], known: Sequence[Truth], encoder: Encoder | None, batch_size: int
) -> list[Prediction]:
    """The answer for each video in memory.

    Raises:
        InputError: no encoder is known, or the adapter's clip plan counts seconds.
    """
    from core_encoder.features.array_source import ArraySource

    model, spec = _encoding_of(adapter, encoder)
    return _answers(predict_clips(adapter, videos, known, ArraySource(model, spec, batch_size=batch_size), batch_size))


def predict_videos(
    adapter: Adapter,
    clips: Sequence[Clip],
    known: Sequence[Truth],
    encoder: Encoder | None,
    cache: str | Path | None,
    decoder: str,
    batch_size: int,
) -> list[Prediction]:
    """The answer for each video.

    Raises:
        InputError: no encoder is known.
        UnreadableVideo: a video cannot be decoded.
    """
    from core_encoder.extraction import extract
    from core_encoder.features.feature_source import FeatureSource
    from core_encoder.files.storage import prismhub_home
    from core_encoder.video.decoders import decoder_id

    model, spec = _encoding_of(adapter, encoder)
    spec = replace(spec, decoder=decoder_id(decoder))
    if cache is not None:
        extract(model, clips, spec, cache, batch_size=batch_size)
    source = FeatureSource(model, spec, cache or prismhub_home() / "features", batch_size=batch_size)
    return _answers(predict_clips(adapter, clips, known, source, batch_size))


def _encoding_of(adapter: Adapter, encoder: Encoder | None) -> tuple[Encoder, FeatureSpec]:
    if adapter.info.features is None:
        raise InputError("this adapter does not record which encoder it was trained on: give it features instead")
    return adapter.find_encoder(encoder), adapter.info.features


def _answers(found: Iterator[Prediction | Failure]) -> list[Prediction]:
    """All of them; the first video without one is an error."""
    from core_encoder.features.failures import Failure

    answers = []
    for one in found:
        if isinstance(one, Failure):
            raise UnreadableVideo(one.path, one.reason)
        answers.append(one)
    return answers
