"""The loop of a part in one process: what stops it, what it keeps, what changes nothing."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from core_encoder import load_encoder
from core_encoder.errors import InputError
from core_encoder.files.storage import read_json, read_tensors
from pretrain.run import part_loop
from pretrain.run.checkpoint import checkpoints
from pretrain.run.part_run import PartRun
from pretrain.run.progress import PartProgress, PretrainingStopped
from pretrain.stages import contrastive_stage, optimizer
from pretrain.training import pretrain
from tests.pretrain.corpora import clip_corpus, write_clips
from tests.pretrain.tiny_runs import (
    DECODER,
    VIDEOS,
    Killed,
    assert_equal,
    contrast,
    cut_back,
    losses,
    once_per_step,
    part,
    recipe,
    records,
    run_through,
    weights,
)


@pytest.mark.slow
def test_compiled_layers_train_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("g++") is None:
        pytest.skip("compiling for a CPU takes a C++ compiler")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))  # a killed run leaves half a file in it
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
    monkeypatch.setattr(optimizer, "learning_rate", lambda config, step: 1e30 if step == 2 else 1e-4)
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


def test_a_run_that_lost_clips_stop_goes_on_from_its_last_step(tmp_path: Path) -> None:
    corpus, out = clip_corpus(tmp_path, 12, broken=range(6)), tmp_path / "out"
    made = recipe(tmp_path, corpus, stage1=part(steps=20, checkpoint_every=1000), stage2=None, max_unreadable=0.2)
    calm = replace(made, max_unreadable=1)
    pretrain(calm, tmp_path / "calm")
    with pytest.raises(InputError, match="clips drawn could not be read"):
        pretrain(made, out)
    [kept] = checkpoints(out / "stage1")
    assert int(kept.stem.rpartition("-")[2]) == losses(out)[-1][0] >= 2
    pretrain(calm, out)
    assert losses(out) == losses(tmp_path / "calm")
    assert_equal(weights(out), weights(tmp_path / "calm"))


def test_a_part_that_cannot_be_judged_is_kept(tmp_path: Path) -> None:
    held_out, out = clip_corpus(tmp_path / "held", 4), tmp_path / "out"
    made = recipe(tmp_path, stage1=part(checkpoint_every=1000), stage2=None, held_out=str(held_out), held_out_clips=4)

    def damage(now: PartProgress) -> None:
        for video in (tmp_path / "held" / "clips").glob("*.mp4"):
            video.write_bytes(b"no video")

    with pytest.raises(InputError, match="held_out .*: 4 of 4 clips could not be read"):
        pretrain(made, out, progress=damage)
    assert len(checkpoints(out / "stage1")) == 1
    with pytest.raises(InputError, match="held_out .*: 4 of 4 clips could not be read"):
        pretrain(made, out)  # before it trains
    write_clips(tmp_path / "held" / "clips", 4)
    about = read_json(pretrain(made, out, progress=damage) / "pretraining.json")
    assert "recall@1/text" in about["parts"]["stage1"]["scores"]


def test_scores_of_an_earlier_step_are_not_taken_for_the_last(tmp_path: Path) -> None:
    held_out, out = clip_corpus(tmp_path / "held", 4), tmp_path / "out"
    made = recipe(tmp_path, stage1=part(evaluate_every=2), stage2=None, held_out=str(held_out), held_out_clips=4)
    calm = read_json(pretrain(made, tmp_path / "calm") / "pretraining.json")

    def kill_at_3(now: PartProgress) -> None:
        if now.step == 3:
            raise Killed

    def damage(now: PartProgress) -> None:
        for video in (tmp_path / "held" / "clips").glob("*.mp4"):
            video.write_bytes(b"no video")

    with pytest.raises(Killed):
        pretrain(made, out, progress=kill_at_3)
    with pytest.raises(InputError, match="held_out .*: 4 of 4 clips could not be read"):
        pretrain(made, out, progress=damage)
    write_clips(tmp_path / "held" / "clips", 4)
    about = read_json(pretrain(made, out) / "pretraining.json")
    assert about["parts"]["stage1"]["scores"] == calm["parts"]["stage1"]["scores"]


def test_too_many_unreadable_clips_stop_the_run(tmp_path: Path) -> None:
    corpus = clip_corpus(tmp_path, 8, broken=range(1, 8))
    made = recipe(tmp_path, corpus, stage1=part(steps=40, checkpoint_every=5), stage2=None, max_unreadable=0.01)
    with pytest.raises(InputError, match=r"clips drawn could not be read.*max_unreadable=0\.01"):
        pretrain(made, tmp_path / "out")
    listed = [json.loads(line) for line in (tmp_path / "out" / "stage1" / "skipped.jsonl").read_text().splitlines()]
    assert len(listed) > 1 and {row["step"] for row in listed} == {0}, "those of the batch that stopped it too"


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
