"""What test_processes.py has torchrun do in two processes: runs of recipes, whole and cut back, in one group."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from core_encoder.files.storage import write_json
from pretrain.recipe import Recipe
from pretrain.training import pretrain
from tests.pretrain.tiny_runs import DECODER, VIDEOS, cut_back, losses, part, recipe

STEPS = 3
STAGES = {
    "stage1": part(steps=STEPS, ema=0.5),
    "stage2": part(steps=STEPS, accumulate=2, optimizer="adafactor", center_targets=True, **DECODER, **VIDEOS),
}


def staged(folder: Path, strategy: str = "ddp") -> Recipe:
    return recipe(folder, folder / "world.yaml", compute={"strategy": strategy}, **STAGES)


def main(folder: Path) -> None:
    """Run the recipe with either strategy, again from every checkpoint, and go on with what one process began."""
    first = os.environ["RANK"] == "0"
    for strategy in ("ddp", "fsdp"):
        made, out = staged(folder, strategy), folder / strategy
        pretrain(made, out)
        seen = {"whole": [losses(out, name) for name in STAGES]}
        for name in STAGES:
            for step in range(1, STEPS):
                if first:
                    cut_back(out, name, step)
                pretrain(made, out)
                seen[f"{name} from {step}"] = [losses(out, name) for name in STAGES]
        if first:
            write_json(folder / f"{strategy}.json", seen)
    pretrain(staged(folder), folder / "begun_by_one", ["stage1"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
