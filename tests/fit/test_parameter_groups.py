"""Which parameters enter the groups of an optimizer, and which decay."""

from __future__ import annotations

import torch
from torch import nn

from fit.parameter_groups import parameter_groups


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, 3))
        self.words = nn.Embedding(4, 3)
        self.norm = nn.LayerNorm(3)
        self.linear = nn.Linear(3, 2)


def names(head: Head, group: dict[str, list[nn.Parameter]]) -> list[str]:
    name_of = {id(parameter): name for name, parameter in head.named_parameters()}
    return [name_of[id(parameter)] for parameter in group["params"]]


def test_weights_of_maps_decay_and_spared_names_do_not() -> None:
    head = Head()
    decayed, others = parameter_groups(head, 0.3)
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert names(head, decayed) == ["words.weight", "linear.weight"]
    assert names(head, others) == ["query", "norm.weight", "norm.bias", "linear.bias"]
    assert names(head, parameter_groups(head, 0.3, ("words.weight",))[0]) == ["linear.weight"]


def test_what_is_frozen_enters_no_group_and_no_group_is_empty() -> None:
    head = Head()
    head.linear.requires_grad_(False)
    head.words.requires_grad_(False)
    (only,) = parameter_groups(head, 0.3)
    assert only["weight_decay"] == 0.0 and names(head, only) == ["query", "norm.weight", "norm.bias"]


def test_parameters_of_one_share_and_decay_are_a_group() -> None:
    head = Head()
    groups = parameter_groups(head, 0.3, share=lambda name: 0.1 if name.startswith("words") else 1.0)
    assert [(group["share"], group["weight_decay"]) for group in groups] == [(1.0, 0.3), (1.0, 0.0), (0.1, 0.3)]
    assert names(head, groups[2]) == ["words.weight"] and sum(len(group["params"]) for group in groups) == 6
