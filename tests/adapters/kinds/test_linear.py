from __future__ import annotations

import pytest
import torch

from adapters.classifier import FeatureScale
from adapters.context import Context
from adapters.kinds.linear import Linear, mean_pool
from core_encoder.errors import InputError
from tests.adapters.toy import DIM, LABELS, toy_features


def test_the_scale_of_parts_is_that_of_the_whole() -> None:
    rows = torch.randn(50, 2, 3) * torch.tensor([1.0, 2.0, 3.0]) + 1000
    scale = FeatureScale(2, 3)
    scale.measure(rows.split([7, 40, 3]))
    torch.testing.assert_close(scale.mean, rows.double().mean(0).float())
    torch.testing.assert_close(scale.std, rows.double().std(0, correction=0).float())


def test_finer_features_are_averaged_over_patches_and_real_frames() -> None:
    tokens = torch.randn(2, 3, 4, DIM)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    expected = torch.stack([tokens[0, :2].mean((0, 1)), tokens[1].mean((0, 1))])
    torch.testing.assert_close(mean_pool(tokens, mask), expected)
    torch.testing.assert_close(mean_pool(tokens.mean(2), mask), expected)
    torch.testing.assert_close(mean_pool(tokens), tokens.mean((1, 2)))
    torch.testing.assert_close(mean_pool(expected, mask), expected)
    with pytest.raises(InputError, match="linear wants features"):
        mean_pool(tokens[None])


def test_equals_a_standardized_linear_layer() -> None:
    data = toy_features(20, kind="clip")
    adapter = Linear.build({}, Context.of_classes(DIM, LABELS))
    adapter.calibrate(data)
    rows = data.features.double()
    standard = (rows - rows.mean(0)) / rows.std(0, correction=0)
    expected = standard @ adapter.classifier.weight.double().T
    torch.testing.assert_close(adapter(data.features).double(), expected, atol=1e-5, rtol=1e-4)


def test_the_help_says_that_it_is_weak() -> None:
    assert "far weaker" in (Linear.__doc__ or "")


def test_features_of_another_width_are_one_line() -> None:
    head = Linear.build({}, Context.of_classes(4, ("ant", "bee")))
    with pytest.raises(InputError, match=r"linear wants features of width 4, not \(2, 5\)"):
        head.predict(torch.zeros(2, 5))
