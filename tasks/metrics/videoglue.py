"""The VideoGLUE score: how well a frozen model does under several ways of adapting it, each weighed by its cost.

Yuan et al., VideoGLUE (arXiv 2307.03166): with S_i the average score under adaptation i (fine-tuning, frozen features,
attention pooling over layers, low-rank adapters) and C_ik its cost of kind k (trainable parameters, inference FLOPs),

    A_ik = 1 / log10(C_ik)      w_ik = A_ik / sum_j A_jk      VGS = mean_k sum_i w_ik S_i

S_i is stratified: first the mean in each group of tasks, then the mean of the groups. Costs are counts (parameters, not
millions of them); the paper does not say so, and in other units the weights are others. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

GROUPS: Mapping[str, tuple[str, ...]] = {
    "VC-A": ("kinetics400", "moments-in-time"),
    "VC-M": ("ssv2", "diving48"),
    "VC-ML": ("charades",),
    "TAL": ("activitynet",),
    "STAL": ("ava", "ava-kinetics"),
}
"""The tasks of each group: appearance, motion, several labels, when, and who does what where."""


def stratified_average(scores: Mapping[str, float], groups: Mapping[str, Sequence[str]] = GROUPS) -> float:
    """The mean over groups of the mean over the tasks of each, in the unit of the scores.

    Raises:
        ValueError: a task has no score: an average that hides one would say nothing.
    """
    missing = [task for tasks in groups.values() for task in tasks if task not in scores]
    if missing:
        raise ValueError(f"no average without {', '.join(missing)}")
    return float(np.mean([np.mean([scores[task] for task in tasks]) for tasks in groups.values()]))


def videoglue_score(averages: Mapping[str, float], costs: Mapping[str, Mapping[str, float]]) -> float:
    """The VideoGLUE score of averages by adaptation, and of the costs of each adaptation by kind.

    Raises:
        ValueError: an adaptation without costs, other kinds of costs than the first has, or a cost of at most 1.
    """
    if not averages or averages.keys() - costs.keys():
        raise ValueError(f"adaptations {sorted(averages)} need costs each, not only {sorted(costs)}")
    kinds = costs[next(iter(averages))].keys()
    if any(costs[name].keys() != kinds for name in averages):
        raise ValueError(f"every adaptation needs the same kinds of costs: {', '.join(kinds)}")
    table = np.array([[costs[name][kind] for kind in kinds] for name in averages], dtype=np.float64)  # (I, k)
    if not (table > 1).all():
        raise ValueError("a cost is a count above 1, for its logarithm is divided by")
    ease = 1 / np.log10(table)
    weights = ease / ease.sum(axis=0)
    return float((weights * np.array(list(averages.values()))[:, None]).sum(axis=0).mean())
