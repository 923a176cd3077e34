"""Videos with captions from the command line: trained, evaluated, asked, and what can be wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
import torch

import prismhub
from adapters import load_adapter
from core_encoder import InputError
from pretrain.world.synthetic_world import write_dataset
from prismhub.cli import run
from tests.prismhub.small_data import FAST, one_object_class, read_json

OBJECTS = ("red circle", "blue star", "green bar", "white ring")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of four objects with captions as the synthetic world writes them; read only."""
    folder = tmp_path_factory.mktemp("captions") / "world"
    shown = [one_object_class(name, "approaching") for name in OBJECTS]
    write_dataset(folder, shown, {"train": 4, "val": 1, "test": 1}, size=64, num_frames=8)
    return folder


@pytest.fixture(scope="module")
def home_of_y(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PRISMHUB_HOME with an adapter `y` that was trained on the captions; to be copied."""
    home = tmp_path_factory.mktemp("home of y")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMHUB_HOME", str(home))
        words = ["train", "--data", str(world), "--adapter", "lit_text", "--tune-text", "projection", *FAST]
        assert run([*words, "--name", "y"]) == 0
    return home


@pytest.fixture
def learned(home_of_y: Path, private_home: Path) -> Path:
    return copytree(home_of_y, private_home, dirs_exist_ok=True)


def test_a_result_has_recall_and_ranks_both_ways(
    learned: Path, world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = read_json(capsys, "evaluate", "--data", str(world), "--adapter", "y", "--quiet")
    assert result["protocol"] == "retrieval-v1" and result["main_metric"] == "t2v_r1"
    wanted = [f"{way}_{what}" for way in ("t2v", "v2t") for what in ("r1", "r5", "r10", "median_rank", "mean_rank")]
    assert list(result["scores"]) == wanted and result["n_evaluated"] == result["n_total"] == 4
    assert result["scores"]["t2v_r5"]["value"] == 1.0 and result["scores"]["t2v_mean_rank"]["unit"] == "rank"
    assert result["scores"]["t2v_mean_rank"]["value"] < 2  # 2.5 by chance
    saved = json.loads((learned / "adapters" / "y" / "v1" / "adapter_config.json").read_text())
    assert saved["config"]["tune"] == "projection" and saved["task"] == "retrieval"
    assert saved["targets"]["kind"] == "pairs"
    [before] = saved["evaluations"]
    assert before["values"]["t2v_r1"]["value"] == result["scores"]["t2v_r1"]["value"]


@pytest.mark.usefixtures("learned")
def test_predict_gives_vectors_or_chooses_among_texts(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = min((world / "test").rglob("*.mp4"))
    [row] = read_json(capsys, "predict", str(video), "--adapter", "y")
    adapter = load_adapter("y")
    assert torch.allclose(torch.tensor(row["embedding"]), adapter.predict(str(video))[0].values, atol=1e-5)
    texts = [f"a {name} approaching" for name in OBJECTS]
    (tmp_path / "texts.txt").write_text("# which one?\n" + "\n".join(texts) + "\n")
    words = ["predict", str(video), "--adapter", "y", "--candidates", str(tmp_path / "texts.txt")]
    [row] = read_json(capsys, *words, "--all-scores")
    assert list(row["scores"]) == texts and row["label"] == max(row["scores"], key=row["scores"].get)
    [answer] = adapter.predict(str(video), given={"candidates": texts})
    assert answer.scores.tolist() == pytest.approx(list(row["scores"].values()), abs=1e-4)


@pytest.mark.usefixtures("learned")
def test_zero_shot_by_an_adapter_equals_plain_code(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter = load_adapter("y")
    paths = [str(path) for path in sorted((world / "test").rglob("*.mp4"))]
    asked = ["zero-shot", *paths, "--labels", ",".join(OBJECTS), "--adapter", "y", "--templates", "clip-imagenet-v1"]
    rows = read_json(capsys, *asked, "--all-scores")
    file = Path(prismhub.__file__).parents[1] / "adapters" / "prompts" / "clip-imagenet-v1.txt"
    templates = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    classes = []
    for label in OBJECTS:
        mean = adapter.embed_text([one.replace("{}", label) for one in templates]).mean(0)
        classes.append(mean / mean.norm())
    for row, answer in zip(rows, adapter.predict(paths), strict=True):
        logits = torch.stack(classes) @ answer.values * adapter.similarity_scale.detach()
        assert list(row["scores"].values()) == pytest.approx(logits.softmax(0).tolist(), abs=1e-4)
        assert row["templates"] == "clip-imagenet-v1" and len(row["templates_sha256"]) == 64
    done = prismhub.zero_shot(videos=paths, labels=list(OBJECTS), adapter="y", template="a {} approaching")
    assert [one.label for one in done.predictions] and done.about["templates"] == "given"


def test_what_can_be_wrong(says: Callable[..., str], world: Path, tmp_path: Path, trained: Path) -> None:
    """The home holds an adapter `x` of classes."""
    table, video = tmp_path / "list.csv", min(world.rglob("*.mp4"))
    table.write_text(f"video,caption\n{video},\n")
    train = ("train", "--data", str(table), "--adapter", "lit_text")
    assert "list.csv: line 2: caption is empty; give a caption or remove the row" in says(2, *train)
    table.write_text(f"video,label\n{video},dog\n")
    assert "no caption column" in says(2, *train)
    whole = ("train", "--data", str(world), "--adapter", "lit_text")
    assert "text tower: no encoder is called 'nanno'" in says(2, *whole, "--text-tower", "nanno")
    assert "option 'tune' cannot be 'all'" in says(2, *whole, "--tune-text", "all")
    assert "unknown option 'tune'" in says(2, *whole[:4], "linear", "--tune-text", "lora")
    assert "did you mean 't2v_r" in says(2, *whole, "--metric", "t2v_r2")
    (tmp_path / "one.txt").write_text("a cat\n")
    asked = ("predict", str(video), "--adapter", "x", "--candidates")
    assert "candidates are for adapters of texts; this one learned classes" in says(
        2, *asked, str(tmp_path / "one.txt")
    )
    named = ("zero-shot", str(video), "--labels", "a,b", "--adapter", "x")
    assert "adapter 'x' learned classes, and no space of videos and texts" in says(2, *named)
    assert "the adapter chooses the frames by itself: leave views out" in says(2, *named, "--views", "2")


@pytest.mark.usefixtures("learned")
def test_candidates_are_at_least_two(world: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    (tmp_path / "one.txt").write_text("a cat\na cat\n")
    words = ("predict", str(world), "--adapter", "y", "--candidates", str(tmp_path / "one.txt"))
    assert "candidates must be at least two different texts, one a line" in says(2, *words)
    with pytest.raises(InputError, match="cannot be read"):
        prismhub.predict(videos=str(world), adapter="y", candidates=str(tmp_path / "none.txt"))


def test_long_captions_are_cut_and_said_once(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    rows = [json.loads(line) for line in (world / "metadata.jsonl").read_text().splitlines()]
    table = tmp_path / "list.jsonl"
    long = [{"video": str(world / row["file_name"]), "caption": row["caption"] + " again" * 60} for row in rows]
    table.write_text("\n".join(map(json.dumps, long)))
    assert (
        run(
            [
                "train",
                "--data",
                str(table),
                "--adapter",
                "lit_text",
                *FAST,
                "--epochs",
                "1",
                "--tune-text",
                "projection",
            ]
        )
        == 0
    )
    said = [record.message for record in caplog.records if "are cut" in record.message]
    assert len(said) == 1 and "texts longer than 32 tokens are cut" in said[0]
