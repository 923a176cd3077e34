"""The documentation is true: marked code runs, command lines fit the real options, links lead somewhere."""

from __future__ import annotations

import importlib.util
import inspect
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from adapters import registry
from core_encoder.config import parse_grid
from pretrain.corpus.manifest import Manifest
from pretrain.recipe import PARTS, Recipe
from prismhub.cli import app, run
from prismhub.options import gather_lists
from tests import ROOT
from tests.adapters import test_contract as contract
from tests.videos import moving_square, write_video

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
JOBS = ("encode", "train", "evaluate", "predict", "zero-shot", "rank", "embed")


def fences(page: Path, language: str) -> list[str]:
    """The contents of the code blocks whose opening line is exactly `language`."""
    return [code for opening, code in FENCE.findall(page.read_text(encoding="utf-8")) if opening == language]


def shell_lines(page: Path) -> list[str]:
    """The commands of shell blocks, those after `$` in transcripts, and command lines quoted in the text."""
    lines = [line for code in fences(page, "sh") for line in code.splitlines()]
    lines += [line[2:] for code in fences(page, "console") for line in code.splitlines() if line.startswith("$ ")]
    prose = FENCE.sub("", page.read_text(encoding="utf-8"))
    lines += [quoted for quoted in re.findall(r"`(prismhub [^`]+)`", prose) if " -" in quoted]
    return [re.sub(r"^(\w+=\S+ +)+", "", line.strip()) for line in lines]


def prismhub_lines() -> list[tuple[str, str]]:
    return [(page.name, line) for page in PAGES for line in shell_lines(page) if line.startswith("prismhub ")]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `my_videos/`, two classes of four clips, and `new.mp4`; heads registered there are forgotten."""
    for label in ("still", "moving"):
        for number in range(4):
            frames = moving_square(10, 64, 64, seed=number)
            if label == "still":
                frames = frames[:1].repeat(10, axis=0)
            write_video(tmp_path / "my_videos" / label / f"{number}.mp4", frames)
    write_video(tmp_path / "new.mp4", moving_square(10, 64, 64, seed=9))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    return tmp_path


def execute(page: Path, codes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run blocks one after the other in one module, so that a later one may use the names of an earlier one."""
    module = ModuleType(f"blocks_of_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # dataclasses look their module up
    for number, code in enumerate(codes, start=1):
        exec(compile(code, f"{page.name}, runnable block {number}", "exec"), vars(module))


@pytest.mark.parametrize("page", [p for p in PAGES if fences(p, "python runnable")], ids=lambda p: p.name)
def test_runnable_blocks_run(page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(page, fences(page, "python runnable"), monkeypatch)


def test_the_example_head_keeps_the_contract(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ROOT / "docs" / "write-an-adapter.md"
    blocks = [code for code in fences(page, "python runnable") if code.startswith("# frame_peak.py")]
    execute(page, blocks, monkeypatch)
    assert "frame_peak" in registry.adapter_kinds()
    clauses = [clause for name, clause in inspect.getmembers(contract, inspect.isfunction) if name.startswith("test_")]
    assert len(clauses) > 10
    for number, clause in enumerate(clauses):
        folder = workplace / f"clause {number}"
        folder.mkdir()
        wanted = inspect.signature(clause).parameters
        clause("frame_peak", {}, **({"tmp_path": folder} if "tmp_path" in wanted else {}))


def test_the_manifest_and_the_recipe_of_the_page_load(tmp_path: Path) -> None:
    manifest, recipe = fences(ROOT / "docs" / "pretrain.md", "yaml")
    for name in ("annotated/clips.csv", "photos/photos.csv", "web/0000.tar"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "corpus.yaml").write_text(manifest, encoding="utf-8")
    (tmp_path / "my_encoder.yaml").write_text(recipe, encoding="utf-8")
    given = Recipe.load(tmp_path / "my_encoder.yaml")
    tiers = {tier.name for tier in Manifest.load(given.corpus).tiers}
    assert given.parts == PARTS
    assert {name for part in PARTS for name in getattr(given, part).tiers} <= tiers


def test_pages_hold_commands() -> None:
    assert len(prismhub_lines()) > 30


@pytest.mark.parametrize(("page", "line"), prismhub_lines())
def test_command_lines_fit_the_real_options(
    page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(line, comments=True)[1:]
    asks_help = "--help" in words
    if words[0] in JOBS and not asks_help:  # up to the job itself, so that the values are checked too
        (tmp_path / "birds.yaml").write_text(fences(ROOT / "docs" / "train.md", "yaml")[0], encoding="utf-8")
        monkeypatch.chdir(tmp_path)
        given: list[Any] = []

        def stand_in(settings: Any, show: Any) -> None:
            given.append(settings)
            raise typer.Exit(0)

        job = words[0].replace("-", "_")
        monkeypatch.setattr(f"prismhub.commands.{job}.{job}", stand_in)
        assert run(words) == 0, capsys.readouterr().err
        parse_grid(getattr(given[0], "grid", ()))
        return
    command: Any = typer.main.get_command(app)
    words = gather_lists(words)
    while hasattr(command, "commands") and words[0] != "--help":
        assert words[0] in command.commands, f"{page}: no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    if not asks_help:
        command.make_context(line, list(words))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", FENCE.sub("", file.read_text(encoding="utf-8")), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_and_modules_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for module in re.findall(r"python -m (benchmarks[\w.]+)", text):
        assert importlib.util.find_spec(module), f"{page.name}: {module}"
    folders = "prismhub|benchmarks|tasks|adapters|pretrain|core_encoder|tests"
    for name in re.findall(rf"(?<![\w/<])((?:{folders})/[\w/]+\.py)", text):
        assert (ROOT / name).exists(), f"{page.name}: {name}"
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for goal in re.findall(r"(?:^|`)make (?:\w+=\S+ )*(\w+)", text, re.MULTILINE):
        assert goal in targets, f"{page.name}: make {goal}"


def test_options_named_in_prose_exist() -> None:
    command: Any = typer.main.get_command(app)
    known = {"--help"}
    waiting = [command]
    while waiting:
        one = waiting.pop()
        waiting += list(getattr(one, "commands", {}).values())
        for parameter in one.params:
            known |= {*parameter.opts, *parameter.secondary_opts}
    known.add("--json")
    for page in PAGES:
        prose = FENCE.sub("", page.read_text(encoding="utf-8"))
        for quoted in re.findall(r"`(--[a-z][^`]*)`", prose):
            option = quoted.split()[0]
            assert option in known, f"{page.name}: {option}"
