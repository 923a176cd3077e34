"""Loss, generation and scoring against plain loops without a cache, one sample and one token at a time."""

from __future__ import annotations

import itertools
import json
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor

from adapters.language.language_model import LanguageModel, llm_fingerprint
from adapters.language.prompts import Prompts
from core_encoder.errors import InputError
from tests.language_models import models_read, tiny_llm

__all__ = ["models_read"]  # a fixture
PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12], [7]]
ANSWERS = [[20, 21, 2], [22, 2], [23, 24, 25, 26, 2]]
REAL = torch.tensor([[True] * 4, [True, True, False, True], [True, False, False, False]])


@pytest.fixture(params=["llama", "gpt2"])
def llm(request: pytest.FixtureRequest, tmp_path: Path) -> LanguageModel:
    return LanguageModel(tiny_llm(tmp_path / "llm", kind=request.param)).eval()


def vectors_of(llm: LanguageModel) -> Tensor:
    return 0.5 * torch.randn(3, 4, llm.width, generator=torch.Generator().manual_seed(3))


def next_logits(llm: LanguageModel, vectors: Tensor, ids: list[int]) -> Tensor:
    """What comes after real vectors `(P, H)` and ids, from a whole forward pass without padding or cache."""
    known = llm.model.get_input_embeddings()(torch.tensor(ids, dtype=torch.long))
    with torch.no_grad():
        logits: Tensor = llm.model(inputs_embeds=torch.cat([vectors, known])[None], use_cache=False).logits[0, -1]
    return logits.log_softmax(-1)


def slow_log_likelihood(llm: LanguageModel, vectors: Tensor, prompt: list[int], answer: list[int]) -> float:
    total = 0.0
    for place, token in enumerate(answer):
        total += float(next_logits(llm, vectors, prompt + answer[:place])[token])
    return total


def test_the_likelihood_equals_a_loop(llm: LanguageModel) -> None:
    vectors = vectors_of(llm)
    found = -llm.nll(vectors, REAL, PROMPTS, ANSWERS).detach()
    rows = [
        slow_log_likelihood(llm, vectors[b][REAL[b]], prompt, answer)
        for b, (prompt, answer) in enumerate(zip(PROMPTS, ANSWERS, strict=True))
    ]
    assert found.tolist() == pytest.approx(rows, abs=1e-4)


def test_gradients_reach_the_vectors_and_not_the_model(llm: LanguageModel) -> None:
    vectors = vectors_of(llm).requires_grad_()
    llm.nll(vectors, REAL, PROMPTS, ANSWERS).sum().backward()
    assert vectors.grad is not None and vectors.grad[REAL].abs().sum(-1).min() > 0
    assert vectors.grad[~REAL].abs().max() == 0 and all(one.grad is None for one in llm.parameters())
    assert not llm.train().model.training


def test_greedy_generation_equals_a_loop(llm: LanguageModel) -> None:
    vectors = vectors_of(llm)
    found = llm.generate(vectors, REAL, PROMPTS, most_tokens=6)
    for b, prompt in enumerate(PROMPTS):
        said: list[int] = []
        while len(said) < 6 and (not said or said[-1] != 2):
            said.append(int(next_logits(llm, vectors[b][REAL[b]], prompt + said).argmax()))
        assert found[b] == said
    assert [llm.generate(vectors[b : b + 1], REAL[b : b + 1], PROMPTS[b : b + 1], 6)[0] for b in range(3)] == found


def test_a_wide_beam_finds_the_likeliest_of_all_answers(llm: LanguageModel) -> None:
    """With as many beams as words no pair of tokens is left out."""
    vectors, words = vectors_of(llm), llm.model.config.vocab_size
    found = llm.generate(vectors[:2], REAL[:2], PROMPTS[:2], most_tokens=2, beams=words)
    for b, prompt in enumerate(PROMPTS[:2]):
        first = next_logits(llm, vectors[b][REAL[b]], prompt)
        worth = {(2,): float(first[2])}
        for a, row in ((a, next_logits(llm, vectors[b][REAL[b]], [*prompt, a])) for a in range(words) if a != 2):
            worth |= {(a, c): float(first[a] + row[c]) for c in range(words)}
        assert tuple(found[b]) == max(worth, key=worth.__getitem__)


def test_candidates_share_a_cache_and_score_as_a_loop(llm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = vectors_of(llm)
    for candidates in ([[20, 2], [21, 22, 23, 2], [24, 25, 2], [26], [20, 21, 2]], [[20], [21]]):
        expected = [slow_log_likelihood(llm, vectors[1][REAL[1]], PROMPTS[1], one) for one in candidates]
        for at_once in (64, 2):
            monkeypatch.setattr("adapters.language.language_model.CANDIDATES_AT_ONCE", at_once)
            found = llm.score(vectors[1:2], REAL[1:2], PROMPTS[1], candidates)
            assert found.tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["gemma3_text", "mamba"])
def test_models_of_other_kinds(kind: str, tmp_path: Path) -> None:
    """Gemma 3 looks at a few tokens in every other layer and scales its embeddings, Mamba has no cache to share."""
    other = LanguageModel(tiny_llm(tmp_path / "llm", kind=kind)).eval()
    vectors, candidates = vectors_of(other), [[20, 2], [21, 22, 23, 2], [26]]
    expected = [slow_log_likelihood(other, vectors[1][REAL[1]], PROMPTS[1], one) for one in candidates]
    found = other.score(vectors[1:2], REAL[1:2], PROMPTS[1], candidates)
    assert found.tolist() == pytest.approx(expected, abs=1e-4)
    rows = [slow_log_likelihood(other, vectors[b][REAL[b]], PROMPTS[b], ANSWERS[b]) for b in range(3)]
    assert (-other.nll(vectors, REAL, PROMPTS, ANSWERS)).tolist() == pytest.approx(rows, abs=1e-4)
    with torch.no_grad():
        known = other.model.get_input_embeddings()(torch.arange(other.model.config.vocab_size))
    torch.testing.assert_close(other.embedding_scale.mean, known.mean(0), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(other.embedding_scale.std, known.std(0, correction=0), atol=1e-6, rtol=1e-4)


def test_a_model_in_use_is_read_once(tmp_path: Path, models_read: list[Path]) -> None:
    folder = tiny_llm(tmp_path / "llm", tie_word_embeddings=True)
    one, other = LanguageModel(folder), LanguageModel(folder)
    assert models_read == [folder] and one.model is not other.model
    places = [{name: tensor.data_ptr() for name, tensor in llm.model.state_dict().items()} for llm in (one, other)]
    assert places[0] == places[1] and len(set(places[0].values())) < len(places[0]), "tied weights stay tied"
    other.to(torch.bfloat16)
    other.model.lm_head = torch.nn.Identity()
    assert {tensor.dtype for tensor in one.model.state_dict().values()} == {torch.float32}
    assert torch.isfinite(one.nll(vectors_of(one), REAL, PROMPTS, ANSWERS)).all()
    LanguageModel(folder, torch.bfloat16)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3]}))
    assert LanguageModel(folder).ends == (2, 3) and len(models_read) == 3, "in another precision, and of other files"


def test_what_a_folder_likes_in_generation_does_not_count(tmp_path: Path) -> None:
    folder = tiny_llm(tmp_path / "llm")
    plain = LanguageModel(folder).eval()
    expected = plain.generate(vectors_of(plain), REAL, PROMPTS, 6)
    taste = {"do_sample": True, "temperature": 5.0, "repetition_penalty": 9.0, "max_length": 3, "eos_token_id": [2, 3]}
    (folder / "generation_config.json").write_text(json.dumps(taste))
    other = LanguageModel(folder).eval()
    assert other.ends == (2, 3)  # but for further ends
    found = other.generate(vectors_of(other), REAL, PROMPTS, 6)
    assert all(long[: len(short)] == short for long, short in zip(expected, found, strict=True))


def test_a_sequence_must_fit(tmp_path: Path) -> None:
    llm = LanguageModel(tiny_llm(tmp_path / "llm"))
    with pytest.raises(InputError, match="a sequence of 154 tokens is longer than the 128 the language model reads"):
        llm.nll(torch.zeros(1, 4, 16), torch.ones(1, 4, dtype=torch.bool), [[5] * 148], [[6, 2]])


def test_the_fingerprint_is_of_weights_words_and_template(tmp_path: Path) -> None:
    a, b = tiny_llm(tmp_path / "a"), tiny_llm(tmp_path / "b")
    assert llm_fingerprint(a) == llm_fingerprint(b) != llm_fingerprint(tiny_llm(tmp_path / "c", seed=1))
    assert llm_fingerprint(tiny_llm(tmp_path / "d", chat=True)) != llm_fingerprint(a)
    LanguageModel(b).model.save_pretrained(str(b), max_shard_size="5KB")  # other files, the same weights
    (b / "model.safetensors").unlink()
    assert len(list(b.glob("*.safetensors"))) > 1 and llm_fingerprint(b) == llm_fingerprint(a)


def test_folders_that_are_no_language_model(tmp_path: Path) -> None:
    folder = tiny_llm(tmp_path / "llm")
    kept = folder / "tokenizer.json"
    kept.rename(tmp_path / "tokenizer.json")
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match=r"llm: holds no tokenizer \(tokenizer.json, tokenizer_config.json, ...\)"):
        LanguageModel(folder)
    (tmp_path / "tokenizer.json").rename(kept)
    with pytest.raises(InputError, match="the tokenizer has no end-of-text token"):
        LanguageModel(folder)
    other = tiny_llm(tmp_path / "other")
    (other / "model.safetensors").rename(other / "pytorch_model.bin")
    with pytest.raises(InputError, match="pytorch_model.bin may hold code: convert it to safetensors first"):
        LanguageModel(other)
    whole = tiny_llm(tmp_path / "whole")
    (whole / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match="whole: "):
        LanguageModel(whole)


def test_prompts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = LanguageModel(tiny_llm(tmp_path / "plain")).tokenizer
    chat = LanguageModel(tiny_llm(tmp_path / "chat", chat=True)).tokenizer
    shots = [("what is it", "man"), ("what does it do", "talk")]
    made = Prompts(plain, True, "Describe the video", 5)
    assert plain.decode(made.prompt_ids("where is it", shots)) == (
        "question : what is it answer : man . question : what does it do answer : talk . "
        "question : where is it answer :"
    )
    assert plain.decode(made.prompt_ids(None, shots)) == "caption :" and not made.chat
    talk = Prompts(chat, True, "Describe the video", 5)
    assert chat.decode(talk.prompt_ids("where is it", shots[:1])) == (
        "< user > what is it <end> < assistant > man <end> < user > where is it <end> < assistant >"
    )
    assert chat.decode(talk.prompt_ids(None)) == "< user > Describe the video <end> < assistant >"
    assert Prompts(chat, False, "Describe the video", 5).prompt_ids("what") == made.prompt_ids("what")
    assert made.answer_ids("red star")[-1] == 2 and made.text_of(made.answer_ids("red star")) == "red star"
    with caplog.at_level(logging.WARNING):
        assert made.answer_ids("a red star moving left") == made.answer_ids("a red star moving left up")[:5]
        long = " ".join(itertools.repeat("what", 200))
        assert len(made.prompt_ids(long)) == len(made.prompt_ids(long + long)) == 128 + 4
    assert [record.message for record in caplog.records] == [
        "answers longer than max_new_tokens=5 are cut (this one: 6)",
        "questions longer than 128 tokens are cut (this one has 200)",
    ]
