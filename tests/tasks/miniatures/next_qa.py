"""NExT-QA and NExT-OE in miniature: the official CSV files of both, maps, second references, and videos."""

from __future__ import annotations

import json
from pathlib import Path

from tests.tasks.miniatures.clips import write_clip

MAP = {"4010069381": "1164/4010069381", "2909445186": "0101/2909445186"}
TYPES = ("CW", "DO", "CH", "TN", "DC", "TC", "TP", "DL")
HARD = (0, 2, 3, 6)  # rows of causal and temporal questions
QUESTIONS = (
    "why did the boy pick up one present from the group of them",
    "what is on the table",
    "how do the two man play the instrument",
    "what does the lady do after she turns around",
    "how many people are there",
    "what is the man doing while the dog runs",
    "what did the girl do before she sat down",
    "where is this happening",
)
OPTIONS = ("share with the girl", "approach lady, sitting there", "unwrap it", "walking with the dog", "two men")


def write(folder: Path) -> Path:
    """A row of every type in each file; the two data sets in the folders of their repositories."""
    for name, place in MAP.items():
        write_clip(folder / "NExTVideo" / f"{place}.mp4", 0.5 if name.startswith("4") else 1.0)
    (folder / "map_vid_vidorID.json").write_text(json.dumps(MAP))
    choices, answers = folder / "NExT-QA" / "dataset" / "nextqa", folder / "NExT-OE" / "dataset" / "nextqa"
    choices.mkdir(parents=True)
    answers.mkdir(parents=True)
    known = "video,frame_count,width,height,question,answer,qid,type"
    for split in ("train", "val", "test"):
        chosen, said = [f"{known},a0,a1,a2,a3,a4\n"], [f"{known}\n"]
        for number, (kind, question) in enumerate(zip(TYPES, QUESTIONS, strict=True)):
            row = f"{list(MAP)[number % 2]},369,640,480,{question}"
            options = ",".join(f'"{one}"' for one in OPTIONS)
            chosen.append(f"{row},{number % 5},{number},{kind},{options}\n")
            said.append(f'{row},"{OPTIONS[number % 5]}",{number},{kind}\n')
        (choices / f"{split}.csv").write_text("".join(chosen))
        (answers / f"{split}.csv").write_text("".join(said))
    (choices / "atp-hard-ct4.txt").write_text("".join(f"{row}\n" for row in HARD))
    second: dict[str, dict[str, str]] = {}
    for number in range(len(TYPES)):
        second.setdefault(list(MAP)[number % 2], {})[str(number)] = OPTIONS[(number + 1) % 5]
    (answers / "add_reference_answer_test.json").write_text(json.dumps(second))
    return folder
