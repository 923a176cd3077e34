"""`prismhub embed --format opentad`: files that OpenTAD's reader takes, and rows at the moments it takes them for.

Where the environment variable OPENTAD names a checkout of it (with mmengine-lite and einops installed), its own data
sets read what is written; elsewhere that one test is skipped, and its published arithmetic stands alone.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import prismhub
from core_encoder import Clip, ClipPlan, InputError
from core_encoder.clip_plan import VideoFacts
from prismhub.cli import run
from prismhub.opentad import FeatureGrid
from tests.prismhub.small_data import read_json
from tests.videos import moving_square, write_video

WINDOWS = ["--window", "1", "--step", "0.5"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """H.264 files of 4, 0.3 and 2.5 seconds; read only."""
    folder = tmp_path_factory.mktemp("videos")
    for name, num_frames in (("v_a", 64), ("v_b", 5), ("v_c", 40)):
        write_video(folder / f"{name}.mp4", moving_square(num_frames, 64, 80, seed=num_frames), fps=16)
    return folder


def settings_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "opentad.json").read_text())


def test_every_video_becomes_a_file_of_rows(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "features"
    assert run(["embed", str(folder), "--out", str(out), "--format", "opentad", *WINDOWS]) == 0
    said = f"{out}: embedding of 3 videos, in_channels 128, feature_stride 4, offset_frames 4, fps 8"
    assert capsys.readouterr().out.strip() == said
    names = ["missing_files.txt", "opentad.json", "v_a.npy", "v_b.npy", "v_c.npy"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert (out / "missing_files.txt").read_text() == ""
    expected = prismhub.embed(videos=folder, window=1, step=0.5)
    for name, rows in (("v_a", 7), ("v_b", 1), ("v_c", 4)):
        found = np.load(out / f"{name}.npy", allow_pickle=False)
        assert found.dtype == np.float32 and found.shape == (rows, 128)
        here = np.array([Path(path).stem == name for path in expected.paths])
        assert np.array_equal(found, expected.values[here])
    written = settings_of(out)
    numbers = {"feature_stride": 4, "sample_stride": 1, "offset_frames": 4, "fps": 8.0, "in_channels": 128}
    assert written | numbers == written and written["feat_format"] == "npy"
    assert written["block_list"] == "missing_files.txt"
    assert written["videos"]["v_a"] == {"rows": 7, "duration": pytest.approx(4), "frame": 64}
    assert written["meta"] == dict(expected.about)


def test_without_windows_they_are_those_of_whole_videos(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["embed", str(folder), "--out", str(tmp_path / "f"), "--format", "opentad", "--kind", "clip"]) == 0
    assert "windows of 1 s, one every 0.5 s" in capsys.readouterr().err
    assert (tmp_path / "f" / "v_a.npy").exists() and settings_of(tmp_path / "f")["feature_stride"] == 4


def test_frames_become_a_row_each_without_their_padding(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"videos": folder, "kind": "frames", "window": 1, "step": 1}
    done = prismhub.embed(**options, out=tmp_path / "f", format="opentad")
    assert done.rows == {"v_a": 32, "v_b": 2, "v_c": 20} and done.grid == FeatureGrid(2, 1, 16.0)
    arrays = prismhub.embed(**options)
    whole = arrays.values[:4].reshape(32, 128)
    assert np.array_equal(np.load(tmp_path / "f" / "v_a.npy"), whole)


PLANS = [
    ("clip", ClipPlan.windows(16, 2.0, 0.5)),
    ("embedding", ClipPlan.windows(16, 3.0, 1.5)),
    ("clip", ClipPlan.windows(5, 1.25, 0.5)),  # an odd number of frames: the middle is between two slots
    ("clip", ClipPlan(8, "dense", stride=2, window_stride=4)),
    ("clip", ClipPlan(16, "dense", stride=1, window_stride=4)),  # as the usual I3D features: stride 4, offset 8
    ("frames", ClipPlan.windows(8, 1.0, 1.0)),
    ("frames", ClipPlan(8, "dense", stride=2)),
]


def centres(plan: ClipPlan, kind: str, facts: VideoFacts) -> np.ndarray:
    """The middle of each row's span in seconds, from the views themselves; of whole windows."""
    views = [view for view in plan.views_of(facts, Clip("x")) if view.num_real == plan.num_frames]
    if kind != "frames":
        return np.array([(view.start_s + view.end_s) / 2 for view in views])
    ends = [np.linspace(view.start_s, view.end_s, plan.num_frames + 1) for view in views]
    return np.concatenate([(one[:-1] + one[1:]) / 2 for one in ends])


@pytest.mark.parametrize(("kind", "plan"), PLANS)
def test_rows_are_where_opentad_takes_them(kind: Any, plan: ClipPlan) -> None:
    facts = VideoFacts.constant_rate(480, 24.0)
    grid = FeatureGrid.of(plan, kind)
    assert isinstance(grid.feature_stride, int) and isinstance(grid.offset_frames, int)
    expected = centres(plan, kind, facts)
    assert len(expected) > 5
    fps = facts.fps if grid.fps == -1 else grid.fps
    moments = (np.arange(len(expected)) * grid.feature_stride + grid.offset_frames) / fps
    np.testing.assert_allclose(moments, expected, atol=1e-9)


def test_the_usual_i3d_numbers_come_out() -> None:
    assert FeatureGrid.of(ClipPlan(16, "dense", stride=1, window_stride=4), "clip") == FeatureGrid(4, 8, -1)


def test_a_second_run_adds_to_the_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, bad = tmp_path / "features", tmp_path / "v_bad.mp4"
    bad.write_bytes(b"no video")
    command = ["--out", str(out), "--format", "opentad", *WINDOWS]
    said = read_json(capsys, "embed", str(bad), str(folder / "v_a.mp4"), *command, code=3)
    assert said["videos"] == {"v_a": 7} and said["fps"] == 8 and said["folder"] == str(out)
    assert [Path(one["path"]).name for one in said["failed"]] == ["v_bad.mp4"]
    assert (out / "missing_files.txt").read_text() == "v_bad\n"
    write_video(bad, moving_square(32, 64, 80, seed=1), fps=16)
    assert read_json(capsys, "embed", str(bad), *command)["videos"] == {"v_bad": 3}
    assert (out / "missing_files.txt").read_text() == "" and set(settings_of(out)["videos"]) == {"v_a", "v_bad"}
    before = (out / "v_a.npy").read_bytes()
    with pytest.raises(InputError, match="holds features that were made in another way"):
        prismhub.embed(videos=folder, window=2, out=out, format="opentad")
    assert (out / "v_a.npy").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "option 'out' is missing: the folder to write"),
        (["--out", "taken"], "taken: is a file; format opentad wants a folder"),
        (["--out", "f", "--kind", "tokens"], "kind is embedding, clip or frames, not tokens"),
        (["--out", "f", "--layers", "1"], "leave layers out"),
        (["--out", "f", "--sampling", "fps", "--fps", "2"], "leave sampling out, or take dense"),
        (["--out", "f", "--kind", "frames", "--window", "1"], "overlap, so that frames come twice"),
        (["again/v_a.mp4", "--out", "f"], "would both become v_a.npy; rename one"),
        (["part.csv", "--out", "f"], "OpenTAD reads features of whole videos; leave its start and end out"),
    ],
)
def test_what_is_asked_wrongly_is_said(
    says: Callable[..., str],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "v_a.mp4").write_bytes((folder / "v_a.mp4").read_bytes())
    (tmp_path / "part.csv").write_text("path,start,end\nagain/v_a.mp4,1,2\n")
    assert message in says(2, "embed", str(folder), *options, "--format", "opentad")
    assert not (tmp_path / "f").exists()


@pytest.fixture
def opentad(monkeypatch: pytest.MonkeyPatch) -> Any:
    """OpenTAD's own `opentad.datasets`, with its `convert_to_seconds`."""
    checkout = os.environ.get("OPENTAD")
    if checkout is None:
        pytest.skip("OPENTAD does not name a checkout of https://github.com/sming256/OpenTAD")
    monkeypatch.syspath_prepend(checkout)
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))  # only its resizing wants it
    datasets = importlib.import_module("opentad.datasets")
    source = (Path(checkout) / "opentad/models/utils/post_processing/utils.py").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    exec(source[source.index("def convert_to_seconds") :], names)  # its module imports compiled parts
    return datasets, names["convert_to_seconds"]


@pytest.mark.parametrize("given", ["seconds", "frames of the video"])
def test_opentad_reads_it(folder: Path, tmp_path: Path, opentad: Any, given: str) -> None:
    datasets, convert_to_seconds = opentad
    options: dict[str, Any] = {"window": 1, "step": 0.5}
    if given != "seconds":
        options = {"sampling": "dense", "stride": 1, "window_stride": 4}
    out = tmp_path / "features"
    prismhub.embed(videos=folder, **options, out=out, format="opentad")
    arrays = prismhub.embed(videos=folder, **options)
    written = settings_of(out)
    spans = {path: arrays.times[[one == path for one in arrays.paths]] for path in arrays.paths}
    length_s = 1.0 if given == "seconds" else 0.5
    database = {}
    for path, span in spans.items():
        name = Path(path).stem
        middles = span[:, 0] + length_s / 2
        annotations = [{"segment": [middle, middle + 0.25], "label": "act"} for middle in middles]
        facts = {key: written["videos"][name][key] for key in ("duration", "frame")}
        database[name] = {"subset": "training", **facts, "annotations": annotations}
    (tmp_path / "annotations.json").write_text(json.dumps({"database": database}))
    (tmp_path / "classes.txt").write_text("act\n")
    kinds = ["AnetPaddingDataset", "AnetSlidingDataset"]
    if given != "seconds":
        kinds += ["ThumosPaddingDataset", "ThumosSlidingDataset"]
    for kind in kinds:
        about = {name: written[name] for name in ("feature_stride", "sample_stride", "offset_frames", "fps")}
        if "Sliding" in kind:
            about |= {"window_size": 64, "ioa_thresh": 0}
        dataset = getattr(datasets, kind)(
            ann_file=str(tmp_path / "annotations.json"),
            subset_name="training",
            data_path=str(out),
            class_map=str(tmp_path / "classes.txt"),
            block_list=str(out / written["block_list"]),
            pipeline=[{"type": "LoadFeats", "feat_format": written["feat_format"]}],
            **about,
        )
        assert len(dataset) == 3
        for number in range(3):
            read = dataset[number]
            path = str(folder / f"{read['video_name']}.mp4")
            assert np.array_equal(read["feats"], arrays.values[[one == path for one in arrays.paths]]), kind
            places = np.arange(len(read["feats"]))
            starts = read["gt_segments"][:, 0]
            slack = 1 / written["feature_stride"] if "Thumos" in kind else 1e-4  # it cuts to whole frames
            np.testing.assert_allclose(starts, places, atol=slack + 1e-4, err_msg=kind)
            middles = spans[path][:, 0] + length_s / 2
            seconds = convert_to_seconds(places.astype(float), read)
            np.testing.assert_allclose(seconds, np.minimum(middles, read["duration"]), atol=1e-4, err_msg=kind)


def test_the_folder_keeps_what_it_is_made_with(folder: Path, tmp_path: Path) -> None:
    from core_encoder.features.feature_spec import FeatureSpec

    prismhub.embed(videos=folder / "v_a.mp4", window=1, out=tmp_path / "f", format="opentad")
    meta = {name: value for name, value in settings_of(tmp_path / "f")["meta"].items() if name != "prismhub"}
    spec = FeatureSpec.from_dict(meta)
    assert spec.plan == ClipPlan.windows(8, 1.0) and replace(spec, kind="clip") != spec
