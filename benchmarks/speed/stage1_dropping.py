"""A step of stage 1 (forward, backward, optimizer) with half of the tokens dropped, against one with all of them.

    python -m benchmarks.speed.stage1_dropping --json stage1_dropping.json
    python -m benchmarks.speed.stage1_dropping --recipe base --clips 2 --image-size 144 --rounds 3

The text tower and the optimizer cost the same in both.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.speed.pretraining_steps import RECIPES, training_step
from benchmarks.speed.timing import Report, arguments, take_turns
from pretrain.recipe import Recipe


def main() -> None:
    parser = arguments("A step of stage 1 with half of the tokens dropped.", rounds=7)
    parser.add_argument("--recipe", default="nano", choices=["nano", "base", "large", "giant"])
    parser.add_argument("--clips", type=int, default=64, help="clips of a step")
    parser.add_argument("--image-size", type=int, help="side of a frame in pixels, if not the recipe's")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = Recipe.load(RECIPES / f"{options.recipe}.yaml")
    if options.image_size:
        recipe = replace(recipe, vision=replace(recipe.vision, image_size=options.image_size))
    stage1 = recipe.stage1
    assert stage1 is not None
    candidates = {
        name: training_step(recipe, replace(stage1, drop=drop), options.clips)
        for name, drop in (("all tokens", 0.0), ("half of them", 0.5))
    }
    timings = take_turns(candidates, options.rounds)
    settings = {"recipe": recipe.name, "image_size": recipe.vision.image_size, "clips": options.clips}
    report = Report("stage1_dropping", timings, settings | {"threads": options.threads})
    report.at_most("time of the step with half of the tokens", timings.ratio("half of them", "all tokens"), 0.6)
    report.note("clips/s with half of the tokens", options.clips / timings.median_s("half of them"))
    report.publish(options.json)


if __name__ == "__main__":
    main()
