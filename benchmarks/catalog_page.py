"""Write docs/benchmarks.md from the declarations: python -m benchmarks.catalog_page > docs/benchmarks.md"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from tasks.benchmark import Benchmark
from tasks.catalog import SUITES
from tasks.registry import find_benchmark

_INTRODUCTION = """\
# Benchmarks

What each benchmark reads, where it is to be put, which protocol is followed, and what of it could not be verified or
is done otherwise (under "To know"). This page is written by `python -m benchmarks.catalog_page > docs/benchmarks.md`.
`prismhub tasks show NAME` says the same of one, with the scores that others published; `prismhub tasks check NAME
--root data/` looks whether its data is whole ([tasks.md](tasks.md#benchmarks)).

The data set of a benchmark lies in the folder of its name below the root of all data sets. Annotation files are used
as they are given out, wherever below that folder they lie; videos are found by name, whatever their folders and
endings; folders and files may be links to another disk. Only where the folder of a video tells it from others does it
stay: the class and the split of moments-in-time, the split and the movie of fly-vs-fly. Columns may be in another order
where a header names them, and files may have been saved with a byte order mark or with Windows' ends of lines. What
cannot be read is named with file, row and field; a video that is not there is named with where it was looked for.
Where there is a `train` and no `val` split, training keeps some of `train` apart.
"""


def page() -> str:
    """The page, as Markdown."""
    parts = [re.sub(r"(?<=\S)\n(?=\S)", " ", _INTRODUCTION)]  # the manual has one line a paragraph
    for suite, names in SUITES.items():
        benchmarks = [find_benchmark(name) for name in names]
        parts.append(f"## {suite}\n")
        parts.append("| benchmark | folder | main metric | protocol |\n| --- | --- | --- | --- |")
        parts += [f"| {b.name} | `{b.folder or b.name}` | `{b.metric}` | {b.protocol} |" for b in benchmarks]
        parts.append("")
        for one in benchmarks:
            parts += [f"### {one.name}\n", *_about(one), ""]
    return "\n".join(parts).rstrip("\n") + "\n"


def _about(one: Benchmark) -> Iterator[str]:
    splits = []
    for ours, theirs in one.splits.items():
        size = f" ({one.sizes[ours]:,} declared)" if ours in one.sizes else ""
        splits.append(f"`{ours}` is {_plain(theirs)}{size}")
    yield f"- Annotations: {_plain(one.annotations)}"
    yield f"- Videos: {_plain(one.videos)}"
    yield f"- Splits: {', '.join(splits)}"
    answered = f"a trained `{one.head}`" if one.head else "the words of an encoder, nothing is trained"
    yield f"- Answered by {answered}"
    yield f"- Licence: {_plain(one.licence)}. {_plain(one.citation)}"
    for what in one.unverified:
        yield f"- To know: {_plain(what)}"


def _plain(text: str) -> str:
    """Text in which names of files and fields are set as code: their signs are no markup."""
    return re.sub(r"[^\s()]*[<{_][^\s()]*[^\s(),;:.]", lambda name: f"`{name[0]}`", text)


if __name__ == "__main__":
    sys.stdout.write(page())
