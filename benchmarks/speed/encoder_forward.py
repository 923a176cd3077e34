"""Base encoder forward: ours, the one of `transformers` on the same weights, and the bare matrix products.

    python -m benchmarks.speed.encoder_forward --json encoder_forward.json

About two minutes on two quiet cores. The matrix products are the floor: the same multiply-adds of the encoder with its
own weights, as plain `torch.mm` and `torch.bmm` into buffers that exist already, and nothing else.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import VideoPrismVisionConfig, VideoPrismVisionModel
from transformers.utils import logging as transformers_logging

from benchmarks.speed.timing import Report, arguments, take_turns
from core_encoder.encoder import Encoder, load_encoder
from core_encoder.models.model_configs import ViViTConfig


def same_encoder_twice(config: VideoPrismVisionConfig, seed: int = 0) -> tuple[Any, Encoder]:
    """A random model of `transformers`, and ours loaded from the folder it writes."""
    transformers_logging.disable_progress_bar()
    torch.manual_seed(seed)
    theirs = VideoPrismVisionModel(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return theirs, load_encoder(folder, local_files_only=True)


def matrix_products(
    config: ViViTConfig, clips: int = 1, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Callable[[], None], float]:
    """A function that does the encoder's matrix products alone, and how many billions of multiply-adds they are."""
    frames, patches, width, heads = config.num_frames, config.grid**2, config.width, config.heads
    rows = clips * frames * patches
    linears = [(width, 3 * width), (width, width), (width, config.mlp_dim), (config.mlp_dim, width)]

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=dtype)

    inputs = {size: random(rows, size) for size in (width, config.mlp_dim)}
    weights = [[random(n, m) for n, m in linears] for _ in range(config.num_layers)]
    outputs = {m: random(rows, m) for _, m in linears}
    pixels = 3 * config.patch_size**2
    image, projection = random(rows, pixels), random(pixels, width)

    def attention(batch: int, length: int) -> tuple[Tensor, ...]:
        q = random(batch * heads, length, width // heads)
        return q, q.transpose(1, 2), random(batch * heads, length, length), torch.empty_like(q)

    spatial, temporal = attention(clips * frames, patches), attention(clips * patches, frames)

    def run() -> None:
        torch.mm(image, projection, out=outputs[width])
        for number, layer in enumerate(weights):
            for weight in layer:
                torch.mm(inputs[weight.shape[0]], weight, out=outputs[weight.shape[1]])
            q, k, logits, out = spatial if number < config.spatial_layers else temporal
            torch.bmm(q, k, out=logits)
            torch.bmm(logits, q, out=out)

    per_token = sum(n * m for n, m in linears) * config.num_layers + pixels * width
    per_token += 2 * width * (config.spatial_layers * patches + config.temporal_layers * frames)
    return run, rows * per_token / 1e9


def main() -> None:
    parser = arguments("Base encoder forward against transformers and against bare matrix products.", rounds=5)
    parser.add_argument("--image-size", type=int, default=288, help="side of a frame in pixels")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    config = VideoPrismVisionConfig(image_size=options.image_size)
    theirs, ours = same_encoder_twice(config)
    video = torch.rand(1, config.num_frames, 3, options.image_size, options.image_size)
    products, multiply_adds = matrix_products(ours.model.vision.config)

    difference = (ours(video).tokens.flatten(1, 2) - theirs(video).last_hidden_state).abs().max().item()
    candidates = {"prismhub": lambda: ours(video), "transformers": lambda: theirs(video), "matrix products": products}
    timings = take_turns(candidates, options.rounds)
    report = Report(
        "encoder_forward",
        timings,
        {"model": "base", "frames": config.num_frames, "image_size": options.image_size, "dtype": "fp32"},
    )
    report.at_least("times faster than transformers", timings.ratio("transformers", "prismhub"), 1.35)
    report.at_most("time over the matrix products", timings.ratio("prismhub", "matrix products"), 1.35)
    report.at_most("largest difference of the tokens", difference, 1e-4)
    report.note("GFLOP/s of the matrix products", 2 * multiply_adds / timings.median_s("matrix products"))
    report.publish(options.json)


if __name__ == "__main__":
    main()
