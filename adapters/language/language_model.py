"""`LanguageModel`: a frozen causal model of `transformers` behind vectors of a video. Loss, generation, scoring.

B batch, P vectors in front, L tokens of a sequence, H width, C candidates. A sequence is

    vectors of the video | prompt | answer, its end included

with the padding before it, so that all answers end in the last column. Positions count what is real.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from adapters.language.embedding_space import EmbeddingScale
from core_encoder.errors import InputError
from core_encoder.models.transformers_files import (
    UNREADABLE,
    check_safetensors,
    open_tokenizer,
    reason_of,
    without_bars,
)

Ids = Sequence[int]
Stamps = tuple[tuple[str, int, int], ...]
CANDIDATES_AT_ONCE = 64


class LanguageModel(nn.Module):
    """A causal language model of a folder, frozen, with its tokenizer.

    Raises:
        InputError: no tokenizer, no safetensors, not a causal language model, damaged files, or no token for the end.
    """

    def __init__(self, folder: Path, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.tokenizer = open_tokenizer(folder)
        if self.tokenizer.eos_token_id is None:
            raise InputError(f"{folder}: the tokenizer has no end-of-text token (eos_token), which ends an answer")
        in_use = _model_in_use(folder, dtype)
        self._in_use = (in_use,)  # in a tuple, so that it never becomes a submodule
        self.model: Any = _with_the_same_weights(in_use)
        self.accepts = frozenset(inspect.signature(self.model.forward).parameters)
        self.ends = _end_tokens(self.model, self.tokenizer)
        self.model.generation_config = _greedy(self.ends, self.tokenizer.pad_token_id)

    @property
    def width(self) -> int:
        """The width H of its embeddings."""
        return int(self.embeddings.weight.shape[1])

    @property
    def embedding_scale(self) -> EmbeddingScale:
        """Mean and spread of its embeddings, as they are read: Gemma 3, for one, scales what it looks up."""
        weights = self.embeddings.weight
        few = torch.arange(min(len(weights), 64), device=weights.device)
        with torch.no_grad():
            factor = _root_mean_square(self.embeddings(few)) / _root_mean_square(weights[few])
        return EmbeddingScale(weights, float(factor))

    @property
    def positions(self) -> int | None:
        """How many tokens it can read, None where its configuration does not say."""
        known = getattr(self.model.config, "max_position_embeddings", None)
        return known if isinstance(known, int) and known > 0 else None

    @property
    def embeddings(self) -> Any:
        """The module that looks tokens up."""
        return self.model.get_input_embeddings()

    def train(self, mode: bool = True) -> LanguageModel:
        """It always stays in evaluation mode: dropout would blur what is frozen."""
        return super().train(False)

    # What it says

    def nll(self, vectors: Tensor, real: Tensor, prompts: Sequence[Ids], answers: Sequence[Ids]) -> Tensor:
        """The negative log-likelihood of each answer, summed over its tokens: `(B,)`, with gradients to the vectors."""
        embeds, mask = self._sequences(vectors, real, prompts, answers)
        longest = max(map(len, answers))
        logits = self._forward(embeds, mask, longest + 1)[:, :-1]  # (B, longest, vocabulary)
        rows = [torch.tensor([-100] * (longest - len(one)) + list(one)) for one in answers]
        wanted = torch.stack(rows).to(logits.device)  # (B, longest)
        return F.cross_entropy(logits.float().mT, wanted, ignore_index=-100, reduction="none").sum(1)

    @torch.no_grad()
    def generate(
        self, vectors: Tensor, real: Tensor, prompts: Sequence[Ids], most_tokens: int, beams: int = 1
    ) -> list[list[int]]:
        """The likeliest ids after each prompt, greedily or by beam search, the end included where it is reached."""
        embeds, mask = self._sequences(vectors, real, prompts, [[]] * len(prompts))
        how = _greedy(self.ends, self.tokenizer.pad_token_id, most_tokens, beams)
        found = self.model.generate(inputs_embeds=embeds, attention_mask=mask, generation_config=how)  # (B, new)
        return [self._until_end(row) for row in found.tolist()]

    @torch.no_grad()
    def score(self, vectors: Tensor, real: Tensor, prompt: Ids, candidates: Sequence[Ids]) -> Tensor:
        """The log-likelihood `(C,)` of each candidate after one video `(1, P, H)` and one prompt.

        Video and prompt are read once; the candidates share the cache.
        """
        embeds, mask = self._sequences(vectors, real, [prompt], [[]])
        said = self.model(inputs_embeds=embeds, attention_mask=mask, use_cache=True)
        first, length = said.logits[:, -1:], embeds.shape[1]
        if not hasattr(getattr(said, "past_key_values", None), "batch_repeat_interleave"):
            return self._score_apart(vectors, real, prompt, candidates)
        found = []
        for start in range(0, len(candidates), CANDIDATES_AT_ONCE):
            part = [torch.tensor(list(one)) for one in candidates[start : start + CANDIDATES_AT_ONCE]]
            ids = pad_sequence(part, batch_first=True, padding_value=-100).to(embeds.device)  # (C, A)
            logits = first.expand(len(part), -1, -1)
            if ids.shape[1] > 1:
                cache = copy.deepcopy(said.past_key_values)
                cache.batch_repeat_interleave(len(part))
                known = ids[:, :-1].clamp_min(0)
                whole = torch.ones(len(part), length + known.shape[1], dtype=torch.long, device=ids.device)
                later = self.model(input_ids=known, attention_mask=whole, past_key_values=cache).logits
                logits = torch.cat([logits, later], 1)  # (C, A, vocabulary)
            found.append(-F.cross_entropy(logits.float().mT, ids, ignore_index=-100, reduction="none").sum(1))
        return torch.cat(found)

    def _score_apart(self, vectors: Tensor, real: Tensor, prompt: Ids, candidates: Sequence[Ids]) -> Tensor:
        """As `score`, of a model that has no cache of keys and values to share, such as Mamba."""
        found = []
        for start in range(0, len(candidates), CANDIDATES_AT_ONCE):
            part = candidates[start : start + CANDIDATES_AT_ONCE]
            again, are_real = (one.expand(len(part), *one.shape[1:]) for one in (vectors, real))
            found.append(-self.nll(again, are_real, [prompt] * len(part), part))
        return torch.cat(found)

    def _sequences(
        self, vectors: Tensor, real: Tensor, prompts: Sequence[Ids], answers: Sequence[Ids]
    ) -> tuple[Tensor, Tensor]:
        """Embeddings `(B, L, H)` of the sequences and which columns are real `(B, L)`."""
        rows = []
        for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            ids = torch.tensor([*prompt, *answer], dtype=torch.long, device=vectors.device)
            known = self.embeddings(ids)  # (prompt + answer, H)
            rows.append(torch.cat([vectors[row][real[row]].to(known.dtype), known]))
        lengths = torch.tensor([len(one) for one in rows])
        if self.positions is not None and int(lengths.max()) > self.positions:
            raise InputError(
                f"a sequence of {int(lengths.max())} tokens is longer than the {self.positions} the language model "
                "reads; take fewer queries, cells or examples"
            )
        embeds = pad_sequence(rows, batch_first=True, padding_side="left")
        columns = torch.arange(embeds.shape[1])
        mask = columns >= embeds.shape[1] - lengths[:, None]
        return embeds, mask.long().to(vectors.device)

    def _forward(self, embeds: Tensor, mask: Tensor, keep: int) -> Tensor:
        """The logits of the last `keep` columns."""
        options: dict[str, Any] = {"inputs_embeds": embeds, "attention_mask": mask, "use_cache": False}
        if "position_ids" in self.accepts:
            options["position_ids"] = (mask.cumsum(1) - 1).clamp_min(0)
        if "logits_to_keep" in self.accepts:
            options["logits_to_keep"] = keep
        logits: Tensor = self.model(**options).logits
        return logits[:, -keep:]

    def _until_end(self, ids: Ids) -> list[int]:
        end = next((place + 1 for place, one in enumerate(ids) if one in self.ends), len(ids))
        return list(ids[:end])


def _root_mean_square(values: Tensor) -> Tensor:
    return values.float().square().mean().sqrt()


def _greedy(ends: Sequence[int], pad: int, most_tokens: int = 32, beams: int = 1) -> Any:
    """Nothing is drawn, a beam is worth its log-likelihood, and nothing of the folder's own taste counts."""
    from transformers import GenerationConfig

    chosen: dict[str, Any] = {"max_new_tokens": most_tokens, "num_beams": beams, "do_sample": False, "use_cache": True}
    if beams > 1:
        chosen["length_penalty"] = 0.0
    return GenerationConfig(**chosen, eos_token_id=list(ends), pad_token_id=pad)


def _end_tokens(model: Any, tokenizer: Any) -> tuple[int, ...]:
    """The tokens that end an answer: the tokenizer's, and those of the folder's `generation_config.json`."""
    named = getattr(model.generation_config, "eos_token_id", None)
    several = named if isinstance(named, list) else [] if named is None else [named]
    return tuple(dict.fromkeys([tokenizer.eos_token_id, *several]))


_models_in_use: WeakValueDictionary[tuple[Stamps, torch.dtype], Any] = WeakValueDictionary()


def _model_in_use(folder: Path, dtype: torch.dtype) -> Any:
    """The frozen model of a folder, read once as long as somebody keeps it."""
    key = (_stamps(folder), dtype)
    model = _models_in_use.get(key)
    if model is None:
        model = _models_in_use[key] = _causal_model(folder, dtype).requires_grad_(False)
    return model


def _with_the_same_weights(model: Any) -> Any:
    """Modules of one's own, to move or to add LoRA to, on weights that are in memory once: nobody changes them."""
    same = {id(one): nn.Parameter(one.data, requires_grad=False) for one in model.parameters()}
    return copy.deepcopy(model, same)


def _causal_model(folder: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    check_safetensors(folder)
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
    try:
        with without_bars():
            model, said = AutoModelForCausalLM.from_pretrained(
                str(folder), dtype=dtype, output_loading_info=True, **options
            )
    except UNREADABLE as error:
        raise InputError(
            f"{folder}: not a causal language model that transformers opens ({reason_of(error)})"
        ) from error
    if missing := sorted(said["missing_keys"]):
        raise InputError(f"{folder}: {len(missing)} tensors are missing: {', '.join(missing[:6])}")
    return model


def llm_fingerprint(folder: Path) -> str:
    """SHA-256 over the weights by name, whatever files they are spread over, the vocabulary and the chat template."""
    return _fingerprint(folder, _stamps(folder))


def _stamps(folder: Path) -> Stamps:
    """What lies in a folder, by what the disk says of its files."""
    files = sorted(file.resolve() for file in folder.iterdir() if file.is_file())
    return tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)


@functools.lru_cache(maxsize=8)
def _fingerprint(folder: Path, stamps: Stamps) -> str:
    from safetensors import safe_open

    tokenizer = open_tokenizer(folder)
    about = {"vocabulary": tokenizer.get_vocab(), "chat": getattr(tokenizer, "chat_template", None)}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    files = sorted(folder.glob("*.safetensors"))
    opened = {path: safe_open(path, framework="pt") for path in files}
    for name, path in sorted((name, path) for path, file in opened.items() for name in file.keys()):  # noqa: SIM118
        tensor = opened[path].get_tensor(name)
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(memoryview(tensor.contiguous().view(-1).view(torch.uint8).numpy()))
    return digest.hexdigest()
