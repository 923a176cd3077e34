"""The folder of a run: a user's own things in it are left alone, and what comes or goes does so at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from core_encoder.errors import InputError
from pretrain.run.progress import PartProgress
from pretrain.run.run_folder import aside, check_folder, forget, publish, sweep
from pretrain.training import pretrain
from tests.pretrain.tiny_runs import DECODER, VIDEOS, Killed, contrast, once_per_step, part, recipe


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("name", ["stage1/holiday.jpg", "stage1/.env", "encoder/README.md", "recipe.json", "stage1"])
def test_what_is_no_run_s_own_is_left_alone(tmp_path: Path, name: str, restart: bool) -> None:
    file = tmp_path / "project" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine")
    with pytest.raises(InputError, match=f"project/{name.partition('/')[0]}: is there, but not from a run"):
        pretrain(contrast(tmp_path, steps=1), tmp_path / "project", restart=restart)
    assert file.read_text() == "mine" and [path for path in (tmp_path / "project").rglob("*") if path.is_file()] == [
        file
    ]


def test_a_run_lives_beside_what_it_does_not_write(tmp_path: Path) -> None:
    (tmp_path / "out" / "images").mkdir(parents=True)
    (tmp_path / "out" / "images" / "holiday.jpg").write_text("mine")  # the recipe has no part `images`
    for restart in (False, True):
        pretrain(contrast(tmp_path, steps=1), tmp_path / "out", restart=restart)
    assert (tmp_path / "out" / "images" / "holiday.jpg").read_text() == "mine"


def test_a_tokenizer_that_no_part_was_made_with_is_learned_anew_or_refused(tmp_path: Path) -> None:
    made, out = contrast(tmp_path, steps=1), tmp_path / "out"
    pretrain(made, tmp_path / "first")
    out.mkdir()
    learned = shutil.copy(tmp_path / "first" / "tokenizer.json", out / "tokenizer.json")
    check_folder(out, ["stage1"])
    learned.write_text(learned.read_text() + "\n")
    for restart in (False, True):
        with pytest.raises(InputError, match="out/tokenizer.json: is there, but not from a run"):
            pretrain(made, out, restart=restart)
    assert [file.name for file in out.iterdir()] == ["tokenizer.json"]
    shutil.copy(tmp_path / "first" / "tokenizer.json", learned)  # as a run leaves it that was killed before its part
    pretrain(made, out)


def test_an_encoder_of_another_run_is_not_replaced(tmp_path: Path) -> None:
    made, out = contrast(tmp_path, steps=1), tmp_path / "out"
    given = pretrain(made, tmp_path / "given")
    shutil.copytree(given, out / "encoder")
    with pytest.raises(InputError, match="out/encoder: is there, but not from a run"):
        pretrain(made, out)
    assert (out / "encoder" / "model.safetensors").read_bytes() == (given / "model.safetensors").read_bytes()


def test_a_recipe_without_the_last_parts_replaces_no_encoder(tmp_path: Path) -> None:
    short, out = part(steps=1), tmp_path / "out"
    pretrain(recipe(tmp_path, stage1=short, stage2=short | DECODER | VIDEOS), out)
    kept = (out / "encoder" / "pretraining.json").read_bytes()
    with pytest.raises(InputError, match="out/stage2: is of a recipe with more parts than this one"):
        pretrain(recipe(tmp_path, stage1=short, stage2=None), out)
    assert (out / "encoder" / "pretraining.json").read_bytes() == kept


def test_a_part_killed_before_it_was_claimed_is_no_stranger_s(tmp_path: Path) -> None:
    (tmp_path / "out" / "stage1").mkdir(parents=True)
    (tmp_path / "out" / "stage1" / ".run.json.1-0.tmp").write_text("{")
    check_folder(tmp_path / "out", ["stage1"])
    with pytest.raises(Killed):
        pretrain(contrast(tmp_path), tmp_path / "out", progress=once_per_step())


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    made, out = contrast(tmp_path, steps=1), tmp_path / "out"

    def meanwhile(now: PartProgress) -> None:
        with pytest.raises(InputError, match="out: another run is at work there"):
            pretrain(made, out)
        with pytest.raises(InputError, match="out: another run is at work there"):
            pretrain(made, out, restart=True)

    assert pretrain(made, out, progress=meanwhile) == pretrain(made, out)


def test_a_name_that_no_folder_can_have_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written") as caught:
        pretrain(contrast(tmp_path, steps=1), tmp_path / ("x" * 300))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="no such user's home"):
        pretrain(contrast(tmp_path, steps=1), "~no-such-user/out")


def test_an_encoder_is_published_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "stage1" / "encoder"
    made.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "pretraining.json"):
        (made / name).write_text("one")
    copied: list[str] = []

    def killed(source: Path, target: Path) -> None:
        if len(copied) == 2:
            raise Killed
        copied.append(source.name)
        target.write_bytes(source.read_bytes())

    with monkeypatch.context() as patched:
        patched.setattr("pretrain.run.run_folder.shutil.copyfile", killed)
        with pytest.raises(Killed):
            publish(made, tmp_path / "encoder")
    assert not (tmp_path / "encoder").exists()
    publish(made, tmp_path / "encoder")
    first = (tmp_path / "encoder").stat().st_ino
    publish(made, tmp_path / "encoder")
    assert (tmp_path / "encoder").stat().st_ino == first, "the same again"
    (tmp_path / "encoder" / "config.json").unlink()
    publish(made, tmp_path / "encoder")
    assert (tmp_path / "encoder" / "config.json").read_text() == "one"
    for file in made.iterdir():
        file.write_text("two")
    publish(made, tmp_path / "encoder")
    assert {file.read_text() for file in (tmp_path / "encoder").iterdir()} == {"two"}
    assert not list(tmp_path.glob(".*"))


def test_what_a_killed_run_had_half_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / "stage2").mkdir()
    half = [tmp_path / ".recipe.json.17-431fa8ee.tmp", tmp_path / "stage2" / ".run.json.17-431fa8ee.tmp"]
    mine = [tmp_path / ".notes.tmp", tmp_path / "stage2" / "run.json"]
    for file in (*half, *mine):
        file.write_text("{}")
    sweep(tmp_path)
    assert not any(file.exists() for file in half) and all(file.exists() for file in mine)


def test_a_linked_part_goes_without_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "run.json").write_text("{}")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "stage1").symlink_to(tmp_path / "disk")
    forget(tmp_path / "out", ["stage1", "stage2"])
    aside(tmp_path / "out" / "tokenizer.json").write_text("{}")
    (tmp_path / "out" / ".notes.aside").write_text("mine")
    sweep(tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == [".notes.aside"]
    assert (tmp_path / "disk" / "run.json").exists()
