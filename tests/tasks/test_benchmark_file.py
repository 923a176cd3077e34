"""A user's own benchmark in YAML: every family, and every mistake in one line with the key."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from adapters.predictions import ClassScores
from core_encoder.clip_plan import ClipPlan
from core_encoder.errors import InputError
from tasks.benchmark_file import FAMILIES, _family
from tasks.own_data import _FAMILIES, own_family
from tasks.readers.boxes import BoxSample
from tasks.registry import find_benchmark
from tasks.task import Task
from tests import ROOT
from tests.tasks.miniatures.clips import write_clip

PAGE = (ROOT / "docs" / "add-a-task.md").read_text(encoding="utf-8")
BIRDS = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]


def written(folder: Path, content: str | dict) -> str:  # type: ignore[type-arg]
    file = folder / "own.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Clips `0` to `5`, and what is known of them in the ways of each family."""
    for number in range(6):
        write_clip(tmp_path / "clips" / f"{number}.mp4", 3.0)
    parts = {"train": (0, 1, 2), "val": (3,), "test": (4, 5)}
    for split, numbers in parts.items():
        labels = "".join(f"clips/{n}.mp4,{'heron' if n % 2 else 'crane'}\n" for n in numbers)
        (tmp_path / f"{split}.csv").write_text("path,label\n" + labels)
        (tmp_path / f"{split}_words.csv").write_text(
            "video,caption\n" + "".join(f"clips/{n}.mp4,bird {n}\n" for n in numbers)
        )
        (tmp_path / f"{split}.jsonl").write_text(
            "".join(json.dumps({"video": f"{n}.mp4", "segments": [[0.5, 2, "calls"]]}) + "\n" for n in numbers)
        )
        (tmp_path / f"{split}_boxes.csv").write_text("".join(f"{n},1,0.1,0.1,0.5,0.5,12,{n}\n" for n in numbers))
    (tmp_path / "test_found.csv").write_text("4,1,0.2,0.1,0.5,0.5,,0.9\n5,1,0.3,0.1,0.5,0.5,,0.9\n")
    (tmp_path / "map.pbtxt").write_text('item { name: "wades" id: 12 }')
    whole = "path,label,part\nclips/0.mp4,crane,training\nclips/1.mp4,heron,training\nclips/5.mp4,heron,test\n"
    (tmp_path / "all.csv").write_text(whole)
    (tmp_path / "classes.txt").write_text("heron\ncrane\n")
    return tmp_path


def opened(folder: Path, content: str | dict) -> Task:  # type: ignore[type-arg]
    return find_benchmark(written(folder, content)).open(folder)


def test_the_benchmark_of_the_page_is_whole(folder: Path) -> None:
    assert len(BIRDS.splitlines()) <= 20
    birds = find_benchmark(written(folder, BIRDS))
    task = birds.open(folder)
    assert task.label_names == ("heron", "crane")  # in the order of classes.txt
    assert {split: len(task.samples(split)) for split in task.splits} == {"train": 3, "val": 1, "test": 2}
    assert (task.metrics, task.protocol) == (("top1", "mean_class_accuracy"), "classification-v1")
    assert (birds.suite, birds.plan) == ("own", ClipPlan(16, "fps", fps=8))
    assert birds.published == {"top1": {"VideoPrism-B": 87.6}}


def test_keys_of_the_page_are_all_there_are() -> None:
    from tasks.benchmark_file import _LISTS, _MAPPINGS, _TEXTS

    rows = re.findall(r"^\| (`[^|]+) \|", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    assert named == {*_TEXTS, *_LISTS, *_MAPPINGS, "family", "classes", "data"}
    assert {of_class.family for of_class, _ in map(_family, FAMILIES)} == set(FAMILIES)
    assert {own_family(kind).family for kind in _FAMILIES} <= set(FAMILIES)
    assert all(f"`{name}`" in PAGE for name in FAMILIES)


def test_heads_of_the_families_learn_their_targets() -> None:
    from adapters.registry import target_kind

    for name in FAMILIES:
        of_class, head = _family(name)
        own = next((kind for kind in _FAMILIES if issubclass(of_class, own_family(kind))), "pairs")
        assert not head or target_kind(head) == own


def base(family: str, metric: str, ending: str, **more: object) -> dict[str, object]:
    splits = {split: f"{split}{ending}" for split in ("train", "val", "test")}
    return {"name": "own", "family": family, "metric": metric, "splits": splits, **more}


def test_every_family_reads_its_own_data(folder: Path) -> None:
    told = opened(folder, base("retrieval", "t2v_r1", "_words.csv"))
    assert told.describe_target(told.samples("test")[0]) == ["bird 4"]
    said = opened(folder, base("language", "cider", "_words.csv"))
    assert said.describe_target(said.samples("val")[0]) == ["bird 3"]
    when = opened(folder, base("temporal localization", "map", ".jsonl", read={"videos": "clips"}))
    assert when.label_names == ("calls",) and len(when.samples("train")) == 3
    who = opened(
        folder,
        base(
            *("spatiotemporal localization", "frame_map", "_boxes.csv"),
            read={"videos": "clips", "labels": "map.pbtxt", "detections": "test_found.csv", "context": 1.0},
        )
        | {"splits": {"train": "train_boxes.csv", "test": "test_boxes.csv"}},
    )
    train, test = who.samples("train")[0], who.samples("test")[0]
    assert isinstance(train, BoxSample) and isinstance(test, BoxSample)
    assert who.label_names == ("wades",) and who.record == {"label_ids": [12], "context_s": 1.0}
    assert train.asked[0].corners[0] == (0.1, 0.1, 0.5, 0.5) and test.asked[0].corners[0] == (0.2, 0.1, 0.5, 0.5)


def test_families_that_words_answer_read_their_own_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = opened(folder, base("zero-shot classification", "top1", ".csv", metrics=["map"], classes="classes.txt"))
    assert named.label_names == ("heron", "crane") and named.protocol == "zero-shot-v1"
    assert named.record["templates"] and named.samples("test")[0].labels == ("crane",)
    rows = [
        {
            "video": "clips/4.mp4",
            "question": "what does it do?",
            "options": ["wades", "flies"],
            "answer": 1,
            "type": "CW",
        },
        {"video": "clips/4.mp4", "options": ["it  calls", "it sleeps"], "answer": "it calls"},
    ]
    (folder / "choices.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "choices.csv").write_text("video,question,options,answer\nclips/5.mp4,which?,a | b|c,0\n")
    about = base("multiple choice", "accuracy", "", metrics=["accuracy@C"])
    chosen = opened(folder, about | {"splits": {"test": "choices.jsonl", "val": "choices.csv"}})
    first, second = chosen.samples("test")
    assert [one.id for one in (first, second)] == ["clips/4.mp4?1", "clips/4.mp4?2"]
    assert chosen.inputs(first)["candidates"] == ("what does it do? wades", "what does it do? flies")
    assert chosen.describe_target(first) == "flies" and chosen.describe_target(second) == "it calls"
    assert chosen.inputs(chosen.samples("val")[0])["candidates"] == ("which? a", "which? b", "which? c")
    said = ClassScores(first.id, torch.tensor([0.1, 0.9]), chosen.inputs(first)["candidates"])
    assert {name: score.value for name, score in chosen.judge([said], num_draws=5).values.items()} == {
        **{"accuracy": 1.0, "accuracy@C": 1.0},
    }
    (folder / "asked.csv").write_text("video,question,answer,type\nclips/4.mp4,what is it?,a crane,DO\n")
    answered = opened(folder, base("open answers", "wups", "", metrics=["wups@D"]) | {"splits": {"test": "asked.csv"}})
    assert answered.inputs(answered.samples("test")[0])["question"] == "what is it?"
    assert answered.protocol.startswith("nextqa-oe-wups-v1")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("clips/4.mp4,a|b,2,", "line 2: answer '2' is none of the 2 options, nor its place from 0"),
        ("clips/4.mp4,left|right,rihgt,", "did you mean 'right'?"),
        ("clips/4.mp4,alone,0,", "line 2: options 'alone' is not several texts; separate them by '|'"),
        ("clips/4.mp4,a||b,0,", "line 2: options 'a||b' is not several texts"),
        ("clips/9.mp4,a|b,0,", "none of its 1 videos exists"),
        ("clips/4.mp4,a|b,0,x\nclips/4.mp4,a|b,0,x", "line 3: the same id as line 2 (x)"),
    ],
)
def test_choices_that_are_none_are_named(folder: Path, row: str, message: str) -> None:
    (folder / "choices.csv").write_text(f"video,options,answer,id\n{row}\n")
    with pytest.raises(InputError, match=re.escape(message)) as error:
        opened(folder, base("multiple choice", "accuracy", "") | {"splits": {"test": "choices.csv"}}).samples("test")
    assert str(folder / "choices.csv") in str(error.value)
    (folder / "choices.csv").write_text("video,options\nclips/4.mp4,a|b\n")
    with pytest.raises(InputError, match="line 2: there is no answer; columns are video, options and answer"):
        opened(folder, base("multiple choice", "accuracy", "") | {"splits": {"test": "choices.csv"}}).samples("test")


def test_one_file_may_hold_all_splits(folder: Path) -> None:
    content = base("classification", "top1", ".csv", data="all.csv", read={"split_column": "part"})
    task = opened(folder, content | {"splits": ["train", "test"]})
    assert (len(task.samples("train")), len(task.samples("test"))) == (2, 1)
    assert task.label_names == ("crane", "heron")  # those of train
    with pytest.raises(InputError, match=r"all.csv: holds nothing of the split 'val'; it holds test, train"):
        opened(folder, content | {"splits": ["train", "val", "test"]}).samples("val")
    with pytest.raises(InputError, match=r"all.csv: holds several splits \(test, train\); name it as data"):
        splits = {"train": "all.csv", "test": "test.csv"}
        opened(folder, base("classification", "top1", "", read={"split_column": "part"}) | {"splits": splits})


def test_several_labels_are_an_option(folder: Path) -> None:
    for split in ("train", "val", "test"):
        (folder / f"{split}.csv").write_text("path,labels\nclips/0.mp4,crane|heron\nclips/1.mp4,heron\n")
    task = opened(folder, base("classification", "map", ".csv", options={"multi_label": True}))
    assert task.schema.multi_label and task.samples("test")[0].labels == ("crane", "heron")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metrik": "top1"}, "unknown key 'metrik'; did you mean 'metric'?"),
        ({"family": "clasification"}, "unknown family 'clasification'; did you mean 'classification'?"),
        ({"family": 3}, "family must be text, not 3"),
        ({"splits": {"train": "train.csv"}}, "names no split 'test'"),
        ({"splits": ["train", "test"]}, "splits must be keys and values, not ['train', 'test']"),
        ({"splits": {"trian": "train.csv", "test": "test.csv"}}, "splits: 'trian' is none of train, val and test"),
        ({"splits": {"test": 3}}, "splits: test must be a file or folder, not 3"),
        ({"options": {"multi_labels": True}}, "options: 'multi_labels' is no option of the family classification"),
        ({"plan": {"frames": 16}}, "clip plan: unknown field 'frames'"),
        ({"name": "a/b"}, "benchmark 'a/b' cannot be used"),
        ({"metrics": "top5"}, "metrics must be a list, not 'top5'"),
        ({"classes": 3}, "classes must be a list, or the file of one, not 3"),
        ({"family": "retrieval", "classes": ["a"]}, "classes means nothing in the family retrieval"),
    ],
)
def test_mistakes_are_named_with_their_key(folder: Path, change: dict[str, object], message: str) -> None:
    file = written(folder, base("classification", "top1", ".csv") | change)
    with pytest.raises(InputError, match=re.escape(message)) as error:
        find_benchmark(file)
    assert str(error.value).startswith(file) and "\n" not in str(error.value)


def test_files_that_are_no_declaration(folder: Path) -> None:
    for content, message in (("[a]", "must hold keys and values"), ("name: a\n", "there is no key 'family'")):
        with pytest.raises(InputError, match=message):
            find_benchmark(written(folder, content))
    with pytest.raises(InputError, match=r"none.yaml: cannot be read"):
        find_benchmark(str(folder / "none.yaml"))
    with pytest.raises(InputError, match=r"no metric 'tpo1' for these labels; did you mean 'top1'"):
        opened(folder, base("classification", "tpo1", ".csv"))
    with pytest.raises(InputError, match=r"gone.csv: no such file"):
        opened(folder, base("classification", "top1", ".csv") | {"splits": {"test": "gone.csv"}})
