"""The student of stage 2, forward and backward, on the tokens that block masks at 0.65 leave, against all tokens.

    python -m benchmarks.speed.stage2_student --json stage2_student.json
    python -m benchmarks.speed.stage2_student --recipe base --clips 2 --image-size 144 --rounds 3

Every round draws masks anew. The student alone is measured: teacher and decoders see the whole clip either way.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.speed.pretraining_steps import RECIPES, random_frames
from benchmarks.speed.timing import Report, arguments, take_turns
from core_encoder.preprocessing import to_video_tensor
from pretrain.recipe import Recipe
from pretrain.run.initial_weights import fresh_model
from pretrain.stages.masking import batch_masks, block_mask


def main() -> None:
    parser = arguments("The student of stage 2 on masked clips.", rounds=9)
    parser.add_argument("--recipe", default="nano", choices=["nano", "base", "large", "giant"])
    parser.add_argument("--clips", type=int, default=64, help="clips of a step")
    parser.add_argument("--image-size", type=int, help="side of a frame in pixels, if not the recipe's")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    recipe = Recipe.load(RECIPES / f"{options.recipe}.yaml")
    if options.image_size:
        recipe = replace(recipe, vision=replace(recipe.vision, image_size=options.image_size))
    stage2 = recipe.stage2 or Recipe.load(RECIPES / "ablation.yaml").stage2  # nano is made without one
    assert stage2 is not None
    student = fresh_model(recipe.model, seed=0, position_scale=recipe.position_scale).vision
    grid = recipe.vision.grid
    video = to_video_tensor(random_frames(recipe, options.clips, stage2.num_frames))
    steps = iter(range(1_000_000))

    def learn(visible: Tensor | None) -> None:
        student(video, visible=visible)[0].sum().backward()
        student.zero_grad()

    def masked() -> None:
        learn(
            batch_masks(
                lambda rng: block_mask(stage2.num_frames, grid, grid, stage2.mask, rng),
                seed=0,
                stage=2,
                step=next(steps),
                positions=range(options.clips),
            )
        )

    timings = take_turns({"all tokens": lambda: learn(None), "masked": masked}, options.rounds)
    settings = {"recipe": recipe.name, "image_size": recipe.vision.image_size, "clips": options.clips}
    report = Report("stage2_student", timings, settings | {"mask": stage2.mask, "threads": options.threads})
    report.at_most("time of the masked student", timings.ratio("masked", "all tokens"), 0.5)
    report.note("clips/s of the masked student", options.clips / timings.median_s("masked"))
    report.publish(options.json)


if __name__ == "__main__":
    main()
