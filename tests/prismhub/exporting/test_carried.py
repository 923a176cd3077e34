"""The scripts of an exported model choose, cut and spell as prismhub does, without any of it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import prismhub.exporting.carried as carried
from core_encoder.clip_plan import Clip, ClipPlan, VideoFacts
from core_encoder.encoder import load_encoder
from core_encoder.preprocessing import Preprocessing
from core_encoder.text_encoder import load_text_encoder
from core_encoder.video.decoders import open_video, read_facts
from prismhub.exporting.subjects import _preprocessing
from prismhub.exporting.texts_as_data import write_texts
from tests.core_encoder.foreign_models import foreign_folder
from tests.core_encoder.video.numbered_videos import numbered, write
from tests.text_models import tiny_bert
from tests.videos import moving_square, write_video

PLANS = [
    ClipPlan(4),
    ClipPlan(4, views=3),
    ClipPlan(40),
    ClipPlan(4, "fps", fps=8.0),
    ClipPlan(4, "fps", fps=3.0, views=2),
    ClipPlan(64, "fps", fps=30.0),
    ClipPlan(4, "stride", stride=3),
    ClipPlan(4, "stride", stride=2, views=3),
    ClipPlan(16, "stride", stride=9),
    ClipPlan(4, "dense", fps=8.0, window_stride=2),
    ClipPlan(4, "dense", stride=2, window_stride=3),
]


def script(name: str, folder: Path, **data: Any) -> ModuleType:
    """A carried script that stands in `folder` beside files of data."""
    for file, content in data.items():
        (folder / f"{file}.json").write_text(json.dumps(content))
    shutil.copyfile(Path(carried.__file__).parent / f"{name}.py", folder / f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"{name}_of_{folder.name}", folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: "-".join(map(str, plan.describe().values())))
def test_frames_are_chosen_as_by_the_clip_plan(plan: ClipPlan, tmp_path: Path) -> None:
    video = script("video", tmp_path, preprocessing=_preprocessing(plan, Preprocessing(16), 1))
    rng = np.random.default_rng(0)
    for facts in (
        VideoFacts.constant_rate(24, 16.0),
        VideoFacts.constant_rate(1, 25.0),
        VideoFacts.constant_rate(37, 29.97),
        VideoFacts(9, 7.5, 1.2, 96, 64, np.concatenate([[0.0], np.sort(rng.uniform(0.01, 1.1, 8))])),
    ):
        found = video.chosen_frames(np.array(facts.timestamps), facts.duration_s)
        wanted = plan.views_of(facts, Clip("v.mp4"))
        assert [tuple(map(int, one[0])) for one in found] == [view.frame_indices for view in wanted]
        assert [one[1] for one in found] == [view.num_real for view in wanted]
        assert [one[2:] for one in found] == [pytest.approx((view.start_s, view.end_s)) for view in wanted]


@pytest.mark.parametrize(
    "how",
    [
        Preprocessing(16),
        Preprocessing(16, "resize", "bilinear"),
        Preprocessing(16, "center_crop"),
        Preprocessing(16, "center_crop", short_side=20),
    ],
    ids=lambda how: f"{how.geometry}-{how.interpolation}-{how.short_side}",
)
def test_a_video_becomes_the_pixels_that_the_encoder_sees(how: Preprocessing, tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", moving_square(30, 48, 64, seed=1), bframes=2)
    plan = ClipPlan(5, views=2)
    video = script("video", tmp_path, preprocessing=_preprocessing(plan, how, 1))
    facts = read_facts(path)
    times, end_s = video.shown_at(path)
    np.testing.assert_allclose(times, facts.timestamps, atol=1e-6)
    assert end_s == pytest.approx(facts.duration_s, abs=1e-6)
    given = video.inputs(path)
    assert given["frame_mask"].all() and given["frame_mask"].shape == (2, 5)
    with open_video(path, "pyav") as reader:
        for pixels, view in zip(given["frames"], plan.views_of(facts, Clip(str(path))), strict=True):
            wanted = reader.read(view.frame_indices, how)
            assert np.abs(pixels.astype(int) - wanted).max() <= 2
    boxes = np.array([[0.1, 0.2, 0.5, 0.9]])
    np.testing.assert_allclose(video.seen_boxes(boxes, path), how.map_boxes(boxes, 64, 48), atol=1e-9)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_phone_videos_are_turned_upright(degrees: int, tmp_path: Path) -> None:
    path = write(tmp_path / "turned.mp4", numbered(6), rotation=degrees)
    how = Preprocessing(16, "center_crop")
    video = script("video", tmp_path, preprocessing=_preprocessing(ClipPlan(3), how, 1))
    with open_video(path) as reader:
        (view,) = ClipPlan(3).views_of(reader.facts, Clip(str(path)))
        wanted = reader.read(view.frame_indices, how)
    assert np.abs(video.inputs(path)["frames"][0].astype(int) - wanted).max() <= 2


TEXTS = ["a video of a dog", "A dog, runs!", "", "dog " * 40, "a  cat\truns."]


@pytest.mark.parametrize("source", ["nano", "clip", "siglip", "siglip2", "bert"])
def test_texts_become_the_ids_of_the_tokenizer(source: str, tmp_path: Path) -> None:
    if source == "bert":
        tokenizer: Any = load_text_encoder(tiny_bert(tmp_path / "bert")).tokenizer
    else:
        known = "nano" if source == "nano" else foreign_folder(source, tmp_path / source)
        tokenizer = load_encoder(known).tokenizer
    folder = tmp_path / "folder"
    folder.mkdir()
    assert write_texts(folder, tokenizer, 20.0)
    texts = script("texts", folder)
    ids, mask = tokenizer(TEXTS)
    given = texts.text_inputs(TEXTS)
    assert given["ids"].shape == tuple(ids.shape)
    np.testing.assert_array_equal(given["mask"], mask.numpy())
    np.testing.assert_array_equal(np.where(given["mask"], given["ids"], 0), np.where(mask, ids, 0))
    assert texts.HOW["scale"] == 20.0


def told(module: ModuleType, path: Path) -> str:
    with pytest.raises(SystemExit) as stopped:
        module.inputs(path)
    return str(stopped.value.code)


def test_a_wrong_file_is_told_in_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"PK not a video")
    video = script("video", tmp_path, preprocessing=_preprocessing(ClipPlan(4), Preprocessing(16), 1))
    assert told(video, broken).startswith(f"{broken}: cannot be decoded: ")
    assert told(video, tmp_path / "none.mp4").endswith("none.mp4: cannot be decoded: No such file or directory")
    features = script("features", tmp_path)
    np.save(tmp_path / "other.npy", np.zeros(2))
    for path in (broken, tmp_path / "none.npz", tmp_path / "other.npy"):
        assert told(features, path).startswith(f"{path}: not a file of features: prismhub embed ")


@pytest.mark.parametrize("place", sorted(Path(carried.__file__).parent.glob("use_*.py")), ids=lambda place: place.stem)
def test_a_script_without_arguments_says_how_it_is_called(place: Path, tmp_path: Path) -> None:
    for name in ("graph", "inputs", "texts", "segments"):
        names = ("open_graph", "inputs", "seen_boxes", "vectors", "padded", "segments", "text_inputs", "HOW")
        (tmp_path / f"{name}.py").write_text("".join(f"{one} = None\n" for one in names))
    shutil.copyfile(place, tmp_path / "use.py")
    done = subprocess.run([sys.executable, "use.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "python use.py" in done.stderr
    assert "Traceback" not in done.stderr
