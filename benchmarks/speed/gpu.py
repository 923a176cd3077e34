"""The figures of a GPU, all in one: the encoder's forward pass, steps of training, clips from files.

    python -m benchmarks.speed.gpu --out gpu
    python -m benchmarks.speed.gpu --out gpu --device cpu --size tiny

Five parts, each a JSON file in `--out`, and `table.md` there; under eight minutes on an H100. What has no time left
(`--minutes`) is left out and named; so is what fails, and the others go on. The second line tries the script where
there is no GPU: its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.speed.encoder_forward import matrix_products
from benchmarks.speed.flex_attention import with_flex_attention
from benchmarks.speed.map_pooling import same_pooling_twice
from benchmarks.speed.pretraining_steps import RECIPES, training_step
from benchmarks.speed.timing import Report, Timings, take_turns
from benchmarks.speed.videos import write_videos
from core_encoder.clip_plan import Clip
from core_encoder.encoder import Encoder
from core_encoder.extraction import extract, spec_for
from core_encoder.files.storage import write_json, write_text
from core_encoder.models.vivit import ViViT
from core_encoder.preprocessing import Preprocessing
from pretrain.recipe import ContrastiveConfig, MaskedConfig, Recipe
from pretrain.run.initial_weights import fresh_model

BF16 = torch.bfloat16


@dataclass(frozen=True)
class Size:
    """What is measured: a recipe, and how much of everything at once."""

    recipe: str
    clips: int  # of a forward pass
    pooled: tuple[int, int, int, int]  # clips, tokens of each, width, heads of a MAP training step
    step_clips: int  # of a step of pretraining
    videos: int
    pixels: int  # of a video's side
    rounds: int


SIZES = {
    "base": Size("base", clips=16, pooled=(64, 4096, 768, 12), step_clips=64, videos=256, pixels=320, rounds=7),
    "tiny": Size("ablation", clips=2, pooled=(2, 64, 32, 4), step_clips=4, videos=6, pixels=64, rounds=1),
}


@dataclass(frozen=True)
class Bench:
    """A device, and what is measured on it."""

    device: str
    size: Size

    @property
    def recipe(self) -> Recipe:
        return Recipe.load(RECIPES / f"{self.size.recipe}.yaml")

    def settle(self) -> None:
        """Wait until the device is done."""
        if self.device != "cpu":
            torch.cuda.synchronize()

    def settled(self, run: Callable[[], object]) -> Callable[[], None]:
        """`run` until the device is done."""

        def work() -> None:
            run()
            self.settle()

        return work

    def turns(self, candidates: dict[str, Callable[[], object]]) -> Timings:
        """Every candidate in turns, each until the device is done."""
        return take_turns({name: self.settled(run) for name, run in candidates.items()}, self.size.rounds)

    def report(self, title: str, timings: Timings, **about: object) -> Report:
        name = torch.cuda.get_device_name() if self.device != "cpu" else "CPU"
        return Report(title, timings, {"recipe": self.size.recipe, "device": name, **about})


def forward(bench: Bench) -> Report:
    """The encoder's forward pass in bf16, ours and compiled with FlexAttention, against its bare matrix products."""
    config, clips = bench.recipe.vision, bench.size.clips
    torch.manual_seed(0)
    ours = ViViT(config).to(bench.device, BF16).eval()
    compiled = with_flex_attention(ours)
    video = torch.rand(clips, config.num_frames, 3, config.image_size, config.image_size)
    video = video.to(bench.device, BF16)
    products, multiply_adds = matrix_products(config, clips, bench.device, BF16)
    with torch.no_grad():
        first, second = ours(video)[0].float(), compiled(video)[0].float()
        timings = bench.turns(
            {
                "prismhub": lambda: ours(video),
                "compiled, FlexAttention": lambda: compiled(video),
                "matrix products": products,
            }
        )
    report = bench.report("forward", timings, clips=clips, frames=config.num_frames, dtype="bf16")
    report.at_least("rate, of the matrix products", timings.ratio("matrix products", "prismhub"), 0.5)
    report.note("rate compiled, of the matrix products", timings.ratio("matrix products", "compiled, FlexAttention"))
    report.note("times slower than compiled", timings.ratio("prismhub", "compiled, FlexAttention"))
    report.at_most("largest difference of the tokens, of their spread", _difference(first, second), 0.1)
    report.note("clips/s", clips / timings.median_s("prismhub"))
    report.note("clips/s, compiled", clips / timings.median_s("compiled, FlexAttention"))
    report.note("TFLOP/s of the matrix products", 2e-3 * multiply_adds / timings.median_s("matrix products"))
    return report


def map_pooling(bench: Bench) -> Report:
    """A training step of MAP pooling in bf16, folded projections against the textbook form."""
    clips, tokens, dim, heads = bench.size.pooled
    torch.manual_seed(0)
    textbook, folded = same_pooling_twice(dim, heads)
    textbook, folded = textbook.to(bench.device), folded.to(bench.device)
    query = nn.Parameter(folded.query.detach().clone())
    x = torch.randn(clips, tokens, dim).to(bench.device, BF16)
    direction = torch.randn(clips, dim, device=bench.device)

    def step(pool: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        def work() -> None:
            with torch.autocast(x.device.type, BF16):
                out = pool(x)
            out.float().backward(direction)

        return work

    def textbook_output(x: Tensor) -> Tensor:
        return textbook(query.expand(len(x), 1, dim).to(x.dtype), x, x, need_weights=False)[0][:, 0]

    timings = bench.turns({"folded": step(folded), "textbook": step(textbook_output)})
    report = bench.report("map_pooling", timings, clips=clips, tokens=tokens, width=dim, dtype="bf16-mixed")
    report.note("times faster than the textbook", timings.ratio("textbook", "folded"))
    report.note("clips/s", clips / timings.median_s("folded"))
    return report


def stage1(bench: Bench) -> Report:
    """A step of stage 1 in bf16-mixed, as it is and with compiled layers."""
    config = bench.recipe.stage1
    assert config is not None
    return _steps(bench, "stage1", config)


def stage2(bench: Bench) -> Report:
    """A step of stage 2 in bf16-mixed, as it is and with compiled layers."""
    config = bench.recipe.stage2
    assert config is not None
    return _steps(bench, "stage2", replace(config, accumulate=1, batch_size=bench.size.step_clips))


def encode(bench: Bench) -> Report:
    """Clips a second from H.264 files into the store, and what they wait for."""
    recipe, size = bench.recipe, bench.size
    model = fresh_model(recipe.model, seed=0, position_scale=recipe.position_scale)
    encoder = Encoder(model, "random weights", Preprocessing(recipe.vision.image_size)).to(bench.device, BF16)
    workers = os.cpu_count() or 2
    waited: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        clips = [Clip(str(path)) for path in write_videos(Path(name, "videos"), size.videos, size.pixels, 32)]
        spec = spec_for(encoder, kind="frames")

        def run() -> None:
            with tempfile.TemporaryDirectory(dir=name) as root:
                done = extract(encoder, clips, spec, root, batch_size=size.clips, workers=workers)
            if done.failures:
                raise RuntimeError(done.failures[0].reason)
            waited.append(done.decode_wait_s / done.elapsed_s)

        timings = take_turns({"encode": run}, min(3, size.rounds))
    report = bench.report("encode", timings, videos=size.videos, pixels=size.pixels, frames=32, workers=workers)
    report.note("clips/s", size.videos / timings.median_s("encode"))
    report.note("share of the time that the encoder waits for frames", sum(waited) / len(waited))
    return report


PARTS: dict[str, Callable[[Bench], Report]] = {
    "forward": forward,
    "map_pooling": map_pooling,
    "stage1": stage1,
    "stage2": stage2,
    "encode": encode,
}


def _steps(bench: Bench, title: str, config: ContrastiveConfig | MaskedConfig) -> Report:
    clips, recipe = bench.size.step_clips, bench.recipe
    timings: dict[str, tuple[float, ...]] = {}
    for name, compiled in (("as it is", False), ("compiled", True)):  # one after the other: two do not fit together
        step = training_step(recipe, config, clips, bench.device, bf16=True, compiled=compiled)
        timings |= bench.turns({name: step}).seconds
        del step
    report = bench.report(title, Timings(timings), clips=clips, dtype="bf16-mixed")
    for name in timings:
        report.note(f"clips/s, {name}", clips / report.timings.median_s(name))
    if bench.device != "cpu":
        report.note("memory at most, GB", torch.cuda.max_memory_allocated() / 1e9)
    return report


def _difference(one: Tensor, other: Tensor) -> float:
    return ((one - other).abs().max() / one.std()).item()


def run_parts(bench: Bench, names: list[str], out: Path, minutes: float) -> dict[str, str]:
    """Measure one part after the other into `out`; why those that are missing are: name -> reason."""
    began, missing = time.monotonic(), {}
    lines = ["| part | what | value | must be |", "| --- | --- | --- | --- |"]
    for name in names:
        if time.monotonic() - began > 60 * minutes:
            missing[name] = f"no time left of {minutes:g} minutes"
            continue
        print(f"{name}: {' '.join((PARTS[name].__doc__ or '').split())}", flush=True)
        if bench.device != "cpu":
            torch.cuda.reset_peak_memory_stats()
        try:
            report = PARTS[name](bench)
        except (RuntimeError, torch.OutOfMemoryError) as error:
            missing[name] = str(error).splitlines()[0]
            continue
        finally:
            if bench.device != "cpu":
                torch.cuda.empty_cache()
        write_json(out / f"{name}.json", report.as_dict())
        lines += [f"| {name} | {row['what']} | {row['value']:.4g} | {row['must_be']} |" for row in report.rows]
        write_text(out / "table.md", "\n".join(lines) + "\n")
    print("\n".join(lines))
    print(f"{time.monotonic() - began:.0f} s")
    return missing


def main() -> None:
    parser = argparse.ArgumentParser(
        description="The figures of a GPU.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--size", default="base", choices=list(SIZES))
    parser.add_argument("--only", nargs="+", default=list(PARTS), choices=list(PARTS), help="these parts")
    parser.add_argument("--minutes", type=float, default=8, help="begin no part after so long")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no GPU here: --device cpu --size tiny tries the script without one")
    missing = run_parts(Bench(options.device, SIZES[options.size]), options.only, options.out, options.minutes)
    if missing:
        raise SystemExit("not measured: " + "; ".join(f"{name} ({reason})" for name, reason in missing.items()))


if __name__ == "__main__":
    main()
