"""The extras: none brings what another is for, and a missing one is named in one line with what installs it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import ROOT
from tests.prismhub.score_files import score_commands

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[Requirement]] = {
    extra: [Requirement(text) for text in texts] for extra, texts in PROJECT["optional-dependencies"].items()
}
FOR_USERS = sorted(set(EXTRAS) - {"all", "dev", "docs"})
OURS = "prismhub"


def brought(requirements: Iterable[Requirement]) -> set[str]:
    """The distributions that these bring, as the metadata of what is installed tells."""
    seen: set[tuple[str, str]] = set()
    waiting = list(requirements)
    while waiting:
        one = waiting.pop()
        for extra in {"", *one.extras}:
            name = canonicalize_name(one.name)
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            if name == OURS:  # as pyproject.toml says now, which may be newer than what is installed
                waiting += EXTRAS.get(extra, [])
                continue
            try:
                needs = importlib.metadata.requires(name) or []
            except importlib.metadata.PackageNotFoundError:
                continue
            further = map(Requirement, needs)
            waiting += [need for need in further if need.marker is None or need.marker.evaluate({"extra": extra})]
    return {name for name, _ in seen}


@pytest.fixture(scope="module")
def needed() -> set[str]:
    """What prismhub brings without any extra."""
    return brought(map(Requirement, PROJECT["dependencies"]))


@pytest.mark.parametrize("extra", FOR_USERS)
def test_an_extra_does_not_drag_in_another(extra: str, needed: set[str]) -> None:
    asked = {name for one in EXTRAS[extra] if one.name == OURS for name in one.extras}  # as mcp asks for serve
    found = brought(EXTRAS[extra])
    for other in sorted(set(FOR_USERS) - asked - {extra}):
        heads = {canonicalize_name(one.name) for one in EXTRAS[other]} - {OURS}
        own = {canonicalize_name(one.name) for one in EXTRAS[extra]}
        assert not heads & found - needed - own, f"{extra} brings what {other} is for"


def test_all_is_every_extra_for_users() -> None:
    (one,) = EXTRAS["all"]
    assert sorted(one.extras) == FOR_USERS


@dataclass(frozen=True)
class Missing:
    """What is asked for without an extra: a command, or Python; what is named, and the extra that brings it."""

    ask: list[str] | str
    names: str
    extra: str
    code: int = 2


RUN = """
import contextlib, io, json, sys
for name in json.loads(sys.argv[1]):
    sys.modules[name] = None  # as if it were not installed
from core_encoder.errors import InputError
from prismhub.cli import run
said = []
for ask in json.loads(sys.argv[2]):
    shown, code = io.StringIO(), 2
    with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(shown):
        if isinstance(ask, list):
            code = run(ask)
        else:
            try:
                exec(ask)
            except InputError as error:
                print(error)
    said.append([code, shown.getvalue()])
print(json.dumps(said))
"""


def test_a_missing_extra_is_named_with_the_command_that_installs_it(
    classes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "wordnet"))
    videos, out = str(classes), str(tmp_path / "out")
    graph = "from prismhub.archive.vectors import *; build_graph(VectorFile(Path({!r}), 1, 4, 0), None)"
    table = [
        Missing(["index", videos, "--out", out, "--quiet"], "PySceneDetect", "archive"),
        Missing(graph.format(out), "usearch", "archive"),
        Missing(["encode", videos, "--engine", "ray", "--quiet"], "Ray", "ray"),
        Missing(["encode", "s3://bucket/a.mp4", "--quiet"], "s3fs", "remote"),
        Missing(["export", "nano", "--format", "onnx", "--out", out, "--quiet"], "onnxruntime", "export"),
        Missing(["serve"], "fastapi", "serve"),
        Missing(["mcp"], "fastapi", "mcp"),
        Missing("from adapters.language.known_llms import find_llm; find_llm('smollm2')", "smollm2", "llm"),
        Missing("import prismhub; prismhub.mteb_model(encoder='nano')", "mteb", "mteb"),
        Missing(score_commands(tmp_path)["nextqa-oe"], "NLTK", "wups", code=0),
    ]
    assert {one.extra for one in table} == set(FOR_USERS), "an extra is not tried"
    hidden = ["cv2", "fastapi", "gguf", "mcp", "mteb", "multipart", "nltk", "onnx", "onnxruntime", "onnxscript"]
    hidden += ["python_multipart", "ray", "s3fs", "scenedetect", "starlette", "usearch", "uvicorn"]
    for (code, text), one in zip(ask_without(hidden, [one.ask for one in table]), table, strict=True):
        lines = [line for line in text.splitlines() if "pip install" in line]
        assert code == one.code and len(lines) == 1, (one.ask, text)
        assert one.names.lower() in lines[0].lower() and f"pip install 'prismhub[{one.extra}]'" in lines[0], lines[0]
        assert code == 0 or len(text.splitlines()) == 1, text


def ask_without(hidden: list[str], asked: list[Any]) -> list[tuple[int, str]]:
    """Exit codes and all that is said, one after the other in a new process where these modules are not installed."""
    words = [sys.executable, "-c", RUN, json.dumps(hidden), json.dumps(asked)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return [(code, text) for code, text in json.loads(done.stdout)]
