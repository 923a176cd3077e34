"""The page for people at `/`: static files of our own, the cards of adapters, and a report of results."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, Response

from core_encoder.files.storage import nearest
from prismhub.server.refusal import Refused, public_text

if TYPE_CHECKING:
    from prismhub.server.app import Served

FOLDER = Path(__file__).parent / "static"
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# A report brings its own style and script and names their digests; it is kept apart from the page and the key of that.
_REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
)


def add_page(app: FastAPI, served: Served) -> None:
    """The routes of the page; its files hold nothing of anybody and need no key."""
    files = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.is_file()}

    @app.get("/", include_in_schema=False)
    def page(request: Request) -> Response:
        return _file(request, "index.html", files["index.html"])

    @app.get("/static/{name}", include_in_schema=False)
    def static(request: Request, name: str) -> Response:
        if name not in files:
            raise Refused(404, f"the page has no file {name!r}")
        return _file(request, name, files[name])

    @app.get("/v1/adapters/{name}/card", summary="What an adapter says of itself: its data, protocol and scores")
    def card(name: str) -> dict[str, Any]:
        here = served.answering.hub.adapters
        if name not in here:
            raise Refused(404, f"the server has no adapter {name!r}{nearest(name, here)}")
        info = here[name].info.to_json()
        if isinstance(videos := info["training"].get("videos"), str):  # six bytes of each digest: only how many
            info["training"]["videos"] = len(base64.b64decode(videos)) // 6
        return {"name": name} | _without_places(info, served.hidden)

    @app.get("/report", summary="The page of results that the server was given", response_class=FileResponse)
    def report() -> Response:
        path = served.settings.report
        if path is None or not path.is_file():
            raise Refused(404, "this server has no report: start it with --report FILE.html")
        return FileResponse(path, media_type="text/html", headers={"content-security-policy": _REPORT_POLICY})


def _file(request: Request, name: str, content: bytes) -> Response:
    """A file of the page; a browser that has it asks whether it is still the same."""
    headers = {
        "etag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        "cache-control": "no-cache",
        "content-security-policy": _PAGE_POLICY,
    }
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(content, media_type=kind, headers=headers)


def _without_places(value: Any, hidden: Mapping[str, str]) -> Any:
    """A card as strangers may read it: of every path of this machine its last part is left."""
    if isinstance(value, dict):
        return {name: _without_places(one, hidden) for name, one in value.items()}
    if isinstance(value, list):
        return [_without_places(one, hidden) for one in value]
    if not isinstance(value, str):
        return value
    if PurePosixPath(value).is_absolute() or PureWindowsPath(value).drive:
        return PureWindowsPath(value).name  # which takes both kinds of slashes
    return public_text(value, hidden)
