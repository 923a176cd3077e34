"""The figures of a GPU, tried without one: every part runs, and compares the same with the same."""

from __future__ import annotations

import json
import sys
from functools import partialmethod
from pathlib import Path

import pytest
import torch

from benchmarks.speed import gpu
from benchmarks.speed.flex_attention import with_flex_attention
from core_encoder.models.vivit import ViViT
from pretrain.recipe import Recipe


def run(monkeypatch: pytest.MonkeyPatch, out: Path, *options: str) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(out), "--device", "cpu", "--size", "tiny", *options])
    gpu.main()


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers are left to Python: the compiler would take a minute."""
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: None)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_is_our_attention(uncompiled: None) -> None:
    torch.manual_seed(0)
    config = Recipe.load(gpu.RECIPES / "ablation.yaml").vision
    ours = ViViT(config).eval()
    for parameter in ours.parameters():
        parameter.data.normal_(0, 0.2)  # logits that the cap bends
    other = with_flex_attention(ours)
    video = torch.rand(2, config.num_frames, 3, config.image_size, config.image_size)
    with torch.no_grad():
        torch.testing.assert_close(other(video)[0], ours(video)[0], rtol=1e-4, atol=1e-4)
    assert [type(layer).__name__ for layer in ours.spatial_layers] == ["TransformerLayer"] * 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_every_part_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(torch.nn.Module.compile, backend="eager"))
    run(monkeypatch, tmp_path)
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == sorted(gpu.PARTS)
    for path in tmp_path.glob("*.json"):
        written = json.loads(path.read_text())
        assert written["settings"]["device"] == "CPU"
        assert all(row["value"] >= 0 for row in written["results"])
    rows = {row["what"]: row for row in json.loads((tmp_path / "forward.json").read_text())["results"]}
    assert rows["rate, of the matrix products"]["must_be"] == ">= 0.5"
    assert rows["largest difference of the tokens, of their spread"]["ok"]
    assert "| encode | clips/s |" in (tmp_path / "table.md").read_text()


def test_what_fails_or_has_no_time_is_named_and_costs_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uncompiled: None
) -> None:
    def fail(bench: gpu.Bench) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB\nmore")

    monkeypatch.setitem(gpu.PARTS, "forward", fail)
    with pytest.raises(SystemExit, match=r"not measured: forward \(CUDA out of memory. Tried to allocate 20 GiB\)$"):
        run(monkeypatch, tmp_path, "--only", "forward", "map_pooling")
    assert (tmp_path / "map_pooling.json").exists()
    with pytest.raises(SystemExit, match=r"map_pooling \(no time left of 0 minutes\)"):
        run(monkeypatch, tmp_path, "--only", "map_pooling", "--minutes", "0")


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        gpu.main()
    assert "there is no GPU here: --device cpu --size tiny" in capsys.readouterr().err
