"""What a part leaves behind: a folder that this hub and `transformers` open with the same outputs, and its card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModel

import core_encoder
import pretrain
from core_encoder import load_encoder
from core_encoder.errors import InputError
from core_encoder.files import storage
from core_encoder.models.text_tower import TextTokenizer
from pretrain.corpus.manifest import Manifest
from pretrain.recipe import Recipe
from pretrain.run.export import RECORD, export, open_model, published
from pretrain.stages.contrastive_stage import ContrastiveStage
from pretrain.stages.tokenizer import train_tokenizer
from tests.pretrain.tiny_models import LetterTokenizer, tiny_model, write_recipe

TEXTS = ("a red star", "Über uns: 7 Ringe!", "the blue ring moves left")


def a_record(**changes: Any) -> dict[str, Any]:
    part = {"steps": 40, "clips": 5120, "loss": 1.23456, "seconds": 5400.0, "scores": {"zero_shot/object": 0.5218}}
    tier = {"name": "clean_clips", "quality": "clean", "caption_source": "people", "weight": 0.75, "source": "clips/"}
    tier |= {"clips": 12345}
    return {
        "recipe": {"seed": 3},
        "corpus": [tier, tier | {"name": "noisy_clips", "quality": "noisy", "weight": 2.0}],
        "held_out_clips": 64,
        "parts": {"stage1": part, "stage2": part | {"loss": 0.25, "scores": {}}},
    } | changes


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe.load(write_recipe(tmp_path, name="my-tiny.v1"))


@pytest.fixture
def tokenizer(tmp_path: Path) -> TextTokenizer:
    return TextTokenizer(train_tokenizer(TEXTS, 280, tmp_path / "tokenizer.json"), 300, 12)


def front_matter(card: str) -> dict[str, Any]:
    _, front, _ = card.split("---\n", 2)
    loaded: dict[str, Any] = yaml.safe_load(front)
    return loaded


@pytest.mark.parametrize("auxiliary_layers", [0, 2])
def test_the_folder_opens_here_and_in_transformers(
    tmp_path: Path, tokenizer: TextTokenizer, auxiliary_layers: int
) -> None:
    head = {"auxiliary_layers": auxiliary_layers, "pooling_dim": 32}
    recipe = Recipe.load(write_recipe(tmp_path, video_head=head))
    model = tiny_model(auxiliary_layers=auxiliary_layers).eval()
    folder = tmp_path / "encoder"
    made = export(recipe, model, tokenizer, folder, a_record())

    video = torch.rand(2, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    ids, mask = tokenizer(TEXTS)
    with torch.no_grad():
        tokens, _, embedding = model(video, embed=True)
        texts = model.embed_token_ids(ids, mask)
        other = AutoModel.from_pretrained(folder)
        theirs, their_tokens = other(video, ids, mask.long()), other.video_model.vision_model(video).last_hidden_state
    torch.testing.assert_close(theirs.video_embeds, embedding, atol=1e-5, rtol=0)
    torch.testing.assert_close(theirs.text_embeds, texts, atol=1e-5, rtol=0)
    torch.testing.assert_close(their_tokens, tokens.flatten(1, 2), atol=1e-4, rtol=0)

    opened = load_encoder(folder)
    assert opened.has_text and opened.fingerprint == made.fingerprint
    torch.testing.assert_close(opened(video).tokens, tokens, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(opened.embed_video(video), embedding, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(opened.embed_token_ids(ids, mask), texts, atol=1e-6, rtol=1e-4)
    assert opened.tokenizer is not None
    again, _ = opened.tokenizer(TEXTS)
    assert torch.equal(again, ids)


def test_an_opened_model_is_trained_further(tmp_path: Path, recipe: Recipe, tokenizer: TextTokenizer) -> None:
    model = tiny_model().eval().requires_grad_(False)
    export(recipe, model, tokenizer, tmp_path / "encoder", a_record())
    opened, its_tokenizer = open_model(tmp_path / "encoder")
    assert opened.config == model.config and opened.training and its_tokenizer is not None
    assert all(parameter.requires_grad for parameter in opened.parameters())
    for name, tensor in model.state_dict().items():
        assert torch.equal(opened.state_dict()[name], tensor), name
    assert recipe.stage1 is not None
    ContrastiveStage(opened, its_tokenizer, recipe.stage1, "stage1", 0)


def test_opening_what_is_no_video_text_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        open_model(tmp_path / "nowhere")
    from tests.core_encoder.checkpoint_files import clip_model

    clip_model().save_pretrained(tmp_path / "clip")
    with pytest.raises(InputError, match="clip") as caught:
        open_model(tmp_path / "clip")
    assert "\n" not in str(caught.value)


def test_the_card_names_corpus_recipe_steps_seed_and_scores(
    tmp_path: Path, recipe: Recipe, tokenizer: TextTokenizer
) -> None:
    made = export(recipe, tiny_model(), tokenizer, tmp_path / "encoder", a_record())
    card = (tmp_path / "encoder" / "README.md").read_text(encoding="utf-8")
    front = front_matter(card)
    assert front["library_name"] == "transformers" and front["datasets"] == ["clean_clips", "noisy_clips"]
    assert front["pipeline_tag"] == "feature-extraction"
    assert "# my-tiny.v1" in card and "seed 3" in card and made.fingerprint in card
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in card.splitlines() if line[:1] == "|"]
    assert ["stage1", "video-text contrast", "40", "5,120", "1.235", "1.50"] in rows
    assert ["stage2", "masked distillation from the stage-1 encoder", "40", "5,120", "0.250", "1.50"] in rows
    assert ["clean_clips", "clean", "12,345", "people", "0.75", "clips/"] in rows
    assert ["noisy_clips", "noisy", "12,345", "people", "2", "clips/"] in rows
    assert ["stage1", "zero_shot/object", "0.522"] in rows
    assert "64 held-out clips" in card
    for table in card.split("\n\n"):
        if table.startswith("|"):  # every row as wide as its head
            assert len({line.count("|") for line in table.splitlines()}) == 1


def test_a_card_without_scores_says_so(tmp_path: Path, recipe: Recipe) -> None:
    record = a_record(held_out_clips=0)
    record["parts"] = {"stage1": record["parts"]["stage2"]}
    export(recipe, tiny_model(), None, tmp_path / "encoder", record)
    card = (tmp_path / "encoder" / "README.md").read_text(encoding="utf-8")
    assert "No held-out clips were named." in card and "on 0 held-out" not in card
    assert load_encoder(tmp_path / "encoder").tokenizer is None


def test_a_card_says_how_many_clips_could_not_be_read(tmp_path: Path, recipe: Recipe) -> None:
    record = a_record()
    export(recipe, tiny_model(), None, tmp_path / "whole", record)
    assert "could not be read" not in (tmp_path / "whole" / "README.md").read_text(encoding="utf-8")
    record["parts"]["stage1"]["skipped"] = 1234
    export(recipe, tiny_model(), None, tmp_path / "encoder", record)
    card = (tmp_path / "encoder" / "README.md").read_text(encoding="utf-8")
    assert "Drawn clips that could not be read gave way to others: 1,234 in stage1.\n\n## Scores" in card


def test_names_that_yaml_would_misread_stay_names(tmp_path: Path, recipe: Recipe) -> None:
    record = a_record()
    record["corpus"] = [record["corpus"][0] | {"name": name} for name in ("no", "1e3", "a: b", "über")]
    export(recipe, tiny_model(), None, tmp_path / "encoder", record)
    card = (tmp_path / "encoder" / "README.md").read_text(encoding="utf-8")
    assert front_matter(card)["datasets"] == ["no", "1e3", "a: b", "über"]


def test_a_source_with_a_bar_stays_one_cell(tmp_path: Path, recipe: Recipe) -> None:
    record = a_record()
    record["corpus"] = [record["corpus"][0] | {"source": "clips|2024/", "caption_source": "asr|title"}]
    export(recipe, tiny_model(), None, tmp_path / "encoder", record)
    card = (tmp_path / "encoder" / "README.md").read_text(encoding="utf-8")
    row = next(line for line in card.splitlines() if "2024" in line)
    assert row.replace(r"\|", "").count("|") == 7


def test_nano_was_made_by_the_recipe_that_ships() -> None:
    record = json.loads((Path(core_encoder.__file__).parent / "nano" / RECORD).read_text())
    file = Path(pretrain.__file__).parent / "recipes" / "nano.yaml"
    recipe = Recipe.load(file)
    assert published(Recipe.from_dict(record["recipe"], file)) == published(recipe)
    assert [tier["name"] for tier in record["corpus"]] == [tier.name for tier in Manifest.load(recipe.corpus).tiers]
    assert sum(part["seconds"] for part in record["parts"].values()) <= 6 * 3600, "on two cores"


def test_the_record_is_written_last(tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    replace = Path.replace

    def noted(self: Path, target: Path) -> Path:
        order.append(Path(target).name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", noted)
    record = a_record()
    made = export(recipe, tiny_model(), None, tmp_path / "encoder", record)
    assert order[-1] == RECORD and order.count(RECORD) == 1
    assert {"config.json", "model.safetensors", "README.md"} <= set(order[:-1])
    written = json.loads((tmp_path / "encoder" / RECORD).read_text(encoding="utf-8"))
    assert written == record | {"fingerprint": made.fingerprint}


def test_a_full_disk_leaves_no_record(tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(InputError, match="disk is full"):
        export(recipe, tiny_model(), LetterTokenizer(), tmp_path / "encoder", a_record())
    assert not (tmp_path / "encoder" / RECORD).exists()
    assert not [path for path in (tmp_path / "encoder").iterdir() if path.name.endswith(".tmp")]
