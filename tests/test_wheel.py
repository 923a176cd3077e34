"""The wheel, installed far from the repository: it holds everything, and its commands do their jobs."""

from __future__ import annotations

import email
import email.message
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from prismhub.client import Connection
from tests import ROOT
from tests.test_floors import MAY_IMPORT

PACKAGES = tuple(MAY_IMPORT)
SCRIPTS = "Scripts" if os.name == "nt" else "bin"
HEED = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"  # background jobs ignore it
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Installed:
    """An environment that holds the wheel, and a folder far from the repository to work in."""

    scripts: Path
    workplace: Path

    @property
    def environment(self) -> dict[str, str]:
        """Nothing that leads to the repository."""
        left_out = {"PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME"}
        kept = {name: value for name, value in os.environ.items() if name not in left_out}
        return kept | {"PRISMHUB_HOME": str(self.workplace / "home")}

    def run(self, *words: str) -> str:
        """What a program of this environment prints."""
        command = [str(self.scripts / words[0]), *words[1:]]
        done = subprocess.run(
            command, cwd=self.workplace, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def result(self, *words: str) -> Any:
        """What a command of prismhub tells programs."""
        return json.loads(self.run("prismhub", *words, "--json", "--quiet"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this tree, built as pip builds it, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns(".*", "build", "demo", "runs", "site", "speed.json", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, folder / "source", ignore=left_out)
    words = ["wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
    build = [sys.executable, "-m", "pip", *words, str(folder / "source")]
    subprocess.run(build, check=True, capture_output=True, cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an environment of its own, beside the libraries of the one that runs the tests.

    They are reached by a line in a `.pth` file. Such files in the folder it names are not read, so that an editable
    installation of the repository is out of sight.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "venv", with_pip=False, symlinks=os.name != "nt")
    scripts = folder / "venv" / SCRIPTS
    pip = [sys.executable, "-m", "pip", "--python", str(scripts / "python")]
    subprocess.run([*pip, "install", "--no-deps", "--no-index", str(wheel)], check=True, capture_output=True)
    where = [str(scripts / "python"), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(where, check=True, capture_output=True, text=True).stdout.strip())
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "libraries.pth").write_text("\n".join(sorted(libraries)) + "\n", encoding="utf-8")
    (folder / "workplace").mkdir()
    return Installed(scripts, folder / "workplace")


def test_every_package_and_data_file_is_in_it_and_nothing_else(wheel: Path) -> None:
    left_out = ("__pycache__", ".pyc")
    tree = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and not any(part.endswith(left_out) for part in path.parts)
    }
    with zipfile.ZipFile(wheel) as whole:
        held = {name for name in whole.namelist() if ".dist-info/" not in name}
    assert sorted(held) == sorted(tree)


def test_what_it_says_of_itself(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as whole:
        names = {name.partition(".dist-info/")[2]: name for name in whole.namelist() if ".dist-info/" in name}
        about = email.message_from_bytes(whole.read(names["METADATA"]))
        assert {"licenses/LICENSE", "entry_points.txt"} <= set(names)
        assert b"prismhub = prismhub.cli:main" in whole.read(names["entry_points.txt"])
    assert about["Name"] == "prismhub" and about["Description-Content-Type"] == "text/markdown"
    text = about.get_payload()
    assert isinstance(text, str) and text.lstrip().startswith("# prismhub")
    assert {"llm", "archive", "serve", "ray", "export", "all"} <= set(about.get_all("Provides-Extra") or ())


def test_nothing_of_the_repository_is_imported(installed: Installed) -> None:
    code = f"import {', '.join(PACKAGES)}; print(*(p.__file__ for p in ({', '.join(PACKAGES)})))"
    places = installed.run("python", "-c", code).split()
    assert len(places) == len(PACKAGES)
    environment = installed.scripts.parent.resolve()
    assert all(Path(place).resolve().is_relative_to(environment) for place in places), places


def test_its_commands_do_their_jobs(installed: Installed) -> None:
    """All in one: two processes that share out the tests would each run the demo."""
    demo = installed.result("demo", "--out", "demo")
    the_encoder_is_worth_it(demo, installed)
    it_trains_and_answers_without_training(installed)
    it_searches_and_serves(demo, installed)


def the_encoder_is_worth_it(demo: Any, installed: Installed) -> None:
    comparison = demo["comparison"]
    nano, *others = (one["shares"][0] for one in comparison["trained"])
    assert len(others) == 2 and all(nano["low"] > other["high"] for other in others)
    assert nano["low"] > comparison["chances"][0]
    assert (installed.workplace / demo["page"]).is_file()


def it_trains_and_answers_without_training(installed: Installed) -> None:
    train = ("train", "--data", "demo/motions-0", "--adapter", "linear", "--epochs", "2", "--accelerator", "cpu")
    trained = installed.result(*train, "--name", "mine")
    assert trained["adapter"] == "mine@v1" and trained["result"]["n_evaluated"] == 160
    labels = ("--labels", "moving left,moving right,approaching", "--template", "something {}")
    (answer,) = installed.result("zero-shot", "demo/new-0", *labels)
    assert answer["label"] == "moving left"


def it_searches_and_serves(demo: Any, installed: Installed) -> None:
    found = installed.result("search", "demo/archive-0", demo["search"]["text"], "--top", "3")
    assert len(found) == 3
    code = f"{HEED}; from prismhub.cli import main; main()"
    options = ("--archive", "demo/archive-0", "--adapter", "demo", "--port", "0", "--accelerator", "cpu")
    server = subprocess.Popen(
        [str(installed.scripts / "python"), "-c", code, "serve", *options],
        cwd=installed.workplace,
        env=installed.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        lines = iter(server.stderr.readline, "")
        url = next(match[1] for line in lines if (match := re.match(r"serving at (http://[\w.]+:[0-9]+)", line)))
        connection = Connection(url)
        assert [one["name"] for one in connection.adapters()["adapters"]] == ["demo"]
        scenes = connection.search(demo["search"]["text"], top=3)
        assert [Path(one["video"]).as_posix().endswith(said.video) for one, said in zip(found, scenes, strict=True)]
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)
    finally:
        if server.poll() is None:
            server.kill()
            server.communicate()
