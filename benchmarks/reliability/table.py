"""The table of a campaign, as Markdown: a row an accident, what was tried, survived, lost and named."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.reliability.tally import Tally


def table(tallies: Mapping[str, Tally]) -> str:
    """The tallies by name as a table of Markdown, with what was measured."""
    rows = [("accident", "tried", "survived", "lost", "named", "measured"), ("---",) * 6]
    for name, tally in tallies.items():
        named = f"{tally.named} of {tally.refused}" if tally.refused else "-"
        measured = "; ".join(f"{what}: {value}" for what, value in tally.measured.items())
        rows.append((name, str(tally.tried), str(tally.survived), str(tally.lost), named, measured))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
