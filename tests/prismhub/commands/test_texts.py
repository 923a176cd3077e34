"""Captions and answers from the command line: trained beside a blind twin, evaluated, asked, and what can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest

import prismhub
from adapters import load_adapter
from pretrain.world.synthetic_world import write_dataset
from prismhub.cli import run
from tests.language_models import models_read, taught_llm, tiny_llm
from tests.prismhub.small_data import FAST, one_object_class, read_json

__all__ = ["models_read"]  # a fixture
OBJECTS = ("red circle", "blue star", "green bar", "white circle")
ASKED = "what is it ?"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of four objects, each with a caption and with a question; read only."""
    folder = tmp_path_factory.mktemp("texts") / "world"
    shown = [one_object_class(name, "approaching") for name in OBJECTS]
    write_dataset(folder, shown, {"train": 4, "val": 1, "test": 1}, size=64, num_frames=8)
    rows = []
    for line in (folder / "metadata.jsonl").read_text().splitlines():
        row = json.loads(line)
        known = {"video": row["file_name"], "split": row["split"]}
        name = next(one for one in OBJECTS if one in row["caption"])
        rows += [known | {"caption": f"a {name}"}, known | {"question": ASKED, "answer": name.split()[1]}]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(taught_llm(tmp_path_factory.mktemp("llms") / "tiny"))


@pytest.fixture(scope="module")
def home_of_y(world: Path, llm: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PRISMHUB_HOME with an adapter `y` and its blind twin, trained on captions and answers; to be copied."""
    home = tmp_path_factory.mktemp("home of y")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMHUB_HOME", str(home))
        patch.setattr("tasks.families.language.find_wordnet", lambda: None)
        words = ["train", "--data", str(world / "texts.jsonl"), "--adapter", "llm_decoder", "--llm", llm, "--blind"]
        more = ["--name", "y", "--lr", "0.01", "--head", "max_new_tokens=6", "--batch-size", "8"]
        assert run([*words, *FAST, *more, "--epochs", "12"]) == 0
    return home


@pytest.fixture
def learned(home_of_y: Path, private_home: Path) -> Path:
    return copytree(home_of_y, private_home, dirs_exist_ok=True)


def test_a_result_has_the_blind_score_beside_it(learned: Path, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["evaluate", "--data", str(world / "texts.jsonl"), "--adapter", "y"]
    result = read_json(capsys, *data, "--quiet")
    assert result["protocol"] == "language-v1" and result["main_metric"] == "accuracy"
    assert result["n_evaluated"] == result["n_total"] == 8
    assert {"accuracy", "cider", "bleu4", "rouge_l"} <= set(result["scores"])
    blind = result["blind"]
    assert blind["adapter"] == "y-blind@v1" and set(blind["scores"]) == set(result["scores"])
    assert result["scores"]["accuracy"]["value"] > blind["scores"]["accuracy"]["value"]  # 0.5: two of four are circles
    assert result["scores"]["bleu2"]["value"] > blind["scores"]["bleu2"]["value"]
    assert run(data) == 0
    shown = capsys.readouterr()
    assert "y-blind@v1 (blind)" in shown.out and "no blind adapter" not in shown.err
    saved = json.loads((learned / "adapters" / "y" / "v1" / "adapter_config.json").read_text())
    assert saved["training"]["blind"] == "y-blind@v1" and saved["task"] == "language"
    value = saved["blind"]["values"]["accuracy"]["value"]
    assert value == blind["scores"]["accuracy"]["value"]
    assert run(["adapters", "show", "y"]) == 0
    assert f"| 8 of 8 | {value:.4f} |" in capsys.readouterr().out, "the model card has the blind score beside it too"
    twin = next(one for one in read_json(capsys, "adapters", "list") if one["name"] == "y-blind")
    assert twin["metric"].startswith(f"accuracy {100 * value:.1f}")
    lines = (learned / "results").glob("*.predictions.jsonl")
    rows = [json.loads(line) for line in next(iter(lines)).read_text().splitlines()]
    assert {tuple(sorted(row)) for row in rows} == {
        ("caption", "id", "log_likelihood", "target"),
        ("answer", "id", "log_likelihood", "question", "target"),
    }


@pytest.mark.usefixtures("learned")
def test_the_blind_twin_says_the_same_of_everything(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = [str(path) for path in sorted((world / "test").rglob("*.mp4"))]
    assert len({row["caption"] for row in read_json(capsys, "predict", *videos, "--adapter", "y-blind")}) == 1
    assert len({row["caption"] for row in read_json(capsys, "predict", *videos, "--adapter", "y")}) > 1
    assert run(["evaluate", "--data", str(world), "--adapter", "y-blind"]) == 0
    assert "no blind adapter" not in capsys.readouterr().err


@pytest.mark.usefixtures("learned")
def test_predict_captions_answers_and_chooses(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = [str(path) for path in sorted((world / "test").rglob("*.mp4"))]
    rows = read_json(capsys, "predict", *videos, "--adapter", "y")
    assert [list(row) for row in rows] == [["video", "caption", "log_likelihood"]] * 4
    adapter = load_adapter("y")
    alone = [adapter.predict(video)[0] for video in videos]  # one by one as in one batch
    assert [row["caption"] for row in rows] == [one.text for one in alone]
    assert [row["log_likelihood"] for row in rows] == pytest.approx([one.score for one in alone], abs=1e-3)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    asked = ["predict", str(tmp_path / "broken.mp4"), *videos, "--adapter", "y", "--question", ASKED]
    *rows, failed = read_json(capsys, *asked, code=3)
    assert [list(row) for row in rows] == [["video", "question", "answer", "log_likelihood"]] * 4
    assert list(failed) == ["video", "error"] and [row["video"] for row in rows] == videos
    (tmp_path / "texts.txt").write_text("circle\nstar\nbar\n")
    asked = ["predict", videos[0], "--adapter", "y", "--question", ASKED, "--candidates", str(tmp_path / "texts.txt")]
    [row] = read_json(capsys, *asked, "--all-scores")
    assert row["answer"] == row["candidates"][0]["answer"] and len(row["candidates"]) == 3
    assert run(asked) == 0
    assert "answer" in (shown := capsys.readouterr().out) and row["answer"] in shown and "log-likelihood" in shown
    done = prismhub.predict(videos=videos[0], adapter="y", question=ASKED)
    assert done.predictions[0].question == ASKED


def test_a_language_model_that_has_moved(
    learned: Path, world: Path, llm: str, capsys: pytest.CaptureFixture[str], says: Callable[..., str]
) -> None:
    """The blind twin finds it where the adapter does; what is pulled is tried with it, and keeps what it recorded."""
    for name in ("y", "y-blind"):
        file = learned / "adapters" / name / "v1" / "adapter_config.json"
        config = json.loads(file.read_text())
        config["config"]["llm"] = str(learned / "gone")
        file.write_text(json.dumps(config))
    data = ("evaluate", "--data", str(world / "texts.jsonl"), "--adapter", "y")
    video = str(min(world.rglob("*.mp4")))
    missing = "gone' is no known name, folder or Hub id"
    assert missing in (line := says(2, *data)) and line.endswith("say where it lies now with llm")
    assert read_json(capsys, *data, "--llm", llm)["blind"]["adapter"] == "y-blind@v1"
    pull = ("adapters", "pull", str(learned / "adapters" / "y" / "v1"), "--name", "z")
    assert missing in says(2, *pull)
    assert run([*pull, "--llm", llm]) == 0
    assert missing in says(2, "predict", video, "--adapter", "z")
    assert run(["predict", video, "--adapter", "z", "--llm", llm, "--quiet"]) == 0
    assert "text_tower means nothing for llm_decoder" in says(2, *pull, "--text-tower", "nano")


def test_a_finished_run_gets_its_twin_later(
    world: Path, llm: str, private_home: Path, capsys: pytest.CaptureFixture[str], models_read: list[Path]
) -> None:
    """And the language model is read once by a command, whatever is done with it."""
    train = ["train", "--data", str(world), "--adapter", "llm_decoder", "--llm", llm, *FAST, "--epochs", "1"]
    train += ["--views", "2"]  # the likeliest text of both counts
    assert run([*train, "--head", "max_new_tokens=3", "--name", "z"]) == 0
    assert len(models_read) == 1
    assert run(["evaluate", "--data", str(world), "--adapter", "z"]) == 0
    assert "note: no blind adapter to compare with; train with --blind" in capsys.readouterr().err
    models_read.clear()
    found = read_json(capsys, *train, "--head", "max_new_tokens=3", "--name", "z", "--blind")
    assert len(models_read) <= 1
    assert found["result"]["blind"]["adapter"] == "z-blind@v1"
    assert len(list((private_home / "runs").iterdir())) == 1
    assert run(["evaluate", "--data", str(world), "--adapter", "z"]) == 0
    shown = capsys.readouterr()
    assert "z-blind@v1 (blind)" in shown.out and "no blind adapter" not in shown.err


def test_what_can_be_wrong(says: Callable[..., str], world: Path, tmp_path: Path, trained: Path) -> None:
    """The home holds an adapter `x` of classes."""
    table, video = tmp_path / "list.csv", min(world.rglob("*.mp4"))
    train = ("train", "--data", str(table), "--adapter", "llm_decoder")
    table.write_text(f"video,caption\n{video},\n")
    assert "list.csv: line 2: caption is empty; give a caption or remove the row" in says(2, *train)
    table.write_text(f"video,question,answer\n{video},who?,\n")
    assert "list.csv: line 2: answer is empty" in says(2, *train)
    table.write_text(f"video,label\n{video},dog\n")
    assert "no caption and no question column" in says(2, *train)
    whole = ("train", "--data", str(world), "--adapter", "llm_decoder")
    assert "language model 'smollm' is no known name, folder or Hub id; did you" in says(2, *whole, "--llm", "smollm")
    empty = tiny_llm(tmp_path / "llm")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (empty / name).unlink()
    assert "llm: holds no tokenizer" in says(2, *whole, "--llm", str(empty))
    assert "option 'tune' cannot be 'all'" in says(2, *whole, "--llm", str(empty), "--tune-text", "all")
    assert "did you mean 'cider'" in says(2, *whole, "--metric", "cidr")
    blind = ("train", "--data", str(world), "--adapter", "lit_text", "--blind")
    assert "blind means nothing for an adapter of kind 'lit_text'" in says(2, *blind)
    asked = ("predict", str(video), "--adapter", "x", "--question", "who?")
    assert "question is for adapters that answer with texts; this one learned classes" in says(2, *asked)


@pytest.mark.usefixtures("learned")
def test_questions_and_candidates_that_make_no_sense(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    (tmp_path / "one.txt").write_text("a cat\na cat\n")
    words = ("predict", str(world), "--adapter", "y")
    assert "at least two different texts" in says(2, *words, "--candidates", str(tmp_path / "one.txt"))
    assert "question is empty: ask something" in says(2, *words, "--question", " ")


def test_the_card_that_is_shown_says_where_the_language_model_is_looked_for(
    learned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["adapters", "show", "y"]) == 0
    assert "in a command by `--llm PLACE`" in capsys.readouterr().out, "as the card in its folder does"
    (learned / "adapters" / "y" / "v1" / "README.md").unlink()
    assert run(["adapters", "show", "y"]) == 0 and "# y" in capsys.readouterr().out
