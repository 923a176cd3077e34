"""A training step of stage 2, its arithmetic as the dry run counts it, against plain matrix products of this device.

    python -m benchmarks.speed.stage2_utilisation --device cuda --bf16 --json stage2_utilisation.json
    python -m benchmarks.speed.stage2_utilisation --recipe ablation --clips 64 --side 1024

The share is that of the rate of large square products, measured in the same run and in the same precision: what the
step would reach if it did nothing else. Teacher, decoders, loss and optimizer are in the step; frames are in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from benchmarks.speed.pretraining_steps import RECIPES, training_step
from benchmarks.speed.timing import Report, arguments, take_turns
from pretrain.recipe import Recipe
from pretrain.run.forward_cost import CostModel
from pretrain.run.scale import masked_cost

MUST_REACH = 0.4
_PRODUCTS = 20  # in a row, so that starting them costs nothing


def square_products(side: int, device: torch.device, dtype: torch.dtype) -> Callable[[], None]:
    """A function that computes `_PRODUCTS` products of two (side, side) matrices, until the device is done."""
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    out = torch.empty_like(one)

    def multiply() -> None:
        for _ in range(_PRODUCTS):
            torch.mm(one, other, out=out)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return multiply


def main() -> None:
    parser = arguments("A training step of stage 2 against plain matrix products.", rounds=9)
    parser.add_argument("--recipe", default="base", choices=["ablation", "base", "large", "giant"])
    parser.add_argument("--clips", type=int, default=32, help="clips of a step")
    parser.add_argument("--side", type=int, default=8192, help="side of the plain matrices")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--bf16", action="store_true", help="products in bf16 (bf16-mixed), else in fp32")
    parser.add_argument("--compile", action="store_true", help="torch.compile each layer")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: there is no GPU here")
    recipe = Recipe.load(RECIPES / f"{options.recipe}.yaml")
    stage2 = recipe.stage2
    assert stage2 is not None
    stage2 = replace(stage2, accumulate=1, batch_size=options.clips)
    cost, _ = masked_cost(CostModel(2 if options.bf16 else 4), recipe, stage2)
    step_flops = options.clips * (cost.forward + cost.backward)
    product_flops = _PRODUCTS * 2.0 * options.side**3
    candidates = {
        "plain products": square_products(options.side, device, torch.bfloat16 if options.bf16 else torch.float32),
        "step of stage 2": training_step(recipe, stage2, options.clips, options.device, options.bf16, options.compile),
    }
    timings = take_turns(candidates, options.rounds)
    settings = {
        "recipe": recipe.name,
        "clips": options.clips,
        "side": options.side,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "precision": "bf16" if options.bf16 else "fp32",
        "compiled": options.compile,
        "threads": options.threads,
    }
    report = Report("stage2_utilisation", timings, settings)
    share = timings.ratio("plain products", "step of stage 2") * step_flops / product_flops
    report.at_least("share of the rate of plain products", share, MUST_REACH)
    report.note("TFLOP/s of plain products", product_flops / timings.median_s("plain products") / 1e12)
    report.note("TFLOP/s of the step", step_flops / timings.median_s("step of stage 2") / 1e12)
    report.note("clips/s", options.clips / timings.median_s("step of stage 2"))
    report.publish(options.json)


if __name__ == "__main__":
    main()
