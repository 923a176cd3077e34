"""What a part draws from its corpus, and the clips that its scores come from."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from core_encoder.errors import InputError
from pretrain.run.part_run import PartRun, part_corpus, select
from tests.pretrain.corpora import clip_corpus, write_manifest
from tests.pretrain.tiny_runs import recipe, write_world


def test_part_corpora_differ_by_part_and_hold_the_asked_tiers(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    manifest = PartRun(made, "stage1", tmp_path, tmp_path).corpus.manifest
    assert [tier.name for tier in select(manifest, ["web", "clips"]).tiers] == ["clips", "web"]
    assert select(manifest, ()) == manifest
    made = replace(made, stage1=replace(made.stage1, tiers=("clips", "web")))
    one, two = (part_corpus(made, manifest, name) for name in ("stage1", "stage2"))
    assert not torch.equal(one.batch(0, 4).frames, two.batch(0, 4).frames)
    assert one.need_captions and not two.need_captions


def test_a_part_begins_with_its_curriculum(tmp_path: Path) -> None:
    made = recipe(tmp_path)
    manifest = PartRun(made, "stage1", tmp_path, tmp_path).corpus.manifest
    made = replace(made, stage1=replace(made.stage1, curriculum=(("web", 2), ("clips", 1)), tiers=("clips",)))
    names = [batch.tier for batch in part_corpus(made, manifest, "stage1").batches(4, steps=5)]
    assert names == ["web", "web", "clips", "clips", "clips"]
    rehearsed = replace(made, stage1=replace(made.stage1, rehearsal=("clips",)))
    names = [batch.tier for batch in part_corpus(rehearsed, manifest, "stage1").batches(4, steps=4)]
    assert names == ["web", "clips", "clips", "clips"]
    made = replace(made, stage1=replace(made.stage1, accumulate=2))  # a step is two batches
    names = [batch.tier for batch in part_corpus(made, manifest, "stage1").batches(2, steps=7)]
    assert names == ["web"] * 4 + ["clips"] * 3
    made = replace(made, stage1=replace(made.stage1, curriculum=(("wep", 2),)))
    with pytest.raises(InputError, match="no tier 'wep'; did you mean 'web'"):
        part_corpus(made, manifest, "stage1")


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

    lost = clip_corpus(tmp_path / "lost", 3, broken=range(3))
    with pytest.raises(InputError, match="held_out .*: none of its clips can be read"):
        part_run(replace(recipe(tmp_path, held_out=str(lost)), max_unreadable=1.0)).held_out()

    labels = {"name": "a", "quality": "clean", "labels": ["motion", "motoin"]}
    labels["synthetic"] = {"split": "held", "size": 16, "length": 12}
    misspelt = write_manifest(tmp_path / "misspelt.yaml", yaml.safe_dump({"tiers": [labels]}))
    with pytest.raises(InputError, match=r"held_out .*misspelt.yaml: none of 12 clips has a label 'motoin'"):
        part_run(recipe(tmp_path, held_out=str(misspelt))).held_out()

    hub = {"name": "far", "quality": "noisy", "hub": {"path": "org/name", "split": "train"}}
    streamed = write_manifest(tmp_path / "hub.yaml", yaml.safe_dump({"tiers": [hub]}))
    with pytest.raises(InputError, match="tier 'far' streams from the Hub"):
        part_run(recipe(tmp_path, held_out=str(streamed))).held_out_corpus()


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
