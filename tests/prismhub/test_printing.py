"""Tables for people: no column is broken into pieces."""

from __future__ import annotations

import pytest

from prismhub.printing import WIDTH, print_table

METRICS = [f"{way}_{name}" for way in ("t2v", "v2t") for name in ("r1", "r5", "r10", "median_rank", "mean_rank")]


def test_a_single_row_that_is_too_wide_stands_upright(capsys: pytest.CaptureFixture[str]) -> None:
    score = "50.0 [0.0, 100.0] (rank)"
    print_table(["task", *METRICS], [["captions", *[score] * len(METRICS)]])
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [[word.strip() for word in line] for line in lines] == [
        ["task", "captions"],
        *([name, score] for name in METRICS),
    ]


def test_tables_that_fit_and_those_of_several_rows_lie(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["task", "top1"], [["captions", "50.0"]])
    assert "task       top1" in capsys.readouterr().out
    print_table(["task", "said"], [["captions", "x" * WIDTH], ["more", "y"]])
    assert "task" in capsys.readouterr().out.splitlines()[1]
