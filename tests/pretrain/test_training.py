"""Runs of recipes in one process: exact resume at every step, what stops a run, what a folder refuses."""

from __future__ import annotations

import errno
import functools
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from core_encoder import load_encoder
from core_encoder.errors import InputError
from core_encoder.storage import read_json, read_tensors
from pretrain import contrastive_stage, part_loop
from pretrain.checkpoint import checkpoints
from pretrain.initial_weights import initial_stage
from pretrain.manifest import Manifest
from pretrain.part_run import PartRun, part_corpus, select
from pretrain.progress import PartProgress, PretrainingStopped
from pretrain.recipe import Recipe
from pretrain.training import pretrain
from tests.pretrain.corpora import clip_corpus, write_clips, write_jsonl, write_manifest
from tests.pretrain.tiny_runs import (
    DECODER,
    VIDEOS,
    contrast,
    cut_back,
    losses,
    part,
    recipe,
    records,
    weights,
    write_world,
)


class Killed(Exception):
    """What a test raises in the middle of a run."""


def once_per_step() -> Callable[[PartProgress], None]:
    """Kill the run at every step, the first time that it is there."""
    seen = set()

    def progress(now: PartProgress) -> None:
        if (now.part, now.step) not in seen:
            seen.add((now.part, now.step))
            raise Killed

    return progress


def run_through(recipe: Recipe, out: Path, progress: Callable[[PartProgress], None]) -> int:
    """Run the same command until it ends; how often it was killed."""
    for kills in itertools.count():
        try:
            pretrain(recipe, out, progress=progress)
            return kills
        except Killed:
            pass
    raise AssertionError


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def table_corpus(folder: Path, captions: list[str], **rows: Any) -> Path:
    """A manifest of one table of real clips with these captions."""
    names = [path.name for path in write_clips(folder / "clips", len(captions), rows.get("broken", ()))]
    lines = [{"video": name, "caption": caption} for name, caption in zip(names, captions, strict=True)]
    write_jsonl(folder / "clips" / "clips.jsonl", lines)
    text = "tiers:\n  - {name: curated, quality: clean, weight: 1, table: clips/clips.jsonl}\n"
    return write_manifest(folder / "table.yaml", text)


def test_all_parts_make_an_encoder_that_opens(tmp_path: Path) -> None:
    world = write_world(tmp_path)
    short = part(steps=2)
    made = recipe(
        tmp_path,
        images=short | {"num_frames": 1, "tiers": ["pictures"]},
        stage1=short | {"evaluate_every": 1},
        stage2=short | DECODER | VIDEOS,
        alignment=short | VIDEOS,
        held_out=str(world),
        held_out_clips=12,
    )
    told: list[PartProgress] = []
    folder = pretrain(made, tmp_path / "out", progress=told.append)
    assert folder == tmp_path / "out" / "encoder"
    assert [(now.part, now.step, now.steps) for now in told] == [
        (name, step, 2) for name in ("images", "stage1", "stage2", "alignment") for step in (1, 2)
    ]
    encoder = load_encoder(folder)
    assert encoder.has_text and "# tiny" in (folder / "README.md").read_text()
    about = read_json(folder / "pretraining.json")
    assert about["fingerprint"] == encoder.fingerprint
    assert about["parts"]["stage1"]["fingerprint"] == load_encoder(tmp_path / "out" / "stage1" / "encoder").fingerprint
    wanted = {tier.name for tier in Manifest.load(world).tiers}
    assert {tier["name"] for tier in about["corpus"]} == wanted, "of all parts, not of the last alone"
    assert str(tmp_path) not in json.dumps(about), "published without where files lie"
    assert list(about["parts"]) == ["images", "stage1", "stage2", "alignment"]
    assert about["parts"]["stage1"]["clips"] == 8 and about["parts"]["stage1"]["processes"] == 1
    assert "recall@1/text" in about["parts"]["alignment"]["scores"]
    assert read_json(tmp_path / "out" / "recipe.json") == made.describe()

    # what is logged
    steps = [line for line in records(tmp_path / "out", "stage1") if "loss" in line]
    watched = {"temperature", "embedding_variance", "gradient_norm", "lr", "skipped"}
    assert watched | {"clips_per_s", "tokens_per_s", "waiting", "tier"} <= steps[0].keys()
    assert 0 <= steps[0]["waiting"] <= 1 and steps[0]["clips_per_s"] > 0 and steps[0]["tokens_per_s"] > 0
    assert {"token_loss", "global_loss"} <= records(tmp_path / "out", "stage2")[0].keys()
    scores = [line for line in records(tmp_path / "out", "stage1") if "recall@1/text" in line]
    assert [line["step"] for line in scores] == [1, 2]
    assert any(name.startswith("probe/") for name in scores[0])
    assert any(name.startswith("zero_shot/") for name in scores[0])
    assert next((tmp_path / "out" / "stage1" / "tensorboard").iterdir())

    # the same again does nothing, and so does one part of it
    assert pretrain(made, tmp_path / "out", progress=told.append) == folder
    assert pretrain(made, tmp_path / "out", ["stage1"], progress=told.append) == tmp_path / "out" / "stage1" / "encoder"
    assert len(told) == 8


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rare checkpoints": {"checkpoint_every": 2},
    "accumulated, averaged, adafactor": {"accumulate": 2, "ema": 0.5, "optimizer": "adafactor"},
    "mixed": {"mixing": "mix"},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_killed_at_every_step_it_ends_like_an_uninterrupted_run(tmp_path: Path, name: str) -> None:
    made = contrast(tmp_path, **VARIANTS[name])
    pretrain(made, tmp_path / "calm")
    assert run_through(made, tmp_path / "stormy", once_per_step()) == 4
    assert losses(tmp_path / "stormy") == losses(tmp_path / "calm") and len(losses(tmp_path / "calm")) == 4
    assert_equal(weights(tmp_path / "stormy"), weights(tmp_path / "calm"))


def test_stage_2_killed_at_every_step_ends_like_an_uninterrupted_run(tmp_path: Path) -> None:
    stage2 = part(accumulate=2, ema=0.5, center_targets=True, **DECODER, **VIDEOS)
    made = recipe(tmp_path, stage1=part(steps=1), stage2=stage2)
    pretrain(made, tmp_path / "calm")
    assert run_through(made, tmp_path / "stormy", once_per_step()) == 5
    assert losses(tmp_path / "stormy", "stage2") == losses(tmp_path / "calm", "stage2")
    assert_equal(weights(tmp_path / "stormy", "stage2"), weights(tmp_path / "calm", "stage2"))


def test_killed_between_the_last_checkpoint_and_the_export(tmp_path: Path) -> None:
    world = write_world(tmp_path)
    made = recipe(tmp_path, world, stage2=None, held_out=str(world), held_out_clips=8)
    before = read_json(pretrain(made, tmp_path / "out") / "pretraining.json")["parts"]
    cut_back(tmp_path / "out", "stage1", 4)
    after = read_json(pretrain(made, tmp_path / "out") / "pretraining.json")["parts"]
    assert after == before and after["stage1"]["scores"]


def test_a_step_over_several_tiers_is_no_tier_s_own(tmp_path: Path) -> None:
    two = contrast(tmp_path, accumulate=2, **VIDEOS)
    pretrain(two, tmp_path / "two")
    assert {line["tier"] for line in records(tmp_path / "two") if "loss" in line} == {"mixed"}
    pretrain(contrast(tmp_path, **VIDEOS), tmp_path / "one")
    assert {line["tier"] for line in records(tmp_path / "one") if "loss" in line} == {"clips", "web"}


@pytest.mark.slow
def test_compiled_layers_train_alike(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("compiling for a CPU takes a C++ compiler")
    stages = {"stage1": part(steps=2), "stage2": part(steps=2, **DECODER, **VIDEOS)}
    pretrain(recipe(tmp_path, **stages), tmp_path / "plain")
    pretrain(recipe(tmp_path, compute={"compile": True}, **stages), tmp_path / "compiled")
    for name in stages:
        plain, compiled = (dict(losses(tmp_path / out, name)) for out in ("plain", "compiled"))
        assert compiled == pytest.approx(plain, abs=1e-4)


def test_data_workers_change_nothing(tmp_path: Path) -> None:
    made = contrast(tmp_path, steps=2)
    pretrain(made, tmp_path / "alone")
    pretrain(made.with_compute(workers=2), tmp_path / "workers")
    assert losses(tmp_path / "workers") == losses(tmp_path / "alone")


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_keeps_the_step_it_interrupts(tmp_path: Path) -> None:
    made = contrast(tmp_path, checkpoint_every=100)
    pretrain(made, tmp_path / "calm")

    def interrupt(now: PartProgress) -> None:
        if now.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretrain(made, tmp_path / "out", progress=interrupt)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert [path.name for path in checkpoints(tmp_path / "out" / "stage1")] == ["checkpoint-00000003.safetensors"]
    told: list[PartProgress] = []
    pretrain(made, tmp_path / "out", progress=told.append)
    assert [now.step for now in told] == [4]
    assert losses(tmp_path / "out") == losses(tmp_path / "calm")
    assert_equal(weights(tmp_path / "out"), weights(tmp_path / "calm"))


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_ctrl_c_at_the_last_step_ends_the_part_and_begins_no_other(tmp_path: Path) -> None:
    made = recipe(tmp_path, stage1=part(steps=2), stage2=part(steps=1, **DECODER, **VIDEOS))

    def interrupt(now: PartProgress) -> None:
        if now.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretrain(made, tmp_path / "out", progress=interrupt)
    assert (tmp_path / "out" / "stage1" / "encoder" / "pretraining.json").exists()
    assert not (tmp_path / "out" / "stage2").exists()
    assert pretrain(made, tmp_path / "out") == tmp_path / "out" / "encoder"


@pytest.mark.usefixtures("heeds_ctrl_c")
def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    def interrupt(now: PartProgress) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretrain(contrast(tmp_path, checkpoint_every=100), tmp_path / "out", progress=interrupt)
    assert not checkpoints(tmp_path / "out" / "stage1")


def test_the_average_is_what_is_exported(tmp_path: Path) -> None:
    made = contrast(tmp_path, ema=0.75)
    pretrain(made, tmp_path)
    run = PartRun(made, "stage1", tmp_path, tmp_path / "tokenizer.json")
    average = {name: p.detach().clone() for name, p in run.stage().named_parameters()}
    for path in checkpoints(run.folder):
        now = read_tensors(path)
        average = {name: 0.75 * value + 0.25 * now[f"weights/{name}"] for name, value in average.items()}
    exported = dict(load_encoder(tmp_path / "encoder").model.named_parameters())
    for name, value in exported.items():
        torch.testing.assert_close(value, average[f"model.{name}"])
    plain = read_tensors(checkpoints(run.folder)[-1])
    assert not torch.allclose(
        exported["vision.patch_projection.weight"], plain["weights/model.vision.patch_projection.weight"]
    )


def test_recomputed_activations_give_the_same_losses(tmp_path: Path) -> None:
    made = recipe(tmp_path, stage1=part(steps=2), stage2=part(steps=2, **DECODER, **VIDEOS))
    pretrain(made, tmp_path / "kept")
    pretrain(made.with_compute(activation_checkpointing=True), tmp_path / "recomputed")
    for name in ("stage1", "stage2"):
        assert losses(tmp_path / "recomputed", name) == losses(tmp_path / "kept", name)


def test_bf16_is_what_one_process_computes_in_too(tmp_path: Path) -> None:
    made = contrast(tmp_path, steps=2)
    pretrain(made, tmp_path / "fp32")
    pretrain(made.with_compute(precision="bf16-mixed"), tmp_path / "bf16")
    for (_, exact), (_, rough) in zip(losses(tmp_path / "fp32"), losses(tmp_path / "bf16"), strict=True):
        assert rough != exact and rough == pytest.approx(exact, rel=0.05)
    exact_dtypes = {name: value.dtype for name, value in weights(tmp_path / "fp32").items()}
    assert {name: value.dtype for name, value in weights(tmp_path / "bf16").items()} == exact_dtypes


def test_a_nan_stops_with_the_step_and_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third step goes astray; the checkpoint that it left is not good, though its own loss was."""
    monkeypatch.setattr(part_loop, "learning_rate", lambda config, step: 1e30 if step == 2 else 1e-4)
    with pytest.raises(PretrainingStopped) as stopped:
        pretrain(contrast(tmp_path, clip_grad_norm=0), tmp_path / "out")
    *_, good, bad = checkpoints(tmp_path / "out" / "stage1")
    line = str(stopped.value)
    assert "stage1" in line and "NaN or infinite" in line and "--restart" in line
    assert f"the last good checkpoint is {good}" in line and "\n" not in line
    assert "at step 4 of 4" in line and (good.stem[-1], bad.stem[-1]) == ("2", "3")
    assert not (tmp_path / "out" / "stage1" / "encoder").exists()


def test_collapsed_embeddings_stop_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_loop, "COLLAPSED", 2.0)  # no spread of unit vectors is larger
    monkeypatch.setattr(part_loop, "COLLAPSE_PATIENCE", 3)
    with pytest.raises(PretrainingStopped, match=r"collapsed .* at step 3 of 4; there is no good checkpoint yet"):
        pretrain(contrast(tmp_path), tmp_path / "out")


def test_the_last_good_checkpoint_outlives_a_collapse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spreads = iter([1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    monkeypatch.setattr(contrastive_stage, "spread", lambda embeddings: torch.tensor(next(spreads)))
    monkeypatch.setattr(part_loop, "COLLAPSE_PATIENCE", 4)
    made = contrast(tmp_path, steps=8)
    made = replace(made, compute=replace(made.compute, keep_checkpoints=1))
    with pytest.raises(PretrainingStopped, match=r"collapsed .* at step 6 of 8; the last good checkpoint is .*00002"):
        pretrain(made, tmp_path / "out")
    assert (tmp_path / "out" / "stage1" / "checkpoint-00000002.safetensors").exists()


def test_a_collapse_is_counted_over_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_loop, "COLLAPSED", 2.0)
    monkeypatch.setattr(part_loop, "COLLAPSE_PATIENCE", 3)
    with pytest.raises(PretrainingStopped, match="at step 3"):
        run_through(contrast(tmp_path), tmp_path / "out", once_per_step())


def test_a_full_disk_keeps_the_older_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors.torch

    made = contrast(tmp_path)
    pretrain(made, tmp_path / "calm")
    write = safetensors.torch.save_file
    calls = itertools.count()

    def full(*arguments: Any, **keywords: Any) -> None:
        if next(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(safetensors.torch, "save_file", full)
        with pytest.raises(InputError, match=r"checkpoint-00000003.*the disk is full"):
            pretrain(made, tmp_path / "out")
    assert checkpoints(tmp_path / "out" / "stage1")[-1].name == "checkpoint-00000002.safetensors"
    assert not list((tmp_path / "out" / "stage1").glob(".*.tmp"))
    pretrain(made, tmp_path / "out")
    assert losses(tmp_path / "out") == losses(tmp_path / "calm")
    assert_equal(weights(tmp_path / "out"), weights(tmp_path / "calm"))


def test_a_folder_refuses_another_recipe_and_says_what_differs(tmp_path: Path) -> None:
    made = contrast(tmp_path, steps=1)
    pretrain(made, tmp_path / "out")
    other = contrast(tmp_path, steps=1, lr=5e-4, drop=0.25, log_every=7)
    with pytest.raises(InputError) as refused:
        pretrain(other, tmp_path / "out")
    line = str(refused.value)
    assert "another recipe" in line and "stage1.lr was 0.001, now 0.0005" in line and "stage1.drop" in line
    assert "log_every" not in line and "--restart" in line and "\n" not in line
    pretrain(contrast(tmp_path, steps=1, log_every=7, checkpoint_every=9, evaluate_every=3), tmp_path / "out")
    pretrain(other, tmp_path / "out", restart=True)
    assert read_json(tmp_path / "out" / "encoder" / "pretraining.json")["recipe"]["stage1"]["lr"] == 5e-4


def test_a_folder_refuses_another_corpus_and_says_what_differs(tmp_path: Path) -> None:
    captions = [f"a blue square {number}" for number in range(8)]
    made = recipe(tmp_path, table_corpus(tmp_path, captions), stage1=part(steps=1), stage2=None)
    pretrain(made, tmp_path / "out")
    table_corpus(tmp_path, [*captions, "one more"])
    with pytest.raises(InputError, match=r"another corpus \(curated.clips was 8, now 9\)"):
        pretrain(made, tmp_path / "out")
    table_corpus(tmp_path, [*captions[:-1], "something else"])
    with pytest.raises(InputError, match=r"another corpus \(the content of its tables or shards\)"):
        pretrain(made, tmp_path / "out")
    pretrain(made, tmp_path / "out", restart=True)
    (tmp_path / "out" / "stage1" / "run.json").write_text("[]")
    with pytest.raises(InputError, match="not the record of a run"):
        pretrain(made, tmp_path / "out")


def test_a_part_does_not_go_on_with_another_tokenizer(tmp_path: Path) -> None:
    made = contrast(tmp_path)
    with pytest.raises(Killed):
        pretrain(made, tmp_path / "out", progress=once_per_step())
    file = tmp_path / "out" / "tokenizer.json"
    file.write_text(file.read_text() + "\n")
    with pytest.raises(InputError, match="was begun with another tokenizer .*tokenizer.json"):
        pretrain(made, tmp_path / "out")


def test_a_record_names_the_encoder_it_started_from(tmp_path: Path) -> None:
    first = pretrain(contrast(tmp_path), tmp_path / "first")
    stage1, tokenizer = part(start_from=str(first)), str(first / "tokenizer.json")
    made = recipe(tmp_path, stage1=stage1, stage2=None, tokenizer=tokenizer)
    about = read_json(pretrain(made, tmp_path / "second") / "pretraining.json")
    assert about["parts"]["stage1"]["started_from"] == load_encoder(first).fingerprint
    assert about["recipe"]["stage1"]["start_from"] == first.name and str(tmp_path) not in json.dumps(about)
    card = (tmp_path / "second" / "encoder" / "README.md").read_text()
    assert f"video-text contrast, from encoder {load_encoder(first).fingerprint[:12]}" in card


def test_a_part_does_not_go_on_from_another_start(tmp_path: Path) -> None:
    short = part(steps=1)
    made = recipe(tmp_path, stage1=short, stage2=short | DECODER | VIDEOS)
    with pytest.raises(InputError, match="stage2 starts from stage1, which is not finished"):
        pretrain(made, tmp_path / "out", ["stage2"])
    pretrain(made, tmp_path / "out")
    pretrain(made, tmp_path / "out", ["stage1"], restart=True)  # the same weights again
    pretrain(made, tmp_path / "out")
    other = recipe(tmp_path, stage1=short | {"lr": 5e-4}, stage2=short | DECODER | VIDEOS)
    pretrain(other, tmp_path / "out", ["stage1"], restart=True)
    with pytest.raises(InputError, match="stage2: was begun with another recipe"):
        pretrain(other, tmp_path / "out")
    # another stage 1 of the same recipe, as another machine's rounding would make it
    pretrain(made, tmp_path / "out", restart=True)
    about = tmp_path / "out" / "stage1" / "encoder" / "pretraining.json"
    about.write_text(json.dumps(read_json(about) | {"fingerprint": "other"}))
    with pytest.raises(InputError, match="another start .*made anew"):
        pretrain(made, tmp_path / "out")


def test_restart_learns_the_tokenizer_anew(tmp_path: Path) -> None:
    pretrain(contrast(tmp_path, steps=1), tmp_path / "out")
    learned = (tmp_path / "out" / "tokenizer.json").read_text()
    (tmp_path / "out" / "tokenizer.json").write_text(learned + "\n")
    pretrain(contrast(tmp_path, steps=1), tmp_path / "out", restart=True)
    assert (tmp_path / "out" / "tokenizer.json").read_text() == learned


def test_what_is_wrong_is_said_before_training(tmp_path: Path) -> None:
    world = write_world(tmp_path)
    for changes, words in (
        ({"corpus": tmp_path / "none.yaml"}, r"none\.yaml: no such manifest; let `corpus`"),
        ({"tokenizer": tmp_path / "none.json"}, r"none\.json: no such file"),
        ({"held_out": tmp_path / "none.yaml"}, r"none\.yaml: no such manifest"),
    ):
        with pytest.raises(InputError, match=words):
            pretrain(replace(recipe(tmp_path, world), **changes), tmp_path / "out")
    with pytest.raises(InputError, match="has no alignment; it has stage1, stage2"):
        pretrain(recipe(tmp_path, world), tmp_path / "out", ["alignment"])
    with pytest.raises(InputError, match="'clipz'; did you mean 'clips'"):
        pretrain(contrast(tmp_path, tiers=["clipz"]), tmp_path / "out")
    with pytest.raises(InputError, match="40 clips, fewer than one global batch of 64"):
        pretrain(contrast(tmp_path, batch_size=64), tmp_path / "out")
    with pytest.raises(InputError, match="stage2: tier 'pictures' holds images"):
        pretrain(recipe(tmp_path, stage1=part(steps=1), stage2=part(**DECODER)), tmp_path / "out")
    with pytest.raises(InputError, match="^compute: "):
        pretrain(contrast(tmp_path, steps=9).with_compute(accelerator="gpux"), tmp_path / "other")
    with pytest.raises(InputError, match="num_nodes 2: start the command on every machine with torchrun"):
        pretrain(contrast(tmp_path).with_compute(num_nodes=2), tmp_path / "other")


def test_a_tier_without_captions_serves_stage_2_alone(tmp_path: Path) -> None:
    names = [path.name for path in write_clips(tmp_path / "clips", 6)]
    write_jsonl(tmp_path / "clips" / "said.jsonl", [{"video": name, "caption": f"clip {name}"} for name in names])
    write_jsonl(tmp_path / "clips" / "mute.jsonl", [{"video": name} for name in names])
    text = "tiers:\n" + "".join(
        f"  - {{name: {name}, quality: noisy, weight: 1, table: clips/{name}.jsonl}}\n" for name in ("said", "mute")
    )
    corpus = write_manifest(tmp_path / "two.yaml", text)
    stage2 = part(steps=1, tiers=["mute"], **DECODER)
    with pytest.raises(InputError, match="'mute'.*caption"):
        pretrain(recipe(tmp_path, corpus, stage2=stage2), tmp_path / "out")
    made = recipe(tmp_path, corpus, stage1=part(steps=1, tiers=["said"]), stage2=stage2)
    pretrain(made, tmp_path / "out")
    assert records(tmp_path / "out", "stage2")[0]["tier"] == "mute"


def test_odd_captions_train(tmp_path: Path) -> None:
    captions = ["", "42", "long " * 2000, "猫が左に動く", "🎉🎉", "ünïcode", "plain words", "7.5e3"]
    made = recipe(tmp_path, table_corpus(tmp_path, captions), stage1=part(), stage2=None)
    pretrain(made, tmp_path / "out")
    assert len(losses(tmp_path / "out")) == 4 and all(np.isfinite(loss) for _, loss in losses(tmp_path / "out"))


def test_unreadable_clips_are_skipped_listed_and_counted(tmp_path: Path) -> None:
    corpus = clip_corpus(tmp_path, 12, broken=[1, 5])
    made = recipe(tmp_path, corpus, stage1=part(steps=6), stage2=None, max_unreadable=0.5)
    pretrain(made, tmp_path / "calm")
    assert run_through(made, tmp_path / "stormy", once_per_step()) == 6
    for out in (tmp_path / "calm", tmp_path / "stormy"):
        listed = [json.loads(line) for line in (out / "stage1" / "skipped.jsonl").read_text().splitlines()]
        assert {Path(row["path"]).name for row in listed} == {"001.mp4", "005.mp4"}
        assert all(row["reason"] and row["tier"] == "curated" for row in listed)
        assert records(out)[-1]["skipped"] == len(listed)
        assert read_json(out / "encoder" / "pretraining.json")["parts"]["stage1"]["skipped"] == len(listed)
    assert losses(tmp_path / "stormy") == losses(tmp_path / "calm")


def test_too_many_unreadable_clips_stop_the_run(tmp_path: Path) -> None:
    corpus = clip_corpus(tmp_path, 8, broken=[1, 3, 5])
    made = recipe(tmp_path, corpus, stage1=part(steps=40, checkpoint_every=5), stage2=None, max_unreadable=0.02)
    with pytest.raises(InputError, match=r"clips could not be read.*max_unreadable=0\.02"):
        pretrain(made, tmp_path / "out")


def test_held_out_clips_come_once_and_lost_ones_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    part_run = functools.partial(PartRun, part="stage1", out=tmp_path, tokenizer_file=tmp_path / "x")
    tiers = [
        {"name": "few", "quality": "clean", "synthetic": {"split": "few", "size": 16, "length": 4}},
        {"name": "many", "quality": "clean", "synthetic": {"split": "many", "size": 16, "length": 40}},
    ]
    unequal = write_manifest(tmp_path / "unequal.yaml", yaml.safe_dump({"tiers": tiers}))
    clips = part_run(recipe(tmp_path, held_out=str(unequal), held_out_clips=44)).held_out()
    assert clips is not None and len({frames.numpy().tobytes() for frames in clips.frames}) == 44

    damaged = clip_corpus(tmp_path / "damaged", 10, broken=[4])
    made = recipe(tmp_path, held_out=str(damaged))
    with pytest.raises(InputError, match=r"1 of 10 clips could not be read, above max_unreadable=0.05; e\.g\. .*\.mp4"):
        part_run(made).held_out()
    clips = part_run(replace(made, max_unreadable=0.1)).held_out()
    assert clips is not None and len(clips.captions) == 9 and "clip 4" not in clips.captions
    assert "1 of 10 clips could not be read and are left out" in caplog.text

    hub = {"name": "far", "quality": "noisy", "hub": {"path": "org/name", "split": "train"}}
    streamed = write_manifest(tmp_path / "hub.yaml", yaml.safe_dump({"tiers": [hub]}))
    with pytest.raises(InputError, match="tier 'far' streams from the Hub"):
        part_run(recipe(tmp_path, held_out=str(streamed))).held_out_corpus()


def test_a_torn_line_of_skipped_clips_stops_no_resume(tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = recipe(tmp_path, clip_corpus(tmp_path, 12, broken=[3]), stage1=part(), stage2=None, max_unreadable=1)
    pretrain(made, out)
    whole = (out / "stage1" / "skipped.jsonl").read_text()
    cut_back(out, "stage1", 4)
    with (out / "stage1" / "skipped.jsonl").open("a") as file:
        file.write('{"step": 3, "tier": "cur\n\0\0\0\n')
    pretrain(made, out)
    assert (out / "stage1" / "skipped.jsonl").read_text() == whole


def test_held_out_clips_are_as_many_as_there_are(tmp_path: Path) -> None:
    world = write_world(tmp_path)
    few = clip_corpus(tmp_path, 5)
    for held_out, asked, expected in ((few, 512, 5), (few, 4, 4), (world, 50, 50), (world, 512, 120)):
        made = recipe(tmp_path, world, held_out=str(held_out), held_out_clips=asked)
        clips = PartRun(made, "stage1", tmp_path, tmp_path / "tokenizer.json").held_out()
        assert clips is not None
        assert clips.frames.shape == (expected, 4, 16, 16, 3)
        assert len(clips.captions) == len(clips.labels) == expected
    still = PartRun(replace(made, stage1=replace(made.stage1, num_frames=1)), "stage1", tmp_path, tmp_path / "x")
    assert still.held_out().frames.shape[1] == 2


def test_part_corpora_differ_by_part_and_hold_the_asked_tiers(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    manifest = PartRun(made, "stage1", tmp_path, tmp_path).corpus.manifest
    assert [tier.name for tier in select(manifest, ["web", "clips"]).tiers] == ["clips", "web"]
    assert select(manifest, ()) == manifest
    made = replace(made, stage1=replace(made.stage1, tiers=("clips", "web")))
    one, two = (part_corpus(made, manifest, name) for name in ("stage1", "stage2"))
    assert not torch.equal(one.batch(0, 4).frames, two.batch(0, 4).frames)
    assert one.need_captions and not two.need_captions


def test_pictures_leave_fresh_temporal_layers_passing_on(tmp_path: Path) -> None:
    made = recipe(tmp_path, images=part(num_frames=1), stage2=None)
    stage = initial_stage(
        made, "images", tmp_path, PartRun(contrast(tmp_path), "stage1", tmp_path, _tokenizer(tmp_path)).tokenizer
    )
    vision = stage.model.vision.eval()
    video = torch.rand(1, 3, 3, 16, 16)
    spatial = vision.encode_spatial(video)
    passed = vision.temporal_norm(spatial + vision._temporal_positions(3)[:, None])
    torch.testing.assert_close(vision.encode_temporal(spatial), passed)


def _tokenizer(folder: Path) -> Path:
    from pretrain.tokenizer import train_tokenizer

    return train_tokenizer(["a red square moves left"], 300, folder / "tokenizer.json")


def test_a_spatial_half_is_taken_from_an_encoder(tmp_path: Path) -> None:
    pretrain(contrast(tmp_path, steps=1), tmp_path / "given")
    given = tmp_path / "given" / "encoder"
    tokenizer = str(tmp_path / "given" / "tokenizer.json")
    made = recipe(tmp_path, stage1=part(initialize_from=str(given)), stage2=None, seed=9, tokenizer=tokenizer)
    run = PartRun(made, "stage1", tmp_path / "out", Path(tokenizer))
    theirs, ours = load_encoder(given).model.vision.state_dict(), run.stage().model.vision.state_dict()
    for name, value in ours.items():
        spatial = name.startswith(("patch_projection", "spatial"))
        assert torch.equal(value, theirs[name]) or not spatial, name
    assert not torch.equal(ours["temporal_positions"], theirs["temporal_positions"])
    assert not ours["temporal_layers.0.out.weight"].any()
    wide = recipe(tmp_path, stage1=part(initialize_from="nano"), stage2=None)
    with pytest.raises(InputError, match="initialize_from 'nano': its spatial half has another shape at"):
        PartRun(wide, "stage1", tmp_path / "out", Path(tokenizer)).stage()
    whole = recipe(tmp_path, stage1=part(start_from=str(given)), stage2=None, tokenizer=tokenizer)
    start = PartRun(whole, "stage1", tmp_path / "out", Path(tokenizer)).stage().model.state_dict()
    assert_equal(dict(start), dict(load_encoder(given).model.state_dict()))


def test_a_restart_killed_while_it_deletes_leaves_nothing_to_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    pretrain(contrast(tmp_path, steps=1), out)
    other = contrast(tmp_path, steps=1, lr=5e-4)

    def killed(folder: Path, **keywords: Any) -> None:
        (folder / "run.json").unlink(missing_ok=True)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("pretrain.training.shutil.rmtree", killed)
        with pytest.raises(Killed):
            pretrain(other, out, restart=True)
    assert not (out / "stage1").exists() and not (out / "encoder").exists()
    pretrain(other, out)
    for made in (out / "stage1" / "encoder", out / "encoder"):
        assert read_json(made / "pretraining.json")["recipe"]["stage1"]["lr"] == 5e-4
    assert not list(out.glob(".*"))


def test_a_restart_of_the_last_part_drops_the_copy_of_what_it_made(tmp_path: Path) -> None:
    made = recipe(tmp_path, stage1=part(steps=1), stage2=part(steps=1, **DECODER, **VIDEOS))
    out = tmp_path / "out"
    pretrain(made, out)

    def killed(now: PartProgress) -> None:
        raise Killed

    with pytest.raises(Killed):
        pretrain(made, out, ["stage1"], restart=True, progress=killed)
    assert (out / "encoder").exists() and (out / "stage2").exists()
    with pytest.raises(InputError, match="stage2 starts from stage1, which is not finished"):
        pretrain(made, out, ["stage2"], restart=True)
    assert not (out / "encoder").exists() and not (out / "stage2").exists()
