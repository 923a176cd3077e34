"""What parts start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core_encoder import load_encoder
from core_encoder.errors import InputError
from pretrain.run.initial_weights import initial_stage
from pretrain.run.part_run import PartRun
from tests.pretrain.tiny_runs import assert_equal, contrast, part, recipe, tokenizer_file


def test_pictures_leave_fresh_temporal_layers_passing_on(tmp_path: Path) -> None:
    made = recipe(tmp_path, images=part(num_frames=1), stage2=None)
    stage = initial_stage(
        made, "images", tmp_path, PartRun(contrast(tmp_path), "stage1", tmp_path, tokenizer_file(tmp_path)).tokenizer
    )
    vision = stage.model.vision.eval()
    video = torch.rand(1, 3, 3, 16, 16)
    spatial = vision.encode_spatial(video)
    passed = vision.temporal_norm(spatial + vision._temporal_positions(3)[:, None])
    torch.testing.assert_close(vision.encode_temporal(spatial), passed)


def test_a_spatial_half_is_taken_from_an_encoder(tmp_path: Path, finished_run: Path) -> None:
    given, tokenizer = finished_run / "encoder", str(finished_run / "tokenizer.json")
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
    for key, value, says in (("heads", 4, "2, .* has 4"), ("cap", 20.0, "50, .* has 20")):
        other = replace(made, vision=replace(made.vision, **{key: value}))
        with pytest.raises(InputError, match=f"has {key} {says}"):
            PartRun(other, "stage1", tmp_path / "out", Path(tokenizer)).stage()
    whole = recipe(tmp_path, stage1=part(start_from=str(given)), stage2=None, tokenizer=tokenizer)
    start = PartRun(whole, "stage1", tmp_path / "out", Path(tokenizer)).stage().model.state_dict()
    assert_equal(dict(start), dict(load_encoder(given).model.state_dict()))
