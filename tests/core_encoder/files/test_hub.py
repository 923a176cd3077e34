"""The Hub, over real HTTP against a small server that answers as the Hub does, and from its cache without network."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core_encoder.encoder import load_encoder
from core_encoder.errors import InputError
from core_encoder.files.hub import download, named_elsewhere
from tests.core_encoder.checkpoint_files import clip_model, flax_arrays, save, vision_model

COMMIT = "c" * 40


def test_what_another_machine_may_call_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "words").mkdir(parents=True)
    known = {"nano": "nano", "someone/words@v2": "someone/words@v2", "": "", "models/words": "models/words"}
    known |= {"./models/words": "words", str(tmp_path / "models"): "models", "/gone/words/": "words"}
    assert {source: named_elsewhere(source) for source in known} == known


class Hub(ThreadingHTTPServer):
    """Serves `root/org/name/*`; `gated` repositories want a token; `asked` lists the files that were downloaded."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.root, self.asked = root, list[str]()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self.about("/".join(parts[2:4]), parts[4:])
        elif parts[2:3] == ["resolve"]:
            self.file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self.refuse(404, "EntryNotFound")

    def about(self, repo: str, rest: list[str]) -> None:
        folder = self.server.root / repo
        if repo == "org/gated" and "authorization" not in self.headers:
            return self.refuse(401, "GatedRepo")
        if not folder.is_dir():
            return self.refuse(404, "RepoNotFound")
        if rest and rest[1:2] not in (["main"], [COMMIT], []):
            return self.refuse(404, "RevisionNotFound")
        files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        sizes = {name: (folder / name).stat().st_size for name in files}
        if rest and rest[0] == "tree":
            return self.send([{"type": "file", "path": name, "size": sizes[name], "oid": "0" * 40} for name in files])
        siblings = [{"rfilename": name, "size": sizes[name]} for name in files]
        return self.send({"id": repo, "sha": COMMIT, "siblings": siblings, "tags": [], "private": False})

    def file(self, repo: str, revision: str, name: str) -> None:
        body = (self.server.root / repo / name).read_bytes()
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.server.asked.append(f"{repo}/{name}")
            self.wfile.write(body)

    def send(self, value: Any, status: int = 200, error: str | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        if error:
            self.send_header("X-Error-Code", error)
            self.send_header("X-Error-Message", error)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def refuse(self, status: int, error: str) -> None:
        self.send({"error": error}, status, error)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    root = tmp_path / "hub"
    both = save(vision_model(), root / "org" / "both")
    (both / "pytorch_model.bin").write_bytes(b"x")
    (both / "onnx").mkdir()
    (both / "onnx" / "model.safetensors").write_bytes(b"x")
    arrays = flax_arrays(vision_model())
    np.savez(both / "flax.npz", **arrays)  # type: ignore[arg-type]
    (root / "org" / "flax").mkdir()
    np.savez(root / "org" / "flax" / "flax_tiny.npz", **arrays)  # type: ignore[arg-type]
    (root / "org" / "flax" / "README.md").write_text("x")
    save(clip_model(), root / "org" / "gated")
    (root / "org" / "empty").mkdir()
    (root / "org" / "empty" / "README.md").write_text("x")
    server = Hub(root)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


SCRIPT = """
import json, os, sys
from core_encoder.encoder import load_encoder
from core_encoder.errors import InputError
said = []
for source in sys.argv[1:]:
    try:
        encoder = load_encoder(source)
        said.append([encoder.name, encoder.fingerprint])
    except InputError as error:
        said.append(["InputError", str(error)])
print(json.dumps(said))
"""


def load_all(endpoint: str, home: Path, *sources: str, **environment: str) -> list[list[str]]:
    """In a process of its own, because the Hub's library reads its environment once."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PRISMHUB_"))}
    settings = {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *sources],
        env=kept | settings | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.slow
def test_loading_from_the_hub_and_then_from_its_cache(hub: Hub, tmp_path: Path) -> None:
    expected = load_encoder(hub.root / "org" / "both").fingerprint
    sources = ["org/both", "org/both@main", "org/flax", "org/gated", "org/unknown", "org/both@v9", "org/empty"]
    both, pinned, flax, gated, unknown, revision, empty = load_all(hub.url, tmp_path / "home", *sources)
    assert both == ["org/both", expected]
    assert pinned == ["org/both@main", expected]
    assert flax == ["org/flax", expected]
    assert gated == ["InputError", "org/gated: access is gated: accept its terms on the Hub and set HF_TOKEN"]
    assert unknown[0] == "InputError"
    assert "no such repository on the Hub" in unknown[1]
    assert "no revision 'v9'" in revision[1]
    assert "neither safetensors with a config.json nor an .npz file" in empty[1]
    assert not any(name.endswith((".bin", ".md")) or "onnx" in name for name in hub.asked)
    assert "org/both/flax.npz" not in hub.asked

    hub.asked.clear()
    for environment in ({"PRISMHUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        both, flax, unknown = load_all(
            environment.pop("HF_ENDPOINT", hub.url), tmp_path / "home", "org/both", "org/flax", "a/b", **environment
        )
        assert (both[1], flax[1]) == (expected, expected), environment
        assert "a/b: not in the local cache" in unknown[1]
    assert hub.asked == []


@pytest.mark.slow
def test_the_token_is_sent(hub: Hub, tmp_path: Path) -> None:
    [[name, _]] = load_all(hub.url, tmp_path / "home", "org/gated", HF_TOKEN="hf_made_up")
    assert name == "org/gated"


def test_offline_and_not_cached_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for only_local in (False, True):  # the test environment is offline anyway
        with pytest.raises(InputError, match=r"google/videoprism-base-f16r288: not in the local cache") as caught:
            load_encoder("google/videoprism-base-f16r288", local_files_only=only_local)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["noslash", "a/b/c", "a/b@", "../x", "a/b@c@d"])
def test_names_that_are_no_hub_ids(name: str) -> None:
    with pytest.raises(InputError, match="is not a Hub id"):
        download(name)


@pytest.mark.parametrize("name", ["a--b/c", "a/b..c", "a/b-"])
def test_names_that_the_hub_forbids(name: str) -> None:
    with pytest.raises(InputError) as caught:
        load_encoder(name)
    assert "\n" not in str(caught.value)
