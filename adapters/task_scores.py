"""Scores of an adapter on tasks, and the two forms in which the Hub keeps them.

`model-index` is the block of a model card with every metric of every split, numbers as they are here (fractions).
`.eval_results/*.yaml` feeds the leaderboard of a benchmark's data set: the main metric alone, `%` as per cent. Both are
made by huggingface_hub; the second is specified in `eval_results.yaml` of github.com/huggingface/hub-docs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from adapters.scores import Score, Scores

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, EvalResultEntry

    from adapters.card import AdapterInfo

EVAL_RESULTS_FILE = ".eval_results/prismhub.yaml"


@dataclass(frozen=True)
class TaskScores:
    """Scores on one split of a task, how they were found, and what the Hub calls it.

    `dataset_id` and `task_id` name the data set on the Hub whose leaderboard lists them; without them there is none.
    """

    task: str
    protocol: str
    scores: Scores
    created: str = ""
    dataset_id: str = ""
    task_id: str = ""
    source_url: str = ""


def with_results(info: AdapterInfo, results: Sequence[TaskScores]) -> AdapterInfo:
    """`info` with further results; of one split of a task the last counts."""
    known = {(one.task, one.scores.split): one for one in (*info.results, *results)}
    return replace(info, results=tuple(known.values()))


def eval_results(info: AdapterInfo) -> list[EvalResult]:
    """Every metric for the `model-index`: those of the adapter's own data, then of its results."""
    again = {(one.task, one.scores.split) for one in info.results}
    own = [
        TaskScores(info.dataset, "", scores) for scores in info.evaluations if (info.dataset, scores.split) not in again
    ]
    return [result for one in (*own, *info.results) for result in _eval_results(info, one)]


def _eval_results(info: AdapterInfo, one: TaskScores) -> list[EvalResult]:
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=info.card.pipeline_tag or info.task,
            task_name=info.task,
            dataset_type=one.dataset_id or one.task or "unnamed",
            dataset_name=one.task or "unnamed",
            dataset_config=one.task_id or None,  # what tells two tasks of one data set apart
            dataset_split=one.scores.split,
            metric_type=metric,
            metric_name=metric,
            metric_value=score.value,
            metric_args=_metric_args(one, score) if one.protocol else None,
            source_url=one.source_url or None,
        )
        for metric, score in main_first(one.scores)
    ]


def _metric_args(one: TaskScores, score: Score) -> dict[str, object]:
    counts = {"protocol": one.protocol, "n_evaluated": one.scores.n_evaluated, "n_total": one.scores.n_total}
    return counts | ({"interval": list(score.interval)} if score.interval else {})


def eval_result_entries(info: AdapterInfo) -> list[EvalResultEntry]:
    """The main metric of every result whose data set has a name on the Hub, for `.eval_results/*.yaml`."""
    from huggingface_hub import EvalResultEntry

    entries = []
    for one in info.results:
        if not one.dataset_id:
            continue
        scores, main = one.scores, one.scores.main
        percent = main.unit == "%"
        metric = f"{scores.main_metric}{' in per cent' if percent else ''}"
        entries.append(
            EvalResultEntry(
                dataset_id=one.dataset_id,
                task_id=one.task_id,
                value=round(100 * main.value, 10) if percent else main.value,
                date=one.created or None,
                source_url=one.source_url or None,
                notes=f"{metric}, split {scores.split}, protocol {one.protocol}, "
                f"{scores.n_evaluated} of {scores.n_total}, {info.kind} on frozen {info.encoder}",
            )
        )
    return entries


def eval_results_text(info: AdapterInfo) -> str:
    """The content of `.eval_results/prismhub.yaml`; empty where there is nothing to say."""
    import yaml
    from huggingface_hub import eval_result_entries_to_yaml

    entries = eval_result_entries(info)
    if not entries:
        return ""
    return yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True)


def main_first(scores: Scores) -> list[tuple[str, Score]]:
    """The scores by name, the main metric before the others."""
    return sorted(scores.values.items(), key=lambda item: item[0] != scores.main_metric)
