"""`train --tune`: an adapter with the LoRA of its encoder, or an encoder of its own, through every command."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.hub import Hub
from adapters.registry import describe_adapter, load_adapter
from benchmarks.cell import train_once
from core_encoder.encoder import load_encoder
from core_encoder.errors import EncoderMismatch
from prismhub.cli import run
from tests.prismhub.small_data import FAST, read_json

LORA = ("--tune", "lora", "--lora-rank", "2", "--epochs", "2")


@pytest.fixture(scope="session")
def home_of_tuned(splits: Path, home_of_x: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of `x` with adapters `lora` and `full`, whose encoders trained with them; to be copied."""
    home = shutil.copytree(home_of_x, tmp_path_factory.mktemp("homes") / "tuned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMHUB_HOME", str(home))
        assert run(["train", "--data", str(splits), *FAST, *LORA, "--name", "lora"]) == 0
        assert run(["train", "--data", str(splits), *FAST, "--tune", "full", "--epochs", "2", "--name", "full"]) == 0
    return home


@pytest.fixture
def tuned(home_of_tuned: Path, private_home: Path) -> Path:
    return shutil.copytree(home_of_tuned, private_home, dirs_exist_ok=True)


def videos_of(splits: Path) -> list[str]:
    return [str(path) for path in sorted((splits / "test").rglob("*.mp4"))]


def test_the_same_again_finds_it_done_and_says_before_what_it_costs(
    splits: Path, tuned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fast = [word for word in FAST if word != "--quiet"]
    train = ["train", "--data", str(splits), *fast, *LORA, "--name", "lora"]
    capsys.readouterr()
    assert run([*train, "--json"]) == 0
    again = capsys.readouterr()
    assert json.loads(again.out)["adapter"] == "lora@v1" and "every epoch" not in again.err
    assert run([*train, "--json", "--lora-rank", "3"]) == 0
    other = capsys.readouterr()
    assert json.loads(other.out)["adapter"] == "lora@v2"
    assert "its features cannot be stored" in other.err
    assert "every epoch decodes and encodes 12 clips anew, about" in other.err and "; 2 epochs about" in other.err
    assert other.err.index("every epoch") < other.err.index("epochs about")


@pytest.mark.parametrize("name", ["lora", "full"])
def test_what_was_judged_is_what_is_evaluated_and_predicted(
    splits: Path, tuned: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    info = describe_adapter(name)
    trained = json.loads(next((tuned / "runs").glob(f"{name}-*/result.json")).read_text())
    judged = read_json(capsys, "evaluate", "--adapter", name, "--data", str(splits), "--quiet")
    assert judged["scores"]["top1"]["value"] == trained["scores"]["top1"]["value"]
    assert trained["encoder_fingerprint"] == info.features.fingerprint  # type: ignore[union-attr]
    lines = next((tuned / "runs").glob(f"{name}-*/predictions.jsonl")).read_text().splitlines()
    in_training = {row["id"]: row for row in map(json.loads, lines)}
    asked = load_adapter(name).predict(videos_of(splits))
    for answer in asked:
        row = next(row for one, row in in_training.items() if answer.sample_id.endswith(one))
        assert row["scores"][answer.label] == pytest.approx(float(answer.score), abs=1e-5)


def test_features_of_tuned_encoders_lie_apart(splits: Path, tuned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    infos = {name: describe_adapter(name) for name in ("x", "lora", "full")}
    prints = {name: info.features.fingerprint for name, info in infos.items() if info.features}
    assert len(set(prints.values())) == 3
    for name in infos:
        read_json(capsys, "evaluate", "--adapter", name, "--data", str(splits), "--quiet")
    specs = [json.loads(file.read_text()) for file in (tuned / "features").glob("tokens-*/spec.json")]
    assert {spec["fingerprint"] for spec in specs} == set(prints.values())
    assert infos["lora"].tuned_from is not None and infos["lora"].tuned_from.fingerprint == prints["x"]


@pytest.mark.usefixtures("tuned")
def test_frozen_and_tuned_adapters_answer_from_one_hub(splits: Path) -> None:
    videos = videos_of(splits)
    alone = {name: load_adapter(name).predict(videos) for name in ("x", "lora")}
    hub = Hub("nano", {"x": "x", "lora": "lora", "again": load_adapter("lora")})
    answers = hub.predict(videos)
    assert hub.passes == len(videos)  # one encoding for both of the tuned; the features of x are stored
    for place, one in enumerate(answers):
        for name, wanted in (("x", "x"), ("lora", "lora"), ("again", "lora")):
            assert torch.equal(one[name].scores, alone[wanted][place].scores)
    windows = hub.predict(videos[0], window=0.5)[0]
    assert len(windows["lora"].windows) == len(windows["x"].windows) > 1
    with pytest.raises(EncoderMismatch, match="nano"):
        hub.add("full")  # an encoder of its own


@pytest.mark.usefixtures("tuned")
def test_several_adapters_are_asked_in_one_command(splits: Path, says: Callable[..., str]) -> None:
    video = videos_of(splits)[0]
    shown = says(0, "predict", video, "--adapter", "x", "--adapter", "lora", "--quiet")
    assert "x (map_classifier)" in shown and "lora (map_classifier)" in shown
    assert "ask them apart" in says(2, "predict", video, "--adapter", "x", "--adapter", "full")
    assert says(0, "predict", video, "--adapter", "full", "--quiet")


@pytest.mark.slow
@pytest.mark.usefixtures("tuned")
def test_an_encoder_of_its_own_is_a_folder_that_others_train_on(
    splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = describe_adapter("full")
    folder = Path(info.encoder_source)
    assert folder.is_dir() and load_encoder(folder).fingerprint == info.features.fingerprint  # type: ignore[union-attr]
    other = read_json(capsys, "train", "--data", str(splits), *FAST, "--name", "on-top", "--encoder", str(folder))
    assert other["result"]["encoder_fingerprint"] == info.features.fingerprint  # type: ignore[union-attr]
    shutil.copytree(folder.parent, tmp_path / "moved")
    moved = load_adapter(tmp_path / "moved")
    assert moved.info.encoder_source == str(tmp_path / "moved" / "encoder")
    wanted = load_adapter("full").predict(videos_of(splits))
    assert all(torch.equal(a.scores, b.scores) for a, b in zip(moved.predict(videos_of(splits)), wanted, strict=True))


@pytest.mark.usefixtures("tuned")
def test_the_folder_and_the_card_say_what_they_hold(tmp_path: Path) -> None:
    for name, said in (("lora", "`encoder_lora/` in PEFT's layout"), ("full", "`encoder/`, the encoder")):
        folder = Path(shutil.copytree(_folder(name), tmp_path / name))
        card = (folder / "README.md").read_text()
        assert said in card and "began as `nano`" in card and "base_model: nano" in card
        config = json.loads((folder / "adapter_config.json").read_text())
        assert config["tuned_from"]["how"] == name and config["encoder_source"] == ("nano" if name == "lora" else "")
    weights = tmp_path / "lora" / "encoder_lora" / "adapter_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ValueError, match="not the file that was saved"):
        load_adapter(tmp_path / "lora")


def _folder(name: str) -> Path:
    from adapters.registry import find_adapter

    return find_adapter(name)


@pytest.mark.usefixtures("tuned")
def test_an_archive_takes_no_lora(splits: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    pytest.importorskip("scenedetect")
    line = says(2, "index", str(splits / "test"), "--out", str(tmp_path / "a"), "--adapter", "lora")
    assert "adapter 'lora' has a LoRA of its own" in line and "ask it by predict" in line


@pytest.mark.slow
def test_a_broken_video_is_skipped_and_named(splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = shutil.copytree(splits, tmp_path / "data")
    (data / "train" / "b" / "0.mp4").write_bytes(b"no video")
    done = read_json(capsys, "train", "--data", str(data), *FAST, *LORA, "--name", "y", code=3)
    assert done["adapter"] == "y@v1"


@pytest.mark.parametrize("devices", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_videos_that_break_meanwhile_are_listed_once_whoever_meets_them(
    splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, devices: str
) -> None:
    """One of each split, after all have been encoded; one of them is gone, and not only damaged."""
    data = shutil.copytree(splits, tmp_path / "data")
    lost = [data / "train" / "b" / "0.mp4", data / "val" / "d" / "1.mp4", data / "test" / "d" / "2.mp4"]

    def they_break(*given: Any) -> Any:
        for path in lost[1:]:
            path.write_bytes(b"no video any more")
        lost[0].unlink()
        return train_once(*given)

    monkeypatch.setattr("benchmarks.cell.train_once", they_break)
    train = ["train", "--data", str(data), *FAST, *LORA, "--name", "y", "--max-unreadable", "0.2"]
    done = read_json(capsys, *train, "--devices", devices, code=3)
    assert {Path(one["path"]) for one in done["failed"]} == set(lost) and len(done["failed"]) == 3
    skipped = done["result"]["skipped"]
    assert [one["id"] for one in skipped] == ["test/d/2.mp4"] and skipped[0]["reason"] in str(done["failed"])
    assert done["result"]["n_evaluated"] == 5 and describe_adapter("y").training["clip_s"]
    listed = (Path(done["run"]) / "failures.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in listed] == done["failed"]
    recorded = json.loads((Path(done["run"]) / "result.json").read_text())
    assert recorded["skipped"] == skipped


def test_more_than_the_stated_share_may_not_break(
    splits: Path, tmp_path: Path, says: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = shutil.copytree(splits, tmp_path / "data")
    lost = [data / "train" / "b" / f"{number}.mp4" for number in range(2)]

    def they_break(*given: Any) -> Any:
        for path in lost:
            path.unlink()
        return train_once(*given)

    monkeypatch.setattr("benchmarks.cell.train_once", they_break)
    line = says(2, "train", "--data", str(data), *FAST, *LORA, "--name", "y")
    assert "2 clips broke while the encoder trained, more than max_unreadable allows" in line


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--lora-rank", "4"], "lora_rank means nothing: the encoder is frozen (--tune lora or full trains it)"),
        (["--augment", "crop"], "augment means nothing: the encoder is frozen"),
        (["--tune", "full", "--lora-rank", "4"], "lora_rank means nothing: --tune full has no LoRA"),
        (["--tune", "lora", "--lora-rank", "0"], "lora_rank must be at least 1, not 0"),
        (["--tune", "lora", "--layer-decay", "1.5"], "layer_decay must be above 0 and up to 1, not 1.5"),
        (["--tune", "lora", "--encoder-lr", "0"], "encoder_lr must be above 0"),
        (["--tune", "lora", "--augment", "none,crop"], "augment: none goes with no other"),
        (["--tune", "lora", "--augment", "crop,crop"], "names one twice"),
        (["--tune", "lora", "--augment", "colour", "--crop-area", "0.5"], "crop_area means nothing without crop"),
        (["--tune", "projection"], "option 'tune' cannot be 'projection'"),
        (["--tune", "lora", "--encoder-dtype", "bf16"], "weights that train are fp32"),
        (["--tune", "lora", "--adapter", "temporal_localizer"], "temporal_localizer trains on stored features"),
        (["--tune", "lora", "--adapter", "lit_text"], "--tune-text is for its text tower"),
        (["--tune", "lora", "--adapter", "llm_decoder"], "--tune-text is for its language model"),
    ],
)
def test_what_means_nothing_is_refused_in_a_line(
    splits: Path, says: Callable[..., str], options: list[str], line: str
) -> None:
    assert line in says(2, "train", "--data", str(splits), "--encoder", "nano", *options)


@pytest.mark.slow
def test_labels_that_speak_of_sides_keep_clips_unmirrored(
    splits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shutil.copytree(splits, tmp_path / "data")
    for split in ("train", "val", "test"):
        (data / split / "b").rename(data / split / "turn left")
    fast = [word for word in FAST if word != "--quiet"]
    train: list[Any] = ["train", "--data", str(data), *fast, *LORA, "--epochs", "1"]
    capsys.readouterr()
    assert run([*train, "--name", "a"]) == 0
    assert "label 'turn left' speaks of a side: clips are not mirrored" in " ".join(capsys.readouterr().err.split())
    assert describe_adapter("a").tuned_from.options["augment"] == ["crop"]  # type: ignore[union-attr]
    assert run([*train, "--name", "c", "--augment", "flip"]) == 0
    assert "its mirrored clips keep it" in " ".join(capsys.readouterr().err.split())
    assert describe_adapter("c").tuned_from.options["augment"] == ["flip"]  # type: ignore[union-attr]
