"""`prismhub pretrain`: one line and an exit code for what can go wrong; killed and stopped runs go on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from core_encoder.files.storage import read_tensors
from pretrain.run.checkpoint import checkpoints
from prismhub.cli import run
from prismhub.commands.pretrain import PartBar, parts_of
from prismhub.progress import Show
from tests import ROOT
from tests.pretrain.corpora import clip_corpus
from tests.pretrain.tiny_models import tiny_recipe
from tests.pretrain.tiny_runs import DECODER, ONE, VIDEOS, part, write_world

SHIPPED = ROOT / "pretrain" / "recipes"
# A background job ignores Ctrl-C, and so would what it starts.
COMMAND = [
    *(sys.executable, "-c"),
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from prismhub.cli import main\n"
    "if __name__ == '__main__': main()",
]


def write_recipe(folder: Path, **changes: Any) -> Path:
    """A recipe file of stage 1 and stage 2 on the synthetic world."""
    given = {"images": None, "stage1": part(steps=2), "stage2": part(steps=1, **DECODER, **VIDEOS), "alignment": None}
    given |= {"corpus": write_world(folder).name, "compute": ONE}
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe(**given | changes)), encoding="utf-8")
    return path


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`says(code, *arguments)` runs `prismhub pretrain`, checks its exit code, and returns its one line on stderr."""

    def check(code: int, *arguments: str) -> str:
        capsys.readouterr()
        assert run(["pretrain", *arguments]) == code
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err + shown.out
        lines = [line for line in shown.err.splitlines() if line.startswith("prismhub: ")]
        assert len(lines) == (1 if code else 0), shown.err
        return lines[0] if lines else shown.out

    return check


def test_a_recipe_runs_and_goes_on(
    says: Callable[..., str], tmp_path: Path, private_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_recipe(tmp_path))
    assert run(["pretrain", path, "--stage", "1"]) == 0
    shown = capsys.readouterr()
    folder = private_home / "pretrain" / "tiny" / "stage1" / "encoder"
    assert f"the encoder: {folder}" in shown.out and f"--encoder {folder}" in shown.out
    assert "recipe tiny: stage1; into" in shown.err and "GLOBAL_RANK" not in shown.err
    done = json.loads(says(0, path, "--quiet", "--json"))
    assert Path(done["encoder"]) == private_home / "pretrain" / "tiny" / "encoder"
    assert list(done["parts"]) == ["stage1", "stage2"] and done["parts"]["stage2"]["steps"] == 1
    assert json.loads(says(0, path, "--json", "--quiet")) == done
    assert "another recipe (stage1.lr was 0.001, now 0.01)" in says(2, path, "--set", "stage1.lr=0.01")
    assert says(0, path, "--set", "stage1.lr=0.01", "--restart", "--quiet")


def test_wrong_recipes_and_corpora_are_refused_in_one_line(says: Callable[..., str], tmp_path: Path) -> None:
    path = str(write_recipe(tmp_path))
    assert "cannot be read" in says(2, str(tmp_path / "none.yaml"))
    assert "'stage1'" in says(2, path, "--set", "stage11.lr=1")
    assert "'lr'" in says(2, path, "--set", "stage1.lrr=1")
    assert "lr must be above 0" in says(2, path, "--set", "stage1.lr=0")
    assert "--stage '3' is unknown" in says(2, path, "--stage", "3")
    assert "'stage2'" in says(2, path, "--stage", "stage22")
    assert "has no images; it has stage1, stage2" in says(2, path, "--stage", "images")
    assert "which is not finished" in says(2, path, "--stage", "2")
    assert "compute" in says(2, path, "--accelerator", "gpux")
    assert "compute" in says(2, path, "--devices", "0")
    assert "fewer than one global batch" in says(2, path, "--set", "stage1.batch_size=1000")
    assert "did you mean 'weight'" in says(2, str(with_corpus(tmp_path, "weigth: 1, synthetic: {}")))
    assert "weight must be above 0" in says(2, str(with_corpus(tmp_path, "weight: 0, synthetic: {}")))
    assert "no such file" in says(2, str(with_corpus(tmp_path, "weight: 1, table: none.csv")))


def with_corpus(folder: Path, tier: str) -> Path:
    path = write_recipe(folder)
    (folder / "world.yaml").write_text("tiers: [{name: a, quality: clean, " + tier + "}]")
    return path


def test_recipes_without_a_corpus_say_so(says: Callable[..., str]) -> None:
    line = says(2, str(SHIPPED / "base.yaml"), "--accelerator", "cpu")
    assert "your-corpus.yaml: no such manifest; let `corpus` of the recipe name yours" in line


def test_a_dry_run_needs_no_corpus(says: Callable[..., str]) -> None:
    assert "parameters" in says(0, str(SHIPPED / "base.yaml"), "--dry-run").lower()
    scale = json.loads(says(0, str(SHIPPED / "base.yaml"), "--dry-run", "--json", "--gpus", "8"))
    assert [row["part"] for row in scale["parts"]] == ["stage1", "stage2"]


def test_options_that_would_do_nothing_are_refused(says: Callable[..., str], tmp_path: Path) -> None:
    path = str(write_recipe(tmp_path))
    for given in (
        ("--stage", "1"),
        ("--devices", "2"),
        ("--accelerator", "cpu"),
        ("--workers", "2"),
        ("--restart",),
        ("--out", "x"),
    ):
        assert f"{given[0]} has no meaning for --dry-run" in says(2, path, "--dry-run", *given)
    assert "--gpus is what --dry-run reckons with" in says(2, path, "--gpus", "8")


def test_clips_that_could_not_be_read_are_told_at_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = clip_corpus(tmp_path, 12, broken=[3])
    parts = {"stage1": part(steps=4), "stage2": part(steps=1, **DECODER)}
    path = str(write_recipe(tmp_path, corpus=str(corpus), **parts, max_unreadable=1, seed=6))
    out = tmp_path / "out"
    for more, encoder in (
        (["--stage", "1"], out / "stage1" / "encoder"),
        (["--quiet", "--json"], out / "encoder"),
        ([], out / "encoder"),
    ):
        assert run(["pretrain", path, "--out", str(out), *more]) == 3
        shown = capsys.readouterr()
        assert str(encoder) in shown.out
        assert "drawn clips that could not be read gave way to others: 1 in stage1 " in shown.err
        assert f"({out / 'stage1' / 'skipped.jsonl'})" in shown.err
    assert len((out / "stage1" / "skipped.jsonl").read_text().splitlines()) == 1
    assert not (out / "stage2" / "skipped.jsonl").exists()
    assert run(["pretrain", path, "--out", str(out), "--stage", "2"]) == 0, "of the parts asked for"


@pytest.mark.slow
def test_torchrun_takes_lost_clips_for_no_failure(tmp_path: Path) -> None:
    corpus = clip_corpus(tmp_path, 12, broken=[3])
    path = write_recipe(tmp_path, corpus=str(corpus), stage1=part(steps=4), stage2=None, max_unreadable=1, compute={})
    script = tmp_path / "main.py"
    script.write_text("from prismhub.cli import main\nif __name__ == '__main__':\n    main()\n")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    arguments = ["pretrain", str(path), "--out", str(tmp_path / "out"), "--accelerator", "cpu"]
    done = subprocess.run(
        [*torchrun, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "drawn clips that could not be read gave way to others: 1 in stage1 " in done.stderr


def test_a_nan_is_a_failure_and_names_the_step(says: Callable[..., str], tmp_path: Path) -> None:
    wild = part(lr=1e30, warmup_steps=0, schedule="constant", clip_grad_norm=0)
    line = says(1, str(write_recipe(tmp_path, stage1=wild, stage2=None)), "--out", str(tmp_path / "out"))
    assert "NaN or infinite at step 2 of" in line and "run again with --stage stage1 --restart" in line


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_is_130(says: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(bar: PartBar, now: Any) -> None:
        if now.step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    path, out = str(write_recipe(tmp_path, stage1=part(steps=3, checkpoint_every=100), stage2=None)), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(PartBar, "__call__", interrupt)
        assert "the same command goes on" in says(130, path, "--out", str(out))
    assert [file.name for file in checkpoints(out / "stage1")] == ["checkpoint-00000002.safetensors"]
    assert says(0, path, "--out", str(out), "--quiet")


def test_a_bar_outlives_its_parts() -> None:
    from pretrain.run.progress import PartProgress

    bar = PartBar(Show(quiet=True))
    for name, step in (("images", 1), ("images", 2), ("stage1", 1)):
        bar(PartProgress(name, step, 2, 0.5, 10.0, 1.0))
    bar.close()


def test_stages_are_parts() -> None:
    assert parts_of(None) == ()
    assert parts_of("1") == ("images", "stage1") and parts_of("2") == ("stage2", "alignment")
    assert parts_of("alignment") == ("alignment",)


def calm_weights(path: Path, out: Path) -> dict[str, torch.Tensor]:
    assert run(["pretrain", str(path), "--out", str(out), "--quiet"]) == 0
    return read_tensors(out / "encoder" / "model.safetensors")


@pytest.mark.slow
def test_killed_without_mercy_it_ends_like_an_uninterrupted_run(tmp_path: Path) -> None:
    stages = {"stage1": part(steps=40, ema=0.9), "stage2": part(steps=40, **DECODER, **VIDEOS)}
    path, out = write_recipe(tmp_path, **stages), tmp_path / "out"
    calm = calm_weights(path, tmp_path / "calm")
    command = [*COMMAND, "pretrain", str(path), "--out", str(out), "--quiet"]
    chance = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        target = len(checkpoints(out / "stage1")) + len(checkpoints(out / "stage2")) + chance.randrange(1, 20)
        while process.poll() is None:
            if len(checkpoints(out / "stage1")) + len(checkpoints(out / "stage2")) >= target:
                time.sleep(chance.random() / 50)  # somewhere in a step, or in the writing of a checkpoint
                process.kill()
            time.sleep(0.002)
        process.wait()
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    stormy = read_tensors(out / "encoder" / "model.safetensors")
    assert calm.keys() == stormy.keys() and all(torch.equal(calm[name], stormy[name]) for name in calm)
    assert not list(out.rglob(".*.tmp"))


@pytest.mark.slow
def test_ctrl_c_at_a_terminal_stops_two_processes_in_one_line(tmp_path: Path) -> None:
    path, out = write_recipe(tmp_path, stage1=part(steps=100_000), stage2=None), tmp_path / "out"
    command = [*COMMAND, "pretrain", str(path), "--out", str(out), "--devices", "2", "--quiet"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not checkpoints(out / "stage1") and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to parent and children alike
    _, shown = process.communicate(timeout=120)
    assert process.returncode == 130
    lines = [line for line in shown.splitlines() if "texts longer" not in line]
    assert lines == ["prismhub: stopped; what was finished is kept, the same command goes on from there"], shown
    assert checkpoints(out / "stage1") and not list((out / "stage1").glob(".*.tmp"))
