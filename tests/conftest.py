"""Shared by all tests: how hypothesis draws, a private home folder for each, and real H.264 videos written by PyAV."""

from __future__ import annotations

import inspect
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: test processes share the cores
os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub, which reads it once: no test asks the network

import pytest
from hypothesis import settings

from tests.browser import browser, open_page, open_site  # noqa: F401 (fixtures)
from tests.hub_server import hub  # noqa: F401 (a fixture)
from tests.remote_servers import nothing_known, s3, s3_server, web  # noqa: F401 (fixtures)
from tests.videos import moving_square, write_video

settings.register_profile("same", derandomize=True, deadline=None)  # the same examples everywhere, as CI wants them
settings.register_profile("explore", deadline=None, print_blob=True)  # other examples each time: `make explore`
settings.load_profile("same")  # `--hypothesis-profile explore` comes after

# What Windows has not, or means otherwise there: a test that says one of these is skipped.
NOT_ON_WINDOWS = re.compile(
    r"\b(SIGKILL|SIGSTOP|SIGSEGV|mkfifo|killpg|os\.kill|send_signal|setrlimit|import resource|start_new_session)\b"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out on Windows what is about signals, pipes and limits of other systems."""
    if os.name == "nt":
        leave_out(items)


def leave_out(items: list[pytest.Item]) -> None:
    """Skip the tests whose source names what is not on Windows."""
    for item in items:
        found = NOT_ON_WINDOWS.search(inspect.getsource(getattr(item, "function", type(item))))
        if found:
            item.add_marker(pytest.mark.skip(reason=f"{found[0]} is not on Windows"))


@pytest.fixture(autouse=True)
def private_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test gets its own empty PRISMHUB_HOME, and nothing has been said yet."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("PRISMHUB_HOME", str(home))
    monkeypatch.setattr("core_encoder.said_once._said", set())
    return home


@pytest.fixture
def heeds_ctrl_c() -> Iterator[None]:
    """Ctrl-C is heeded even where the tests run as a background job, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def video_file(tmp_path: Path) -> Callable[..., Path]:
    """`video_file(name=, num_frames=, height=, width=, fps=, seed=, bframes=)` writes one H.264 file."""

    def make(
        name: str = "a.mp4",
        num_frames: int = 24,
        height: int = 64,
        width: int = 96,
        fps: int = 16,
        seed: int = 0,
        bframes: int = 0,
    ) -> Path:
        return write_video(tmp_path / name, moving_square(num_frames, height, width, seed), fps=fps, bframes=bframes)

    return make
