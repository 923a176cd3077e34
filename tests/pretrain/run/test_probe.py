"""Scores on held-out clips: constructed so that the right answers are known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretrain.run.probe import HeldOut, embed_texts, encode, evaluate, probe
from tests.pretrain.tiny_models import LetterTokenizer, random_frames, tiny_model

CPU = torch.device("cpu")


class Colors(nn.Module):
    """Looks at the mean color of a clip, and at texts as their tokenizer embeds them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Dropout(0.5)
        self.modes: list[bool] = []

    def forward(self, video: Tensor, embed: bool) -> tuple[Tensor, dict[int, Tensor], Tensor]:
        self.modes.append(self.training)
        colors = self.inner(video.mean((3, 4)))  # (B, T, 3)
        tokens = F.pad(colors, (0, 5))[:, :, None]  # (B, T, 1, 8)
        return tokens, {}, F.normalize(F.pad(colors.mean(1), (0, 5)), dim=-1)

    def embed_token_ids(self, ids: Tensor, mask: Tensor) -> Tensor:
        return F.normalize(F.pad(ids.float(), (0, 5)), dim=-1)


class Words:
    """A text is the sum of its colors."""

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        ids = torch.tensor([[int("red" in text), int("green" in text), int("blue" in text)] for text in texts])
        return ids, torch.ones_like(ids, dtype=torch.bool)

    def save(self, folder: Path) -> None:
        """Nothing to keep."""


def clips(colors: Sequence[str]) -> Tensor:
    """One clip of two frames for each color, uint8."""
    frames = torch.zeros(len(colors), 2, 8, 8, 3, dtype=torch.uint8)
    for i, color in enumerate(colors):
        frames[i, ..., ("red", "green", "blue").index(color)] = 200
    return frames


def scores(colors: Sequence[str], captions: Sequence[str], labels: Sequence[dict[str, str]] = ()) -> dict[str, float]:
    held_out = HeldOut(clips(colors), tuple(captions), tuple(labels) or ({},) * len(colors))
    model: Any = Colors()
    return evaluate(model, Words(), held_out, CPU, 0)


def test_retrieval_counts_right_answers_both_ways() -> None:
    assert scores(["red", "green", "blue"], ["red", "green", "blue"]) == {"recall@1/text": 1.0, "recall@1/video": 1.0}
    wrong = scores(["red", "green", "blue"], ["green", "red", "blue"])
    assert wrong == pytest.approx({"recall@1/text": 1 / 3, "recall@1/video": 1 / 3})


def test_equal_captions_count_as_one() -> None:
    found = scores(["red", "red", "green", "green"], ["red", "red", "green", "green"])
    assert found == {"recall@1/text": 1.0, "recall@1/video": 1.0}
    found = scores(["red", "red", "green", "red"], ["red", "red", "green", "green"])  # the last video looks like "red"
    assert found == pytest.approx({"recall@1/text": 3 / 4, "recall@1/video": 1.0})


def test_clips_without_caption_are_left_out() -> None:
    assert scores(["red", "blue", "green"], ["red", "", "green"]) == {"recall@1/text": 1.0, "recall@1/video": 1.0}
    assert scores(["red", "blue"], ["", ""]) == {}


def test_zero_shot_takes_the_nearest_name() -> None:
    colors = ["red", "green", "blue", "red", "green", "blue"]
    labels = [{"color": color, "side": "left" if i < 3 else "right"} for i, color in enumerate(colors)]
    labels[0] = {"color": "green"}  # wrong, and without a side
    found = scores(colors, [""] * 6, labels)
    assert set(found) == {"zero_shot/color", "probe/color", "zero_shot/side", "probe/side"}
    assert found["zero_shot/color"] == pytest.approx(5 / 6)


def test_labels_that_say_nothing_are_left_out() -> None:
    same = [{"kind": "toy", "name": str(i)} for i in range(4)]  # one value for all, and another one for each
    assert scores(["red", "green", "blue", "red"], [""] * 4, same) == {}


def test_without_tokenizer_only_the_probe_speaks() -> None:
    labels = tuple({"color": color} for color in ("red", "green") * 8)
    model: Any = Colors()
    held_out = HeldOut(clips(["red", "green"] * 8), ("red", "green") * 8, labels)
    assert set(evaluate(model, None, held_out, CPU, 0)) == {"probe/color"}


def separable(count: int, classes: int, noise: float, seed: int) -> tuple[Tensor, Tensor]:
    """Tokens (count, 5, 8), one of which, at a random place, tells the class."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, classes, (count,), generator=generator)
    tokens = noise * torch.randn(count, 5, 8, generator=generator)
    tokens[torch.arange(count), torch.randint(0, 5, (count,), generator=generator), targets] += 4.0
    return tokens, targets


def test_the_probe_learns_what_one_token_tells() -> None:
    tokens, targets = separable(600, 4, 0.3, 0)
    assert probe(tokens, targets, 4, 0) > 0.9
    assert probe(tokens, targets, 4, 0) == probe(tokens, targets, 4, 0)


def test_the_probe_stays_at_chance_on_noise() -> None:
    generator = torch.Generator().manual_seed(1)
    tokens, targets = torch.randn(400, 5, 8, generator=generator), torch.randint(0, 4, (400,), generator=generator)
    assert 0.15 < probe(tokens, targets, 4, 0) < 0.37  # 0.25 +- 4 standard errors


def test_the_probe_is_judged_on_the_second_half_alone() -> None:
    tokens, targets = separable(200, 2, 0.3, 2)
    targets[100:] = 1 - targets[100:]
    assert probe(tokens, targets, 2, 0) < 0.1


@pytest.mark.parametrize("width", [6, 9])
def test_the_probe_takes_any_width(width: int) -> None:
    tokens = torch.randn(12, 3, width, generator=torch.Generator().manual_seed(0))
    assert 0 <= probe(tokens, torch.arange(12) % 2, 2, 0) <= 1


@pytest.mark.parametrize("training", [True, False])
def test_an_evaluation_leaves_no_trace(training: bool) -> None:
    model: Any = Colors()
    model.train(training)
    labels = tuple({"color": color} for color in ("red", "green") * 8)
    held_out = HeldOut(clips(["red", "green"] * 8), ("red", "green") * 8, labels)
    before = torch.get_rng_state()
    evaluate(model, Words(), held_out, CPU, 7)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()
    assert model.modes == [False]
    assert model.training == model.inner.training == training


def test_a_real_model_is_encoded_in_pieces() -> None:
    model, frames = tiny_model(), random_frames(35)
    tokens, embeddings = encode(model, frames, CPU)
    assert tokens.shape == (35, 16, 16) and embeddings.shape == (35, 16)
    assert not tokens.requires_grad and not embeddings.requires_grad
    alone = encode(model, frames[33:34], CPU)
    torch.testing.assert_close(tokens[33:34], alone[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(embeddings[33:34], alone[1], atol=1e-5, rtol=1e-4)
    texts = [f"text {i}" for i in range(70)]
    vectors = embed_texts(model, LetterTokenizer(), texts, CPU)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(70))
    torch.testing.assert_close(vectors[66:67], embed_texts(model, LetterTokenizer(), texts[66:67], CPU))


def test_scores_of_a_real_model_lie_between_0_and_1() -> None:
    labels = tuple({"object": name} for name in ("star", "ring", "dot", "bar") * 5)
    held_out = HeldOut(random_frames(20), ("a star", "a ring", "", "a bar") * 5, labels)
    found = evaluate(tiny_model(), LetterTokenizer(), held_out, CPU, 0)
    assert set(found) == {"recall@1/text", "recall@1/video", "zero_shot/object", "probe/object"}
    assert all(0 <= value <= 1 for value in found.values())
