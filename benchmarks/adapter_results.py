"""Results of the matrix in the adapter they are of: its configuration, its model card, its file for leaderboards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from adapters.card import AdapterInfo, read_info
from adapters.saved_adapter import add_results
from adapters.task_scores import TaskScores
from benchmarks.results import Result
from core_encoder.errors import InputError


def record_results(
    folder: Path,
    paths: Sequence[Path],
    name: str,
    *,
    dataset_id: str = "",
    task_id: str = "default",
    source_url: str = "",
) -> AdapterInfo:
    """Record result files in the saved adapter in `folder`, which `name` heads.

    `dataset_id` is the Hub id of the data set whose leaderboard shall list them, `task_id` the task there, `source_url`
    where more is told of them.

    Raises:
        InputError: no adapter there, a file that is no result or of another adapter, or a wrong id or URL.
    """
    if dataset_id and not re.fullmatch(r"[\w.-]+/[\w.-]+", dataset_id):
        raise InputError(f"dataset_id {dataset_id!r} is no data set of the Hub, whose ids are owner/name")
    if source_url and not re.match(r"https?://", source_url):
        raise InputError(f"source_url {source_url!r} is no address: it begins with https://")
    info = read_info(folder)
    scores = []
    for path in paths:
        result = Result.read(path)
        check_adapter_of(result, info, str(path))
        scores.append(
            TaskScores(
                task=result.task,
                protocol=result.protocol,
                scores=result.as_scores(),
                created=result.provenance.created_utc,
                dataset_id=dataset_id,
                task_id=task_id if dataset_id else "",
                source_url=source_url,
            )
        )
    tasks = sorted({one.task for one in scores})
    if dataset_id and len(tasks) > 1:
        raise InputError(f"dataset_id names one leaderboard, but the results are of {', '.join(tasks)}: one at a time")
    return add_results(folder, scores, name)


def check_adapter_of(result: Result, info: AdapterInfo, where: str) -> None:
    """Refuse a result of another adapter: of other weights or, where it does not tell, another encoder or classes.

    Raises:
        InputError: what differs.
    """
    if result.adapter_sha256 is not None:
        if result.adapter_sha256 != info.weights_sha256:
            raise InputError(f"{where}: a result of {result.adapter!r}, whose weights are not those of this adapter")
    elif info.features and result.encoder_fingerprint != info.features.fingerprint:
        raise InputError(
            f"{where}: a result on encoder {result.encoder!r}, not on that of this adapter, {info.encoder!r}"
        )
    elif list(info.label_names) != result.label_names:
        raise InputError(f"{where}: a result of {result.adapter!r}, whose classes are not those of this adapter")
    if " + " in result.adapter:
        raise InputError(
            f"{where}: a result of {result.adapter!r}, two adapters together, which no one's card can hold"
        )
