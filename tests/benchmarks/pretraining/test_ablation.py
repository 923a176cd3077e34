"""The two-stage experiment: cells differ in what they claim alone, finished ones stay, missing ones stay missing."""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.pretraining import ablation
from benchmarks.pretraining.ablation import RECIPE, names_of_cells, run_in_own_process, run_jobs
from benchmarks.pretraining.ablation_cells import CELLS, COLUMNS, DECLARED, Job, check_recipe, continuation, run_cell
from benchmarks.pretraining.ablation_table import Table
from benchmarks.pretraining.intervals import mean_over_seeds
from benchmarks.pretraining.world_probes import FAMILIES, ProbeScore
from core_encoder.encoder import load_encoder
from core_encoder.errors import InputError
from core_encoder.files.storage import read_json, write_json
from pretrain.corpus.manifest import Manifest
from pretrain.recipe import Recipe
from pretrain.run.export import RECORD
from tests.benchmarks.pretraining.tiny import PROBES, tiny_recipe


def finish(job: Job, shares: tuple[float, ...] = (0.5, 0.5, 0.5, 0.5)) -> None:
    """Write a cell as if it had been run, with these accuracies in the columns."""
    if job.seed == 1 and job.name == "control" and (job.out / "break").exists():
        raise RuntimeError("the loss became NaN")
    rng = np.random.default_rng(job.seed)
    scores = {
        column: ProbeScore("lr", 0.5, rng.permutation(200) < 200 * share).to_dict()
        for column, share in zip(COLUMNS, shares, strict=True)
    }
    with (job.out / "order.txt").open("a") as file:
        file.write(f"{job.seed} {job.name}\n")
    write_json(job.file, {"identity": job.identity, "scores": scores})


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return tiny_recipe(tmp_path)


def make_jobs(recipe: Recipe, out: Path, seeds: int, names: tuple[str, ...]) -> list[Job]:
    return [Job(recipe, out, seed, name, PROBES) for seed in range(seeds) for name in names]


def test_the_shipped_recipe_is_the_declared_experiment() -> None:
    recipe = Recipe.load(RECIPE)
    check_recipe(recipe)
    assert recipe.stage1 is not None and recipe.stage2 is not None
    assert recipe.stage2.steps * recipe.stage2.batch_size >= 100_000
    assert recipe.stage2.center_targets, "the mean token is most of every token"
    assert recipe.stage2.shuffle and recipe.stage2.global_distillation and recipe.stage2.token_distillation
    assert recipe.compute.devices == 1
    nano = Recipe.load(RECIPE.with_name("nano.yaml"))
    assert recipe.corpus == nano.corpus and recipe.text.vocab_size == nano.text.vocab_size
    assert set(DECLARED) == {"stage1", "stage2", "control", "no_shuffling", "no_global", "random"}


def test_cells_differ_in_what_they_claim_alone(recipe: Recipe, tmp_path: Path) -> None:
    base = tmp_path / "base"
    write_json(base / "stage1" / "encoder" / RECORD, {"parts": {"stage1": {"temperature": 0.04}}})
    whole = continuation(recipe, CELLS["stage2"], base)
    assert whole.stage2 is not None and recipe.stage2 is not None and recipe.stage1 is not None
    for name, option in (("no_shuffling", "shuffle"), ("no_global", "global_distillation")):
        other = continuation(recipe, CELLS[name], base)
        assert replace(other, stage2=replace(other.stage2, **{option: True})) == whole  # type: ignore[arg-type]
        assert not getattr(other.stage2, option)
    control = continuation(recipe, CELLS["control"], base)
    assert control.parts == ("stage1",) and control.stage1 is not None
    assert control.stage1.steps * control.stage1.batch_size == recipe.stage2.steps * recipe.stage2.batch_size
    assert (control.stage1.lr, control.stage1.final_lr) == (recipe.stage2.lr, recipe.stage2.final_lr)
    assert control.stage1.start_from == whole.stage2.start_from and control.stage1.temperature == 0.04
    assert control.seed != recipe.seed, "further clips, not the same ones again"
    assert control.stage1.drop == recipe.stage1.drop and control.vision == recipe.vision


def test_a_cell_of_another_corpus_is_not_taken_for_finished(recipe: Recipe, tmp_path: Path) -> None:
    job = Job(recipe, tmp_path, 0, "stage2", PROBES)
    finish(job)
    assert job.finished()
    recipe.corpus.write_text(recipe.corpus.read_text().replace("length: 100", "length: 101"))
    with pytest.raises(InputError, match="another recipe, corpus or other probes"):
        job.finished()


def test_a_recipe_without_both_stages_is_refused(recipe: Recipe) -> None:
    with pytest.raises(InputError, match="no stage2"):
        check_recipe(replace(recipe, stage2=None))


@pytest.mark.slow
def test_every_cell_trains_and_is_probed(recipe: Recipe, tmp_path: Path) -> None:
    """Real runs of two or three steps, in this process; each cell begins at the seed's stage 1."""
    out = tmp_path / "out"
    jobs = make_jobs(recipe, out, 1, DECLARED)
    for job in jobs:
        run_cell(job)
    start = load_encoder(out / "runs" / "seed0-stage1" / "stage1" / "encoder")
    fingerprints = {job.name: read_json(job.file)["fingerprint"] for job in jobs}
    assert fingerprints["stage1"] == start.fingerprint and len(set(fingerprints.values())) == len(jobs)
    clips = {job.name: read_json(job.file)["clips"] for job in jobs}
    assert clips == {"stage1": 24, "stage2": 16, "control": 16, "no_shuffling": 16, "no_global": 16, "random": 0}
    record = read_json(out / "runs" / "seed0-control" / "encoder" / RECORD)
    assert record["recipe"]["stage1"]["temperature"] == pytest.approx(
        read_json(out / "runs" / "seed0-stage1" / "stage1" / "encoder" / RECORD)["parts"]["stage1"]["temperature"]
    )
    table = Table.of(jobs)
    for column in COLUMNS:
        hits = table.hits[column]["stage2"][0]
        assert hits.shape == (12,) and table.mean(column, "stage2") == mean_over_seeds([hits]).scaled(100)
    assert "missing" not in table.markdown()


def test_finished_cells_stay_and_the_order_is_by_seed(recipe: Recipe, tmp_path: Path) -> None:
    """Cells wait for their stage 1; with one process whole seeds come one after the other. Nothing runs twice."""
    out = tmp_path / "out"
    out.mkdir()
    jobs = make_jobs(recipe, out, 2, ("stage1", "stage2", "control"))
    finish(jobs[1])
    tables: list[int] = []
    assert run_jobs(jobs, 1, lambda: tables.append(Table.of(jobs).num_seeds("stage1")), finish) == {}
    wanted = ["0 stage2", "0 stage1", "0 control", "1 stage1", "1 stage2", "1 control"]
    assert (out / "order.txt").read_text().splitlines() == wanted
    assert tables == [1, 1, 2, 2, 2]
    assert run_jobs(jobs, 2, lambda: tables.append(0), finish) == {} and len(tables) == 5
    with pytest.raises(InputError, match="another recipe, corpus or other probes"):
        Job(replace(recipe, stage2=replace(recipe.stage2, lr=2e-3)), out, 0, "stage2", PROBES).finished()  # type: ignore[type-var]


def test_a_failed_cell_is_missing_and_stops_no_other(recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "break").mkdir(parents=True)
    jobs = make_jobs(recipe, out, 2, ("stage1", "stage2", "control"))
    failed = run_jobs(jobs, 2, lambda: None, finish)
    assert failed == {"seed 1, control: stage 1 goes on": "the loss became NaN"}
    table = Table.of(jobs)
    assert table.num_seeds("stage2", "control") == 1 and table.num_seeds("stage2") == 2
    assert table.meets_aim("plain MAP") is None
    text = table.markdown()
    assert "| seed 1 | missing | missing | missing | missing |" in text and "open, cells are missing" in text


def test_cells_without_their_stage_1_are_left_out(recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    failed = run_jobs(make_jobs(recipe, out, 1, ("stage1", "stage2")), 1, lambda: None, _fail)
    assert failed == {"seed 0, stage 1": "no luck", "seed 0, stage 2": "its stage 1 is missing"}


def _fail(job: Job) -> None:
    raise RuntimeError("no luck")


def _is_killed(job: Job) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_process_is_a_failed_cell(recipe: Recipe, tmp_path: Path) -> None:
    jobs = make_jobs(recipe, tmp_path, 1, ("stage1",))
    failed = run_jobs(jobs, 1, lambda: None, functools.partial(run_in_own_process, work=_is_killed))
    assert "terminated abruptly" in failed["seed 0, stage 1"]


def test_means_and_differences_are_those_of_the_hits(recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    jobs = make_jobs(recipe, out, 3, ("stage1", "stage2", "control"))
    out.mkdir()
    for job in jobs:
        finish(job, {"stage1": (0.2,) * 4, "stage2": (0.6, 0.3, 0.3, 0.3), "control": (0.4, 0.3, 0.3, 0.35)}[job.name])
    table = Table.of(jobs)
    motion, looks = f"motion, {next(iter(FAMILIES))}", "object, MAP with positions"
    gain = table.difference(motion, "stage2", "control")
    assert gain is not None and gain.value == pytest.approx(20)
    by_seed = [table.difference(motion, "stage2", "control", seed) for seed in range(3)]
    assert [one.value for one in by_seed if one] == pytest.approx([20] * 3)
    loss = table.difference(looks, "stage2", "control")
    assert loss is not None and loss.value == pytest.approx(-5)
    assert table.meets_aim("plain MAP") is True, "20 motion points for no point of objects"
    assert table.meets_aim("MAP with positions") is False, "no motion, and 5 points of objects lost"
    assert table.mean(motion, "no_global") is None and table.difference(motion, "stage2", "no_global") is None
    record = json.loads(json.dumps(table.to_dict()))
    assert record["accuracy"]["stage2"][motion]["value"] == pytest.approx(60)
    assert record["aim_reached"] == {"plain MAP": True, "MAP with positions": False}
    assert "| stage 2 minus control: stage 1 goes on | +20.0 [" in table.markdown()


def test_answers_are_given_in_the_declared_words(recipe: Recipe, tmp_path: Path) -> None:
    """Plain MAP: a real gain of motion below the aim. MAP with positions: no difference."""
    out = tmp_path / "out"
    jobs = make_jobs(recipe, out, 3, ("stage1", "stage2", "control", "no_shuffling", "no_global"))
    out.mkdir()
    shares = {"no_shuffling": (0.2, 0.5, 0.5, 0.5), "no_global": (0.5, 0.5, 0.3, 0.5)}
    for job in jobs:
        finish(job, shares.get(job.name, (0.5, 0.5, 0.5, 0.5)))
    for seed in range(3):  # stage 2 is right where the control is, and on 8 of 200 clips more
        control, ours = (Job(recipe, out, seed, name, PROBES) for name in ("control", "stage2"))
        about = read_json(ours.file)
        hits = np.array([bit == "1" for bit in read_json(control.file)["scores"][COLUMNS[0]]["hits"]])
        hits[np.flatnonzero(~hits)[:8]] = True
        about["scores"][COLUMNS[0]]["hits"] = "".join("1" if hit else "0" for hit in hits)
        write_json(ours.file, about)
    table = Table.of(jobs)
    plain, placed = FAMILIES
    assert table.meets_aim(plain) is False and table.meets_aim(placed) is False
    text = table.markdown()
    assert "**not reached; motion differs by +4.0 [" in text and "**not reached; no difference shown**" in text
    assert table.helps("motion", plain, "no_shuffling") and not table.helps("motion", placed, "no_shuffling")
    assert table.helps("object", plain, "no_global") and not table.helps("object", placed, "no_global")
    assert f"- Token shuffling helps motion, by {plain}: **shown**." in text
    assert f"- Token shuffling helps motion, by {placed}: **not shown**." in text
    assert f"- Global distillation helps objects, by {plain}: **shown**." in text
    assert table.to_dict()["shuffling_helps_motion"] == {plain: True, placed: False}


def test_the_command_shows_what_there_is(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["ablation", "--out", str(out), "--recipe", str(tmp_path / "tiny.yaml"), "--show", "--json"]
    monkeypatch.setattr("sys.argv", [*words, str(tmp_path / "out.json")])
    ablation.main()
    assert "missing" in capsys.readouterr().out
    assert read_json(tmp_path / "out.json")["accuracy"]["stage2"]["seeds"] == 0
    monkeypatch.setattr("sys.argv", [*words, str(tmp_path / "out.json"), "--cells", "stage3"])
    with pytest.raises(SystemExit, match="error: --cells: unknown cell 'stage3'; did you mean 'stage"):
        ablation.main()


def test_asked_cells_bring_their_stage_1() -> None:
    assert names_of_cells("control") == ("stage1", "control")
    assert names_of_cells("control, uncentred") == (*DECLARED, "uncentred"), "a try comes with what was declared"
    assert names_of_cells("again_stage2") == (*DECLARED, "again_stage1", "again_stage2"), "and with its own stage 1"


@pytest.mark.slow
def test_positions_again_are_a_run_of_their_own(recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = ("stage1", "stage2", "control", "again_stage1", "again_stage2", "again_control")
    jobs = make_jobs(recipe.with_compute(devices=2), out, 1, names)
    for job in jobs:
        run_cell(job)
    made = {job.name: read_json(job.file)["fingerprint"] for job in jobs}
    assert len(set(made.values())) == len(names)
    start = load_encoder(out / "runs" / "seed0-again_stage1" / "stage1" / "encoder").fingerprint
    for name in ("again_stage2", "again_control"):
        record = read_json(out / "runs" / f"seed0-{name}" / "encoder" / RECORD)
        assert record["recipe"]["compute"]["devices"] == 1, "another process would not compute so"
        assert next(iter(record["parts"].values()))["started_from"] == start
    table = Table.of(jobs).markdown()
    for pair in (
        "stage 2, positions again minus control, positions again",
        "control, positions again minus control: stage 1 goes on",
        "stage 1, positions again minus stage 1",
    ):
        assert f"| {pair} |" in table


def test_the_question_of_looks_is_ten_times_as_long_and_differs_in_nothing_else() -> None:
    folder = RECIPE.parent
    one, ten = Recipe.load(RECIPE), Recipe.load(folder / "ablation_appearance.yaml")
    check_recipe(ten)
    for part in ("images", "stage1", "stage2"):
        fewer, more = getattr(one, part), getattr(ten, part)
        assert replace(fewer, steps=10 * fewer.steps, warmup_steps=10 * fewer.warmup_steps) == more
    assert (one.model, one.seed, one.position_scale) == (ten.model, ten.seed, ten.position_scale)
    tiers = {tier.name: tier for tier in Manifest.load(one.corpus).tiers}
    for tier in Manifest.load(ten.corpus).tiers:
        world = tiers[tier.name].synthetic
        assert world is not None and world.motion_share is None
        share = None if tier.media == "image" else 0
        assert tier.synthetic == replace(world, length=10 * world.length, motion_share=share)


def test_a_gpu_that_is_not_there_is_said_before_anything_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["ablation", "--out", str(tmp_path / "out"), "--accelerator", "gpu"])
    with pytest.raises(SystemExit, match="error: accelerator 'gpu' is not in this machine"):
        ablation.main()
    assert not (tmp_path / "out").exists()
