"""One dataclass gives the command line, the YAML keys and the Python arguments."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from core_encoder.config import Option, group, option, options_of
from core_encoder.errors import InputError
from prismhub import provenance
from prismhub import settings as all_settings
from prismhub.options import command_signature, gather_lists, resolve


@dataclass(frozen=True)
class Example:
    data: Path | None = option(None, "Where.")
    lr: float = option(1e-3, "Learning rate.")
    epochs: int = option(20, "Passes.")
    layers: tuple[int, ...] = option((), "Layers.")
    grid: tuple[str, ...] = option((), "Grid.")
    mode: Literal["a", "b"] = option("a", "Mode.")
    quiet: bool = option(False, "Quiet.")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Words, one of them needed, around the options of a group."""

    videos: tuple[str, ...] = option(help="Which videos.", positional=True)
    example: Example = group()
    name: str = option(help="A name.")


def run(*arguments: str, cls: type[Any] = Example) -> Any:
    seen: list[Any] = []
    app = typer.Typer()
    app.command()(command_signature(cls, seen.append))
    result = CliRunner().invoke(app, gather_lists(arguments))
    if isinstance(result.exception, InputError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return seen[0]


def test_defaults_and_every_kind_of_option() -> None:
    assert run() == Example()
    assert run(
        "--data", "x y", "--lr", "1e-4", "--epochs", "3", "--layers", "3,7", "--layers", "-1", "--mode", "b", "--quiet"
    ) == Example(Path("x y"), 1e-4, 3, (3, 7, -1), (), "b", True)


def test_several_words_after_one_option() -> None:
    expected = Example(grid=("lr=1e-3,3e-4", "dropout=0,0.5"), epochs=2)
    assert run("--grid", "lr=1e-3,3e-4", "dropout=0,0.5", "--epochs", "2") == expected


def test_command_line_beats_file_beats_defaults(tmp_path: Path) -> None:
    file = tmp_path / "train.yaml"
    file.write_text("lr: 1e-2\nepochs: 5\ngrid: {lr: [1e-3, 3e-4]}\n")
    got = run("--config", str(file), "--epochs", "7")
    assert (got.lr, got.epochs, got.mode, got.grid) == (1e-2, 7, "a", ("lr=1e-3,3e-4",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("epocs: 5", ["train.yaml", "'epocs'", "'epochs'"]),
        ("epochs: many", ["train.yaml", "'epochs'", "'many'"]),
        ("- 1\n- 2", ["train.yaml", "list"]),
        ("a: [", ["train.yaml", "YAML"]),
    ],
)
def test_a_bad_file_is_one_line_that_names_the_key(tmp_path: Path, text: str, words: list[str]) -> None:
    file = tmp_path / "train.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as error:
        resolve(Example, file, {})
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_ill_typed_option_is_named() -> None:
    with pytest.raises(InputError, match="'lr'.*'fast'"):
        run("--lr", "fast")
    with pytest.raises(InputError, match="'mode'.*'c'"):
        run("--mode", "c")


@given(st.lists(st.sampled_from(["--grid", "--lr", "a=1", "b=2", "x", "-q"]), max_size=8))
def test_gathering_adds_only_repeated_options(words: list[str]) -> None:
    gathered = gather_lists(words)
    assert [word for word in gathered if word != "--grid"] == [word for word in words if word != "--grid"]
    assert gather_lists(gathered) == gathered


def test_words_without_a_name_and_options_of_a_group(tmp_path: Path) -> None:
    got = run("a.mp4", "b,c.mp4", "--name", "x", "--lr", "0.1", cls=Asked)
    assert got == Asked(videos=("a.mp4", "b,c.mp4"), name="x", example=Example(lr=0.1))
    file = tmp_path / "a.yaml"
    file.write_text("videos: [a.mp4]\nlr: 0.5\nname: y\n")
    assert run("--config", str(file), "--lr", "0.1", cls=Asked) == Asked(
        videos=("a.mp4",), name="y", example=Example(lr=0.1)
    )
    assert run("z.mp4", "--config", str(file), cls=Asked).videos == ("z.mp4",)


def test_what_is_needed_is_asked_for_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^option 'videos' is missing: Which videos\.$"):
        run("--name", "x", cls=Asked)
    with pytest.raises(InputError, match=r"^option 'name' is missing: A name\.$"):
        run("a.mp4", cls=Asked)
    file = tmp_path / "a.yaml"
    file.write_text("lrr: 0.5\n")
    with pytest.raises(InputError, match=r"a\.yaml: unknown option 'lrr'; did you mean 'lr'\?"):
        run("--config", str(file), cls=Asked)


SETTINGS = [cls for name, cls in vars(all_settings).items() if name.endswith("Settings") and isinstance(cls, type)]


@pytest.mark.parametrize("cls", SETTINGS, ids=lambda cls: cls.__name__)
def test_every_option_of_every_command_has_a_name_of_its_own_and_a_help(cls: type) -> None:
    known: dict[str, Option] = options_of(cls)
    assert known
    assert all(str(one.field.metadata.get("help", "")).strip() for one in known.values())
    assert not {"config", "help"} & known.keys(), "these two are those of every command"


@pytest.mark.parametrize("program", ["/usr/bin/prismhub", "/site/prismhub/__main__.py"])
def test_the_recorded_command_can_be_typed_again(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [program, "bench", "--data-root", "my data"])
    assert provenance.run_command() == "prismhub bench --data-root 'my data'"
    monkeypatch.setattr(sys, "argv", ["/site/other/__main__.py", "bench"])
    assert provenance.run_command() is None
