"""`prismhub rank`: the order of plain cosines, by an encoder and by an adapter, and whatever can be asked wrongly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import prismhub
from adapters import load_adapter
from adapters.registry import save_to_registry
from core_encoder import Clip, ClipPlan, load_encoder, read_clip
from core_encoder.preprocessing import to_video_tensor
from pretrain.world.synthetic_world import write_dataset
from prismhub.cli import run
from tests.adapters.every_kind import ROWS
from tests.prismhub.small_data import one_object_class, read_json
from tests.text_models import tiny_bert

TEXTS = ["a red circle", "a blue star, large"]
LIT = next(row for row in ROWS if row.name == "lit_text")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two red circles and two blue stars; read only."""
    folder = tmp_path_factory.mktemp("world") / "objects"
    shown = [one_object_class(name, "approaching") for name in ("red circle", "blue star")]
    write_dataset(folder, shown, {"test": 2}, size=64, num_frames=10)
    return folder


def test_the_order_is_that_of_plain_cosines(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nano, paths = load_encoder("nano"), sorted(map(str, world.rglob("*.mp4")))
    asked = ["rank", str(world), *(word for text in TEXTS for word in ("--text", text)), "--feature-dtype", "fp32"]
    said = read_json(capsys, *asked)
    frames = [to_video_tensor(read_clip(Clip(path), ClipPlan(nano.num_frames), nano.preprocessing)) for path in paths]
    cosines = nano.embed_text(TEXTS) @ nano.embed_video(torch.stack(frames)).T
    assert [one["text"] for one in said["texts"]] == TEXTS and said["failed"] == []
    for one, row in zip(said["texts"], cosines, strict=True):
        order = row.argsort(descending=True).tolist()
        assert [video["video"] for video in one["videos"]] == [paths[place] for place in order]
        expected = [float(row[place]) for place in order]
        assert [video["similarity"] for video in one["videos"]] == pytest.approx(expected, abs=1e-3)
    best = [Path(one["videos"][0]["video"]).parent.name for one in said["texts"]]
    assert best == ["red-circle-approaching", "blue-star-approaching"]
    assert run([*asked, "--top", "1"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip("─ ")]
    assert lines[0] == ["text", "rank", "video", "similarity"] and len(lines) == 3 and "1" in lines[1]


def test_an_adapter_ranks_by_its_own_space_wherever_its_text_tower_lies(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], says: Callable[..., str]
) -> None:
    from dataclasses import replace

    bert = tiny_bert(tmp_path / "bert")
    row = replace(LIT, options={"text_tower": str(bert), "tune": "projection", "hidden": 24})
    save_to_registry(row.on(load_encoder("nano")), "pairs")
    paths = sorted(map(str, world.rglob("*.mp4")))
    adapter = load_adapter("pairs")
    vectors = torch.stack([one.values for one in adapter.predict(paths)])
    cosines = (adapter.embed_text(TEXTS[:1]) @ vectors.T)[0]  # type: ignore[operator]
    expected = [paths[place] for place in cosines.argsort(descending=True).tolist()]
    done = prismhub.rank(videos=world, text=TEXTS[0], adapter="pairs")
    assert [video for video, _ in done.rankings[0].videos] == expected
    assert [cosine for _, cosine in done.rankings[0].videos] == pytest.approx(sorted(cosines.tolist())[::-1], abs=1e-4)

    moved = bert.rename(tmp_path / "moved")
    asked = ("rank", str(world), "--text", TEXTS[0], "--adapter", "pairs")
    assert "say where it lies now with text_tower" in says(2, *asked)
    said = read_json(capsys, *asked, "--text-tower", str(moved))
    assert [one["video"] for one in said["texts"][0]["videos"]] == expected
    tower = ("--text-tower", str(moved))
    assert run(["zero-shot", paths[0], "--labels", "red,blue", "--adapter", "pairs", *tower, "--quiet"]) == 0
    assert run(["predict", paths[0], "--adapter", "pairs", *tower, "--quiet"]) == 0
    wrong = tiny_bert(tmp_path / "wrong", seed=1)
    assert "is not the one that the adapter was trained with" in says(2, *asked, "--text-tower", str(wrong))


def test_broken_videos_are_listed(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    said = read_json(capsys, "rank", str(world), str(broken), "--text", "a star", "--quiet", code=3)
    assert len(said["texts"][0]["videos"]) == 4 and said["failed"][0]["path"] == str(broken)
    alone = read_json(capsys, "rank", str(broken), "--text", "a star", "--quiet", code=3)
    assert alone["texts"] == [{"text": "a star", "videos": []}]


@pytest.mark.usefixtures("trained")
def test_what_is_asked_wrongly(world: Path, says: Callable[..., str]) -> None:
    ask = ("rank", str(world))
    assert "option 'text' is missing: What to look for" in says(2, *ask)
    assert "none of them empty" in says(2, *ask, "--text", " ")
    assert "adapter 'x' learned classes, and no space of videos and texts" in says(
        2, *ask, "--text", "a", "--adapter", "x"
    )
    assert "text_tower says where that of an adapter lies" in says(2, *ask, "--text", "a", "--text-tower", "nano")
    assert "leave views out" in says(2, *ask, "--text", "a", "--adapter", "x", "--views", "2")
    asked = ("predict", str(world), "--adapter", "x", "--text-tower", "nano")
    assert "text_tower means nothing for map_classifier: it has none" in says(2, *asked)
