"""A row for every kind of adapter, ours and the toys: small options, and examples that it can learn in a moment.

A new kind is one more row of `ROWS`, and the contract of `test_every_kind.py` holds it too.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from adapters.adapter import Adapter
from adapters.card import AdapterInfo
from adapters.context import Context, TargetSchema
from adapters.features import Example
from adapters.kinds.temporal_localizer import TemporalLocalizer
from adapters.predicting import answer_batch
from adapters.predictions import Prediction
from adapters.registry import adapter_kind
from core_encoder.clip_plan import ClipPlan
from core_encoder.encoder import Encoder
from core_encoder.extraction import spec_for
from tests.adapters import toy, toy_kinds
from tests.adapters.kinds import test_lit_text, test_llm_decoder, test_spatiotemporal_localizer, test_temporal_localizer
from tests.language_models import tiny_llm


@dataclass(frozen=True)
class Row:
    """A kind, the options of its head, what it is built for, and `count` examples of a seed.

    `given` is what a video of any encoder can be asked with; kinds that need nothing beside the video have none.
    """

    name: str
    kind: Callable[[], type[Adapter]]
    context: Context
    examples: Callable[[int, int], list[Example]]
    head: Mapping[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)

    def build(self, seed: int = 1, context: Context | None = None) -> Adapter:
        """A fresh head, calibrated on examples and in evaluation mode."""
        adapter = self.kind().build(self.head, context or self.context, seed=seed)
        if context is None:
            adapter.calibrate(self.examples(12, 0))
        return adapter.eval()

    def on(self, encoder: Encoder, seed: int = 1, **training: Any) -> Adapter:
        """An untrained head that reads features of `encoder`, with a record as training leaves it."""
        cls = self.kind()
        dense = ClipPlan(encoder.num_frames, "dense", fps=8, window_stride=encoder.num_frames // 2)
        plan = dense if cls.reads_whole_clips else ClipPlan(encoder.num_frames)
        spec = spec_for(encoder, plan, kind=cls.feature_kind)
        dim = encoder.embedding_dim if cls.feature_kind == "embedding" else encoder.dim
        assert dim is not None
        context = replace(self.context, dim=dim, grid=None, features=spec, encoder_source="nano")
        adapter = self.build(seed, context)
        if isinstance(adapter, TemporalLocalizer):
            adapter.stride_s.fill_(encoder.num_frames // 2 / 8)  # the step of that plan, as calibration measures it
        info = AdapterInfo(features=spec, encoder_source="nano", targets=context.targets, training=training)
        return adapter.described_as(info)


def ask(adapter: Adapter, examples: Sequence[Example]) -> list[Prediction]:
    """The answers for a batch of examples."""
    return answer_batch(adapter, adapter.collate(examples))


def listed(source: Any, count: int) -> list[Example]:
    """The examples of a data set."""
    return [source[place] for place in range(count)]


def _classes(kind: str) -> Row:
    cls = lambda: adapter_kind(kind)  # noqa: E731
    context = Context(toy.DIM, TargetSchema("classes", toy.LABELS))
    head = {"hidden": 16, "heads": 4, "dropout": 0.0} if kind == "map_classifier" else {}

    def examples(count: int, seed: int) -> list[Example]:
        ids = [f"{seed}-{place}" for place in range(count)]
        return listed(toy.toy_features(count, seed, kind=cls().feature_kind, ids=ids), count)

    return Row(kind, cls, context, examples, head)


def _toy(kind: type[Adapter]) -> Row:
    return Row(
        kind.kind, lambda: kind, toy_kinds.context_of(kind), lambda count, seed: toy_kinds.data_of(kind, count, seed)
    )


class _WithTinyLlm(Mapping[str, Any]):
    """Options of `llm_decoder`, whose language model is written when it is first asked for."""

    def __init__(self, **options: Any) -> None:
        self._options = options

    @cached_property
    def _whole(self) -> dict[str, Any]:
        folder = Path(tempfile.mkdtemp(prefix="tiny-llm-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return {"llm": str(tiny_llm(folder / "llm", chat=True))} | self._options

    def __getitem__(self, name: str) -> Any:
        return self._whole[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole)

    def __len__(self) -> int:
        return len(self._whole)


ROWS: tuple[Row, ...] = (
    _classes("linear"),
    _classes("map_classifier"),
    Row(
        "lit_text",
        lambda: adapter_kind("lit_text"),
        Context(test_lit_text.DIM, TargetSchema("pairs")),
        lambda count, seed: listed(test_lit_text.pairs_of(count, seed), count),
        {"text_tower": "nano", "hidden": 24},
    ),
    Row(
        "llm_decoder",
        lambda: adapter_kind("llm_decoder"),
        Context(test_llm_decoder.DIM, TargetSchema("text")),
        lambda count, seed: listed(test_llm_decoder.texts_of(count, seed), count),
        _WithTinyLlm(bridge="resampler", heads=2, max_new_tokens=4),
    ),
    Row(
        "temporal_localizer",
        lambda: adapter_kind("temporal_localizer"),
        Context(test_temporal_localizer.DIM, test_temporal_localizer.SCHEMA),
        lambda count, seed: [test_temporal_localizer.example(place, seed) for place in range(count)],
        test_temporal_localizer.SMALL,
    ),
    Row(
        "spatiotemporal_localizer",
        lambda: adapter_kind("spatiotemporal_localizer"),
        test_spatiotemporal_localizer.context(),
        lambda count, seed: [test_spatiotemporal_localizer.example(place, seed) for place in range(count)],
        test_spatiotemporal_localizer.HEAD,
        {"boxes": ((0.1, 0.2, 0.4, 0.6), (0.5, 0.5, 0.9, 0.9))},
    ),
    *map(_toy, toy_kinds.KINDS),
)
