"""A head of a third party: a small package is built and installed apart, and its kind is one like any other."""

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
from tests.test_docs import fences

PAGE = ROOT / "docs" / "write-an-adapter.md"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package of the manual is installed: its head and its `pyproject.toml`, built into a wheel."""
    source = tmp_path_factory.mktemp("frame-peak")
    (head,) = (code for code in fences(PAGE, "python runnable") if code.startswith("# frame_peak.py"))
    (source / "frame_peak.py").write_text(head.replace("@register_adapter\n", ""), encoding="utf-8")
    (project,) = (code for code in fences(PAGE, "toml") if "prismhub.adapters" in code)
    (source / "pyproject.toml").write_text(project, encoding="utf-8")
    out = tmp_path_factory.mktemp("wheels")
    build = f"from setuptools import build_meta; print(build_meta.build_wheel({str(out)!r}))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (wheel,) = out.glob("frame_peak-0.1.0-*.whl")
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as whole:
        whole.extractall(folder)
    assert (folder / "frame_peak-0.1.0.dist-info" / "entry_points.txt").is_file()
    return folder


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
