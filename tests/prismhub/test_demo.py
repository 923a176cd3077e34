"""The demo: a page, two adapters and a fair comparison, the same when it is run again or was interrupted."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import prismhub
from adapters.registry import list_adapters
from adapters.training import train_grid
from adapters.training.training_config import ProgressCallback
from adapters.training.training_loop import TrainingRun
from benchmarks import baselines
from benchmarks.cell import Trained
from benchmarks.colour_histogram import colour_histogram
from benchmarks.pretraining.world_probes import random_encoder
from core_encoder import ClipPlan, load_encoder
from core_encoder.preprocessing import Preprocessing
from core_encoder.video.decoders import read_clip
from pretrain.world import synthetic_world
from pretrain.world.world_objects import HELD_OUT_OBJECTS, SEEN_OBJECTS, WorldObject
from prismhub import demo_comparison
from prismhub.archive.folder_reader import FolderReader
from prismhub.cli import run
from prismhub.demo import QUESTIONS, Demo, _new_video, _write_videos, demo
from prismhub.pages.report import Share
from prismhub.progress import SILENT

FEW = {"train": 4, "val": 1, "test": 2}  # per class
CLIPS = 8 * sum(FEW.values())


def small_demo(out: Path, seed: int = 0) -> Demo:
    return demo(out, seed, SILENT, clips_per_class=FEW, epochs=2)


@dataclass(frozen=True)
class Done:
    out: Path
    home: Path
    demo: Demo


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A small demo; read only."""
    home, out = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("out") / "demo"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMHUB_HOME", str(home))
        return Done(out, home, small_demo(out))


@pytest.fixture
def its_home(done: Done, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRISMHUB_HOME", str(done.home))
    return done.home


def test_the_page_and_the_picture_show_all(done: Done) -> None:
    page = done.demo.page.read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script" not in page
    shown = [*done.demo.first.result.label_names, "which motion?", "which shape?", "random weights", "seed 0"]
    shown += ["colour histogram", "without any training", "zero-shot", "guessing", "positions=True", "real world"]
    shown += [f"Searched by words: {done.demo.searched.text}", "it shows <strong>", "prismhub serve --archive"]
    for words in shown:
        assert words in page, words
    assert str(done.out) in page and "--label-column shape" in page
    assert done.demo.picture.stat().st_size > 10_000
    assert done.demo.new_video.label in done.demo.first.result.label_names


def test_the_archive_holds_the_test_videos_and_what_both_adapters_say(done: Done, its_home: Path) -> None:
    searched = done.demo.searched
    tests = sorted((done.out / "motions-0/test").rglob("*.mp4"))
    assert searched.archive == done.out / "archive-0" and set(searched.shows) == {str(path) for path in tests}
    with FolderReader.open(searched.archive) as archive:
        assert len(archive) == len(archive.made_of()) == len(tests)
        assert set(archive.record.adapters) == {"demo", "demo-shape"}
    rows = [json.loads(line) for line in (done.out / "motions-0/metadata.jsonl").read_text().splitlines()]
    assert searched.text == next(row["caption"] for row in rows if row["split"] == "test")
    again = prismhub.search(searched.archive, searched.text, top=len(tests), all=True)
    paths = [one.video for one in again]
    assert paths == [one.video for one in searched.found]
    assert searched.place == paths.index(next(iter(searched.shows))) + 1
    assert len(searched.table()[1]) == min(6, len(paths))
    assert searched.verdict().endswith(f"at place {searched.place} of {len(tests)}")
    assert "not among" in replace(searched, place=None).verdict()


def test_two_questions_of_the_same_videos(done: Done) -> None:
    first, second = done.demo.first, done.demo.second
    assert first.result.label_names == sorted(first.result.label_names) and len(first.result.label_names) == 8
    assert first.frames_decoded == 8 * CLIPS and second.frames_decoded == 0
    assert len(first.training.settings) == 4
    assert set(second.result.label_names) <= {thing.shape for thing in SEEN_OBJECTS}
    rows = [json.loads(line) for line in (done.out / "motions-0" / "metadata.jsonl").read_text().splitlines()]
    assert len(rows) == CLIPS
    for row in rows:
        thing = WorldObject(row["colour"], row["shape"], row["texture"])
        assert thing in (HELD_OUT_OBJECTS if row["split"] == "test" else SEEN_OBJECTS)


def test_contenders_are_judged_on_one_split_and_nothing_of_them_is_saved(done: Done, its_home: Path) -> None:
    comparison = done.demo.comparison
    assert [one.name for one in comparison.trained] == ["nano", "random weights", "colour histogram"]
    assert comparison.chances == [1 / 8, 1 / len(done.demo.second.result.label_names)]
    for one in (*comparison.trained, *comparison.untrained):
        for share in one.shares:
            assert 0 <= share.low <= share.value <= share.high <= 1
            assert (16 * share.value) == pytest.approx(round(16 * share.value))  # of the same 16 videos
    for question, trained in enumerate((done.demo.first, done.demo.second)):
        score = trained.result.scores["top1"]
        assert comparison.trained[0].shares[question] == Share(score.value, score.low or 0, score.high or 0)
    assert {one.name for one in list_adapters()} == {"demo", "demo-shape"}


def test_random_weights_are_stored_under_their_own_fingerprint(done: Done, its_home: Path) -> None:
    nano = load_encoder("nano")
    fresh = random_encoder(nano.model.config, 0)
    stores = [json.loads(file.read_text()) for file in (its_home / "features").glob("*/spec.json")]
    kinds = {(spec["fingerprint"], spec["kind"]) for spec in stores}
    assert kinds == {(nano.fingerprint, "tokens"), (nano.fingerprint, "embedding"), (fresh.fingerprint, "tokens")}
    assert random_encoder(nano.model.config, 1).fingerprint != fresh.fingerprint


def test_histograms_are_of_the_frames_that_the_encoder_saw(done: Done) -> None:
    first = done.demo.first
    found = demo_comparison._histograms(first, SILENT)
    assert len(found) == CLIPS
    sample = first.task.samples("test")[3]
    frames = read_clip(sample.clip, ClipPlan(8), Preprocessing(48))
    assert frames.shape == (8, 48, 48, 3)
    assert torch.equal(found[sample.clip.path], colour_histogram(frames))


def test_zero_shot_is_what_the_command_answers(done: Done, its_home: Path) -> None:
    for number, (question, one) in enumerate(zip(QUESTIONS, (done.demo.first, done.demo.second), strict=True)):
        samples = one.task.samples("test")
        labels, templates = one.result.label_names, question.templates
        answers = prismhub.zero_shot(
            videos=[sample.clip.path for sample in samples], labels=labels, templates=templates
        ).predictions
        hits = [answer.label == sample.labels[0] for answer, sample in zip(answers, samples, strict=True)]
        assert done.demo.comparison.untrained[0].shares[number].value == pytest.approx(np.mean(hits))


def stored(home: Path) -> set[Path]:
    return {path.relative_to(home) for path in home.rglob("*") if path.suffix == ".safetensors"}


def predictions_of(trained: Trained) -> list[tuple[str, list[float]]]:
    return [(one.sample_id, one.scores.tolist()) for one in trained.predictions]


def test_the_same_again_finds_all_done(done: Done, its_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stored(its_home)
    videos = {path: path.stat().st_mtime_ns for path in (done.out / "motions-0").rglob("*.mp4")}

    launched: list[str] = []
    real = train_grid._launch

    def launch(run: TrainingRun, progress: ProgressCallback) -> None:
        launched.append(run.kind.kind)
        real(run, progress)

    monkeypatch.setattr(train_grid, "_launch", launch)
    again = small_demo(done.out)
    assert set(launched) == {"linear"}, "only the heads on colour histograms, a second's work, are trained anew"
    assert again.first.frames_decoded == again.second.frames_decoded == 0
    assert again.comparison == done.demo.comparison
    assert (again.first.ref, again.second.ref) == ("demo@v1", "demo-shape@v1")
    assert predictions_of(again.first) == predictions_of(done.demo.first)
    assert stored(its_home) == before
    assert {path: path.stat().st_mtime_ns for path in (done.out / "motions-0").rglob("*.mp4")} == videos


@pytest.mark.parametrize(
    ("module", "name", "number"), [(synthetic_world, "write_video", 2), (baselines, "train_once", 1)]
)
def test_a_demo_that_was_stopped_goes_on_to_the_same_result(
    module: ModuleType, name: str, number: int, done: Done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real, calls = tmp_path / "demo", getattr(module, name), []

    def stop(*given: Any, **named: Any) -> Any:
        calls.append(given)
        if len(calls) == number:
            raise KeyboardInterrupt
        return real(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, stop)
        with pytest.raises(KeyboardInterrupt):
            small_demo(out)
    assert not (out / "index.html").exists()
    ended = small_demo(out)
    assert ended.comparison == done.demo.comparison
    assert predictions_of(ended.first) == predictions_of(done.demo.first)


def test_another_seed_is_another_world(tmp_path: Path) -> None:
    _write_videos(tmp_path / "a", {"train": 1}, 1, SILENT)
    _write_videos(tmp_path / "b", {"train": 1}, 2, SILENT)
    one, other = (next((tmp_path / name).rglob("*.mp4")).read_bytes() for name in "ab")
    assert one != other
    _write_videos(tmp_path / "a", {"train": 2}, 1, SILENT)  # other sizes are written, not taken for done
    assert len(list((tmp_path / "a").rglob("*.mp4"))) == 16
    video, shows = _new_video(tmp_path, 1)
    assert video.exists() and shows.endswith("moving left")


def test_the_command_prints_the_comparison_and_what_to_do_next(
    done: Done, its_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("prismhub.demo.demo", lambda out, seed, show: done.demo)
    assert run(["demo", "--out", str(done.out)]) == 0
    shown = capsys.readouterr().out
    for words in ("which motion", "which shape", "random weights", "colour histogram", "guessing", "zero-shot"):
        assert words in shown, words
    assert f"searched by words for {done.demo.searched.text!r}" in shown
    assert f"serve --archive {done.demo.searched.archive} --adapter demo@v1" in shown
    first, second, third = shown.splitlines()[-3:]
    assert "zero-shot VIDEO --labels" in first and "predict VIDEO --adapter demo@v1" in second
    assert "train --data my_videos/" in third
