"""`prismhub embed`: rows that plain code gives, in the order of the videos, with their times."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import prismhub
from core_encoder import Clip, ClipPlan, InputError, load_encoder, read_clip
from core_encoder.encoder import Encoder
from core_encoder.preprocessing import to_video_tensor
from prismhub.cli import run
from tests.core_encoder.checkpoint_files import clip_model, save, vision_model
from tests.prismhub.small_data import read_json
from tests.videos import moving_square, write_video


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """H.264 files of 3, 0.3 and 1 seconds; read only."""
    folder = tmp_path_factory.mktemp("videos")
    for name, num_frames in (("a", 48), ("b", 5), ("c", 16)):
        write_video(folder / f"{name}.mp4", moving_square(num_frames, 64, 80, seed=num_frames), fps=16)
    return folder


@pytest.fixture(scope="module")
def nano() -> Encoder:
    return load_encoder("nano")


def encode(encoder: Encoder, path: Path, plan: ClipPlan, view: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens `(T, N, D)` and embedding `(E,)` of one view whose frames are all real."""
    video = to_video_tensor(read_clip(Clip(str(path)), plan, encoder.preprocessing, view=view))[None]
    features = encoder(video, embed=encoder.embedding_dim is not None)
    return features.tokens[0], features.tokens if features.embedding is None else features.embedding[0]


@pytest.mark.parametrize("kind", ["embedding", "clip", "frames", "tokens"])
def test_values_equal_plain_code(folder: Path, nano: Encoder, kind: str) -> None:
    done = prismhub.embed(videos=[folder / "c.mp4", folder / "a.mp4"], kind=kind, feature_dtype="fp32")
    assert done.paths == (str(folder / "c.mp4"), str(folder / "a.mp4")) and done.failures == ()
    for row, name in enumerate(("c.mp4", "a.mp4")):
        tokens, embedding = encode(nano, folder / name, ClipPlan(8))
        means = {"tokens": tokens, "frames": tokens.mean(1), "clip": tokens.mean((0, 1)), "embedding": embedding}
        np.testing.assert_allclose(done.values[row], means[kind].numpy(), atol=2e-5)
    assert done.values.dtype == np.float32
    assert done.times == pytest.approx(np.array([[0, 1], [0, 3]]), abs=1e-3)
    assert (done.frame_times is not None) == (kind in ("frames", "tokens")) and done.frame_mask is None
    about = done.about
    assert (about["encoder"], about["fingerprint"], about["kind"]) == ("nano", nano.fingerprint, kind)
    assert about["plan"] == {"num_frames": 8, "sampling": "uniform", "views": 1} and about["prismhub"]


def test_windows_are_rows(folder: Path, nano: Encoder) -> None:
    done = prismhub.embed(videos=[folder / "a.mp4"], window=1, step=0.5, feature_dtype="fp32")
    assert done.times == pytest.approx(np.array([[0, 1], [0.5, 1.5], [1, 2], [1.5, 2.5], [2, 3]]), abs=1e-3)
    plan = ClipPlan.windows(8, 1.0, 0.5)
    for view, values in enumerate(done.values):
        np.testing.assert_allclose(values, encode(nano, folder / "a.mp4", plan, view)[1].numpy(), atol=2e-5)
    all_of_them = prismhub.embed(videos=folder, window=2, kind="frames")
    assert [all_of_them.paths.count(str(folder / name)) for name in ("a.mp4", "b.mp4", "c.mp4")] == [2, 1, 1]
    assert all_of_them.frame_mask is not None and all_of_them.frame_mask.sum(1).tolist() == [8, 8, 1, 4]
    assert all_of_them.frame_times is not None and all_of_them.frame_times.shape == (4, 8)


def test_the_command_writes_what_python_gives(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "features.npz"
    assert run(["embed", str(folder), "--out", str(file), "--window", "2", "--step", "1"]) == 0
    shown = capsys.readouterr()
    assert shown.out.strip() == f"{file}: embedding of 3 videos, (4, 128)" and "3 encoded" in shown.err
    whole = prismhub.embed(videos=[str(folder)], window=2.0, step=1.0)
    with np.load(file) as found:
        assert np.array_equal(found["values"], whole.values) and found["path"].tolist() == list(whole.paths)
        assert np.array_equal(np.stack([found["start"], found["end"]], 1), whole.times)
        assert json.loads(str(found["meta"])) == whole.about
    said = read_json(capsys, "embed", str(folder), "--out", str(tmp_path / "f.parquet"), "--kind", "clip")
    assert said == {"file": str(tmp_path / "f.parquet"), "kind": "clip", "shape": [3, 128], "failed": []}


def test_a_second_run_encodes_nothing(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one.npz", "two.safetensors"):
        assert run(["embed", str(folder), "--out", str(tmp_path / name)]) == 0
    assert "3 clips cached, 0 encoded" in capsys.readouterr().err


def test_unreadable_videos_are_listed_and_the_rest_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("bad.mp4", "worse.mp4"):
        (tmp_path / name).write_bytes(name.encode())
    asked = [str(tmp_path / "bad.mp4"), str(folder), str(tmp_path / "worse.mp4")]
    said = read_json(capsys, "embed", *asked, "--out", str(tmp_path / "f.npz"), "--workers", "1", code=3)
    assert said["shape"] == [3, 128] and [Path(one["path"]).name for one in said["failed"]] == ["bad.mp4", "worse.mp4"]
    assert np.load(tmp_path / "f.npz")["path"].tolist() == [str(folder / f"{name}.mp4") for name in "abc"]
    assert run(["embed", *asked, "--out", str(tmp_path / "f.npz"), "--quiet"]) == 3
    assert caplog.text.count("bad.mp4: not encoded: ") == 2, "once a run"
    capsys.readouterr()
    only = ["embed", str(tmp_path / "bad.mp4"), "--out", str(tmp_path / "none.npz")]
    assert run(only) == 3
    shown = capsys.readouterr()
    assert not shown.out and "none.npz: not written, no video could be read" in shown.err
    assert not (tmp_path / "none.npz").exists()
    assert read_json(capsys, *only, code=3)["file"] is None
    done = prismhub.embed(videos=[tmp_path / "bad.mp4"])
    assert done.values.shape == (0, 128) and done.times.shape == (0, 2) and len(done.failures) == 1


def test_other_encoders(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = save(clip_model(), tmp_path / "clip")
    done = prismhub.embed(videos=[folder / "a.mp4"], encoder=str(clip), feature_dtype="fp32", num_frames=6)
    expected = encode(load_encoder(clip), folder / "a.mp4", ClipPlan(6))[1]
    np.testing.assert_allclose(done.values[0], expected.numpy(), atol=2e-5)
    silent = str(save(vision_model(), tmp_path / "silent"))
    out = ["--out", str(tmp_path / "f.npz")]
    assert run(["embed", str(folder), "--encoder", silent, *out]) == 0
    shown = capsys.readouterr()
    assert "encoder 'silent' makes no embeddings: taking clip" in shown.err and "clip of 3 videos" in shown.out
    assert run(["embed", str(folder), "--encoder", silent, "--kind", "embedding", *out]) == 2
    assert "makes no video embeddings; nano, " in capsys.readouterr().err
    layered = prismhub.embed(videos=[folder / "a.mp4"], layers=[0, -1])
    assert layered.values.shape == (1, 2, 128) and layered.about["kind"] == "clip"


def test_arrays_equal_their_files(folder: Path) -> None:
    frames = read_clip(Clip(str(folder / "c.mp4")), ClipPlan(16))  # all of them, at full size
    expected = prismhub.embed(videos=[folder / "c.mp4"], kind="frames", views=2)
    done = prismhub.embed(videos=[frames, torch.from_numpy(frames)], kind="frames", views=2)
    assert done.paths == ("0", "0", "1", "1") and done.about["decoder"] == "none"
    for rows in (done.values[:2], done.values[2:]):
        np.testing.assert_allclose(rows, expected.values, atol=2e-3)
    assert done.times.tolist() == [[0, 16]] * 4, "in frames"
    with pytest.raises(InputError, match="window is in seconds, which an array does not know"):
        prismhub.embed(videos=frames, window=2)
    with pytest.raises(InputError, match="an array knows no seconds"):
        prismhub.embed(videos=frames, sampling="fps", fps=2)
    with pytest.raises(InputError, match="no video was given"):
        prismhub.embed(videos=np.zeros((0, 8, 3, 48, 48), np.float32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "option 'out' is missing"),
        (["--out", "f.csv"], "f.csv: the suffix says which file it becomes, one of .npz, .parquet, .safetensors"),
        (["--out", "none/f.npz"], "there is no folder none"),
        (["--out", "f.npz", "--kind", "mean"], "option 'kind' cannot be 'mean'"),
        (["--out", "f.npz", "--step", "1"], "step needs window"),
        (["--out", "f.npz", "--window", "2", "--fps", "4"], "window chooses the frames by itself: leave fps out"),
        (["--out", "f.npz", "--window", "2", "--views", "2"], "leave views out"),
        (["--out", "f.npz", "--window", "0"], "window"),
        (["--out", "f.npz", "--window", "1", "--step", "2"], "step=2 is above window=1"),
        (["--out", "f.npz", "--window", "1", "--step", "0.3"], "take 0.25 or 0.375"),
        (["--out", "f.npz", "--encoder", "nanno"], "did you mean 'nano'?"),
    ],
)
def test_what_is_asked_wrongly_is_said_before_anything_is_encoded(
    says: Callable[..., str],
    folder: Path,
    tmp_path: Path,
    private_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in says(2, "embed", str(folder), *options)
    assert not (private_home / "features").exists()
