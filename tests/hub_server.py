"""A stand-in of the Hub on this machine: the requests by which `datasets` and `huggingface_hub` read data sets."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.http_handlers import answered_by

_ROUTE = re.compile(
    r"(?P<api>/api)?/datasets/(?P<repo>[^/]+/[^/]+)(?:/(?P<what>revision|tree|paths-info|resolve)/(?P<rev>[^/]+)/?(?P<path>.*))?"
)


@dataclass
class Hub:
    """Data sets, each a folder `org/name`, and what was asked for: method, path and range."""

    folder: Path
    port: int = 0
    gated: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)  # bytes of every file

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def _commit(repo: Path) -> str:
    return hashlib.sha1(repo.name.encode()).hexdigest()


@contextmanager
def serving_hub(folder: Path) -> Iterator[Hub]:
    """A Hub of the data sets in a folder, each with the revisions `main` and `v1`."""
    hub = Hub(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def _answer(self, body: bytes = b"") -> None:
            path = unquote(urlsplit(self.path).path)
            hub.asked.append((self.command, path, self.headers.get("Range", "")))
            found = _ROUTE.fullmatch(path)
            repo = hub.folder / found["repo"] if found else hub.folder / "none"
            if found is None or not repo.is_dir():
                return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
            commit = _commit(repo)
            if (found["rev"] or "main") not in ("main", "v1", commit):
                return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            if found["repo"] in hub.gated and (found["what"] == "resolve"):
                return self._send(403, b"", {"X-Error-Code": "GatedRepo"})
            file = repo / found["path"] if found["path"] else repo
            if found["api"] is None:
                return self._file(file, commit)
            if found["what"] in (None, "revision"):
                names = [one.relative_to(repo).as_posix() for one in sorted(repo.rglob("*")) if one.is_file()]
                about: dict[str, Any] = {"id": found["repo"], "sha": commit, "private": False, "tags": []}
                about["siblings"] = [{"rfilename": name} for name in names]
                return self._json(about | {"gated": "auto" if found["repo"] in hub.gated else False})
            if found["what"] == "tree":
                everything = "recursive=true" in urlsplit(self.path).query.lower()
                listed = sorted(file.rglob("*") if everything else file.glob("*")) if file.is_dir() else []
            else:
                asked = (
                    json.loads(body)["paths"] if body.startswith(b"{") else re.findall(r"paths=([^&]+)", body.decode())
                )
                listed = [repo / unquote(one) for one in asked if (repo / unquote(one)).exists()]
            return self._json([_entry(one, repo) for one in listed])

        def _file(self, file: Path, commit: str) -> None:
            if not file.is_file():
                return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
            content = file.read_bytes()
            headers = {
                "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
                "X-Repo-Commit": commit,
                "Accept-Ranges": "bytes",
            }
            part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if part is None:
                return self._send(200, content, headers, file)
            piece = content[int(part[1]) : int(part[2]) + 1 if part[2] else None]
            headers["Content-Range"] = f"bytes {part[1]}-{int(part[1]) + len(piece) - 1}/{len(content)}"
            return self._send(206, piece, headers, file)

        def _json(self, value: Any) -> None:
            self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _send(self, status: int, content: bytes, headers: dict[str, str], file: Path | None = None) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
                if file is not None:
                    hub.sent[file.name] = hub.sent.get(file.name, 0) + len(content)

        def log_message(self, *about: object) -> None:
            """Says nothing."""

    with answered_by(Handler) as hub.port:
        yield hub


def _entry(file: Path, repo: Path) -> dict[str, Any]:
    path = file.relative_to(repo).as_posix()
    if file.is_dir():
        return {"type": "directory", "path": path, "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0}
    content = file.read_bytes()
    entry: dict[str, Any] = {
        "type": "file",
        "path": path,
        "oid": hashlib.sha1(content).hexdigest(),
        "size": len(content),
    }
    if file.suffix in (".mp4", ".parquet", ".tar"):
        oid = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 130}
    return entry


@pytest.fixture
def hub(tmp_path: Path, nothing_known: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub of the data sets in `tmp_path / "hub"`, which this process takes for the real one."""
    from datasets import config
    from huggingface_hub import HfFileSystem, constants

    from tasks.readers import hub_data_sets

    (tmp_path / "hub").mkdir()
    with serving_hub(tmp_path / "hub") as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(config, "HF_ENDPOINT", server.url)
        monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path / "cache")
        for name in ("PRISMHUB_OFFLINE", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        HfFileSystem.clear_instance_cache()
        hub_data_sets._opened.cache_clear()
        yield server
        HfFileSystem.clear_instance_cache()
        hub_data_sets._opened.cache_clear()
