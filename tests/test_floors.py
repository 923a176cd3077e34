"""The floors of docs/architecture.md: imports only go down, read from the syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests import ROOT

MAY_IMPORT = {
    "core_encoder": set(),
    "fit": {"core_encoder"},
    "adapters": {"fit", "core_encoder"},
    "pretrain": {"fit", "core_encoder"},
    "tasks": {"adapters", "core_encoder"},
    "benchmarks": {"tasks", "adapters", "pretrain", "fit", "core_encoder"},
    "prismhub": {"benchmarks", "tasks", "adapters", "pretrain", "fit", "core_encoder"},
}
SPEED = ROOT / "benchmarks" / "speed"  # scripts that measure every floor, and that nothing is built upon
FILES = [path for package in MAY_IMPORT for path in sorted((ROOT / package).rglob("*.py"))]
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    """Every absolute module a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_only_go_down(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    ours = {name.split(".")[0] for name in imported_modules(path)} & set(MAY_IMPORT)
    climbed = ours - MAY_IMPORT[package] - {package}
    assert path.parent == SPEED or not climbed, f"{path.relative_to(ROOT)} imports {sorted(climbed)}: a floor too high"


@pytest.mark.parametrize("path", [*FILES, *TESTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_is_built_upon_the_speed_measurements(path: Path) -> None:
    named = sorted(name for name in imported_modules(path) if f"{name}.".startswith("benchmarks.speed."))
    assert path.parent in (SPEED, ROOT / "tests" / "benchmarks" / "speed") or not named, (
        f"{path.relative_to(ROOT)} imports {named}: these are scripts"
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_decoders_and_lightning_keep_to_their_rooms(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    names = {name.split(".")[0] for name in imported_modules(path)}
    if package == "core_encoder":
        assert "lightning" not in names
    if (
        package in ("core_encoder", "adapters", "tasks", "benchmarks")
        and path.parent != ROOT / "core_encoder" / "video"
    ):
        assert not names & {"decord", "av"}, "only core_encoder/video/ opens videos"


@pytest.mark.parametrize("path", sorted((ROOT / "prismhub" / "commands").glob("*.py")), ids=lambda path: path.stem)
def test_commands_import_nothing_from_each_other(path: Path) -> None:
    assert not {name for name in imported_modules(path) if name.startswith("prismhub.commands")}


def test_packages_are_listed_one_by_one() -> None:
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    present = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in MAY_IMPORT
        for path in (ROOT / package).rglob("*.py")
    }
    assert listed == present
    assert "tests" not in listed
