"""MixUp: shares, partners, and what they do to values."""

from __future__ import annotations

import torch

from fit.augmentation.mixup import MixUp


def test_each_clip_keeps_at_least_half_of_itself() -> None:
    torch.manual_seed(0)
    mix = MixUp.drawn(500, torch.device("cpu"))
    assert sorted(mix.partner.tolist()) == list(range(500))
    assert float(mix.share.min()) >= 0.5 and float(mix.share.max()) <= 1
    drawn = torch.distributions.Beta(0.8, 0.8).sample((100_000,))
    assert abs(float(mix.share.mean()) - float(torch.maximum(drawn, 1 - drawn).mean())) < 0.03


def test_values_are_mixed_by_share() -> None:
    mix = MixUp(torch.tensor([1, 0]), torch.tensor([0.75, 0.5]))
    values = torch.tensor([[0.0, 4.0], [8.0, 0.0]])
    assert torch.equal(mix.mixed(values), torch.tensor([[2.0, 3.0], [4.0, 2.0]]))


def test_the_seed_decides() -> None:
    def drawn(seed: int) -> MixUp:
        torch.manual_seed(seed)
        return MixUp.drawn(16, torch.device("cpu"))

    assert torch.equal(drawn(1).share, drawn(1).share) and torch.equal(drawn(1).partner, drawn(1).partner)
    assert not torch.equal(drawn(1).share, drawn(2).share)
