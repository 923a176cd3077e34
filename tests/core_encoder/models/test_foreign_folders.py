"""Folders of other people's encoders that cannot be read: one line says why."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core_encoder.encoder import load_encoder
from core_encoder.errors import InputError
from core_encoder.models.known_encoders import FAMILIES
from tests.core_encoder.foreign_models import BUILDERS, foreign_folder, videomae_model

OF_TRANSFORMERS = sorted(BUILDERS.keys() - {"clip"})


def change_weights(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_encoder(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    return str(caught.value)


def test_every_family_that_is_named_has_a_reader() -> None:
    import importlib

    assert {"clip", *OF_TRANSFORMERS} <= FAMILIES.keys()
    for family in FAMILIES.values():
        module, _, name = family.reader.partition(":")
        assert callable(getattr(importlib.import_module(f"core_encoder.models.{module}"), name))


def test_an_unknown_model_type_lists_those_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "timesformer"}))
    said = refused(tmp_path)
    assert "model_type 'timesformer' is not supported" in said
    assert all(repr(name) in said for name in FAMILIES)


@pytest.mark.parametrize("family", OF_TRANSFORMERS)
def test_tensors_that_do_not_fit_are_named(family: str, tmp_path: Path) -> None:
    folder = foreign_folder(family, tmp_path / family)
    whole = load_file(folder / "model.safetensors")
    name = next(name for name in sorted(whole) if name.endswith("bias") and ".0." in name and "predictor" not in name)
    change_weights(folder, lambda tensors: tensors.pop(name))
    assert "1 tensors are missing: " in refused(folder)
    change_weights(folder, lambda tensors: tensors.update({name: whole[name], "stranger": torch.ones(2)}))
    assert "1 tensors do not belong to this model: stranger" in refused(folder)
    change_weights(folder, lambda tensors: (tensors.pop("stranger"), tensors.update({name: torch.ones(7)})))
    assert "1 tensors have another shape than the model: " in refused(folder) and "(7,) instead of" in refused(folder)


def test_a_head_without_its_backbone(tmp_path: Path) -> None:
    folder = foreign_folder("videomae", tmp_path / "head")
    save_file({"classifier.weight": torch.ones(2, 24)}, folder / "model.safetensors", {"format": "pt"})
    assert "holds a head without its backbone: there are classifier.weight, none of the encoder" in refused(folder)


def test_weights_that_may_hold_code_are_not_read(tmp_path: Path) -> None:
    folder = foreign_folder("vjepa2", tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    assert "pytorch_model.bin may hold code: convert it to safetensors first" in refused(folder)


@pytest.mark.parametrize("family", OF_TRANSFORMERS)
def test_a_config_that_makes_no_sense(family: str, tmp_path: Path) -> None:
    folder = foreign_folder(family, tmp_path / family)
    config = json.loads((folder / "config.json").read_text())
    inner = config.get("vision_config", config)
    inner["hidden_size"] = "wide"
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder)
    inner["hidden_size"] = 25  # no multiple of the heads
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder)


def test_code_that_a_config_names_is_not_run(tmp_path: Path) -> None:
    folder = foreign_folder("videomae", tmp_path / "remote", videomae_model())
    expected = load_encoder(folder).fingerprint
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "modeling.Model", "AutoConfig": "modeling.Config"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "modeling.py").write_text("raise SystemExit('run')\n")
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    processor |= {
        "auto_map": {"AutoImageProcessor": "modeling.Processor"},
        "image_processor_type": "modeling.Processor",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    assert load_encoder(folder).fingerprint == expected


@pytest.mark.parametrize("family", ["videomae", "siglip", "dinov3_vit"])
def test_sides_in_pairs_are_read_where_they_are_square(family: str, tmp_path: Path) -> None:
    folder = foreign_folder(family, tmp_path / family)
    expected = load_encoder(folder).fingerprint
    config = json.loads((folder / "config.json").read_text())
    inner = config.get("vision_config", config)
    inner |= {"image_size": [32, 32], "patch_size": [8, 8]}
    (folder / "config.json").write_text(json.dumps(config))
    assert load_encoder(folder).fingerprint == expected
    inner["image_size"] = [32, 40]
    (folder / "config.json").write_text(json.dumps(config))
    assert "image_size [32, 40] is not square" in refused(folder)


@pytest.mark.parametrize("family", sorted(BUILDERS))
def test_counts_that_are_none_are_named(family: str, tmp_path: Path) -> None:
    folder = foreign_folder(family, tmp_path / family)
    config = json.loads((folder / "config.json").read_text())
    inner = config.get("vision_config", config)
    for name in ("num_attention_heads", "patch_size", "hidden_size"):
        kept, inner[name] = inner[name], 0
        (folder / "config.json").write_text(json.dumps(config))
        assert f"config.json: {name} must be a whole number of at least 1, not 0" in refused(folder)
        inner[name] = kept
    (folder / "config.json").write_text(json.dumps(config | {"model_type": ["clip"]}))
    assert "model_type None is not supported" in refused(folder)


def test_a_number_of_patches_that_is_none(tmp_path: Path) -> None:
    folder = foreign_folder("siglip2", tmp_path / "siglip2")
    for wrong in (-1, "x"):
        (folder / "preprocessor_config.json").write_text(json.dumps({"max_num_patches": wrong}))
        assert "max_num_patches must be a whole number of at least 1" in refused(folder)


def test_what_a_config_says_of_attention_is_not_followed(tmp_path: Path) -> None:
    folder = foreign_folder("vjepa2", tmp_path / "attention")
    expected = load_encoder(folder).fingerprint
    config = json.loads((folder / "config.json").read_text())
    for name in ("flash_attention_2", "someone/kernels"):
        (folder / "config.json").write_text(
            json.dumps(config | {"_attn_implementation": name, "attn_implementation": name})
        )
        encoder = load_encoder(folder)
        assert encoder.fingerprint == expected
        assert encoder.model.vjepa2.config._attn_implementation == "sdpa"


def test_a_part_of_a_model_does_not_lead_elsewhere(tmp_path: Path) -> None:
    other = foreign_folder("videomae", tmp_path / "other")
    folder = foreign_folder("videomae", tmp_path / "part")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(other)}))
    assert "holds adapter_config.json, so a part of a model" in refused(folder)


def test_damaged_weights(tmp_path: Path) -> None:
    folder = foreign_folder("dinov3_vit", tmp_path / "damaged")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    refused(folder)


@pytest.mark.parametrize("family", OF_TRANSFORMERS)
def test_a_config_that_describes_far_more_than_there_is(family: str, tmp_path: Path) -> None:
    folder = foreign_folder(family, tmp_path / family)
    config = json.loads((folder / "config.json").read_text())
    part = config.get("vision_config", config)
    for name in ("hidden_size", "num_hidden_layers"):
        if name in part:
            before, part[name] = part[name], part[name] * 10**8
            (folder / "config.json").write_text(json.dumps(config))
            assert "config.json: describes " in refused(folder)
            part[name] = before


def test_weights_that_never_end(tmp_path: Path) -> None:
    folder = foreign_folder(OF_TRANSFORMERS[0], tmp_path / "foreign")
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    assert "model.safetensors: is no file" in refused(folder)
