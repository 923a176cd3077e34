"""Parts begun anew: what a restart drops, keeps and refuses, and what one leaves that was killed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from core_encoder.errors import InputError
from core_encoder.files.storage import read_json
from pretrain.recipe import Recipe
from pretrain.run.progress import PartProgress
from pretrain.training import pretrain
from tests.pretrain.corpora import clip_corpus
from tests.pretrain.tiny_models import tiny_recipe
from tests.pretrain.tiny_runs import (
    DECODER,
    VIDEOS,
    Killed,
    contrast,
    once_per_step,
    part,
    recipe,
)

VISION, TEXT = tiny_recipe()["vision"], tiny_recipe()["text"]


def test_restart_learns_the_tokenizer_anew(tmp_path: Path) -> None:
    pretrain(contrast(tmp_path, steps=1), tmp_path / "out")
    learned = (tmp_path / "out" / "tokenizer.json").read_text()
    (tmp_path / "out" / "tokenizer.json").write_text(learned + "\n")
    pretrain(contrast(tmp_path, steps=1), tmp_path / "out", restart=True)
    assert (tmp_path / "out" / "tokenizer.json").read_text() == learned


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
        patched.setattr("pretrain.run.run_folder.shutil.rmtree", killed)
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
    pretrain(made, out, ["stage1"])
    with pytest.raises(Killed):
        pretrain(made, out, ["stage2"], restart=True, progress=killed)
    assert not (out / "encoder").exists() and not (out / "stage2" / "encoder").exists()


def test_a_restart_that_is_refused_removes_nothing(tmp_path: Path) -> None:
    short = part(steps=1)

    def of(stage1: dict[str, Any] | None = None, stage2: dict[str, Any] | None = None, **changes: Any) -> Recipe:
        changes |= {"stage1": short | (stage1 or {}), "stage2": short | DECODER | VIDEOS | (stage2 or {})}
        return recipe(tmp_path, **changes)

    made, out = of(), tmp_path / "out"
    pretrain(made, out)
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    garbage = tmp_path / "garbage.json"
    garbage.write_text("{}")
    tokenizer = str(shutil.copy(out / "tokenizer.json", tmp_path / "tokenizer.json"))
    everything: tuple[str, ...] = ()
    for refused, parts, words in (
        (of(stage2={"batch_size": 64}), everything, "fewer than one global batch"),
        (replace(made, corpus=tmp_path / "none.yaml"), everything, "no such manifest"),
        (replace(made, held_out=tmp_path / "none"), everything, "none: "),
        (made.with_compute(accelerator="gpux"), everything, "^compute: "),
        (of(tokenizer=str(garbage)), everything, "not a tokenizer"),
        (
            replace(made, held_out=clip_corpus(tmp_path / "lost", 4, broken=range(4))),
            everything,
            "4 of 4 clips could not",
        ),
        (of(text=TEXT | {"vocab_size": 100}), everything, "vocabulary of 100 pieces is too small"),
        (of(stage1={"lr": 5e-4}), ("stage2",), r"stage1: was begun with another recipe \(stage1.lr was 0.001"),
        (
            of(vision=VISION | {"spatial_layers": 2}),
            ("stage2",),
            r"another recipe \(vision.spatial_layers was 1, now 2",
        ),
        (
            of(stage1={"start_from": str(out / "encoder")}, tokenizer=tokenizer),
            everything,
            "stage1: start_from .*/out/encoder lies in what the run makes anew; copy it elsewhere",
        ),
        (
            of(tokenizer=str(out / "encoder" / "tokenizer.json")),
            everything,
            "tokenizer .* lies in what the run makes anew",
        ),
    ):
        with pytest.raises(InputError, match=words):
            pretrain(refused, out, parts, restart=True)
    shutil.move(out / "stage1" / "encoder", tmp_path / "aside")
    with pytest.raises(InputError, match="stage2 starts from stage1, which is not finished"):
        pretrain(made, out, ["stage2"], restart=True)
    shutil.move(tmp_path / "aside", out / "stage1" / "encoder")
    assert set(out.rglob("*")) == kept.keys()
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items() if path.is_file())


def test_a_restart_killed_before_it_removes_keeps_the_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, out = contrast(tmp_path), tmp_path / "out"
    with pytest.raises(Killed):
        pretrain(made, out, progress=once_per_step())
    other = recipe(tmp_path, stage1=part(), stage2=None, text=TEXT | {"vocab_size": 290})
    with monkeypatch.context() as patched:
        patched.setattr("pretrain.training.forget", _kill)
        with pytest.raises(Killed):
            pretrain(other, out, restart=True)
    pretrain(made, out)
    assert not list(out.glob(".*"))


def _kill(*given: object) -> None:
    raise Killed
