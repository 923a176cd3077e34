"""A hub of many adapters on one Base-size encoding: eight classifiers against one, five kinds against the dearest.

    python -m benchmarks.speed.hub_adapters --json hub_adapters.json

One video of 32 frames in memory, two windows of 16 frames each, fresh weights: decoding and encoding happen once,
however many adapters answer. All heads read features of one clip plan, for heads of other plans cost a pass of their
own. `llm_decoder` writes captions of up to 32 tokens; what its language model takes to write them, from vectors that
are ready, is timed beside the hubs and taken off, round by round. The answers of a hub are compared with those of each
adapter alone. Some ten minutes on two quiet cores.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from adapters.adapter import Adapter
from adapters.card import AdapterInfo
from adapters.context import Context, TargetSchema
from adapters.hub import Hub
from adapters.kinds.lit_text import LitText
from adapters.kinds.llm_decoder import LlmDecoder
from adapters.kinds.map_classifier import MapClassifier
from adapters.kinds.spatiotemporal_localizer import SpatiotemporalLocalizer
from adapters.kinds.temporal_localizer import TemporalLocalizer
from benchmarks.speed.timing import Report, Timings, arguments, take_turns
from core_encoder.clip_plan import ClipPlan
from core_encoder.encoder import Encoder
from core_encoder.extraction import spec_for
from core_encoder.models.model_configs import PRESETS, VideoTextConfig
from core_encoder.preprocessing import Preprocessing
from pretrain.run.initial_weights import fresh_model

CLASSES = tuple(f"class {number}" for number in range(400))
WINDOWS = 2
GIVEN: dict[str, Any] = {"boxes": tuple((0.1 * place, 0.2, 0.1 * place + 0.2, 0.8) for place in range(8))}
SPOKEN = "language generation"


def base_encoder() -> Encoder:
    """VideoPrism Base with fresh weights."""
    vision = PRESETS["base"]
    return Encoder(
        fresh_model(VideoTextConfig(vision), 0, position_scale=1.0), "base", Preprocessing(vision.image_size)
    )


def built(kind: type[Adapter], encoder: Encoder, seed: int = 0, **head: Any) -> Adapter:
    """An untrained head that reads every frame of `encoder` in windows that follow each other."""
    plan = ClipPlan(encoder.num_frames, "dense", stride=1)
    spec = spec_for(encoder, plan, kind=kind.feature_kind)
    targets = TargetSchema(kind.target_kind, () if kind.target_kind in ("pairs", "text") else CLASSES)
    adapter = kind.build(head, Context(encoder.dim, targets, spec), seed=seed)
    return adapter.described_as(AdapterInfo(features=spec)).eval()


def one_of_each_kind(encoder: Encoder, llm: str) -> dict[str, Adapter]:
    """An adapter of each of the five kinds."""
    when = built(TemporalLocalizer, encoder)
    assert isinstance(when, TemporalLocalizer)
    when.stride_s.fill_(encoder.num_frames)  # an array counts its frames as seconds
    return {
        "map_classifier": built(MapClassifier, encoder),
        "lit_text": built(LitText, encoder, text_tower="nano", tune="projection"),
        "llm_decoder": built(LlmDecoder, encoder, llm=llm, max_new_tokens=32),
        "temporal_localizer": when,
        "spatiotemporal_localizer": built(SpatiotemporalLocalizer, encoder),
    }


def spoken(decoder: LlmDecoder) -> Callable[[], object]:
    """What the language model does for a video, from vectors that are ready: write, and say how likely that was."""
    spec, grid = decoder.context.features, decoder.context.known_grid
    assert spec is not None and grid is not None
    size = WINDOWS, spec.plan.num_frames, math.prod(grid), decoder.dim
    features = torch.randn(size, generator=torch.Generator().manual_seed(0))
    prompts = [decoder.prompts.prompt_ids("", ())] * WINDOWS
    config = decoder.config

    @torch.no_grad()
    def speak() -> object:
        ids = decoder.llm.generate(vectors, real, prompts, config.max_new_tokens, config.beams)
        return decoder.llm.nll(vectors, real, prompts, ids)

    with torch.no_grad():
        vectors, real = decoder(features)
    return speak


def ask(hub: Hub, video: Any) -> Any:
    """The answers of a hub, which is told of boxes where one of its adapters reads them."""
    reads = any("boxes" in (one.input_names or ()) for one in hub.adapters.values())
    return hub.predict(video, given=GIVEN if reads else None)


def largest_difference(hub: Hub, video: Any, alone: dict[str, Hub]) -> float:
    """How far numbers in the answers of a hub are from those of its adapters alone."""
    (found,) = ask(hub, video)
    pairs = (
        (found[name].describe(all_scores=True), ask(one, video)[0][name].describe(all_scores=True))
        for name, one in alone.items()
    )
    return max(abs(a - b) for ours, theirs in pairs for a, b in zip(_numbers(ours), _numbers(theirs), strict=True))


def _numbers(described: Any) -> list[float]:
    found: list[float] = []
    json.loads(json.dumps(described), parse_float=lambda text: found.append(float(text)))
    return found


def measure(encoder: Encoder, classifiers: int, llm: str, rounds: int) -> Report:
    """Hubs of several adapters against hubs of one, in turns."""
    heads = {f"head {seed}": built(MapClassifier, encoder, seed) for seed in range(classifiers)}
    kinds = one_of_each_kind(encoder, llm)
    size = (WINDOWS * encoder.num_frames, encoder.image_size, encoder.image_size, 3)
    video = torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    many, every = Hub(encoder, heads), Hub(encoder, kinds)
    alone = {name: Hub(encoder, {name: one}) for name, one in kinds.items()}
    apart = {name: Hub(encoder, {name: one}) for name, one in list(heads.items())[:2]}
    differences = largest_difference(many, video, apart), largest_difference(every, video, alone)

    hubs = {f"{len(heads)} classifiers": many, f"{len(kinds)} kinds": every, **alone}
    asks: dict[str, Callable[[], object]] = {name: partial(ask, hub, video) for name, hub in hubs.items()}
    decoder = kinds["llm_decoder"]
    assert isinstance(decoder, LlmDecoder)
    timings = take_turns(asks | {SPOKEN: spoken(decoder)}, rounds)
    silent = dict(timings.seconds)
    for name in (f"{len(kinds)} kinds", "llm_decoder"):
        silent[name] = tuple(a - b for a, b in zip(silent[name], timings.seconds[SPOKEN], strict=True))
    without = Timings(silent)
    dearest = max(alone, key=without.median_s)

    settings = {"adapters": len(heads), "kinds": len(kinds), "frames": size[0], "size": size[1], "llm": llm}
    report = Report("hub_adapters", timings, settings)
    ratio = timings.ratio(f"{len(heads)} classifiers", "map_classifier")
    report.at_most(f"time of {len(heads)} classifiers, in times that of one", ratio, 1.1)
    ratio = without.ratio(f"{len(kinds)} kinds", dearest)
    report.at_most(f"time of {len(kinds)} kinds but for {SPOKEN}, in times that of {dearest}", ratio, 1.25)
    report.at_most("largest difference of classifiers to each alone", differences[0], 1e-5)
    report.at_most("largest difference of kinds to each alone", differences[1], 1e-4)
    return report


def main() -> None:
    parser = arguments("Many adapters on one Base-size encoding.", rounds=5)
    parser.add_argument("--adapters", type=int, default=8, help="classifiers that answer together")
    parser.add_argument("--llm", default="smollm2", help="language model of llm_decoder, as `train --llm` takes it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    measure(base_encoder(), options.adapters, options.llm, options.rounds).publish(options.json)


if __name__ == "__main__":
    main()
