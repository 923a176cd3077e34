"""The workflow of public CI says what the Makefile says."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import yaml

from tests import ROOT

WORKFLOW: Any = yaml.safe_load((ROOT / ".github" / "workflows" / "check.yml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def commands(job: str) -> list[str]:
    """What a job runs."""
    return [step["run"] for step in WORKFLOW["jobs"][job]["steps"] if "run" in step]


def test_linux_runs_what_the_makefile_has() -> None:
    targets = set(re.findall(r"^(\w[\w-]*):", MAKEFILE, re.MULTILINE))
    asked = [line.removeprefix("make ") for line in commands("linux")]
    assert "check" in asked and set(asked) <= targets


def test_other_systems_install_what_the_makefile_installs_and_run_the_fast_tests() -> None:
    install, tests = commands("other-systems")
    (extras,) = re.findall(r"\.\[([\w,]+)\]", install)
    (ours,) = re.findall(r"'\.\[([\w,]+)\]'", MAKEFILE)
    assert extras == ours and set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    assert '-m "not slow"' in tests and "--constraint constraints.txt" in install
    assert {"macos-latest", "windows-latest"} == set(WORKFLOW["jobs"]["other-systems"]["strategy"]["matrix"]["os"])


def test_one_python_that_the_project_takes() -> None:
    versions = {
        step["with"]["python-version"]
        for job in WORKFLOW["jobs"].values()
        for step in job["steps"]
        if "python-version" in step.get("with", {})
    }
    assert versions == {PROJECT["requires-python"].removeprefix(">=")}
