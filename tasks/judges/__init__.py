"""Judges of prediction files in the formats of the official evaluators: two files in, a `Judgement` out. No torch."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest

if TYPE_CHECKING:
    from tasks.judges.judgement import Judgement


class Judge(NamedTuple):
    """Where a judge is, and which options it takes beside the two files."""

    module: str
    function: str
    options: tuple[str, ...] = ()


JUDGES = {
    "activitynet": Judge("activitynet", "judge_activitynet", ("subset",)),
    "ava": Judge("boxes", "judge_ava", ("excluded", "labels")),
    "chimpact": Judge("boxes", "judge_chimpact", ("excluded", "labels")),
    "charades": Judge("charades", "judge_charades"),
    "captions": Judge("captions", "judge_captions", ("tokens",)),
    "retrieval": Judge("retrieval", "judge_retrieval", ("ties",)),
    "classification": Judge("classification", "judge_classification"),
    "nextqa-oe": Judge("nextqa_oe", "judge_nextqa_oe", ("references",)),
}
"""Every judge by the name of its task."""


def judge(task: str, truth: str | Path, predictions: str | Path, **options: Any) -> Judgement:
    """Judge predictions by the official rules of a task; `options` are those of its judge, None where not given.

    Raises:
        InputError: no such task, an option that it does not have, or one line with file, row, field and the fix.
    """
    if task not in JUDGES:
        raise InputError(f"task {task!r} has no judge{nearest(task, JUDGES)}")
    module, function, known = JUDGES[task]
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes no further option"
            raise InputError(f"{name} means nothing for {task}: leave it out; {takes}")
    found: Judgement = getattr(importlib.import_module(f"{__name__}.{module}"), function)(
        Path(truth).expanduser(), Path(predictions).expanduser(), **given
    )
    return found
