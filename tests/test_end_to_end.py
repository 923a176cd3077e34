"""From a folder of videos to a trained, saved, reusable adapter: through the command line and through Python."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import prismhub
from core_encoder.files.storage import read_json
from pretrain.world.synthetic_world import write_dataset
from prismhub.cli import run
from tests.prismhub.small_data import one_object_class

EASY = [one_object_class("red circle", "receding"), one_object_class("blue star", "receding")]
FAST = ["--epochs", "12", "--accelerator", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that even random features tell apart, with train, val and test folders; read only."""
    folder = tmp_path_factory.mktemp("world") / "objects"
    write_dataset(folder, EASY, {"train": 10, "val": 4, "test": 6}, size=64, num_frames=8)
    (folder / "metadata.jsonl").unlink()  # the class folders are enough
    return folder


def result_of(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> object:
    """Run a command with --json and read what it printed."""
    capsys.readouterr()
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_train_evaluate_predict_and_a_second_question(
    world: Path, private_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "--data", str(world), "--encoder", "nano", "--adapter", "map_classifier", *FAST]
    first = result_of(capsys, *train, "--name", "objects")
    assert first["adapter"] == "objects@v1" and first["frames_decoded"] == 40 * 8
    result = first["result"]
    assert result["n_evaluated"] == result["n_total"] == 12 and result["split"] == "test"
    assert result["scores"]["top1"]["value"] >= 0.75  # chance is 0.5
    for field in ("data_digest", "encoder_fingerprint", "clip_plan", "provenance", "config", "protocol"):
        assert result[field]
    assert read_json(Path(first["run"]) / "result.json")["scores"] == result["scores"]
    kept = [json.loads(line) for line in (Path(first["run"]) / "predictions.jsonl").read_text().splitlines()]
    assert len(kept) == 12

    again = result_of(capsys, *train, "--name", "objects")  # the same command finds everything done
    assert again["adapter"] == "objects@v1" and again["frames_decoded"] == 0

    grid = ["--grid", "lr=1e-3,3e-4", "dropout=0,0.5", "--seeds", "2"]
    second = result_of(capsys, *train, "--name", "grid", *grid)
    assert second["frames_decoded"] == 0  # other settings, the same features
    assert len(second["settings"]) == 4 and [one["seed"] for one in second["seeds"]] == [0, 1]

    other = result_of(capsys, *train, "--adapter", "linear", "--name", "other-kind")
    assert other["frames_decoded"] == 0  # another kind of features, derived from those stored

    evaluated = result_of(capsys, "evaluate", "--data", str(world), "--adapter", "objects", "--quiet")
    assert evaluated["scores"] == result["scores"]

    moved = tmp_path / "elsewhere with space"
    shutil.copytree(world / "test", moved)
    said = {row["id"]: row["label"] for row in kept}
    for path in sorted(moved.rglob("*.mp4")):  # the same videos somewhere else get the same answers
        [answer] = result_of(capsys, "predict", str(path), "--adapter", "objects", "--all-scores", "--quiet")
        assert answer["label"] == said[f"test/{path.parent.name}/{path.name}"]
        assert answer["score"] == max(answer["scores"].values())
        assert sum(answer["scores"].values()) == pytest.approx(1, abs=1e-4)


def test_linear_baseline_and_python_api(world: Path) -> None:
    trained = prismhub.train(
        data=world, adapter="linear", encoder="nano", name="base-line", epochs=20, accelerator="cpu"
    )
    assert trained.result.scores["top1"].value > 0.5
    [row] = prismhub.list_adapters("base-*")
    assert row.ref == "base-line@v1" and row.num_classes == 2
    adapter = prismhub.load_adapter("base-line")
    videos = sorted((world / "test").rglob("*.mp4"))
    before = [prediction.scores for prediction in trained.adapter.predict(videos)]
    after = [prediction.scores for prediction in adapter.predict(videos)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    with pytest.raises(prismhub.InputError, match="'epochs'"):
        prismhub.train(data=world, epoch=3)


def test_mlap_int8_views_and_dense_windows(world: Path) -> None:
    for name, options in {
        "mlap": {"layers": (3, 5), "feature_dtype": "int8"},
        "views": {"views": 2},
        "dense": {"sampling": "dense", "stride": 1, "num_frames": 4, "window_stride": 2},
        "fps": {"sampling": "fps", "fps": 4.0, "num_frames": 3, "decoder": "pyav", "geometry": "center_crop"},
    }.items():
        trained = prismhub.train(data=world, encoder="nano", name=name, epochs=6, accelerator="cpu", **options)
        assert trained.result.scores["top1"].value >= 0.5, name
        [answer] = prismhub.predict(videos=[str(next((world / "test").rglob("*.mp4")))], adapter=name).predictions
        assert answer.scores.sum() == pytest.approx(1, abs=1e-4)


def test_multi_label(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    for path in sorted(world.rglob("*.mp4")):
        split, name = path.parent.parent.name, path.parent.name
        colour, shape, _ = name.split("-")
        rows.append({"video": str(path), "label": [colour, shape], "split": split})
    (tmp_path / "tags.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = str(tmp_path / "tags.jsonl")
    done = result_of(capsys, "train", "--data", data, "--encoder", "nano", "--name", "tags", *FAST)
    assert done["result"]["main_metric"] == "map" and done["result"]["scores"]["map"]["value"] > 0.8
    again = result_of(capsys, "evaluate", "--data", data, "--adapter", "tags", "--quiet")
    assert again["scores"] == done["result"]["scores"]
    [answer] = result_of(capsys, "predict", rows[0]["video"], "--adapter", "tags", "--quiet", "--all-scores")
    assert [one["label"] for one in answer["labels"]] == sorted(
        (name for name, score in answer["scores"].items() if score >= 0.5), key=lambda name: -answer["scores"][name]
    )


def test_the_same_command_with_every_kind_of_checkpoint(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import VideoPrismVisionConfig, VideoPrismVisionModel

    torch.manual_seed(0)
    config = VideoPrismVisionConfig(
        image_size=36,
        num_frames=4,
        hidden_size=32,
        num_attention_heads=2,
        intermediate_size=64,
        num_spatial_layers=2,
        num_temporal_layers=1,
    )
    VideoPrismVisionModel(config).save_pretrained(tmp_path / "from-transformers")
    done = result_of(
        capsys, "train", "--data", str(world), "--encoder", str(tmp_path / "from-transformers"), "--name", "t", *FAST
    )
    assert done["result"]["encoder"] == "from-transformers"
    [answer] = result_of(capsys, "predict", str(next((world / "test").rglob("*.mp4"))), "--adapter", "t", "--quiet")
    assert answer["label"] in done["result"]["label_names"]
    assert prismhub.load_adapter("t").info.features.plan.num_frames == 4


def test_options_from_a_file(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(
        f"data: {world}\nencoder: nano\nname: from-file\nepochs: 9\n"
        "head: {dropout: 0.2}\ngrid: {lr: [1e-3, 2e-3]}\n"
    )
    done = result_of(capsys, "train", "--config", str(file), "--epochs", "2", "--quiet", "--accelerator", "cpu")
    assert done["adapter"] == "from-file@v1" and done["result"]["config"]["epochs"] == 2
    assert len(done["settings"]) == 2
    assert prismhub.load_adapter("from-file").config.dropout == 0.2


def test_cache_and_adapters_commands(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = str(world / "test")
    [dry] = result_of(capsys, "encode", videos, "--encoder", "nano", "--kind", "frames", "--dry-run", "--quiet")
    assert dry["views"] == 12
    done = result_of(capsys, "encode", videos, "--encoder", "nano", "--kind", "frames", "--quiet")
    assert done["encoded"] == 12
    [store] = result_of(capsys, "cache", "list")
    assert store["clips"] == 12 and store["spec"]["kind"] == "frames"
    assert run(["cache", "verify", videos, "--encoder", "nano"]) == 0
    assert "agrees" in capsys.readouterr().out
    other = str(world / "val")  # kept in another store of the same encoder
    assert run(["encode", other, "--encoder", "nano", "--kind", "clip", "--quiet"]) == 0
    assert run(["cache", "verify", other, "--encoder", "nano"]) == 0
    assert run(["cache", "verify", str(world / "train"), "--encoder", "nano"]) == 2
    assert run(["cache", "prune", "--encoder", "nano"]) == 0
    assert result_of(capsys, "cache", "list") == []

    kinds = result_of(capsys, "adapters", "kinds")
    assert {"linear", "map_classifier", "temporal_localizer"} <= set(kinds) and "weaker" in kinds["linear"][1]
    assert run(["adapters", "kinds", "map_classifier"]) == 0
    assert "dropout" in capsys.readouterr().out
    assert "nano" in [one["name"] for one in result_of(capsys, "encoders")]
    assert result_of(capsys, "env")["torch"] == torch.__version__
    assert run(["train", "--data", str(world), "--encoder", "nano", "--name", "birds", *FAST]) == 0
    assert run(["adapters", "push", "birds", "me/birds"]) == 2  # offline
    assert "prismhub: " in capsys.readouterr().err
    [row] = result_of(capsys, "adapters", "list", "bird*")
    assert row["ref"] == "birds@v1"
    shown = result_of(capsys, "adapters", "show", "birds")
    assert shown["kind"] == "map_classifier" and shown["features"]["encoder"] == "nano"
    assert run(["adapters", "pull", row["path"], "--name", "copy"]) == 0
    assert run(["adapters", "rm", "birds@v1"]) == 0
    assert [one["name"] for one in result_of(capsys, "adapters", "list")] == ["copy"]


def test_help_is_quick_and_every_command_has_an_example() -> None:
    quickest = 9.0
    for _ in range(3):
        started = time.perf_counter()
        shown = subprocess.run([sys.executable, "-m", "prismhub", "--help"], capture_output=True, text=True, check=True)
        quickest = min(quickest, time.perf_counter() - started)
    heavy = (
        "import sys, prismhub.cli; print([m for m in ('torch', 'transformers', 'lightning', 'av') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )
    assert quickest < 2.0, "half a second on a quiet machine; the list of imports above is what guards it"
    for command in ("encode", "train", "evaluate", "predict", "demo", "encoders", "env"):
        assert command in shown.stdout
    from typer.testing import CliRunner

    from prismhub.cli import app

    groups = {"": ["encode", "train", "evaluate", "predict", "demo", "encoders", "env"]}
    groups |= {
        "adapters": ["kinds", "list", "show", "rm", "push", "pull"],
        "cache": ["list", "verify", "prune", "convert"],
    }
    for group, commands in groups.items():
        for command in commands:
            words = [group, command] if group else [command]
            help_text = CliRunner().invoke(app, [*words, "--help"], terminal_width=200).output
            assert f"Example: prismhub {' '.join(words)}" in " ".join(help_text.split()), words
