"""Pushing to and loading from a Hub that speaks just enough of the protocol, on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import fields, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from adapters import load_adapter
from adapters.adapter import Adapter
from adapters.card import MOVABLE_PARTS
from adapters.context import Context, TargetSchema
from adapters.kinds.linear import Linear
from adapters.kinds.lit_text import LitText
from adapters.kinds.llm_decoder import LlmDecoder
from core_encoder.errors import InputError
from prismhub.settings import PartsSettings
from tests import ROOT
from tests.adapters.toy_kinds import ToyText, context_of
from tests.language_models import tiny_llm
from tests.text_models import tiny_bert


class FakeHub(BaseHTTPRequestHandler):
    """One repository, `someone/pets`, with one revision."""

    files: dict[str, bytes]
    requests: list[str]
    protocol_version = "HTTP/1.1"
    commit = "c" * 40

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, body: Any, status: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self.read_chunks()
        self.requests.append(f"POST {self.path}")
        assert self.headers["Authorization"] == "Bearer hf_test"
        if self.path.startswith("/api/repos/create"):
            self.answer({"url": f"http://{self.headers['Host']}/someone/pets", "name": "someone/pets"})
        elif "/preupload/" in self.path:
            asked = [file["path"] for file in json.loads(body)["files"]]
            self.answer({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in asked]})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.decode().splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer(
                {
                    "commitUrl": f"http://{self.headers['Host']}/someone/pets/commit/{self.commit}",
                    "commitOid": self.commit,
                    "success": True,
                }
            )
        else:
            self.answer({}, 200)

    def read_chunks(self) -> bytes:
        whole = b""
        while self.headers.get("Transfer-Encoding") == "chunked":
            size = int(self.rfile.readline(), 16)
            whole += self.rfile.read(size)
            self.rfile.readline()
            if not size:
                break
        return whole

    def do_GET(self) -> None:
        self.requests.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        if "/tree/" in path:
            self.answer([{"type": "file", "path": p, "size": len(c), "oid": "0"} for p, c in self.files.items()])
        elif path.startswith("/api/models/someone/pets"):
            siblings = [{"rfilename": name} for name in self.files]
            self.answer({"id": "someone/pets", "sha": self.commit, "siblings": siblings, "private": False, "tags": []})
        elif (name := unquote(path).removeprefix("/someone/pets/resolve/").partition("/")[2]) in self.files:
            content = self.files[name]
            etag = hashlib.sha1(content).hexdigest()
            self.answer(content, ETag=f'"{etag}"', **{"X-Repo-Commit": self.commit})
        else:
            self.answer({"error": "Repository not found"}, 404, **{"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET


@pytest.fixture
def hub() -> Iterator[tuple[str, type[FakeHub]]]:
    handler = type("OneHub", (FakeHub,), {"files": {}, "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["lit_text", "llm_decoder"])
def test_no_path_of_this_machine_is_shared(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a head needs and does not hold is named by the last part of its place; whoever loads it says where it is."""
    here = tmp_path / "of this machine"
    if kind == "lit_text":
        head = {"text_tower": str(tiny_bert(here / "words")), "tune": "lora"}
        adapter: Any = LitText.build(head, Context(16, TargetSchema("pairs")))
    else:
        head = {"llm": str(tiny_llm(here / "words")), "tune": "lora"}
        adapter = LlmDecoder.build(head, Context(16, TargetSchema("text")))
    pushed = tmp_path / "pushed"

    def upload(self: Any, repo_id: str, folder_path: str, commit_message: str) -> None:
        shutil.copytree(folder_path, pushed)

    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_test")
    monkeypatch.setattr("adapters.saved_adapter.offline", lambda: False)
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda *_, **__: "https://somewhere/someone/words")
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload)
    adapter.push_to_hub("someone/words")
    for file in pushed.rglob("*"):
        assert file.is_dir() or str(here).encode() not in file.read_bytes(), file
    place = next(name for name in head if name != "tune")
    assert adapter.info.config[place] == head[place], "what is recorded here stays"
    card, option = (pushed / "README.md").read_text(), f"--{place.replace('_', '-')} PLACE"
    assert f'load_adapter("someone/words", moved={{"{place}": "PLACE"}})' in card and option in card
    with pytest.raises(InputError, match=f"'words'.*; say where it lies now with {place}"):
        load_adapter(pushed)
    loaded = load_adapter(pushed, moved={place: head[place]})
    assert loaded.info.config[place] == "words"
    assert json.loads((pushed / "lora" / "adapter_config.json").read_text())["base_model_name_or_path"] == "words"


def test_a_card_asks_for_no_text_tower_that_lies_in_the_folder(tmp_path: Path) -> None:
    tower = str(tiny_bert(tmp_path / "words"))
    for tune, asks in (("tower", False), ("projection", True)):
        adapter = LitText.build({"text_tower": tower, "tune": tune}, Context(16, TargetSchema("pairs")))
        adapter.save_pretrained(tmp_path / tune)
        assert ("--text-tower PLACE" in (tmp_path / tune / "README.md").read_text()) is asks, tune


def test_the_card_knows_the_options_of_the_command_line() -> None:
    assert set(MOVABLE_PARTS) == {field.name for field in fields(PartsSettings)}


CHILD = """
import torch
from adapters import list_adapters, load_adapter, pull, register_adapter
from core_encoder.errors import InputError
from prismhub.settings import PartsSettings
from tests.adapters.toy_kinds import ToyText
import sys
register_adapter(ToyText)
adapter = load_adapter(sys.argv[1])
print(adapter.push_to_hub("someone/pets", private=True))
loaded = load_adapter("someone/pets@main")
assert all(torch.equal(t, adapter.state_dict()[n]) for n, t in loaded.state_dict().items())
row = pull("someone/pets")
print(row.ref, loaded.info.encoder_source)
print(*sorted(path.relative_to(row.path).as_posix() for path in row.path.rglob("*") if path.is_file()))
for ref in ("someone/other", "someone/pets@gone"):
    try:
        load_adapter(ref)
    except InputError as error:
        print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Linear, ToyText], ids=lambda kind: kind.kind)
def test_push_load_and_pull(kind: type[Adapter], hub: tuple[str, type[FakeHub]], tmp_path: Path) -> None:
    url, handler = hub
    context = context_of(ToyText) if kind is ToyText else Context.of_classes(4, ("ant", "bee"))
    adapter = kind.build({}, context)
    adapter.info = replace(adapter.info, encoder_source=str(tmp_path))
    adapter.save_pretrained(tmp_path / "mine")
    handler.files |= {"model.py": b"print()", "lora/notes.txt": b"of someone"}  # nothing that the configuration lists
    home = str(tmp_path / "hf")
    environment = {**os.environ, "HF_ENDPOINT": url, "HF_TOKEN": "hf_test", "HF_HOME": home, "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", CHILD, str(tmp_path / "mine")]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr + "\n".join(handler.requests)
    lines = ended.stdout.splitlines()
    assert lines[0] == f"{url}/someone/pets"
    assert lines[1].strip() == "pets@v1", "no path of this machine is shared"
    files = {path.relative_to(tmp_path / "mine").as_posix() for path in (tmp_path / "mine").rglob("*.*")}
    assert set(lines[2].split()) == files >= {*adapter.info.assets, "adapter_model.safetensors", "README.md"}
    assert lines[3] == "adapter someone/other: no such repository on the Hub, or a private one (then set HF_TOKEN)"
    for name in files - {"adapter_config.json", "README.md"}:
        assert handler.files[name] == (tmp_path / "mine" / name).read_bytes()
