"""Dense windows, 16 frames at stride 1 over 64 frames: the spatial half once per frame against encoding each window.

    python -m benchmarks.speed.dense_windows --json dense_windows.json

All 49 windows are computed and compared, both ways. The layers are those of Base; frames are 144 px (64 patches) by
default, because at 288 px one round takes four minutes. That does not flatter the result: with fewer patches the
attention inside a frame, which sharing saves, weighs less. `--image-size 288` runs the full size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.speed.timing import Report, arguments, take_turns
from core_encoder.models.model_configs import PRESETS
from core_encoder.models.vivit import ViViT, initialize


def each_window(model: ViViT, video: Tensor, length: int) -> Iterator[Tensor]:
    for first in range(video.shape[1] - length + 1):
        yield model(video[:, first : first + length])[0]


def shared_windows(model: ViViT, video: Tensor, length: int) -> Iterator[Tensor]:
    spatial = torch.cat([model.encode_spatial(part) for part in video.split(length, dim=1)], dim=1)
    for first in range(video.shape[1] - length + 1):
        yield model.encode_temporal(spatial[:, first : first + length])


def exhaust(windows: Iterator[Tensor]) -> None:
    for _ in windows:
        pass


def main() -> None:
    parser = arguments("16-frame windows at stride 1: shared spatial half against encoding each window.", rounds=2)
    parser.add_argument("--image-size", type=int, default=144, help="side of a frame in pixels")
    parser.add_argument("--frames", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    generator = torch.Generator().manual_seed(0)
    config = replace(PRESETS["base"], image_size=options.image_size)
    model = ViViT(config)
    initialize(model, generator)
    video = torch.rand(1, options.frames, 3, options.image_size, options.image_size, generator=generator)
    length, count = config.num_frames, options.frames - config.num_frames + 1

    differences: list[float] = []

    def compare() -> None:
        for one, other in zip(each_window(model, video, length), shared_windows(model, video, length), strict=True):
            differences.append((one - other).abs().max().item())

    compare()  # also warms up
    timings = take_turns(
        {
            "each window": lambda: exhaust(each_window(model, video, length)),
            "shared spatial half": lambda: exhaust(shared_windows(model, video, length)),
        },
        options.rounds,
        warm_up=False,
    )
    layer_frames = count * length * config.num_layers
    shared = options.frames * config.spatial_layers + count * length * config.temporal_layers
    report = Report(
        "dense_windows",
        timings,
        {"layers": "base", "image_size": options.image_size, "frames": options.frames, "windows": count},
    )
    report.at_least("times faster", timings.ratio("each window", "shared spatial half"), 2.8)
    report.note("arithmetic: layer-frames saved", layer_frames / shared)
    report.at_most("largest difference of the tokens", max(differences), 1e-4)
    report.publish(options.json)


if __name__ == "__main__":
    main()
