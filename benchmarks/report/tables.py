"""The report as text: a table for a terminal, Markdown for a paper's appendix, CSV with a row a cell."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence

from adapters.scores import Score
from benchmarks.report.cited import PAPER, RELEASED, difference, printed, signed
from benchmarks.report.comparison import Compared
from benchmarks.report.matrix_report import MatrixReport, ReportRow
from benchmarks.report.result_folder import ReportedCell
from core_encoder.errors import one_line

PAPER_COLUMNS = ("VideoPrism-B, paper¹", "VideoPrism-g, paper¹")
RELEASED_COLUMNS = ("VideoPrism-B, released²", "VideoPrism-L, released²")
CITED = f"¹ cited: {PAPER}. ² cited: {RELEASED}. Nothing of both was run here."
COMPARISON_HEADER = (
    "benchmark",
    "encoder",
    "adapter",
    "metric",
    "old",
    "new",
    "change, 95 % interval",
    "shared samples",
)


def matrix_table(report: MatrixReport) -> tuple[list[str], list[list[str]]]:
    """Column titles and rows of text: of every suite its benchmarks, and their average only where all are there."""
    header = ["suite", "benchmark", "metric"]
    for column in report.columns:
        header += [column.title, "Δ paper¹", "Δ released²"]
    header += [*PAPER_COLUMNS, *RELEASED_COLUMNS]
    rows = []
    for suite, several in report.suites().items():
        for row in several:
            rows.append(
                [
                    suite,
                    row.name,
                    row.metric,
                    *_ours(report, row),
                    *(f"{text} ({model})" if model else text for text, model, _ in cited_numbers(row)),
                ]
            )
        means = [str(one) for one in report.averages if one.suite == suite]
        rows.append([suite, "average", "", *(cell for mean in means for cell in (mean, "", "")), *[""] * 4])
    return header, rows


def _ours(report: MatrixReport, row: ReportRow) -> Iterator[str]:
    """What our columns have of a benchmark: score, and less what is cited of the paper and the released weights."""
    for column in report.columns:
        entry = report.entry(row, column)
        part = "†" if entry.partial and entry.score is not None else ""
        yield str(entry) + part
        for cited in (row.cited.paper_base, row.cited.released_base):
            text = signed(difference(entry.score, cited))
            yield text + part if text else ""


def cited_numbers(row: ReportRow) -> list[tuple[str, str, float | str]]:
    """What is cited of a benchmark, as text, model and number: two of the paper, two of the released weights.

    Only another model than stands above its column is named; where nothing is cited, all are empty.
    """
    found: list[tuple[str, str, float | str]] = []
    usual = (row.cited.paper, ("VideoPrism-B", "VideoPrism-g")), (row.cited.released, ("VideoPrism-B", "VideoPrism-L"))
    for scores, names in usual:
        listed = list(scores.items())[:2]
        for (name, value), above in zip(listed, names, strict=False):
            found.append((f"{value:.1f}", "" if name == above else name.removeprefix("VideoPrism-"), value))
        found += [("", "", "")] * (2 - len(listed))
    return found


def notes(report: MatrixReport) -> list[str]:
    """What must be known to read the table."""
    found = [CITED, *partial_notes(report)]
    for one in report.videoglue:
        if one.score is None:
            found.append(f"VideoGLUE score of {one.encoder}: none yet ({one.reason}).")
            continue
        parts = ", ".join(f"{each.name} {each.average:.1f}" for each in one.adaptations if each.average is not None)
        found.append(f"VideoGLUE score of {one.encoder}: {one.score:.1f} (stratified averages: {parts}).")
    return found


def partial_notes(report: MatrixReport) -> list[str]:
    """What the dagger means, where there is one."""
    if not (partial := report.partial()):
        return []
    count = f"{len(partial)} of {len(report.rows)} benchmarks"
    what = "† judged on clearly fewer samples than the benchmark declares"
    return [f"{what} ({count}): differences to cited numbers say little there."]


def reasons(report: MatrixReport) -> list[str]:
    """One line for each cell without a score: which, and why."""
    return [f"{one.name}: {one.result.state}: {one_line(one.result.reason)}" for one in report.without_score()]


def comparison_table(report: MatrixReport) -> list[list[str]]:
    """Rows under `COMPARISON_HEADER`, one a pair of cells that could be compared."""
    pairs = report.comparison.pairs if report.comparison is not None else ()
    return [_compared_row(one) for one in pairs if one.change is not None]


def _compared_row(one: Compared) -> list[str]:
    new, old = one.new.result, one.old.result
    encoder = new.encoder if new.encoder == old.encoder else f"{new.encoder}, was {old.encoder}"
    adapter = new.adapter if new.adapter == old.adapter else f"{new.adapter}, was {old.adapter}"
    seed = f" (seed {one.new.seed})" if one.new.seed else ""
    assert one.change is not None
    change = change_text(one.change) + (" *" if one.clear else "")
    only = f" ({one.only_new} only new, {one.only_old} only old)" if one.only_new or one.only_old else ""
    shared = f"{one.shared} in {one.drawn}{only}"
    return [new.task, encoder, adapter + seed, new.main_metric, str(one.old_score), str(one.new_score), change, shared]


def change_text(change: Score) -> str:
    """Such as `+1.3 [+0.4, +3.0]`."""
    ends = [signed(printed(change, end)) for end in change.interval or ()]
    return signed(printed(change, change.value)) + (f" [{', '.join(ends)}]" if ends else "")


def comparison_notes(report: MatrixReport) -> list[str]:
    """What was not compared, a line each, and how the intervals were made."""
    one = report.comparison
    if one is None:
        return []
    lines = [f"{pair.new.name}: not compared: {one_line(pair.reason)}" for pair in one.pairs if pair.change is None]
    lines += [f"{cell.name}: only here" for cell in one.only_new]
    lines += [f"{cell.name}: only in {one.old}" for cell in one.only_old]
    if any(pair.change is not None for pair in one.pairs):
        lines.append(
            "Intervals of the change: paired bootstrap, 1000 draws of whole videos; * leaves 0 out; of one video there "
            "is none."
        )
    return lines


def markdown(report: MatrixReport) -> str:
    """All of it as Markdown: a table a suite, the notes, what has no score, and the comparison."""
    header, rows = matrix_table(report)
    parts = [f"# Results of {_plain(report.folder.name or str(report.folder))}\n"]
    for suite in report.suites():
        own = [row[1:] for row in rows if row[0] == suite]
        parts += [f"## {_plain(suite)}\n", *_markdown_table(header[1:], own, texts=2), ""]
    parts += [f"{note}\n" for note in map(_plain, notes(report))]
    if lines := reasons(report):
        parts += ["## Without a score\n", *(f"- {_plain(line)}" for line in lines), ""]
    if report.comparison is not None:
        parts += [f"## Against {_plain(str(report.comparison.old))}\n"]
        if compared := comparison_table(report):
            parts += [*_markdown_table(COMPARISON_HEADER, compared, texts=4), ""]
        parts += [*(f"- {_plain(line)}" for line in comparison_notes(report)), ""]
    return "\n".join(parts).rstrip("\n") + "\n"


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> Iterator[str]:
    """Lines of a table, of which the first `texts` columns are words and the others numbers."""
    yield _line(map(_plain, header))
    yield _line(["---"] * texts + ["---:"] * (len(header) - texts))
    yield from (_line(map(_plain, row)) for row in rows)


def _line(cells: Iterator[str] | list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    """Text without what Markdown would take for markup or HTML; a cell is one line."""
    return re.sub(r"([\\`*_\[\]<>|#~&])", r"\\\1", " ".join(text.split()))


def csv_text(report: MatrixReport) -> str:
    """A row a cell: what it is of, every score with its interval, what is cited, and the change against the old one.

    Scores, cited numbers and changes are as printed: per cent where the unit is `%`.
    """
    metrics = list(dict.fromkeys(name for cell in report.cells for name in cell.result.scores))
    rows = {row.name: row for row in report.rows}
    paired = {id(one.new): one for one in report.comparison.pairs} if report.comparison is not None else {}
    records = [_csv_record(cell, rows[cell.result.task], metrics) for cell in report.cells]
    if report.comparison is not None:
        for record, cell in zip(records, report.cells, strict=True):
            record |= _csv_change(paired.get(id(cell)))
        for cell in report.comparison.only_old:
            where = {"file": str(cell.path), "task": cell.result.task, "encoder": cell.result.encoder}
            records.append(
                {**where, "adapter": cell.result.adapter, "not_compared": f"only in {report.comparison.old}"}
            )
    written = io.StringIO()
    names = list(dict.fromkeys(name for record in records for name in record))
    table = csv.DictWriter(written, names, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(records)
    return written.getvalue()


def _csv_record(cell: ReportedCell, row: ReportRow, metrics: Sequence[str]) -> dict[str, object]:
    one = cell.result
    main = one.scores.get(one.main_metric)
    about = row.cited
    record: dict[str, object] = {
        "suite": row.suite,
        "task": one.task,
        "encoder": one.encoder,
        "encoder_fingerprint": one.encoder_fingerprint,
        "adapter": one.adapter,
        "seed": "" if cell.seed is None else cell.seed,
        "state": one.state,
        "reason": one_line(one.reason),
        "protocol": one.protocol,
        "main_metric": one.main_metric,
        "unit": main.unit if main is not None else "",
        **_csv_score("score", main),
        "n_evaluated": one.n_evaluated,
        "n_total": one.n_total,
        "n_declared": row.declared or "",
    }
    cited = ("cited_paper_base", about.paper_base), ("cited_released_base", about.released_base)
    record |= {name: "" if value is None else value for name, value in cited}
    for name, value in (("minus_paper", about.paper_base), ("minus_released", about.released_base)):
        record[name] = _number(difference(main, value))
    cost = one.cost
    for name in ("encode_s", "train_s", "predict_s", "judge_s", "peak_memory_bytes", "parameters"):
        value = getattr(cost, name) if cost is not None else None
        record[name] = "" if value is None else value
    record |= {"created_utc": one.provenance.created_utc, "commit": one.provenance.commit or "", "file": str(cell.path)}
    for name in metrics:
        record |= _csv_score(name, one.scores.get(name))
    return record


def _csv_score(name: str, score: Score | None) -> dict[str, object]:
    ends = score.interval if score is not None else None
    return {
        name: "" if score is None else _number(printed(score, score.value)),
        f"{name}_low": "" if score is None or ends is None else _number(printed(score, ends[0])),
        f"{name}_high": "" if score is None or ends is None else _number(printed(score, ends[1])),
    }


def _csv_change(one: Compared | None) -> dict[str, object]:
    if one is None:
        return {"not_compared": "only here"}
    record: dict[str, object] = {"not_compared": one_line(one.reason), "against": str(one.old.path)}
    record |= {"shared": one.shared, "only_new": one.only_new, "only_old": one.only_old, "drawn": one.drawn}
    scores = (("shared_score", one.new_score), ("old_score", one.old_score))
    record |= {name: _csv_score(name, score)[name] for name, score in scores}
    return record | _csv_score("change", one.change)


def _number(value: float | None) -> str:
    """Ten digits, without what binary fractions add."""
    return "" if value is None else f"{value:.10g}"
