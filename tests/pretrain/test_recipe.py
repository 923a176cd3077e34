"""Recipes: read whole or refused in one line, overridden, identified by what decides the weights."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from core_encoder.errors import InputError
from core_encoder.models.model_configs import PRESETS
from pretrain.recipe import PARTS, ComputeConfig, ContrastiveConfig, MaskedConfig, PartConfig, Recipe
from tests import ROOT
from tests.pretrain.tiny_models import VISION, tiny_recipe, write_recipe

SHIPPED = ROOT / "pretrain" / "recipes"
RECIPES = sorted(path for path in SHIPPED.glob("*.yaml") if "vision" in yaml.safe_load(path.read_text()))


def refusal(path: Path, *overrides: str) -> str:
    """The one line in which a recipe is refused."""
    with pytest.raises(InputError) as caught:
        Recipe.load(path, overrides)
    line = str(caught.value)
    assert "\n" not in line
    return line


def with_part(part: str, **values: Any) -> dict[str, Any]:
    return {part: tiny_recipe()[part] | values}


def test_a_recipe_is_shipped_for_each_size_and_each_experiment() -> None:
    assert [path.stem for path in RECIPES] == sorted([*PRESETS, "ablation", "ablation_appearance"])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_loads(path: Path) -> None:
    recipe = Recipe.load(path)
    assert recipe.name == path.stem
    assert recipe.vision == PRESETS.get(path.stem, recipe.vision)
    assert recipe.stage1 is not None and (recipe.stage2 is not None) == (path.stem != "nano")
    assert recipe.corpus.is_absolute() and recipe.corpus.parent == path.parent
    for part in recipe.parts:
        assert getattr(recipe, part).steps > getattr(recipe, part).warmup_steps


def test_nano_names_files_that_are_there() -> None:
    recipe = Recipe.load(SHIPPED / "nano.yaml")
    assert recipe.parts == ("images", "stage1", "alignment"), "stage 2 took from it what it had learned of motions"
    assert recipe.corpus.is_file()
    assert recipe.held_out is not None and recipe.held_out.is_file()


def test_a_recipe_is_what_its_file_says(tmp_path: Path) -> None:
    recipe = Recipe.load(write_recipe(tmp_path, held_out="sub/held.yaml", tokenizer="/t/tokenizer.json"))
    assert (recipe.name, recipe.seed, recipe.vision, recipe.parts) == ("tiny", 3, VISION, PARTS)
    assert recipe.corpus == tmp_path / "corpus.yaml"
    assert recipe.held_out == tmp_path / "sub" / "held.yaml"
    assert recipe.tokenizer == Path("/t/tokenizer.json")
    assert recipe.stage2 is not None and recipe.stage2.decoder_width == 16
    assert recipe.compute == ComputeConfig()
    assert recipe.model.vision == VISION and recipe.model.text == recipe.text


def test_a_preset_and_what_differs_from_it(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, vision={"preset": "nano", "image_size": 64}, text=None, video_head=None)
    recipe = Recipe.load(path)
    assert recipe.vision.image_size == 64 and recipe.vision.width == PRESETS["nano"].width
    assert (recipe.text.width, recipe.text.heads) == (recipe.vision.width, recipe.vision.heads)
    assert recipe.video_head.pooling_dim == recipe.vision.mlp_dim
    parts = {"images": {"steps": 2}, "stage1": {"steps": 2}, "stage2": {"decoder_heads": 2}, "alignment": {"steps": 2}}
    short = Recipe.load(write_recipe(tmp_path, vision=tiny_recipe()["vision"] | {"num_frames": 3}, **parts))
    frames = [getattr(short, name).num_frames for name in short.parts]
    assert frames == [1, 3, 3, 3], "the encoder's, where a part names none"
    part_of_it = Recipe.load(write_recipe(tmp_path, video_head={"auxiliary_layers": 1}))
    assert part_of_it.video_head.pooling_dim == part_of_it.vision.mlp_dim == 32
    assert Recipe.load(write_recipe(tmp_path, vision="nano", text=None, video_head=None)).vision == PRESETS["nano"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sead": 1}, ("'sead'", "'seed'")),
        (with_part("stage1", stepz=3), ("stage1", "'stepz'", "'steps'")),
        (with_part("stage2", shufle=True), ("stage2", "'shufle'", "'shuffle'")),
        (with_part("stage1", shuffle=True), ("stage1", "'shuffle'")),
        ({"compute": {"device": 2}}, ("compute", "'device'", "'devices'")),
        ({"text": {"widht": 16}}, ("text", "'widht'", "'width'")),
        ({"video_head": {"pooling_dims": 16}}, ("video_head", "'pooling_dims'", "'pooling_dim'")),
        ({"vision": {"preset": "nanoo"}}, ("vision", "'nanoo'", "'nano'")),
        ({"vision": {"preset": "nano", "layer": 2}}, ("vision", "'layer'", "layers")),
        ({"vision": "bas"}, ("vision", "'bas'", "'base'")),
    ],
)
def test_unknown_names_say_file_section_and_the_nearest(
    tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    line = refusal(write_recipe(tmp_path, **changes))
    assert line.startswith(str(tmp_path / "tiny.yaml"))
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": "many"}, ("'seed'", "'many'")),
        ({"seed": -1}, ("seed",)),
        ({"seed": 2**64}, ("seed",)),
        ({"held_out_clips": 1}, ("held_out_clips",)),
        ({"max_unreadable": 2}, ("max_unreadable",)),
        ({"position_scale": 0}, ("position_scale",)),
        ({"name": "../x"}, ("name",)),
        ({"corpus": 7}, ("corpus",)),
        ({"corpus": ["a.yaml"]}, ("corpus",)),
        ({"held_out": True}, ("held_out",)),
        ({"vision": 3}, ("vision",)),
        ({"vision": {"width": 16}}, ("vision",)),
        ({"vision": {"preset": "nano", "heads": 3}}, ("vision", "heads 3")),
        ({"vision": {"preset": "nano", "image_size": 50}}, ("vision", "patch_size 8")),
        ({"text": {"width": 15}}, ("text", "width 15")),
        ({"stage1": 5}, ("stage1", "5")),
        (with_part("stage1", steps="soon"), ("stage1", "'steps'", "'soon'")),
        (with_part("stage1", steps=0), ("stage1", "steps", "at least 1")),
        (with_part("stage1", lr=0), ("stage1", "lr")),
        (with_part("stage1", lr=".nan"), ("stage1", "lr")),
        (with_part("stage1", lr=float("inf")), ("stage1", "lr")),
        (with_part("stage1", final_lr=-1), ("stage1", "final_lr")),
        (with_part("stage1", ema=1), ("stage1", "ema")),
        (with_part("stage1", optimizer="sgd"), ("stage1", "'optimizer'", "'sgd'")),
        (with_part("stage1", schedule="step"), ("stage1", "'schedule'")),
        (with_part("stage1", tiers="clean"), ("stage1", "'tiers'")),
        (with_part("stage1", drop=1), ("stage1", "drop")),
        (with_part("stage1", temperature=0.001), ("stage1", "temperature")),
        (with_part("stage2", mask=0), ("stage2", "mask")),
        (with_part("stage2", decoder_heads=3), ("stage2", "decoder_heads 3")),
        ({"compute": {"devices": 0}}, ("compute", "devices")),
        ({"compute": {"precision": "fp8"}}, ("compute", "'precision'")),
        ({"compute": {"workers": -1}}, ("compute", "workers")),
    ],
)
def test_wrong_values_are_refused(tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    line = refusal(write_recipe(tmp_path, **changes))
    assert line.startswith(str(tmp_path / "tiny.yaml"))
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (with_part("stage1", batch_size=6, accumulate=4), ("stage1", "accumulate 4", "batch_size 6")),
        ({"text": {"width": 32, "heads": 2}}, ("text width 32", "vision width 16")),
        (with_part("stage1", rehearsal=["clips"]), ("stage1", "rehearsal", "curriculum")),
        (with_part("stage1", curriculum=[["a", 2], ["a", 3]]), ("stage1", "curriculum", "'a' once")),
        ({"stage1": None}, ("stage2", "stage1")),
        ({"stage1": None, "stage2": None}, ("alignment", "stage1")),
        (dict.fromkeys(PARTS), ("nothing to train",)),
        (with_part("images", num_frames=4), ("images", "num_frames")),
        (with_part("stage1", start_from="nano", initialize_from="nano"), ("stage1", "start_from", "name one of them")),
        (with_part("stage1", tiers="clips"), ("stage1", "'tiers'", "list, such as [a, b]")),
        (with_part("stage2", token_distillation=False, global_distillation=False), ("stage2", "distillation")),
        (with_part("stage2", target_layers=[0, 2]), ("stage2", "target_layers", "2")),
        (with_part("stage1", drop=0.9), ("stage1", "drop")),
        (with_part("stage2", mask=0.99), ("stage2", "mask")),
        ({"video_head": {"pooling_dim": 33}}, ("video_head", "pooling_dim 33")),
        ({"video_head": {"pooling_dim": 64}}, ("video_head", "pooling_dim 64", "mlp_dim 32")),
        ({"video_head": {"auxiliary_layers": -1}}, ("video_head", "auxiliary_layers")),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, changes: dict[str, Any], words: tuple[str, ...]) -> None:
    line = refusal(write_recipe(tmp_path, **changes))
    assert line.startswith(str(tmp_path / "tiny.yaml"))
    for word in words:
        assert word in line


@pytest.mark.parametrize("key", ["vision", "corpus"])
def test_a_recipe_names_model_and_corpus(tmp_path: Path, key: str) -> None:
    assert f"'{key}' is missing" in refusal(write_recipe(tmp_path, **{key: None}))
    path = tmp_path / "null.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe() | {key: None}))
    assert key in refusal(path)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "NoneType"),
        (b"- a\n- b\n", "list"),
        (b"a: [1\n", "YAML"),
        (b"\xff\xfe\x00", "read"),
        (b"just text", "str"),
    ],
)
def test_a_file_that_is_no_recipe(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(content)
    line = refusal(path)
    assert str(path) in line and word in line


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "nowhere.yaml" in refusal(tmp_path / "nowhere.yaml")


def test_overrides(tmp_path: Path) -> None:
    path = write_recipe(tmp_path)
    changes = ("stage1.steps=5", "vision.temporal_layers=2", "seed=9", "stage2.target_layers=[0, 1]", "alignment=null")
    recipe = Recipe.load(path, (*changes, "compute.devices=2", "stage2.lr=1e-3"))
    assert recipe.stage1 is not None and (recipe.stage2 is not None) == (path.stem != "nano")
    assert (recipe.stage1.steps, recipe.vision.temporal_layers, recipe.seed) == (5, 2, 9)
    assert recipe.stage2.target_layers == (0, 1) and recipe.stage2.lr == 1e-3
    assert recipe.alignment is None and recipe.parts == ("images", "stage1", "stage2")
    assert recipe.compute.devices == 2
    assert recipe.stage1.batch_size == 4  # the rest of the section stays
    given = yaml.safe_load(path.read_text())
    assert given == tiny_recipe()


def test_an_override_changes_one_number_of_a_preset(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, vision="nano", text=None, video_head=None)
    recipe = Recipe.load(path, ("vision.width=64",))
    assert recipe.vision.width == recipe.text.width == 64
    assert recipe.vision.spatial_layers == PRESETS["nano"].spatial_layers


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("stage1.steps", ("key=value",)),
        ("=5", ("key=value",)),
        ("stage1..steps=5", ("key=value",)),
        ("stage1.=5", ("key=value",)),
        ("a.b.c=5", ("key=value",)),
        ("stage1.steps=[1", ("YAML",)),
        ("seed.x=1", ("seed", "no keys")),
        ("stage1.step=5", ("stage1", "'step'", "'steps'")),
        ("stag1.steps=5", ("'stag1'", "'stage1'")),
        ("stage1.steps=", ("'steps'",)),
        ("stage1.steps=five", ("'steps'", "'five'")),
        ("stage1=5", ("stage1",)),
    ],
)
def test_overrides_that_do_not_do(tmp_path: Path, override: str, words: tuple[str, ...]) -> None:
    line = refusal(write_recipe(tmp_path), override)
    for word in words:
        assert word in line


def test_describe_reads_back_to_the_same_recipe(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, held_out="held.yaml", compute={"devices": 2}, alignment=None)
    recipe = Recipe.load(
        path, ("stage2.target_layers=[1]", "stage1.tiers=[a, b]", "stage1.curriculum=[[b, 2], [a, 3]]")
    )
    written = yaml.safe_dump(recipe.describe())
    assert Recipe.from_dict(yaml.safe_load(written), tmp_path / "elsewhere" / "other.yaml") == recipe


WATCHING = {"log_every", "checkpoint_every", "evaluate_every"}
OTHER_VALUES: dict[str, Any] = {
    "accumulate": 2,
    "tiers": ["a"],
    "curriculum": [["a", 5], ["b", 2]],
    "rehearsal": ["c"],
    "mixing": "mix",
    "optimizer": "adafactor",
    "schedule": "linear",
    "num_frames": 2,
    "initialize_from": "somewhere",
    "start_from": "somewhere",
    "shuffle": False,
    "token_distillation": False,
    "global_distillation": False,
    "center_targets": True,
    "target_layers": [0],
    "drop": 0.25,
    "mask": 0.5,
    "ema": 0.5,
    "beta2": 0.9,
    "decoder_heads": 4,
    "restarts": [1],
    "spatial_lr_from": 1,
    "spatial_lr_until": 1,
}


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (part, field.name)
        for part, kind in (("stage1", ContrastiveConfig), ("stage2", MaskedConfig))
        for field in fields(kind)
    ],
)
def test_the_digest_changes_with_what_decides_and_with_nothing_else(tmp_path: Path, part: str, name: str) -> None:
    needs = {"curriculum": [["a", 5]]} if name == "rehearsal" else {}
    recipe = Recipe.load(write_recipe(tmp_path, **with_part(part, **needs)))
    before = getattr(getattr(recipe, part), name)
    other = OTHER_VALUES.get(name, before * 2 if before else 1)
    changed = Recipe.load(
        write_recipe(tmp_path, tokenizer="tokenizer.json", **with_part(part, **needs, **{name: other}))
    )
    assert getattr(getattr(changed, part), name) != before
    assert (changed.digest(part) == recipe.digest(part)) == (name in WATCHING)
    later, earlier = PARTS[PARTS.index(part) + 1], PARTS[PARTS.index(part) - 1]
    assert (changed.digest(later) == recipe.digest(later)) == (name in WATCHING)  # it starts from what this part made
    assert changed.digest(earlier) == recipe.digest(earlier)


def test_the_digest_knows_model_and_seed_but_not_where_it_runs(tmp_path: Path) -> None:
    recipe = Recipe.load(write_recipe(tmp_path))
    for changes in (
        {"seed": 4},
        {"position_scale": 0.5},
        {"vision": tiny_recipe()["vision"] | {"cap": 20.0}},
        {"video_head": {"auxiliary_layers": 1, "pooling_dim": 32}},
        {"text": tiny_recipe()["text"] | {"layers": 2}},
    ):
        assert Recipe.load(write_recipe(tmp_path, **changes)).digest("images") != recipe.digest("images")
    elsewhere = tmp_path / "moved"
    elsewhere.mkdir()
    moved = Recipe.load(write_recipe(elsewhere, name="other", compute={"devices": 2, "workers": 3}))
    assert moved.corpus != recipe.corpus
    for part in PARTS:
        assert moved.digest(part) == recipe.digest(part)
        assert recipe.with_compute(devices="2").digest(part) == recipe.digest(part)


def test_a_part_that_starts_from_an_encoder_needs_no_part_before_it(tmp_path: Path) -> None:
    alone = {"images": None, "stage1": None, "alignment": None}
    part = with_part("stage2", start_from="somewhere")
    recipe = Recipe.load(write_recipe(tmp_path, **alone, **part, tokenizer="tokenizer.json"))
    assert recipe.parts == ("stage2",)
    assert "tokenizer" in refusal(write_recipe(tmp_path, **alone, **part))


def test_with_compute_keeps_what_is_not_given(tmp_path: Path) -> None:
    recipe = Recipe.load(write_recipe(tmp_path, compute={"devices": 2, "workers": 3}))
    changed = recipe.with_compute(devices="4", accelerator=None, workers=None)
    assert (changed.compute.devices, changed.compute.workers) == (4, 3)
    assert recipe.with_compute(devices="auto").compute.devices == "auto"
    with pytest.raises(InputError, match="devices"):
        recipe.with_compute(devices="0")


def test_every_field_says_what_it_is() -> None:
    for kind in (PartConfig, ContrastiveConfig, MaskedConfig, ComputeConfig):
        assert all(field.metadata["help"] for field in fields(kind))
