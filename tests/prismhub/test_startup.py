"""What a command imports before it knows that it has something to do, and what asking a saved adapter imports."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from adapters.registry import _BUILT_IN, adapter_kind, head_options, target_kind
from prismhub import cli
from tasks.judges import JUDGES
from tests.prismhub.score_files import score_commands
from tests.prismhub.small_data import FAST, write_classes

RUN = """
import contextlib, io, json, sys
from prismhub.cli import run
said = []
for command in json.loads(sys.argv[1]):
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
        code = run(command)
    loaded = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
    said.append([code, stderr.getvalue(), loaded])
print(json.dumps(said))
"""


def run_fresh(commands: Sequence[Sequence[str]], watched: Sequence[str]) -> list[tuple[int, str, list[str]]]:
    """Run commands one after the other in a new process: exit code, stderr and which watched modules are imported."""
    words = [
        sys.executable,
        "-c",
        RUN,
        json.dumps([list(map(str, one)) for one in commands]),
        json.dumps(list(watched)),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return [(code, text, loaded) for code, text, loaded in json.loads(done.stdout)]


def test_the_command_line_starts_without_torch() -> None:
    code = "import sys, prismhub.cli; sys.exit(any(name in sys.modules for name in ('torch', 'lightning', 'numpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_other_peoples_encoders_cost_nothing_until_one_is_opened(classes: Path) -> None:
    """Their readers and `transformers` are imported for them alone; a list of names needs not even torch."""
    watched = ("transformers", "core_encoder.models.frame_models", "core_encoder.models.tubelet_models")
    encode = ["encode", str(classes), "--encoder", "nano", "--kind", "clip", "--quiet"]
    said = run_fresh([["encoders"], encode], ("torch", *watched))
    assert [(code, loaded) for code, _, loaded in said] == [(0, []), (0, ["torch"])]


def test_the_next_command_is_said_as_this_one_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ("/venv/bin/prismhub", "/venv/lib/prismhub/__main__.py", "/venv/lib/pytest/__main__.py")

    def said() -> list[str]:
        programs = []
        for typed in known:
            monkeypatch.setattr(sys, "argv", [typed])
            programs.append(cli._program())
        return programs

    monkeypatch.setattr(cli.shutil, "which", lambda _: None)
    assert said() == ["/venv/bin/prismhub", f"{shlex.quote(sys.executable)} -m prismhub", "prismhub"]
    monkeypatch.setattr(cli.shutil, "which", lambda _: "/bin/prismhub")
    assert said() == ["prismhub"] * 3


def test_what_is_wrong_without_a_model_is_said_before_torch_is_imported(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("x", "y"):
        (data / name).mkdir(parents=True)
        for number in range(3):
            (data / name / f"{number}.mp4").write_bytes(b"no video")
    (tmp_path / "empty.csv").write_text("path,label\na.mp4,\n")
    (tmp_path / "silent.csv").write_text("video,caption\na.mp4,\n")
    (tmp_path / "boris.csv").write_text("Time,Media file,Subject,Behavior,Status\n1.0,a.mp4,,sniff,START\n")
    (tmp_path / "t.yaml").write_text("epocs: 3")
    (tmp_path / "boxes.csv").write_text("a,1,0.1\n")
    (tmp_path / "r.yaml").write_text("stage1: {stps: 3}")
    (tmp_path / "corpus.yaml").write_text("tiers: 3")
    whole = tmp_path / "whole"
    (whole / "ssv2").mkdir(parents=True)
    (tmp_path / "silent").mkdir()
    (tmp_path / "silent" / "config.json").write_text('{"model_type": "videoprism_vision_model"}')
    none = str(tmp_path / "none")
    train = ["train", "--data", str(data)]
    files = ["--truth", none, "--predictions", none]
    wrong = {
        "no such file or folder": ["encode", none],
        "did you mean 'nano'?": ["encode", str(data), "--encoder", "nanno"],
        "option 'feature_dtype' cannot be 'fp12'": ["encode", str(data), "--feature-dtype", "fp12"],
        f"{none}: no such file or folder": ["train", "--data", none],
        "line 2: label is empty": ["train", "--data", str(tmp_path / "empty.csv")],
        "did you mean 'linear'?": [*train, "--adapter", "linea"],
        "adapter name '../x' cannot be used": [*train, "--name", "../x"],
        "did you mean 'top1'?": [*train, "--metric", "tp1"],
        "boxes.csv: line 1: 3 fields": [
            *("train", "--data", str(tmp_path / "boxes.csv"), "--adapter", "spatiotemporal_localizer")
        ],
        "labels means nothing for an adapter that learns classes": [*train, "--labels", none],
        "no encoder is called 'nanoo'": [*train, "--encoder", "nanoo"],
        "line 2: caption is empty": ["train", "--data", str(tmp_path / "silent.csv"), "--adapter", "lit_text"],
        "text tower: no encoder is called 'nanno'": [*train, "--text-tower", "nanno"],
        "language model 'smollm3' is no known name": [*train, "--llm", "smollm3"],
        "and no question column": ["train", "--data", str(tmp_path / "empty.csv"), "--adapter", "llm_decoder"],
        "is not of the form key=value": [*train, "--head", "dropout"],
        "map_classifier: unknown option 'droput'; did you mean 'dropout'?": [*train, "--head", "droput=0.1"],
        "linear: unknown option 'layers'": [*train, "--adapter", "linear", "--layers", "-1,-2"],
        "label_smoothing must be at least 0": [*train, "--head", "label_smoothing=2"],
        "grid: unknown option 'lrr'": [*train, "--grid", "lrr=1,2"],
        "grid: 'epochs' cannot vary": [*train, "--grid", "epochs=1,2"],
        "is not of the form option=value,value": [*train, "--grid", "lr"],
        "unknown option 'epocs'; did you mean 'epochs'?": [*train, "--config", str(tmp_path / "t.yaml")],
        "option 'accelerator' cannot be 'gpuu'": [*train, "--accelerator", "gpuu"],
        "val_fraction must be": [*train, "--val-fraction", "3"],
        "--run wants a folder": [*train, "--run", str(tmp_path / "t.yaml")],
        "sampling 'dense' needs either fps or stride": [*train, "--sampling", "dense"],
        "sampling 'fps' needs fps": ["encode", str(data), "--sampling", "fps"],
        "START of 'sniff' at 1 s has no STOP": [
            *("train", "--data", str(tmp_path / "boris.csv"), "--adapter", "temporal_localizer")
        ],
        "no adapter named 'ada'; none is known": ["evaluate", "--data", str(data), "--adapter", "ada"],
        "no adapter here": ["predict", str(data), "--adapter", "./none"],
        "adapter 'x' is named twice": ["predict", str(data), "--adapter", "x", "--adapter", "x"],
        "none of them empty": ["rank", str(data), "--text", " "],
        "option 'text' is missing": ["rank", str(data)],
        "none.mp4: no such file or folder": ["predict", none + ".mp4", "--adapter", "x"],
        "option 'labels' is missing": ["zero-shot", str(data)],
        "'run' is the only label": ["zero-shot", str(data), "--labels", "run"],
        "label 'run' comes twice": ["zero-shot", str(data), "--labels", "run,run"],
        "one of them is empty": ["zero-shot", str(data), "--labels", "run,"],
        "t.yaml: 'epocs: 3' is the only label": ["zero-shot", str(data), "--labels", str(tmp_path / "t.yaml")],
        "'a film' has no {} where": ["zero-shot", str(data), "--labels", "a,b", "--template", "a film"],
        "has no {} where the label stands, nor": ["zero-shot", str(data), "--labels", "a,b", "--templates", none],
        "no adapter named 'adc'": ["zero-shot", str(data), "--labels", "a,b", "--adapter", "adc"],
        "leave views out": ["zero-shot", str(data), "--labels", "a,b", "--adapter", "adc", "--views", "2"],
        "give template or templates": [
            *("zero-shot", str(data), "--labels", "a,b", "--template", "{}", "--templates", none)
        ],
        "has no text tower": [
            *("zero-shot", str(data), "--labels", "a,b", "--encoder", "google/videoprism-base-f16r288")
        ],
        "silent' has no text tower": [
            *("zero-shot", str(data), "--labels", "a,b", "--encoder", str(tmp_path / "silent"))
        ],
        "task 'avaa' has no judge; did you mean 'ava'?": ["score", "--task", "avaa", *files],
        "ties means nothing for ava": ["score", "--task", "ava", *files, "--ties", "mean"],
        "option 'ties' cannot be 'max'": ["score", "--task", "retrieval", *files, "--ties", "max"],
        "none: no such file": ["score", "--task", "captions", *files],
        "none: cannot be read": ["score", "--task", "ava", *files],
        "option 'out' is missing": ["embed", str(data)],
        "one of .npz, .parquet, .safetensors": ["embed", str(data), "--out", none + ".csv"],
        "give suite, as in --suite": ["bench", "--encoder", "nano", "--data-root", str(data)],
        "unknown suite 'videoglu'": ["bench", "--suite", "videoglu", "--encoder", "nano", "--data-root", str(data)],
        "unknown benchmark 'ssv3'": ["bench", "--task", "ssv3", "--encoder", "nano", "--data-root", str(data)],
        "holds none of the folders ssv2": ["bench", "--task", "ssv2", "--encoder", "nano", "--data-root", str(data)],
        "adapter 'linea' is no kind": [
            *("bench", "--task", "ssv2", "--encoder", "nano", "--data-root", str(whole), "--adapter", "linea")
        ],
        "no encoder is called 'nanu'": [*("bench", "--task", "ssv2", "--encoder", "nanu", "--data-root", str(whole))],
        "shard must be i/n": [
            *("bench", "--task", "ssv2", "--encoder", "nano", "--data-root", str(whole), "--shard", "0/2")
        ],
        "give that of the results": ["rescore", none],
        "holds no results": ["rescore", str(data)],
        "there is no folder": ["embed", str(data), "--out", none + "/a.npz"],
        "step needs window": ["embed", str(data), "--out", none + ".npz", "--step", "1"],
        "is no whole number of frames": ["embed", str(data), "--out", none + ".npz", "--window", "1", "--step", "0.3"],
        "cannot be read": ["pretrain", none + ".yaml"],
        "r.yaml: 'vision' is missing": ["pretrain", str(tmp_path / "r.yaml")],
        "corpus.yaml": ["corpus", "stats", str(tmp_path / "corpus.yaml"), "--out", str(tmp_path / "out")],
        "is called 'nanno'; did you mean 'nano'?": ["export", "nanno", "--out", none],
        "which alone becomes a .parquet file": ["export", "nano", "--out", none + ".parquet"],
        "t.yaml: is a file; --out wants a folder": ["export", "nano", "--out", str(tmp_path / "t.yaml")],
        "comparing needs both": ["cache", "verify", str(data)],
        "no adapter named 'adb'; none is known": ["adapters", "show", "adb"],
        "--out wants a folder": ["demo", "--out", str(tmp_path / "t.yaml")],
        "No such option": ["env", "--x"],
    }
    for (says, command), (code, text, loaded) in zip(
        wrong.items(), run_fresh(list(wrong.values()), ["torch"]), strict=True
    ):
        assert code == 2 and says in text and text.count("\n") == 1, (command, text)
        assert not loaded, command


@pytest.mark.usefixtures("trained")
def test_asking_a_saved_adapter_needs_no_training_framework(splits: Path) -> None:
    videos = str(splits / "test")
    commands = [["predict", videos, "--adapter", "x"], ["evaluate", "--data", str(splits), "--adapter", "x"]]
    frameworks = ["lightning", "torchmetrics", "transformers", "torch._dynamo", "tensorboard"]
    for code, text, loaded in run_fresh(commands, ["torch", *frameworks]):
        assert code == 0, text
        assert loaded == ["torch"]


def test_answers_without_training_need_no_framework(splits: Path, tmp_path: Path) -> None:
    videos = str(splits / "test")
    commands = [["zero-shot", videos, "--labels", "b,d"], ["embed", videos, "--out", str(tmp_path / "f.npz")]]
    frameworks = ["lightning", "torchmetrics", "transformers", "torch._dynamo", "tensorboard", "pandas", "pyarrow"]
    for code, text, loaded in run_fresh(commands, ["torch", *frameworks]):
        assert code == 0, text
        assert loaded == ["torch"]


@pytest.mark.usefixtures("trained")
def test_training_on_one_device_needs_no_framework(splits: Path) -> None:
    train = ["train", "--data", str(splits), *FAST, "--name", "y"]
    ((code, text, loaded),) = run_fresh([train], ["lightning", "torchmetrics", "transformers"])
    assert code == 0, text
    assert not loaded


def test_reading_a_task_needs_no_torch(tmp_path: Path) -> None:
    write_classes(tmp_path / "data", per_class=2)
    code = "import sys, tasks; tasks.ClassificationTask.read(sys.argv[1]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "data")], check=False).returncode == 0


def test_judging_files_needs_no_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "wordnet"))
    (tmp_path / "without").mkdir()  # NLTK, which imports scikit-learn and pandas where it finds them
    (tmp_path / "without" / "nltk.py").write_text("raise ImportError('not installed')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "without"), os.environ.get("PYTHONPATH", "")]))
    commands = [[*one, "--json"] for one in score_commands(tmp_path).values()]
    assert len(commands) == len(JUDGES)
    frameworks = ["torch", "lightning", "torchmetrics", "transformers", "pandas", "scipy", "sklearn"]
    for code, text, loaded in run_fresh(commands, frameworks):
        assert code == 0, text
        assert not loaded


@pytest.mark.parametrize("name", list(_BUILT_IN))
def test_what_kinds_of_ours_learn_is_known_without_importing_them(name: str) -> None:
    assert target_kind(name) == adapter_kind(name).target_kind
    assert adapter_kind(name).kind == name
    assert head_options(name) == (name, adapter_kind(name).Config)
