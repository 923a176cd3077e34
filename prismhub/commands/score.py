"""`prismhub score`: predictions that any program made, judged as the official evaluators judge them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prismhub.printing import number_text, print_json, print_table
from prismhub.progress import SILENT, Show
from prismhub.settings import ScoreSettings

if TYPE_CHECKING:
    from tasks.judges.judgement import Judgement


def score(settings: ScoreSettings, show: Show = SILENT) -> Judgement:
    """Judge a file of predictions against a file of what is right; what is to be known of them is noted.

    Raises:
        InputError: an option that the task does not have, or one line with file, row, field and the fix.
    """
    from tasks.judges import judge

    found = judge(settings.task, settings.truth, settings.predictions, **settings.options)
    for note in found.notes:
        show.note(f"note: {note}")
    return found


def print_score(settings: ScoreSettings) -> None:
    """The same on stdout: one JSON object, or a table of the metrics."""
    found = score(settings, Show(settings.output.quiet))
    if settings.output.json:
        print_json(found.describe())
        return
    print_table(["metric", "value"], [[name, number_text(value)] for name, value in found.metrics.items()])
    print(f"{found.task}: {found.n} judged by {found.protocol}")
