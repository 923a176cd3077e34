"""How much faster the synthetic world makes clips than small encoders train on them, in one process with one thread.

    python -m benchmarks.speed.world_feeding --json world_feeding.json

Clips are those of the shipped recipes' own corpus, captions included, made as training asks for them: of `nano` in
stage 1, of the two-stage experiment (`ablation`) in stage 2. They train with one such process on every core, so that
the ratio of one process is that of them all.
"""

from __future__ import annotations

import torch

from benchmarks.speed.pretraining_steps import RECIPES, training_step
from benchmarks.speed.timing import Report, arguments, take_turns
from pretrain.corpus.manifest import Manifest
from pretrain.recipe import Recipe
from pretrain.run.part_run import part_corpus


def main() -> None:
    parser = arguments("Clips of the synthetic world against the clips that are trained on.", rounds=7)
    parser.set_defaults(threads=1)
    parser.add_argument("--clips", type=int, default=64, help="clips of a step")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    nano, ablation = (Recipe.load(RECIPES / f"{name}.yaml") for name in ("nano", "ablation"))
    assert nano.stage1 is not None and ablation.stage2 is not None
    corpora = {
        part: part_corpus(recipe, Manifest.load(recipe.corpus), part)
        for recipe, part in ((nano, "stage1"), (ablation, "stage2"))
    }
    places = iter(range(1_000_000))
    timings = take_turns(
        {
            "clips for stage 1": lambda: corpora["stage1"].batch(next(places), options.clips),
            "step of stage 1": training_step(nano, nano.stage1, options.clips),
            "clips for stage 2": lambda: corpora["stage2"].batch(next(places), options.clips),
            "step of stage 2": training_step(ablation, ablation.stage2, options.clips),
        },
        options.rounds,
    )
    report = Report("world_feeding", timings, {"clips": options.clips, "threads": options.threads})
    for stage in (1, 2):
        made, step = f"clips for stage {stage}", f"step of stage {stage}"
        report.at_least(f"times faster than stage {stage}", timings.ratio(step, made), 2.0)
        report.note(f"clips/s made for stage {stage}", options.clips / timings.median_s(made))
        report.note(f"clips/s trained in stage {stage}", options.clips / timings.median_s(step))
    report.publish(options.json)


if __name__ == "__main__":
    main()
