"""`--where`: what each condition lets through, judged by plain Python; what is refused; nothing becomes SQL."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_encoder.errors import InputError
from prismhub.archive.filters import COLUMNS, parse_filter
from prismhub.archive.folder_reader import FolderReader, KeptScene
from tests.prismhub.archive.archives import make, scene, video

Rule = Callable[[KeptScene], bool]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> FolderReader:
    """Scenes with labels, captions and speech; read only."""
    rng = np.random.default_rng(0)
    videos = []
    for i in range(30):
        scenes = []
        for j in range(4):
            labels = [str(one) for one in rng.choice(["goal", "Penalty", "crowd"], rng.integers(3), replace=False)]
            caption = str(rng.choice(["a dog", "it's 100 % fun", ""]))
            speech = str(rng.choice(["the dog barks", "", "silence"]))
            scenes.append(scene(2.0 * j, labels=labels, caption=caption, speech=speech, score=float(rng.random())))
        videos.append(video(f"v{i}.mp4", *scenes, recorded=f"2024-{1 + i % 12:02}-01T00:00:00"))
    folder = tmp_path_factory.mktemp("filters") / "archive"
    make(folder, videos).close()
    return FolderReader.open(folder)


def labels(one: KeptScene) -> set[str]:
    return {found.label.lower() for found in one.scene.findings if found.label}


def scored(one: KeptScene, label: str, least: float) -> bool:
    return any(found.label.lower() == label and found.score > least for found in one.scene.findings)


def says(one: KeptScene, word: str) -> bool:
    return any(word in cue.text for cue in one.scene.speech)


RULES: list[tuple[str, Rule]] = [
    ("label = 'goal'", lambda one: "goal" in labels(one)),
    ("label = 'GOAL'", lambda one: "goal" in labels(one)),
    ("label != 'goal'", lambda one: "goal" not in labels(one)),
    ("not label = 'goal'", lambda one: "goal" not in labels(one)),
    ("label = 'goal' and label = 'penalty'", lambda one: {"goal", "penalty"} <= labels(one)),
    ("label in ('goal', 'crowd')", lambda one: bool({"goal", "crowd"} & labels(one))),
    ("label not in ('goal', 'crowd')", lambda one: not {"goal", "crowd"} & labels(one)),
    ("label = 'goal' and score > 0.5", lambda one: scored(one, "goal", 0.5)),
    (
        "score > 0.5 AND label = 'goal' and label = 'crowd'",
        lambda one: scored(one, "goal", 0.5) and scored(one, "crowd", 0.5),
    ),
    (
        "(label = 'goal' or label = 'crowd') and score > 0.5",
        lambda one: scored(one, "goal", 0.5) or scored(one, "crowd", 0.5),
    ),
    (
        "label = 'goal' or score > 0.9",
        lambda one: "goal" in labels(one) or any(f.score > 0.9 for f in one.scene.findings),
    ),
    ("adapter = 'y' and score >= 1", lambda one: any(f.adapter == "y" for f in one.scene.findings)),
    (
        "caption = 'a dog' and label = 'goal'",
        lambda one: "goal" in labels(one) and any(f.text == "a dog" for f in one.scene.findings),
    ),
    ("caption like 'IT''S%'", lambda one: any(f.text.startswith("it's") for f in one.scene.findings)),
    ('caption = "it\'s 100 % fun"', lambda one: any(f.text.startswith("it's") for f in one.scene.findings)),
    ("speech like '%dog%' or start >= 6", lambda one: says(one, "dog") or one.scene.start_s >= 6),
    ("duration = 2 and (end < 5)", lambda one: one.scene.end_s < 5),
    ("start > 1e0 and start < 4.5", lambda one: 1 < one.scene.start_s < 4.5),
    ("recorded >= '2024-05' and recorded < '2024-07'", lambda one: one.video.recorded[:7] in ("2024-05", "2024-06")),
    ("name in ('V3.mp4') or video = 'v4.mp4'", lambda one: one.video.path in ("v3.mp4", "v4.mp4")),
    ("width = 96 and height != 64", lambda one: False),
    ("not (start = 0 or not end <= 6)", lambda one: one.scene.start_s != 0 and one.scene.end_s <= 6),
]


@pytest.mark.parametrize(("text", "rule"), RULES, ids=[text for text, _ in RULES])
def test_a_condition_lets_through_what_plain_python_does(reader: FolderReader, text: str, rule: Rule) -> None:
    every = reader.scenes(reader.every_scene())
    assert len(every) == 120
    expected = [one.id for one in every if rule(one)]
    assert sorted(reader.every_scene(parse_filter(text))) == sorted(expected)


def test_every_column_can_be_asked(reader: FolderReader) -> None:
    for name, column in COLUMNS.items():
        value = "''" if column.holds == "text" else "-1"
        assert reader.every_scene(parse_filter(f"{name} = {value}")) == []


WRONG = {
    "": "where is empty",
    "   ": "where is empty",
    "lable = 'goal'": "there is no column 'lable'; did you mean 'label'?",
    "sqlite_master = 1": "there is no column 'sqlite_master'",
    "label = goal": "'goal' after label is a bare word; text stands in quotes",
    "label = 3": "label is text, not 3",
    "start > '3'": "start is a number, not '3'",
    "start like '3%'": "start is a number: like is for text",
    "label = 'goal": "closing quote",
    "label = 'a'; DROP TABLE scenes": "';' at character 12 means nothing here",
    "label = 'a' -- x": "means nothing here",
    "label = 'a' or": "a column is expected at its end",
    "(label = 'a'": r"\) is expected at its end",
    "label 'a'": "an operator such as = or > is expected at character 7",
    "label not 'a'": "an operator|in or like",
    "label in 'a'": r"\( is expected",
    "label in ()": "a value is expected",
    "label = 'a' label = 'b'": "and, or, or the end is expected at character 13",
    "label = (SELECT name FROM sqlite_master)": "a value is expected",
    "label = 'a' UNION SELECT 1": "and, or, or the end",
    "start = 1 = 1": "and, or, or the end",
    "start = 0x10": "means nothing here|bare word|the end",
    "start = 1/0": "means nothing here",
    "label = 'a\0'": "no text",
    "label = 'caf\udce9'": "no text",
    f"caption like '{'%a' * 20_000}'": "longer than 20000 characters",
    "(" * 60 + "fps = 1" + ")" * 60: "more than 50 brackets",
    " or ".join(["fps = 1"] * 300): "more than 200 conditions",
}


@pytest.mark.parametrize("text", WRONG, ids=[text[:30] for text in WRONG])
def test_what_cannot_be_read_is_said_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match=WRONG[text]) as caught:
        parse_filter(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@given(st.text(alphabet="abs'\"()=<>, ;-%_?labelscoretnd10", max_size=60))
def test_whatever_is_written_is_a_filter_or_an_error(text: str) -> None:
    try:
        found = parse_filter(text)
    except InputError:
        return
    assert "'" not in found.sql.replace("!= ''", "") and '"' not in found.sql
    assert found.sql.count("?") == len(found.values)


@given(st.text(max_size=40))
def test_a_value_never_becomes_sql(reader: FolderReader, text: str) -> None:
    quoted = "'" + text.replace("'", "''").replace("\0", "") + "'"
    assert reader.every_scene(parse_filter(f"name = {quoted} or caption like {quoted} and width = 1")) == []
    assert len(reader.every_scene()) == 120
