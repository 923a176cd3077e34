"""VideoCon's lists of Something-Something: `videopath,caption,match`, a row for every video with every template.

Source: datasets/eval_ssv2_temporal.csv and eval_ssv2_events.csv of Hritikbansal/videocon (Bansal et al., arXiv
2311.10111). A caption is a prompt of several lines that asks whether the video entails the description "...", a
template such as `Covering [something] with [something]`; `match` is 1 for the template of the video.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from core_encoder.clip_plan import Clip
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.official_tables import TableRow, read_table
from tasks.sample import Sample

_DESCRIPTION = re.compile(r'the description: "(.*)"\?', re.DOTALL)


def read_videocon(data: DatasetFolder, split: str) -> list[Sample]:
    """The videos of a list (`temporal`, `events`), each with its template, without the brackets.

    Raises:
        InputError: one line with file, line, field and the fix; a video with no matching template, or several.
    """
    found: dict[str, Sample] = {}
    first: dict[str, TableRow] = {}
    for row in _rows(data, split):
        video = PurePosixPath(row.text("videopath")).stem
        first.setdefault(video, row)
        match = row.text("match")
        if match not in ("0", "1"):
            raise row.error(f"match {match!r} is neither 0 nor 1")
        if match == "1":
            if video in found:
                raise row.error(f"video {video!r} matches {found[video].labels[0]!r} already; one template is its own")
            found[video] = Sample(video, Clip(data.video(video)), (_template(row),), split)
    if alone := next((row for video, row in first.items() if video not in found), None):
        raise alone.error("no row of this video has match 1")
    return list(found.values())


def videocon_classes(data: DatasetFolder, split: str) -> tuple[str, ...]:
    """The templates of a list, without the brackets, in alphabetical order."""
    return tuple(sorted({_template(row) for row in _rows(data, split)}))


def _rows(data: DatasetFolder, split: str) -> list[TableRow]:
    return read_table(data.file(f"eval_ssv2_{split}.csv"), ("videopath", "caption", "match"))


def _template(row: TableRow) -> str:
    """`Covering something with something`; a caption without a prompt around it is a template as it is."""
    caption = row.text("caption")
    asked = _DESCRIPTION.search(caption)
    template = re.sub(r"[\[\]]", "", asked[1] if asked else caption)
    if len(template.splitlines()) > 1:
        raise row.error(f"caption {template[:60]!r} is no template: it has several lines")
    return " ".join(template.split())
