"""How much faster the synthetic world makes clips than `nano` trains on them, in one process with one thread.

    python -m benchmarks.speed.world_feeding --json world_feeding.json

Clips are those of the shipped recipe's own corpus, captions included, made as training asks for them. `nano` trains
with one such process on every core, so that the ratio of one process is that of them all.
"""

from __future__ import annotations

import torch

from benchmarks.speed.pretraining_steps import RECIPES, training_step
from benchmarks.speed.timing import Report, arguments, take_turns
from pretrain.corpus.manifest import Manifest
from pretrain.recipe import Recipe
from pretrain.run.part_run import part_corpus


def main() -> None:
    parser = arguments("Clips of the synthetic world against the clips nano trains on.", rounds=7)
    parser.set_defaults(threads=1)
    parser.add_argument("--clips", type=int, default=64, help="clips of a step")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = Recipe.load(RECIPES / "nano.yaml")
    manifest = Manifest.load(recipe.corpus)
    assert recipe.stage1 is not None and recipe.stage2 is not None
    corpora = {part: part_corpus(recipe, manifest, part) for part in ("stage1", "stage2")}
    places = iter(range(1_000_000))
    timings = take_turns(
        {
            "clips for stage 1": lambda: corpora["stage1"].batch(next(places), options.clips),
            "step of stage 1": training_step(recipe, recipe.stage1, options.clips),
            "clips for stage 2": lambda: corpora["stage2"].batch(next(places), options.clips),
            "step of stage 2": training_step(recipe, recipe.stage2, options.clips),
        },
        options.rounds,
    )
    report = Report("world_feeding", timings, {"recipe": "nano", "clips": options.clips, "threads": options.threads})
    for stage in (1, 2):
        made, step = f"clips for stage {stage}", f"step of stage {stage}"
        report.at_least(f"times faster than stage {stage}", timings.ratio(step, made), 2.0)
        report.note(f"clips/s made for stage {stage}", options.clips / timings.median_s(made))
        report.note(f"clips/s trained in stage {stage}", options.clips / timings.median_s(step))
    report.publish(options.json)


if __name__ == "__main__":
    main()
