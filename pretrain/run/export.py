"""What a part of a recipe leaves behind: an encoder folder in `transformers` format with a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from core_encoder.encoder import Encoder, load_encoder, save_encoder
from core_encoder.errors import InputError
from core_encoder.files.storage import write_json, write_text
from core_encoder.models.text_tower import Tokenizer
from core_encoder.models.video_text import VideoTextModel
from core_encoder.preprocessing import Preprocessing
from pretrain.recipe import PARTS, Recipe

RECORD = "pretraining.json"
_WHAT = {
    "images": "image-text contrast of the spatial half",
    "stage1": "video-text contrast",
    "stage2": "masked distillation from the stage-1 encoder",
    "alignment": "video head and text tower tuned to the locked encoder",
}


def export(
    recipe: Recipe, model: VideoTextModel, tokenizer: Tokenizer | None, folder: Path, record: Mapping[str, Any]
) -> Encoder:
    """Write `model` as `folder` with its card; `record` (JSON) says how it was made, and is written last.

    Raises:
        InputError: the disk is full.
    """
    encoder = Encoder(model, recipe.name, Preprocessing(recipe.vision.image_size), tokenizer)
    save_encoder(encoder, folder)
    write_text(folder / "README.md", card(recipe, encoder, record))
    write_json(folder / RECORD, {**record, "fingerprint": encoder.fingerprint})
    return encoder


def published(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it goes along with the weights: files and folders by name, not by where they lie here."""
    about = recipe.describe()
    parts = [about[part] for part in PARTS if about[part]]
    for given, key in [
        *((about, key) for key in ("corpus", "held_out", "tokenizer")),
        *((part, key) for part in parts for key in ("start_from", "initialize_from")),
    ]:
        if given.get(key) and Path(given[key]).expanduser().exists():
            given[key] = Path(given[key]).name
    return about


def card(recipe: Recipe, encoder: Encoder, record: Mapping[str, Any]) -> str:
    """The model card: corpus, recipe, steps, seed, scores."""
    parts = record["parts"]
    front = {
        "library_name": "transformers",
        "pipeline_tag": "feature-extraction",
        "tags": ["prismhub", "video", "videoprism"],
        "datasets": [tier["name"] for tier in record["corpus"]],
    }
    made = [["part", "what", "steps", "clips", "final loss", "hours"]]
    scores = [["after", "score", "value"]]
    for name, part in parts.items():
        clips, loss, hours = f"{part['clips']:,}", f"{part['loss']:.3f}", f"{part['seconds'] / 3600:.2f}"
        start = f", from encoder {part['started_from'][:12]}" if "started_from" in part else ""
        made.append([name, _WHAT[name] + start, str(part["steps"]), clips, loss, hours])
        scores += [[name, score, f"{value:.3f}"] for score, value in part["scores"].items()]
    tiers = [["tier", "quality", "clips", "captions", "weight", "source"]]
    for tier in record["corpus"]:
        weight = f"{tier['weight']:g}"
        size = "a stream" if tier["clips"] is None else f"{tier['clips']:,}"
        tiers.append([tier["name"], tier["quality"], size, str(tier["caption_source"]), weight, str(tier["source"])])
    lost = [f"{part['skipped']:,} in {name}" for name, part in parts.items() if part.get("skipped")]
    unread = f"\nDrawn clips that could not be read gave way to others: {', '.join(lost)}.\n" if lost else ""
    judged = "No held-out clips were named."
    if len(scores) > 1:
        judged = f"On {record['held_out_clips']} held-out clips, while training:\n\n{_table(scores)}"
    return f"""---
{yaml.safe_dump(front, sort_keys=False, allow_unicode=True).strip()}
---

# {recipe.name}

Frozen video encoder of the VideoPrism recipe: {encoder.num_frames} frames of {encoder.image_size} x \
{encoder.image_size} pixels, patches of {encoder.patch_size} pixels, {encoder.num_layers} layers of width \
{encoder.dim}, {encoder.num_parameters / 1e6:.1f} M parameters with video head and text tower.

Open it with `core_encoder.load_encoder(folder)` or `transformers.AutoModel.from_pretrained(folder)`.

## How it was made

`prismhub pretrain {recipe.name}.yaml`, seed {recipe.seed}; the whole recipe is in `{RECORD}`.

{_table(made)}

Trained on clips of these tiers:

{_table(tiers)}
{unread}
## Scores

{judged}

Fingerprint: `{encoder.fingerprint}`
"""


def open_model(folder: Path) -> tuple[VideoTextModel, Tokenizer | None]:
    """The model of an exported folder, ready to be trained further.

    Raises:
        InputError: the folder is missing or damaged, or holds another kind of encoder.
    """
    encoder = load_encoder(folder)
    model = encoder.model
    if not isinstance(model, VideoTextModel):
        raise InputError(f"{folder}: holds another kind of encoder; pretraining goes on from VideoPrism-like ones")
    return model.requires_grad_(True).train(), encoder.tokenizer


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as a Markdown table, the first one its head."""
    lines = ["| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join("---" for _ in rows[0]) + " |", *lines[1:]])
