"""What the tests of commands share: labelled folders, an adapter trained once, and a check of what is said."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from prismhub.cli import run
from tests.prismhub.small_data import FAST, given_splits, write_classes


@pytest.fixture(scope="session")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of four videos; read only."""
    return write_classes(tmp_path_factory.mktemp("data") / "my videos ü")


@pytest.fixture(scope="session")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train, val and test folders of the classes b and d; read only."""
    return given_splits(tmp_path_factory.mktemp("splits") / "data")


@pytest.fixture(scope="session")
def home_of_x(splits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PRISMHUB_HOME with the features of `splits` and an adapter `x` trained on them; to be copied."""
    home = tmp_path_factory.mktemp("home of x")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMHUB_HOME", str(home))
        assert run(["train", "--data", str(splits), *FAST, "--name", "x"]) == 0
    return home


@pytest.fixture
def trained(home_of_x: Path, private_home: Path) -> Path:
    """The home of this test already holds the adapter `x@v1` and the features of `splits`."""
    return shutil.copytree(home_of_x, private_home, dirs_exist_ok=True)


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`says(code, *arguments)` runs a command, checks its exit code, and returns its one line on stderr."""

    def check(code: int, *arguments: str) -> str:
        capsys.readouterr()
        assert run(arguments) == code
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err + shown.out
        lines = [line for line in shown.err.splitlines() if line.startswith("prismhub: ")]
        assert len(lines) == (1 if code in (1, 2) else 0), shown.err
        return lines[0] if lines else shown.out

    return check
