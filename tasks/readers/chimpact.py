"""ChimpACT: AVA-like CSV `test/images/<clip>,<frame>,x1,y1,x2,y2,behaviour,individual`, behaviours from 1.

Source: `{train,val,test}_action.csv`, which `tools/create_ava_dataset.py` of ShirleyMaxx/ChimpACT writes from the
release; videos are `videos_full/<clip>.mp4`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path, PurePosixPath

from tasks.readers.ava import read_ava
from tasks.readers.box_rows import BoxRow, LabelMap
from tasks.readers.boxes import BoxSample, Moments, video_moments
from tasks.readers.dataset_folder import DatasetFolder

BEHAVIOURS = (
    *("moving", "climbing", "resting", "sleeping", "solitary object playing", "eating", "manipulating object"),
    *("grooming", "being groomed", "aggressing", "embracing", "begging", "being begged from", "taking object"),
    *("losing object", "carrying", "being carried", "nursing", "being nursed", "playing", "touching", "erection"),
    "displaying",
)
LABELS = LabelMap(BEHAVIOURS, tuple(range(1, len(BEHAVIOURS) + 1)))
CONTEXT_S = 64 / 25
"""64 frames of a video of 25 frames a second around each moment."""


def read_chimpact(data: DatasetFolder, split: str) -> list[BoxSample]:
    """The moments of `train`, `val` or `test`, asked about the true boxes.

    Raises:
        InputError: one line with file, line, field and the fix.
    """
    videos: dict[str, list[BoxRow]] = defaultdict(list)
    for row in read_ava(data.file(f"{split}_action.csv"), ["action_id", "person_id"]):
        frame = row.time_s or 0.0
        if frame != int(frame):
            raise row.error(f"frame {frame:g} is no whole number")
        if row.label is not None and LABELS.name_of(row.label) is None:
            raise row.error(f"behaviour {row.label!r} is none of 1 to {len(BEHAVIOURS)}")
        name = PurePosixPath(row.video).name
        videos[name].append(replace(row, video=name, time_s=None, frame=int(frame)))
    samples: list[BoxSample] = []
    for name, rows in videos.items():
        samples += video_moments(name, rows, Path(data.video(name)), LABELS, Moments(CONTEXT_S))
    return samples
