"""A hub of eight classification adapters on one Base-size encoding, against a hub of one.

    python -m benchmarks.speed.hub_adapters --json hub_adapters.json

One clip of 16 frames in memory, fresh weights: decoding and encoding happen once, however many adapters answer. The
answers of the eight are compared with those of each adapter alone. Some two minutes on two quiet cores.
"""

from __future__ import annotations

from typing import cast

import torch

from adapters.card import AdapterInfo
from adapters.context import Context, TargetSchema
from adapters.hub import Hub
from adapters.kinds.map_classifier import MapClassifier
from adapters.predictions import ClassScores
from benchmarks.speed.timing import Report, arguments, take_turns
from core_encoder.clip_plan import ClipPlan
from core_encoder.encoder import Encoder
from core_encoder.extraction import spec_for
from core_encoder.models.model_configs import PRESETS, VideoTextConfig
from core_encoder.preprocessing import Preprocessing
from pretrain.run.initial_weights import fresh_model

CLASSES = tuple(f"class {number}" for number in range(400))


def base_encoder() -> Encoder:
    """VideoPrism Base with fresh weights."""
    vision = PRESETS["base"]
    return Encoder(
        fresh_model(VideoTextConfig(vision), 0, position_scale=1.0), "base", Preprocessing(vision.image_size)
    )


def classifiers(encoder: Encoder, count: int) -> dict[str, MapClassifier]:
    """Untrained heads over 400 classes that read tokens of `encoder`."""
    spec = spec_for(encoder, ClipPlan(encoder.num_frames), kind="tokens")
    context = Context(encoder.dim, TargetSchema("classes", CLASSES), spec)
    info = AdapterInfo(features=spec)
    return {f"head {seed}": MapClassifier.build(None, context, seed=seed).described_as(info) for seed in range(count)}


def main() -> None:
    parser = arguments("Eight classification adapters on one Base-size encoding against one.", rounds=5)
    parser.add_argument("--adapters", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    encoder = base_encoder()
    heads = classifiers(encoder, options.adapters)
    size = (encoder.num_frames, encoder.image_size, encoder.image_size, 3)
    video = torch.randint(0, 256, size, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    name, first = next(iter(heads.items()))
    one, many = Hub(encoder, {name: first}), Hub(encoder, heads)

    (found,) = many.predict(video)
    alone = {
        name: cast("ClassScores", Hub(encoder, {name: head}).predict(video)[0][name]) for name, head in heads.items()
    }
    difference = max((found[name].scores - answer.scores).abs().max().item() for name, answer in alone.items())

    timings = take_turns({"one": lambda: one.predict(video), "many": lambda: many.predict(video)}, options.rounds)
    report = Report("hub_adapters", timings, {"adapters": len(heads), "frames": encoder.num_frames, "size": size[1]})
    report.at_most(f"time of {len(heads)} adapters, in times that of one", timings.ratio("many", "one"), 1.1)
    report.at_most("largest difference to the adapters alone", difference, 1e-6)
    report.publish(options.json)


if __name__ == "__main__":
    main()
