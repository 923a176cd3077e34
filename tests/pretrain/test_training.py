"""Runs of recipes in one process: exact resume at every step, what stops a run, what a folder refuses."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core_encoder import load_encoder
from core_encoder.errors import InputError
from core_encoder.files.storage import read_json
from pretrain.corpus.manifest import Manifest
from pretrain.run.progress import PartProgress
from pretrain.training import pretrain
from tests.pretrain.corpora import write_clips, write_jsonl, write_manifest
from tests.pretrain.tiny_models import tiny_recipe
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
    table_corpus,
    tokenizer_file,
    weights,
    write_world,
)


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


def test_a_spatial_half_without_a_rate_stays_as_it_was(tmp_path: Path) -> None:
    made = {}
    for steps in (1, 4):
        pretrain(contrast(tmp_path, spatial_lr=0, steps=steps, warmup_steps=0), tmp_path / f"{steps}")
        made[steps] = weights(tmp_path / f"{steps}")
    moved = {name for name in made[1] if not np.array_equal(made[1][name], made[4][name])}
    assert any("temporal" in name for name in moved) and any("text" in name for name in moved)
    assert not [name for name in moved if "spatial" in name or "patch" in name]


def test_the_tokenizer_knows_the_words_of_later_parts(tmp_path: Path) -> None:
    short, text = part(steps=1), tiny_recipe()["text"] | {"vocab_size": 640}
    pictures = short | {"num_frames": 1, "tiers": ["pictures"]}
    made = recipe(tmp_path, images=pictures, stage1=short | VIDEOS, stage2=None, text=text)
    pretrain(made, tmp_path / "out", ["images"])
    pieces = read_json(tmp_path / "out" / "tokenizer.json")["model"]["vocab"]
    assert {"Ġpicture", "Ġstar", "Ġmoving"} <= set(pieces), "pictures say nothing of motions, clips do"


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
    with pytest.raises(InputError, match="another start .*has changed"):
        pretrain(made, tmp_path / "out")


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
    with pytest.raises(InputError, match="40 clips, fewer than one global batch of 64"):
        pretrain(contrast(tmp_path, batch_size=64, accumulate=4), tmp_path / "out")
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


def test_parts_with_one_missing_between_them_are_checked_against_it(tmp_path: Path) -> None:
    short = part(steps=1)
    made = recipe(tmp_path, images=short | {"num_frames": 1}, stage1=short, stage2=short | DECODER | VIDEOS)
    with pytest.raises(InputError, match="stage2 starts from stage1, which is not finished"):
        pretrain(made, tmp_path / "out", ["images", "stage2"], progress=once_per_step())
    assert not any((tmp_path / "out").rglob("*"))


def test_what_runs_is_told_by_those_that_run(tmp_path: Path) -> None:
    short, out = part(steps=1), tmp_path / "out"
    made = recipe(tmp_path, stage1=short, stage2=short | DECODER | VIDEOS)
    pretrain(made, out)
    other = recipe(tmp_path, stage1=short, stage2=short | DECODER | VIDEOS | {"lr": 5e-4})
    with pytest.raises(InputError, match="stage2: was begun with another recipe .*or --stage stage2 --restart"):
        pretrain(other, out)
    pretrain(replace(made, name="other"), out)
    assert read_json(out / "recipe.json") == made.describe()
    pretrain(other, out, ["stage2"], restart=True)
    assert read_json(out / "recipe.json") == other.describe()


def test_what_will_surprise_is_said_before_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = recipe(tmp_path, stage1=part(steps=1, warmup_steps=3), stage2=None)
    pretrain(replace(made, held_out=made.corpus, held_out_clips=8), tmp_path / "out")
    assert "stage1: warmup_steps 3 of 1 steps: the learning rate never gets to lr" in caplog.text
    assert "stage1: trains on tier web, whose clips are held out as tier web" in caplog.text


def test_a_start_wants_its_own_tokenizer(tmp_path: Path, finished_run: Path) -> None:
    given = shutil.copytree(finished_run, tmp_path / "given") / "encoder"
    other = str(tokenizer_file(tmp_path))
    made = recipe(tmp_path, stage1=part(start_from=str(given)), stage2=None, tokenizer=other)
    with pytest.raises(InputError, match="learned with another tokenizer; let `tokenizer` name .*given/encoder/token"):
        pretrain(made, tmp_path / "out")


def test_a_later_part_keeps_the_tokenizer_of_the_one_before(tmp_path: Path) -> None:
    short, out = part(steps=1), tmp_path / "out"
    parts: dict[str, Any] = {"stage1": short, "stage2": short | DECODER | VIDEOS}
    pretrain(recipe(tmp_path, **parts), out, ["stage1"])
    other = recipe(tmp_path, **parts, tokenizer=str(tokenizer_file(tmp_path)))
    with pytest.raises(InputError, match="stage1: was begun with another tokenizer"):
        pretrain(other, out, ["stage2"])
    learned = (out / "tokenizer.json").rename(tmp_path / "aside.json")
    with pytest.raises(InputError, match="out/tokenizer.json: no such file; copy that of .*/stage1/encoder"):
        pretrain(recipe(tmp_path, **parts), out, ["stage2"])
    shutil.copy(learned, out / "tokenizer.json")
    pretrain(recipe(tmp_path, **parts), out, ["stage2"])


def test_what_a_finished_part_started_from_may_go(tmp_path: Path, finished_run: Path) -> None:
    given = shutil.copytree(finished_run, tmp_path / "given") / "encoder"
    tokenizer = str(shutil.copy(given / "tokenizer.json", tmp_path / "tokenizer.json"))
    short = part(steps=1)
    made = recipe(
        tmp_path,
        stage1=short | {"start_from": str(given)},
        stage2=short | DECODER | VIDEOS,
        tokenizer=tokenizer,
    )
    pretrain(made, tmp_path / "out", ["stage1"])
    shutil.rmtree(given)
    assert pretrain(made, tmp_path / "out") == pretrain(made, tmp_path / "out")


def test_a_run_from_before_starts_were_recorded_goes_on(tmp_path: Path, finished_run: Path) -> None:
    given = shutil.copytree(finished_run, tmp_path / "given") / "encoder"
    tokenizer = str(shutil.copy(given / "tokenizer.json", tmp_path / "tokenizer.json"))
    made = recipe(tmp_path, stage1=part(start_from=str(given)), stage2=None, tokenizer=tokenizer)
    with pytest.raises(Killed):
        pretrain(made, tmp_path / "out", progress=once_per_step())
    file = tmp_path / "out" / "stage1" / "run.json"
    file.write_text(json.dumps(read_json(file) | {"start": None}))
    about = read_json(pretrain(made, tmp_path / "out") / "pretraining.json")
    assert "started_from" not in about["parts"]["stage1"]


def test_a_part_with_start_from_does_not_go_on_from_another_encoder(tmp_path: Path, finished_run: Path) -> None:
    given = shutil.copytree(finished_run, tmp_path / "given") / "encoder"
    tokenizer = str(shutil.copy(given / "tokenizer.json", tmp_path / "tokenizer.json"))
    stage2 = part(start_from=str(given), **DECODER, **VIDEOS)
    made = recipe(tmp_path, stage1=None, stage2=stage2, tokenizer=tokenizer)
    with pytest.raises(Killed):
        pretrain(made, tmp_path / "out", progress=once_per_step())
    pretrain(contrast(tmp_path, steps=2), tmp_path / "given", restart=True)
    with pytest.raises(InputError, match="stage2: was begun with another start .*has changed"):
        pretrain(made, tmp_path / "out")


def test_an_encoder_to_start_from_is_seen_to_before_anything_trains(tmp_path: Path) -> None:
    tokenizer = str(tokenizer_file(tmp_path))
    for stage1, stage2, words in (
        ({}, {"start_from": "nano"}, "start_from 'nano': not the model that the recipe describes"),
        ({}, {"start_from": str(tmp_path / "none")}, "none: no such file or folder"),
        ({"initialize_from": "nano"}, {}, "initialize_from 'nano': its spatial half has another shape"),
    ):
        made = recipe(tmp_path, stage1=part(**stage1), stage2=part(**DECODER, **VIDEOS, **stage2), tokenizer=tokenizer)
        with pytest.raises(InputError, match=words):
            pretrain(made, tmp_path / "out", progress=once_per_step())
        assert not any((tmp_path / "out").rglob("*"))
