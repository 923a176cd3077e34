"""Other people's encoders from the command line: folders in, features, adapters, names and cells of the matrix out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import prismhub
from adapters.registry import load_adapter
from core_encoder import Clip, FeatureSpec, FeatureStore, load_encoder
from core_encoder.features.feature_spec import ClipKey
from core_encoder.video.video_files import video_digest
from pretrain.world.actor_videos import write_actor_videos
from pretrain.world.event_videos import write_event_videos
from prismhub.cli import run
from tests.core_encoder.foreign_models import BUILDERS, WITH_TEXT, foreign_folder
from tests.prismhub.commands.matrices import write_root
from tests.prismhub.small_data import read_json

Says = Callable[..., str]
CPU = ("--epochs", "2", "--accelerator", "cpu", "--quiet")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each family, by its name; read only."""
    folder = tmp_path_factory.mktemp("encoders")
    for family in BUILDERS:
        foreign_folder(family, folder / family)
    return folder


@pytest.mark.parametrize("family", BUILDERS)
def test_a_classifier_is_trained_saved_and_answers(
    family: str, folders: Path, splits: Path, private_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(folders / family)
    trained = read_json(capsys, "train", "--data", str(splits), "--encoder", source, *CPU, "--name", "mine")
    assert trained["adapter"] == "mine@v1"
    answers = read_json(capsys, "predict", str(splits / "test"), "--adapter", "mine")
    assert {one["label"] for one in answers} <= {"b", "d"} and len(answers) == 6
    encoder, info = load_encoder(source), load_adapter("mine").info
    assert info.features is not None and info.features.fingerprint == encoder.fingerprint
    assert (info.features.tubelet, info.features.num_steps) == (encoder.tubelet, encoder.num_frames // encoder.tubelet)


@pytest.mark.parametrize("family", WITH_TEXT)
def test_names_without_training(family: str, folders: Path, splits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("zero-shot", str(splits / "test"), "--labels", "b,d", "--encoder", str(folders / family))
    answers = read_json(capsys, *asked, "--all-scores")
    assert len(answers) == 6
    assert all(sum(one["scores"].values()) == pytest.approx(1, abs=1e-3) for one in answers)


def test_an_encoder_without_words_says_who_has_some(folders: Path, splits: Path, says: Says) -> None:
    for family in BUILDERS.keys() - set(WITH_TEXT):
        said = says(2, "zero-shot", str(splits), "--labels", "b,d", "--encoder", str(folders / family))
        assert "has no text tower" in said and "google/siglip2-base-patch16-224" in said


def test_time_steps_of_two_frames_are_stored_with_their_times(
    folders: Path, splits: Path, private_home: Path, says: Says
) -> None:
    words = ("encode", str(splits), "--encoder", str(folders / "vjepa2"), "--quiet", "--feature-dtype", "fp32")
    says(0, *words, "--kind", "tokens,frames,clip")
    path = str(splits / "test" / "b" / "0.mp4")
    key = ClipKey.of(Clip(path), video_digest(path)).view(0)
    found = {}
    for spec_file in (private_home / "features").glob("*/spec.json"):
        spec = FeatureSpec.from_dict(json.loads(spec_file.read_text()))
        assert (spec.tubelet, spec.num_steps, spec.grid) == (2, 4, (4, 4))
        found[spec.kind] = FeatureStore(private_home / "features", spec).read(key)
    assert found["tokens"].values.shape == (4, 16, 24)
    assert found["tokens"].values.mean(1).numpy() == pytest.approx(found["frames"].values.numpy(), abs=1e-5)
    assert found["frames"].values.mean(0).numpy() == pytest.approx(found["clip"].values.numpy(), abs=1e-5)
    shown = [(index + 0.5) * 12 / 8 // 1 / 16 for index in range(8)]  # the middle of each eighth of 12 frames
    assert found["tokens"].info.times_s == pytest.approx(np.reshape(shown, (4, 2)).mean(1), abs=1e-6)
    embedded = prismhub.embed(path, encoder=str(folders / "vjepa2"), kind="frames")
    assert embedded.values.shape == (1, 4, 24) and embedded.frame_times is not None
    assert embedded.frame_times[0] == pytest.approx(found["tokens"].info.times_s)
    assert "take a multiple of 2 frames (--num-frames), not 7" in says(2, *words, "--num-frames", "7")


def test_windows_of_two_frame_steps_are_those_encoded_alone(folders: Path, splits: Path, private_home: Path) -> None:
    """Windows that overlap cannot share a half, an odd hop moves the steps, and the last window is padded."""
    path = str(splits / "test" / "b" / "1.mp4")
    plan = {"sampling": "dense", "stride": 1, "num_frames": 8, "window_stride": 3}
    dense = prismhub.embed(path, encoder=str(folders / "vjepa2"), kind="frames", feature_dtype="fp32", **plan)
    assert dense.values.shape == (3, 4, 24) and dense.frame_times is not None and dense.frame_mask is not None
    assert dense.frame_times[:, 0] == pytest.approx(np.array([0.5, 3.5, 6.5]) / 16)
    assert dense.frame_mask.tolist() == [[True] * 4, [True] * 4, [True, True, True, False]]
    encoder = load_encoder(folders / "vjepa2")
    from core_encoder import ClipPlan, read_clip
    from core_encoder.preprocessing import to_video_tensor

    given = ClipPlan(8, "dense", stride=1, window_stride=3)
    for view in range(2):
        video = to_video_tensor(read_clip(Clip(path), given, encoder.preprocessing, view=view))[None]
        assert dense.values[view] == pytest.approx(encoder(video).tokens[0].mean(1).numpy(), abs=1e-5)


@pytest.mark.parametrize("reads", ["clip", "frames"])
def test_segments_have_true_seconds(
    reads: str, folders: Path, private_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spans = {"length_s": (8.0, 11.0), "event_s": (1.5, 3.0), "pause_s": (1.0, 2.0)}
    events = write_event_videos(tmp_path, {"train": 2, "val": 1, "test": 1}, size=48, shapes=("star", "ring"), **spans)
    head = ("--head", "hidden=16", "levels=3", "threshold=0.0", f"reads={reads}")
    words = ("--encoder", str(folders / "videomae"), "--adapter", "temporal_localizer", *CPU, "--name", "when")
    read_json(capsys, "train", "--data", str(events), *words, *head)
    adapter = load_adapter("when")
    step_s = {"clip": 4 / 8, "frames": 2 / 8}[reads]  # windows at 8 frames a second: a hop of 4, or a step of 2 frames
    assert float(adapter.stride_s) == pytest.approx(step_s, rel=0.02)  # type: ignore[arg-type]
    video = str(events.parent / "videos" / "test-000.mp4")
    (answer,) = read_json(capsys, "predict", video, "--adapter", "when")
    assert all(0 <= one["start"] < one["end"] <= 11.5 for one in answer["segments"])


def test_boxes_are_looked_for_at_the_time_of_the_step(
    folders: Path, private_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = write_actor_videos(tmp_path / "actors", {"train": 2, "val": 1, "test": 1}, size=64)
    data = ("--data", str(world / "ava_train.csv"), "--val", str(world / "ava_val.csv"))
    data += ("--labels", str(world / "labels.pbtxt"), "--videos", str(world / "clips"))
    words = ("--adapter", "spatiotemporal_localizer", "--encoder", str(folders / "videomae"), *CPU)
    done = read_json(capsys, "train", *data, *words, "--name", "actors", "--head", "hidden=16", "heads=2")
    assert done["adapter"] == "actors@v1"


def test_a_cell_of_the_matrix_and_a_folder_for_opentad(
    folders: Path, splits: Path, private_home: Path, tmp_path: Path, says: Says
) -> None:
    root, results = write_root(tmp_path / "root", ("ssv2",)), tmp_path / "results"
    words = ("bench", "--task", "ssv2", "--data-root", str(root), "--output", str(results), *CPU)
    says(0, *words, "--encoder", str(folders / "vjepa2"), "--encoder", str(folders / "siglip2"))
    cells = [json.loads(path.read_text()) for path in results.rglob("*.json") if path.parent.name != "predictions"]
    assert sorted(one["encoder"] for one in cells if one.get("state") == "done") == ["siglip2", "vjepa2"]
    out = tmp_path / "opentad"
    prismhub.embed(
        splits / "test" / "b", encoder=str(folders / "vjepa2"), kind="frames", format="opentad", out=out,
        sampling="dense", stride=1, num_frames=4,
    )  # fmt: skip
    grid = json.loads((out / "opentad.json").read_text())
    assert (grid["feature_stride"], grid["offset_frames"], grid["fps"]) == (2, 1, -1)
    assert np.load(out / "0.npy").shape == (6, 24)


def test_broken_folders_are_one_line(folders: Path, splits: Path, tmp_path: Path, says: Says) -> None:
    folder = foreign_folder("siglip", tmp_path / "broken")
    (folder / "preprocessor_config.json").write_text('{"resample": 1}')
    assert "resample 1 is not supported" in says(2, "encode", str(splits), "--encoder", str(folder))
    (folder / "config.json").write_text('{"model_type": "llava"}')
    assert "model_type 'llava' is not supported; supported are" in says(
        2, "encode", str(splits), "--encoder", str(folder)
    )
    assert run(["encoders", "--json"]) == 0
