"""Heads, benchmarks and encoders of third parties: small packages, built and installed apart, are like any other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import ROOT
from tests.prismhub.small_data import FAST
from tests.tasks.miniatures.clips import write_clip
from tests.test_docs import fences

PAGES = ("write-an-adapter.md", "add-a-task.md", "encoders.md")
HEAD_PAGE, TASK_PAGE, ENCODER_PAGE = (ROOT / "docs" / name for name in PAGES)


def installed(folder: Path, module: str, code: str, project: str) -> Path:
    """Where a package of one module is installed: it is built into a wheel first."""
    source, out, site = (folder / name for name in ("source", "wheels", "site"))
    source.mkdir()
    (source / f"{module}.py").write_text(code, encoding="utf-8")
    (source / "pyproject.toml").write_text(project, encoding="utf-8")
    build = f"from setuptools import build_meta; print(build_meta.build_wheel({str(out)!r}))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = out.glob("*-0.1.0-*.whl")
    with zipfile.ZipFile(wheel) as whole:
        whole.extractall(site)
    assert len(list(site.glob("*.dist-info/entry_points.txt"))) == 1
    return site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package of the manual is installed: its head and its `pyproject.toml`."""
    (head,) = (code for code in fences(HEAD_PAGE, "python runnable") if code.startswith("# frame_peak.py"))
    (project,) = (code for code in fences(HEAD_PAGE, "toml") if "prismhub.adapters" in code)
    folder = tmp_path_factory.mktemp("frame-peak")
    return installed(folder, "frame_peak", head.replace("@register_adapter\n", ""), project)


def run_beside(site: Path, *words: str) -> str:
    """What `prismhub` prints where the package is installed beside it."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    command = [sys.executable, "-m", "prismhub.cli", *words]
    done = subprocess.run(command, env=environment, cwd=site, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("trained")
def test_its_kind_trains_is_saved_and_answers_beside_ours(site: Path, splits: Path) -> None:
    assert "frame_peak" in run_beside(site, "adapters", "kinds")
    run_beside(site, "train", "--data", str(splits), "--adapter", "frame_peak", *FAST, "--name", "peaks")
    ask = ("predict", str(splits / "test"), "--adapter", "peaks", "--adapter", "x", "--json", "--quiet")
    said = json.loads(run_beside(site, *ask))
    assert list(said) == ["peaks", "x"] and all(len(section) == 6 for section in said.values())
    assert {one["label"] for one in said["peaks"]} <= {"b", "d"}
    from prismhub.cli import run

    assert run(["predict", str(splits / "test"), "--adapter", "peaks"]) == 2, "without the package it is not known"


def test_its_benchmark_is_listed_checked_run_and_judged_again(tmp_path: Path) -> None:
    """The benchmark of the manual, known by its entry point alone."""
    (page,) = (code for code in fences(TASK_PAGE, "python runnable") if "deeds = register_benchmark(" in code)
    code = page.partition("folder = Path")[0].replace("deeds = register_benchmark(", "deeds = (")
    (points,) = (code for code in fences(TASK_PAGE, "toml") if "prismhub.tasks" in code)
    project = '[project]\nname = "my-benchmarks"\nversion = "0.1.0"\n'
    modules = '[tool.setuptools]\npy-modules = ["my_benchmarks"]\n'
    site = installed(tmp_path, "my_benchmarks", code, project + points + modules)
    data = tmp_path / "data" / "deeds"
    for number in range(8):
        write_clip(data / "clips" / f"{number}.mp4")
    rows = [f"{number},{'jump' if number % 2 else 'sit'}\n" for number in range(8)]
    for split, own in (("train", rows[:6]), ("validation", rows[6:])):
        (data / f"{split}.csv").write_text("name,deed\n" + "".join(own))
    assert "classification-v1" in run_beside(site, "tasks", "list", "examples")
    assert "VideoPrism-B" in run_beside(site, "tasks", "show", "deeds")
    run_beside(site, "tasks", "check", "deeds", "--root", str(data.parent), "--quiet")
    results = tmp_path / "results"
    words = ("--encoder", "nano", "--data-root", str(data.parent), "--output", str(results), "--epochs", "1")
    assert "deeds" in run_beside(site, "bench", "--task", "deeds", *words, "--accelerator", "cpu", "--quiet")
    again = json.loads(run_beside(site, "rescore", str(results), "--quiet", "--json"))
    assert [one["after"]["task"] for one in again] == ["deeds"] and again[0]["after"]["state"] == "done"
    from prismhub.cli import run

    assert run(["tasks", "show", "deeds"]) == 2, "without the package it is not known"


def test_its_encoder_is_listed_keeps_the_contract_and_trains(splits: Path, private_home: Path, tmp_path: Path) -> None:
    """The encoder of the manual, known by its entry point alone, by its name and by the type of a folder."""
    (code,) = (code for code in fences(ENCODER_PAGE, "python runnable") if code.startswith("# tiny_patches.py"))
    (project,) = (code for code in fences(ENCODER_PAGE, "toml") if "prismhub.encoders" in code)
    assert len(code.splitlines()) <= 36
    site = installed(tmp_path, "tiny_patches", code, project)
    listed = json.loads(run_beside(site, "encoders", "--json"))
    assert listed[-1] | {"name": "tiny-patches", "kind": "of package 'tiny-patches'"} == listed[-1]
    check = "from core_encoder import contract, load_encoder; contract.check_encoder(load_encoder('tiny-patches'))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    subprocess.run([sys.executable, "-c", check], env=environment, cwd=site, check=True)
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "tiny-patches"}))
    words = ("train", "--data", str(splits), "--epochs", "2", "--accelerator", "cpu", "--quiet", "--name", "tiny")
    run_beside(site, *words, "--encoder", "tiny-patches")
    said = json.loads(run_beside(site, *words, "--encoder", str(folder), "--json"))
    assert said["adapter"] == "tiny@v2" and said["frames_decoded"] == 0, "the same weights have the same features"
    answers = json.loads(run_beside(site, "predict", str(splits / "test"), "--adapter", "tiny", "--json", "--quiet"))
    assert {one["label"] for one in answers} <= {"b", "d"} and len(answers) == 6
    from prismhub.cli import run

    assert run(["predict", str(splits / "test"), "--adapter", "tiny"]) == 2, "without the package it is not known"
