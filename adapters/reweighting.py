"""Losses for classes of unequal frequency.

`balanced` weights a class by the inverse of its frequency. `eql` follows the equalization loss (Tan et al., CVPR 2020):
the samples of frequent classes mostly stop pushing down the scores of rare ones, which would otherwise drown their few
own samples. The paper drops that push at random with probability `EQL_DROP`; here its expectation is used, so that a
loss depends on nothing but the batch. A class is rare when it has fewer than `EQL_RARE` times the mean class count.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapters.head_options import Reweighting

EQL_DROP = 0.9
EQL_RARE = 0.5
MAX_WEIGHT = 100.0  # of a class against another one: a single sample must not rule the head


class ClassificationLoss(nn.Module):
    """Cross entropy `(B, K), (B,)` or, multi-label, binary cross entropy `(B, K), (B, K)`; each sample's loss `(B,)`.

    Its buffers are set from class counts before training and are not part of the saved weights.
    """

    weight: Tensor
    push: Tensor

    def __init__(self, num_classes: int, multi_label: bool, reweighting: Reweighting, label_smoothing: float) -> None:
        super().__init__()
        self.multi_label = multi_label
        self.reweighting = reweighting
        self.label_smoothing = label_smoothing
        self.register_buffer("weight", torch.ones(num_classes), persistent=False)  # of a class's own samples
        self.register_buffer("push", torch.ones(num_classes), persistent=False)  # of the other samples against it

    def set_counts(self, counts: Tensor, num_samples: int) -> None:
        """Take the class frequencies of the training set: `counts (K,)` samples of each class."""
        if self.reweighting == "none":
            return
        counts = counts.float().clamp_min(1)
        if self.reweighting == "eql":
            rare = counts < EQL_RARE * counts.mean()
            self.push.copy_(torch.where(rare, 1 - EQL_DROP, 1.0))
        elif self.multi_label:
            self.weight.copy_(((num_samples - counts).clamp_min(1) / counts).clamp(1 / MAX_WEIGHT, MAX_WEIGHT))
        else:
            inverse = (counts.max() / counts).clamp_max(MAX_WEIGHT)
            self.weight.copy_(inverse * counts.sum() / (inverse * counts).sum())  # a sample weighs 1 on average

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The loss of every sample `(B,)`."""
        logits = logits.float()
        if self.multi_label:
            own = targets.float()
            smooth = own * (1 - self.label_smoothing) + self.label_smoothing / 2
            pull, push = F.logsigmoid(logits), F.logsigmoid(-logits)
            factor = torch.where(own > 0, torch.ones_like(own), self.push)
            return -(smooth * self.weight * pull + (1 - smooth) * factor * push).mean(1)
        other = self.push.log().expand_as(logits).scatter(1, targets[:, None], 0.0)  # exp(logit) counts less
        losses = F.cross_entropy(logits + other, targets, reduction="none", label_smoothing=self.label_smoothing)
        return losses * self.weight[targets]
