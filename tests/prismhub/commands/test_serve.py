"""What `prismhub serve` says when it has started, and the browser that it opens when it is asked to."""

from __future__ import annotations

import threading

import pytest

from core_encoder.config import config_from_dict
from prismhub.commands import serve as command
from prismhub.progress import Show
from prismhub.server.settings import ServeSettings


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://0.0.0.0:9000", "http://127.0.0.1:9000"),
        ("http://[::]:9000", "http://[::1]:9000"),
    ],
)
def test_the_page_is_named_and_opened_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str, page: str
) -> None:
    opened: list[str] = []
    done = threading.Event()

    def browser(address: str) -> bool:
        opened.append(address)
        done.set()
        return True

    monkeypatch.setattr(command.webbrowser, "open", browser)
    monkeypatch.setattr(command, "run_server", lambda settings, show, started: started(url))
    command.serve(config_from_dict(ServeSettings, {}), Show(quiet=False))
    said = capsys.readouterr().err
    assert f"serving at {url}, which is a page for a browser" in said and opened == []
    command.serve(config_from_dict(ServeSettings, {"open": True}), Show(quiet=False))
    assert done.wait(10) and opened == [page]
