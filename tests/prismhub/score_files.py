"""Small files in the format of every official evaluator, and the commands that judge them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.tasks.metrics.small_wordnet import write_lexicon

CHARADES = "id,subject,actions,length\nV0,HR43,c092 11.90 21.20;c147 0.00 12.60,24.83\nV1,HR44,c000 0.00 5.00,9\n"
QUESTIONS = "video,frame_count,width,height,question,answer,qid,type\n1,9,4,4,what is it,a dog,0,DO\n"


def score_commands(folder: Path) -> dict[str, list[str]]:
    """Write the files of all tasks; the arguments of `prismhub score` by task. WordNet's are those of `WNSEARCHDIR`."""
    texts = {
        "activitynet.truth.json": json.dumps(
            {"database": {"a": {"subset": "validation", "annotations": [{"segment": [6, 77], "label": "sliding"}]}}}
        ),
        "activitynet.said.json": json.dumps(
            {"results": {"a": [{"label": "sliding", "score": 0.64, "segment": [6, 60]}]}}  # tIoU 0.76
        ),
        "ava.truth.csv": "a,0902,0.077,0.151,0.283,0.811,80,1\na,0903,0.077,0.151,0.283,0.811,80,1\n",
        "ava.said.csv": "a,0902,0.077,0.151,0.283,0.811,80,0.9\n",
        "ava.excluded.csv": "a,0903\n",
        "ava.labels.pbtxt": 'item { name: "watch" id: 80 }\n',
        "chimpact.truth.csv": "test/images/x,0,0.1,0.1,0.5,0.5,8,1\n",
        "chimpact.said.csv": "test/images/x,0,0.1,0.1,0.5,0.5,8,0.9\ntest/images/x,0,0.1,0.1,0.5,0.5,1,0.002\n",
        "charades.truth.csv": CHARADES,
        "charades.said.txt": "".join(f"V{k} {' '.join(['0.5', *['0.25'] * 156][:: 1 - 2 * k])}\n" for k in (0, 1)),
        "captions.truth.json": json.dumps({"a": ["a red star", "the star"], "b": ["a blue ring moves"]}),
        "captions.said.json": json.dumps({"a": ["A red star."], "b": "a ring moves"}),
        "classification.truth.csv": "id,label\na,run\nb,sit\n",
        "classification.said.csv": "id,run,sit\na,0.9,0.1\nb,0.6,0.4\n",
        "nextqa-oe.truth.csv": QUESTIONS,
        "nextqa-oe.said.json": json.dumps({"1": {"0": "dogs"}}),
        "nextqa-oe.more.json": json.dumps({"1": {"0": "cat"}}),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    np.savez(folder / "retrieval.truth.npz", owner=np.array([0, 1, 1]))
    np.savez(folder / "retrieval.said.npz", sim=np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]], np.float32))
    write_lexicon(folder / "wordnet")
    further = {
        "ava": ["--excluded", str(folder / "ava.excluded.csv"), "--labels", str(folder / "ava.labels.pbtxt")],
        "nextqa-oe": ["--references", str(folder / "nextqa-oe.more.json")],
        "retrieval": ["--ties", "clip4clip"],
        "captions": ["--tokens", "ptb"],
        "activitynet": ["--subset", "validation"],
    }
    commands = {}
    for truth in sorted(folder.glob("*.truth.*")):
        task = truth.name.split(".")[0]
        (said,) = folder.glob(f"{task}.said.*")
        files = ["--truth", str(truth), "--predictions", str(said)]
        commands[task] = ["score", "--task", task, *files, *further.get(task, [])]
    return commands
