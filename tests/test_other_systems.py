"""Windows and macOS, as far as Linux can play them: what is not there is hidden, and paths are those of Windows."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT, conftest
from tests.prismhub.small_data import FAST, given_splits, write_classes
from tests.test_floors import FILES, TESTS, imported_modules

MEASURES = (ROOT / "benchmarks" / "speed", ROOT / "benchmarks" / "reliability")  # scripts for Linux; nothing needs them
POSIX_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
POSIX_NAMES = {"SIGHUP", "SIGKILL", "SIGSTOP", "SIGUSR1", "SIGXFSZ", "fork", "getuid", "geteuid", "killpg", "mkfifo"}
WINDOWS = """
import importlib, json, multiprocessing.context, os, signal, sys
hidden, modules, command = json.loads(sys.argv[1])
for name in hidden:
    sys.modules[name] = None  # as if it were not there
for name in ("fork", "forkpty", "sched_getaffinity", "getuid", "geteuid", "mkfifo", "killpg", "O_NONBLOCK"):
    delattr(os, name)
for name in ("SIGHUP", "SIGUSR1", "SIGXFSZ", "SIGSTOP"):
    delattr(signal, name)
spawn = multiprocessing.context._concrete_contexts["spawn"]
multiprocessing.context._concrete_contexts = {"spawn": spawn}
multiprocessing.context._default_context._default_context = spawn
multiprocessing.get_all_start_methods = lambda: ["spawn"]
for name in modules:
    importlib.import_module(name)
from prismhub.cli import run
sys.exit(run(command))
"""


def without_posix(command: list[str], modules: list[str]) -> subprocess.CompletedProcess[str]:
    """Import modules and run a command where there is neither decord, nor fork, nor a module of POSIX alone."""
    hidden = sorted(POSIX_MODULES | {"decord"})
    words = [sys.executable, "-c", WINDOWS, json.dumps([hidden, modules, command])]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(words, capture_output=True, text=True, check=False, env=environment)


def module_names() -> list[str]:
    """Every module that ships, but for the measurements, what rests on `mcp`, which asks for the system's name, and the
    files that go out with exported models, which read what lies beside them there."""
    left_out = (*MEASURES, ROOT / "prismhub" / "exporting" / "carried")
    files = [path for path in FILES if not any(path.is_relative_to(folder) for folder in left_out)]
    files = [path for path in files if not any(f"{name}.".startswith("mcp.") for name in imported_modules(path))]
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


@pytest.mark.slow
def test_everything_is_imported_and_a_head_is_trained_without_decord_fork_and_posix(tmp_path: Path) -> None:
    data = given_splits(tmp_path / "data")
    done = without_posix(["train", "--data", str(data), *FAST, "--name", "x", "--json"], module_names())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["adapter"] == "x@v1"


def test_videos_are_encoded_without_decord_fork_and_posix(tmp_path: Path) -> None:
    encode = [
        "encode",
        str(write_classes(tmp_path / "data", per_class=1)),
        "--encoder",
        "nano",
        "--kind",
        "clip",
        "--quiet",
        "--json",
    ]
    done = without_posix(encode, ["prismhub.server.decode_pool"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["encoded"] == 2


def places_of_posix(path: Path, inside_functions: bool) -> list[str]:
    """Where a file names what is only on POSIX, but for imports whose absence is met."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tried = {id(node) for one in ast.walk(tree) if isinstance(one, ast.Try) for node in one.body}
    waiting: list[ast.AST] = list(tree.body)
    found = []
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not inside_functions:
            waiting += [*node.decorator_list, node.args]
            continue
        waiting += list(ast.iter_child_nodes(node))
        needed = isinstance(node, ast.Import) and id(node) not in tried
        if needed and POSIX_MODULES & {alias.name for alias in node.names}:  # type: ignore[attr-defined]
            found.append(node.lineno)  # type: ignore[attr-defined]
        if isinstance(node, ast.Attribute) and node.attr in POSIX_NAMES:
            found.append(node.lineno)
    return [f"{path.relative_to(ROOT)}:{line}" for line in found]


def test_nothing_of_posix_alone_is_needed() -> None:
    files = [path for path in FILES if not any(path.is_relative_to(folder) for folder in MEASURES)]
    assert not [place for path in files for place in places_of_posix(path, inside_functions=True)]


def test_tests_can_be_collected_on_windows() -> None:
    """Outside of functions nothing is named that is not there; inside, `tests/conftest.py` leaves the test out."""
    assert not [place for path in TESTS for place in places_of_posix(path, inside_functions=False)]


def sends_a_signal() -> None:
    os.kill(os.getpid(), 0)


def is_plain() -> None:
    pass


def test_what_is_not_on_windows_is_left_out_there(request: pytest.FixtureRequest) -> None:
    items = [
        pytest.Function.from_parent(request.node.parent, name=one.__name__, callobj=one)
        for one in (sends_a_signal, is_plain)
    ]
    conftest.leave_out(items)
    assert [bool(list(item.iter_markers("skip"))) for item in items] == [True, False]
