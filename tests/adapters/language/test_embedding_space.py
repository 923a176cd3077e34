"""The space of a language model's embeddings: its scale, and the loss of the words against plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from adapters.language.embedding_space import SHARPNESS, EmbeddingScale, WordLoss

WIDTH = 12
WORDS = torch.nn.Embedding.from_pretrained(
    0.5 + 0.2 * torch.randn(20, WIDTH, generator=torch.Generator().manual_seed(3))
)
SCALE = EmbeddingScale(WORDS.weight)
TEXTS = [[3, 4, 5], [3, 6], [7, 3, 4]]


def test_vectors_get_the_mean_and_the_spread_of_embeddings() -> None:
    torch.testing.assert_close(SCALE.mean, WORDS.weight.mean(0))
    torch.testing.assert_close(SCALE.std, WORDS.weight.std(0, correction=0))
    y = torch.randn(5, WIDTH)
    vectors = SCALE.matched(y)
    spread = (vectors - SCALE.mean) / SCALE.std
    torch.testing.assert_close(spread.square().mean(-1), torch.ones(5), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(SCALE.matched(1000.0 * y), vectors, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(SCALE.directions(vectors), torch.nn.functional.normalize(y, dim=-1))
    embedded = WORDS(torch.tensor(TEXTS[0]))
    torch.testing.assert_close(
        SCALE.matched((embedded - SCALE.mean) / SCALE.std).norm(dim=-1),
        embedded.norm(dim=-1),
        atol=1.0,
        rtol=0.3,
    )


def test_the_loss_of_the_words_equals_a_loop() -> None:
    loss = WordLoss(TEXTS, WORDS, SCALE)
    assert list(loss.places)[:2] == [3, 4], "the most frequent first"
    vectors = SCALE.matched(torch.randn(2, 4, WIDTH, generator=torch.Generator().manual_seed(5)))
    real = torch.tensor([[True] * 4, [True, True, False, False]])
    found = loss(vectors, real, [[4, 3, 3, 4], [7, 19]])  # 19 is no word of the training texts
    standard = (WORDS.weight - SCALE.mean) / SCALE.std
    for row, wanted in enumerate(([3, 4], [7])):
        silent = dict.fromkeys((3, 4, 5, 6, 7), 1.0)  # the probability that no vector says a word
        for vector in vectors[row][real[row]]:
            spread = (vector - SCALE.mean) / SCALE.std
            cosines = {word: float(torch.cosine_similarity(spread, standard[word], dim=0)) for word in silent}
            total = sum(math.exp(SHARPNESS * one) for one in cosines.values())
            for word, cosine in cosines.items():
                silent[word] *= 1 - math.exp(SHARPNESS * cosine) / total
        assert float(found[row]) == pytest.approx(-sum(math.log(1 - silent[word]) for word in wanted), rel=1e-3)
    assert float(loss(vectors, real, [[], [19]]).sum()) == 0.0
    torch.testing.assert_close(loss(torch.cat([vectors, vectors]), torch.cat([real, real]), TEXTS + TEXTS[:1])[1:2],
                               loss(vectors[1:], real[1:], [TEXTS[1]]))  # fmt: skip


def test_vectors_that_are_the_words_have_a_small_loss_and_others_move_there() -> None:
    loss = WordLoss(TEXTS, WORDS, SCALE)
    real = torch.ones(1, 2, dtype=torch.bool)
    exact = loss(WORDS(torch.tensor([[5, 6]])), real, [[5, 6]])
    y = SCALE.directions(WORDS(torch.tensor([[3, 4]])))  # two other words
    y = (y + 0.1 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))).requires_grad_()
    optimizer = torch.optim.Adam([y], lr=0.1)
    losses = []
    for _ in range(60):
        value = loss(SCALE.matched(y), real, [[5, 6]]).sum()
        losses.append(float(value.detach()))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert float(exact) < 1e-3 and losses[-1] < 0.05 < 3.0 < losses[0]
    said = (SHARPNESS * SCALE.directions(SCALE.matched(y[0])) @ loss.words.T).argmax(-1)
    assert {list(loss.places)[int(one)] for one in said} == {5, 6}, "one word each"


def test_only_the_most_frequent_words_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.language.embedding_space.MOST_WORDS", 2)
    loss = WordLoss(TEXTS, WORDS, SCALE)
    assert list(loss.places) == [3, 4] and loss.words.shape == (2, WIDTH)
    assert not loss.state_dict(), "nothing of it is saved"
