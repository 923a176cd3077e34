"""`prismhub export` of models: what comes out gives the answers of `predict`, and whatever is wrong is one line."""

from __future__ import annotations

import errno
import importlib.util
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

import prismhub
from adapters.card import AdapterInfo
from adapters.predictions import ClassScores
from adapters.registry import describe_adapter, save_to_registry
from adapters.tuning.tuned_adapter import TunedAdapter
from core_encoder.encoder import Encoder, load_encoder
from prismhub.cli import run
from prismhub.commands.export import _subject
from prismhub.exporting.checking import write_checked
from prismhub.exporting.encoder_graphs import encoder_graph, encoder_text_graph
from prismhub.exporting.export_settings import ArchiveExportSettings, ExportSettings, ModelExportSettings
from prismhub.exporting.formats import FORMATS
from prismhub.exporting.graphs import Axis, Graph, Port, batch_axis
from prismhub.exporting.int8_weights import with_int8_weights
from prismhub.exporting.model_folder import write_model
from prismhub.exporting.subjects import Subject, adapter_subject
from prismhub.progress import Show
from prismhub.settings import OutputSettings
from tests.adapters.tuning.frames import head_on, spec_of, tuning_on
from tests.core_encoder.foreign_models import foreign_folder
from tests.prismhub.exporting.tiny_models import GIVEN, answers_of, saved_on, tiny_encoder
from tests.videos import moving_square, write_video


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders") / "tiny"
    tiny_encoder(folder)
    return folder


@pytest.fixture
def tiny(tiny_folder: Path) -> Encoder:
    return load_encoder(tiny_folder)


def video(folder: Path, num_frames: int = 30) -> str:
    return str(write_video(folder / f"{num_frames} frames.mp4", moving_square(num_frames, 48, 64, seed=2)))


def about(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "export.json").read_text())


def test_a_classifier_with_its_encoder_answers_without_torch(tiny: Encoder, tiny_folder: Path, tmp_path: Path) -> None:
    adapter = saved_on(tiny, tiny_folder, "map_classifier")
    out = tmp_path / "exported"
    done = prismhub.export("map_classifier", out=out, with_encoder=True)
    (graph,) = done.graphs
    assert graph.apart < 1e-4 and list(graph.graph.axes) == ["batch", "frames"]
    said = about(out)
    assert said["graphs"][0]["inputs"][0] == {
        "name": "frames",
        "dtype": "uint8",
        "shape": ["batch", "frames", 16, 16, 3],
    }
    assert said["encoder_fingerprint"] == tiny.fingerprint
    assert said["graphs"][0]["compared_with_torch"][1] == {"batch": 3, "frames": 6}
    assert sorted(said["files"]) == sorted(path.name for path in out.iterdir() if path.name != "export.json")
    assert not any(str(tmp_path) in path.read_text(errors="ignore") for path in out.iterdir())  # of this machine
    for path in (video(tmp_path), video(tmp_path, 3)):  # the second has padding
        wanted = cast("ClassScores", adapter.predict(path, encoder=tiny)[0]).top(3)
        given = [(label, float(score)) for score, label in answers_of(out, path)]
        assert [label for label, _ in given] == [label for label, _ in wanted]
        assert [score for _, score in given] == pytest.approx([score for _, score in wanted], abs=5e-3)


def test_a_head_alone_reads_what_embed_writes(tiny: Encoder, tiny_folder: Path, tmp_path: Path) -> None:
    adapter = saved_on(tiny, tiny_folder, "linear")
    path, out = video(tmp_path), tmp_path / "exported"
    assert run(["export", "linear", "--out", str(out), "--quiet"]) == 0
    options = ["--encoder", str(tiny_folder), "--kind", "clip", "--out", str(tmp_path / "f.npz"), "--quiet"]
    assert run(["embed", path, *options]) == 0
    wanted = cast("ClassScores", adapter.predict(path, encoder=tiny)[0]).top(3)
    given = answers_of(out, str(tmp_path / "f.npz"))
    assert [label for _, label in given] == [label for label, _ in wanted]
    assert [float(score) for score, _ in given] == pytest.approx([score for _, score in wanted], abs=2e-3)
    assert not (out / "preprocessing.json").exists() and "embed VIDEO --kind clip" in (out / "README.md").read_text()


def test_an_export_is_replaced_and_nothing_else_is(
    tiny: Encoder, tiny_folder: Path, tmp_path: Path, says: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    saved_on(tiny, tiny_folder, "linear")
    out = tmp_path / "exported"
    command = ["export", "linear", "--out", str(out), "--format", "torch-export", "--quiet"]
    assert run(command) == 0
    (out / "__pycache__").mkdir()  # of the scripts
    (out / "__pycache__" / "graph.pyc").touch()
    capsys.readouterr()
    assert run([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["folder"] == str(out) and said["graphs"][0]["file"] == "model.pt2"
    assert (out / "model.pt2").exists() and not (out / "__pycache__").exists()
    (out / "mine.txt").write_text("a note")
    assert "holds something else than an exported model" in says(2, *command)
    assert (out / "model.pt2").exists() and (out / "mine.txt").read_text() == "a note"
    (tmp_path / "file").touch()
    assert "--out wants a folder" in says(2, "export", "linear", "--out", str(tmp_path / "file"))


def test_what_is_wrong_is_said_in_one_line(
    tiny: Encoder, tiny_folder: Path, tmp_path: Path, says: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved_on(tiny, tiny_folder, "linear")
    saved_on(tiny, tiny_folder, "llm_decoder")
    out = ["--out", str(tmp_path / "x")]
    (tmp_path / "empty").mkdir()
    assert "is called 'linearr'; did you mean 'linear'?" in says(2, "export", "linearr", *out)
    assert "is called 'nanno'; did you mean 'nano'?" in says(2, "export", "nanno", *out)
    assert "no version 'v9'" in says(2, "export", "linear@v9", *out)
    assert "no such file or folder" in says(2, "export", "./none", *out)
    assert "holds no archive" in says(2, "export", str(tmp_path / "empty"), *out)
    assert "it writes text word by word" in says(2, "export", "llm_decoder", *out)
    assert "is no archive: leave where out" in says(2, "export", "linear", *out, "--where", "duration > 2")
    assert "leave with_encoder out" in says(2, "export", "nano", *out, "--with-encoder")
    assert "encoder means nothing without with_encoder" in says(2, "export", "linear", *out, "--encoder", "nano")
    assert "text_tower means nothing for linear" in says(2, "export", "linear", *out, "--text-tower", "nano")
    assert "not of 'nano'" in says(2, "export", "linear", *out, "--with-encoder", "--encoder", "nano")
    assert "is no archive, which alone becomes" in says(2, "export", "linear", "--out", str(tmp_path / "x.parquet"))
    assert "option 'format' cannot be 'tflite'" in says(2, "export", "linear", *out, "--format", "tflite")
    assert "no weight that is large enough" in says(2, "export", "linear", *out, "--int8")
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else found(name))
    assert "--format onnx needs onnxscript: pip install 'prismhub[export]'" in says(2, "export", "linear", *out)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize("problem", ["full", "wrong", "stopped"])
def test_a_folder_is_whole_or_not_there(
    problem: str,
    tiny: Encoder,
    tiny_folder: Path,
    tmp_path: Path,
    says: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved_on(tiny, tiny_folder, "linear")
    command = ["export", "linear", "--out", str(tmp_path / "x"), "--format", "torch-export", "--quiet"]

    def failing(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device") if problem == "full" else KeyboardInterrupt

    if problem == "wrong":
        monkeypatch.setattr("prismhub.exporting.checking.furthest", lambda *_: 0.5)
        assert "differs from the model by 0.5 of its largest value" in says(2, *command)
    else:
        monkeypatch.setattr("prismhub.exporting.model_folder.model_page", failing)
        if problem == "full":
            assert "the disk is full; free space" in says(2, *command)
        else:
            assert run(command) == 130
    assert not list(tmp_path.iterdir())


@torch.no_grad()
def test_int8_weights_are_a_quarter_and_nearly_the_same(tiny: Encoder) -> None:
    layer = torch.nn.Linear(64, 96)
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(0))
    before, weight = layer(x), layer.weight.clone()
    assert with_int8_weights(torch.nn.Sequential(layer, torch.nn.Linear(4, 4))) == 1
    assert layer.int8_weight.dtype is torch.int8 and layer.int8_weight.abs().max() == 127
    torch.testing.assert_close(layer.weight, weight, atol=float(weight.abs().max()) / 254 + 1e-6, rtol=0)
    assert 0 < float((layer(x) - before).abs().max()) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lit_text", "spatiotemporal_localizer", "temporal_localizer"])
def test_every_kind_answers_as_predict_does(kind: str, tiny: Encoder, tiny_folder: Path, tmp_path: Path) -> None:
    adapter = saved_on(tiny, tiny_folder, kind)
    path, asked = video(tmp_path, 90), GIVEN.get(kind, [])
    given: dict[str, Any] = {"candidates": asked} if kind == "lit_text" else {}
    given = {"boxes": [list(map(float, asked))]} if kind == "spatiotemporal_localizer" else given
    answer: Any = adapter.predict(path, given=given or None, encoder=tiny)[0]
    out = tmp_path / "exported"
    prismhub.export(kind, out=out, with_encoder=True)
    lines = answers_of(out, path, *asked)
    if kind == "temporal_localizer":
        wanted = [(one.score, one.start_s, one.end_s, one.label) for one in answer.segments[:5]]
        for (score, span, label), one in zip(lines, wanted, strict=True):
            start_s, end_s = (float(word) for word in span.removesuffix(" s").split(" - "))
            assert (float(score), start_s, end_s) == pytest.approx(one[:3], abs=0.02) and label == one[3]
    else:
        wanted = answer.top(2) if kind == "lit_text" else answer._said(0, every=True)
        assert [label for _, label in lines] == [label for label, _ in wanted]
        assert [float(score) for score, _ in lines] == pytest.approx([score for _, score in wanted], abs=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "name"), [("clip", "onnx"), ("videomae", "onnx"), ("clip", "torch-export")])
def test_encoders_of_others_become_graphs(family: str, name: Any, tmp_path: Path) -> None:
    encoder = load_encoder(foreign_folder(family, tmp_path / family))
    written = write_checked(encoder_graph(encoder), tmp_path, name)
    assert list(written.graph.axes) == ["batch", "frames"]
    frames = torch.randint(0, 256, (2, 6, *[encoder.preprocessing.image_size] * 2, 3), dtype=torch.uint8)
    given = {"frames": frames} | ({"frame_mask": torch.ones(2, 6, dtype=torch.bool)} if family == "clip" else {})
    tokens = FORMATS[cast("Any", name)].open(tmp_path / written.file)(given)[0]
    torch.testing.assert_close(tokens, encoder(frames.movedim(-1, 2) / 255).tokens, atol=1e-4, rtol=1e-4)


class _Told(Show):
    """Keeps what a bar is told."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.steps: list[tuple[float, float | None, str]] = []

    @contextmanager
    def bar(self, what: str, in_seconds: bool = False) -> Iterator[Any]:
        yield SimpleNamespace(update=lambda done, total, note="": self.steps.append((done, total, note)))


def test_every_step_is_shown_and_quiet_shows_none(
    tiny: Encoder, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = torch.nn.Linear(64, 96)
    port = Port("input", "features", (batch_axis(), 64))
    graphs = tuple(Graph(name, head, (port,), {"scores": ("batch", 96)}) for name in ("model", "text"))
    told = _Told()
    subject = Subject("a head", {"features": {"kind": "clip"}}, graphs, "classes")
    write_model(subject, tmp_path / "x", "torch-export", True, told)
    compared = [f"comparing {{}}.pt2 with the model, {number} of 3" for number in (1, 2, 3)]
    steps = ["tracing {}", "writing {}.pt2", *compared]
    wanted = ["making weights int8", *(one.format(name) for name in ("model", "text") for one in steps), ""]
    assert told.steps == [(done, 11, note) for done, note in enumerate(wanted)]
    saved_on(tiny, tiny_folder, "linear")
    command = ["export", "linear", "--out", str(tmp_path / "y"), "--format", "torch-export"]
    capsys.readouterr()
    assert run(command) == 0 and "model.pt2: dynamic axes" in capsys.readouterr().err
    assert run([*command, "--quiet"]) == 0 and not capsys.readouterr().err


def test_a_text_tower_is_exported_without_the_weights_of_videos(tmp_path: Path) -> None:
    """It is traced as a part of its encoder; what no node reads is in the file of neither."""
    nano = load_encoder("nano")
    tower = nano.model.text_tower
    texts = sum(4 * one.numel() for one in tower.parameters())
    whole = sum(4 * one.numel() for one in nano.model.parameters())
    written = write_checked(encoder_text_graph(nano, tower.config.vocab_size, 16), tmp_path, "torch-export")
    size = (tmp_path / written.file).stat().st_size
    assert texts < size < texts + 500_000 < whole
    names = torch.export.load(tmp_path / written.file).state_dict
    assert names and all(".text_tower." in name for name in names)


class _OneByOne(torch.nn.Module):
    """Goes through an axis of its input one by one, which fixes its length in a graph."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        parts = [(place + 1) * one for place, one in enumerate(features.unbind(self.axis))]
        return torch.stack(parts, self.axis)


@pytest.mark.parametrize(("axis", "open_axes", "shape"), [(0, [], [1, 4, 3]), (1, ["batch"], ["batch", 4, 3])])
def test_axes_that_a_graph_cannot_leave_open_are_fixed_and_said(
    axis: int, open_axes: list[str], shape: list[Any], tmp_path: Path
) -> None:
    port = Port("features", "features", (batch_axis(), Axis("frames", 4), 3))
    graph = Graph("model", _OneByOne(axis), (port,), {"scores": ("batch", "frames", 3)})
    written = write_checked(graph, tmp_path, "torch-export")
    assert list(written.graph.axes) == open_axes
    about = written.describe()
    assert about["inputs"][0]["shape"] == shape == about["outputs"][0]["shape"]
    assert list(about["dynamic_axes"]) == open_axes


@pytest.mark.slow
def test_an_encoder_with_texts_is_exported_with_int8_weights(tmp_path: Path) -> None:
    out, path = tmp_path / "nano", video(tmp_path)
    done = prismhub.export("nano", out=out, int8=True)
    assert [one.file for one in done.graphs] == ["model.onnx", "text.onnx"]
    assert 0 < done.int8_difference < 0.05 and done.bytes < 4e6  # 9.6 MB in float32
    texts = ["a red circle", "something moves left"]
    found = prismhub.zero_shot(path, labels=texts, template="{}", encoder="nano")
    wanted = cast("ClassScores", found.predictions[0]).top(2)
    lines = answers_of(out, path, *texts)
    assert [label for _, label in lines] == [label for label, _ in wanted]
    assert np.allclose([float(score) for score, _ in lines], [score for _, score in wanted], atol=0.1)


def test_an_adapter_that_tuned_its_encoder_is_exported_with_its_own() -> None:
    nano = load_encoder("nano")
    spec = spec_of(nano)
    tuned = TunedAdapter.around(head_on(spec, nano.dim).eval(), tuning_on(spec, tune="lora"), seed=0)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if "lora_B" in name:
                parameter += 0.5
    finished = tuned.described_as(AdapterInfo(features=spec, encoder_source="nano")).finished()
    save_to_registry(finished, "tuned")
    info = describe_adapter("tuned")
    parts = {"archive": ArchiveExportSettings(), "model": ModelExportSettings(with_encoder=True)}
    settings = ExportSettings(source="tuned", out=Path("x"), output=OutputSettings(), **parts)
    subject = _subject(settings, info)
    pixels = torch.randint(0, 256, (1, spec.plan.num_frames, 48, 48, 3), dtype=torch.uint8)
    given = subject.graphs[0].run({"frames": pixels, "frame_mask": None})[0]
    wanted = finished.predict(pixels[0].numpy())[0]
    torch.testing.assert_close(given[0], wanted.scores, atol=1e-5, rtol=1e-5)
    other = adapter_subject(finished, "tuned", nano).graphs[0].run({"frames": pixels, "frame_mask": None})[0]
    assert float((other[0] - wanted.scores).abs().max()) > 1e-3  # the encoder that it was tuned from says another
