"""A prismhub server from Python: `prismhub.connect(url)` answers like the functions of `prismhub`. No torch."""

from __future__ import annotations

import http.client
import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from core_encoder.errors import InputError

if TYPE_CHECKING:
    from prismhub.archive.found_scenes import Found
    from prismhub.embeddings import Embeddings
    from prismhub.served_scenes import SceneDetails, ServedScene

_CHUNK_BYTES = 1 << 20


class ServerError(InputError):
    """The server refused or failed; `status` is that of HTTP."""

    def __init__(self, status: int, message: str, retry_after_s: int | None = None) -> None:
        self.status, self.retry_after_s = status, retry_after_s
        super().__init__(message)


class Connection:
    """A server. Videos are files of this machine, which are uploaded, or with `served` paths below the server's root.

    Every method raises a `ServerError` with the server's own line where it refuses, and an `InputError` where it is not
    there or a file cannot be read. Methods may be called from several threads at once.
    """

    def __init__(self, url: str, key: str | None = None, timeout_s: float = 300.0) -> None:
        """A server at `url`, asked with its API key where it wants one.

        Raises:
            InputError: `url` is none.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{url!r} is not the URL of a server, such as http://127.0.0.1:8000")
        self.url, self._key, self._timeout_s = url.rstrip("/"), key, timeout_s
        self._parts = parts

    def __repr__(self) -> str:
        return f"prismhub.connect({self.url!r})"

    def predict(
        self, video: str | os.PathLike[str] | None = None, *, served: str | None = None, **options: Any
    ) -> dict[str, list[dict[str, Any]]]:
        """What adapters say of a video, by their names, as `prismhub predict --json` prints it.

        Options: `adapters`, `start`, `end`, `window`, `step`, `question`, `candidates`, `threshold`, `top`,
        `all_scores`.
        """
        return self._ask("/v1/predict", video, served, options)

    def zero_shot(
        self,
        video: str | os.PathLike[str] | None = None,
        *,
        labels: Sequence[str],
        served: str | None = None,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Which of some classes a video shows, as `prismhub zero-shot --json` prints it.

        Options: `template`, `templates`, `adapter`, `start`, `end`, `top`, `all_scores`.
        """
        return self._ask("/v1/zero-shot", video, served, options | {"labels": list(labels)})

    def embed(
        self, video: str | os.PathLike[str] | None = None, *, served: str | None = None, **options: Any
    ) -> Embeddings:
        """The vectors of a video, a row a view; options: `start`, `end`, `window`, `step`."""
        import numpy as np

        from prismhub.embeddings import Embeddings

        found = self._ask("/v1/embed", video, served, options)
        values = np.array(found.pop("values"), np.float32)
        times = np.array([found.pop("start"), found.pop("end")], np.float64).T  # (n, 2)
        return Embeddings(values, times, (found.pop("video"),) * len(values), found)

    def embed_text(self, texts: Sequence[str]) -> Any:
        """The unit vectors of texts, float32 `(L, E)`."""
        import numpy as np

        found = self._call("POST", "/v1/embed", json.dumps({"text": list(texts)}).encode(), "application/json")
        return np.array(found["values"], np.float32)

    def archives(self) -> list[dict[str, Any]]:
        """The archives of the server, and what can be asked of each."""
        return self._call("GET", "/v1/archives")["archives"]

    def search(
        self,
        text: str | None = None,
        *,
        like: int | str | os.PathLike[str] | None = None,
        served: str | None = None,
        **options: Any,
    ) -> Found:
        """Scenes of an archive by words, or like an example: a scene by its number, a video, or one below the root.

        Options: `archive`, `where`, `top`, `mode`, `all`, `anyway`, and of a video `start`, `end`.
        """
        from prismhub.served_scenes import found_scenes

        asked = {name: value for name, value in (options | {"q": text}).items() if value is not None}
        if served is not None or (like is not None and not isinstance(like, int)):
            found = self._ask("/v1/search", like, served, asked)
        else:
            fields = asked | ({} if like is None else {"like": like})
            plain = {name: str(value).lower() if isinstance(value, bool) else value for name, value in fields.items()}
            found = self._call("GET", f"/v1/search?{urlencode(plain)}")
        return found_scenes(found, self.url)

    def scenes(self, number: int, archive: str | None = None) -> SceneDetails:
        """All that is known of a scene of an archive, by its number."""
        from prismhub.served_scenes import scene_details

        among = "" if archive is None else f"?{urlencode({'archive': archive})}"
        answer = self._call("GET", f"/v1/scenes/{number}{among}")
        return scene_details(answer, archive or answer["archive"], self.url)

    def thumbnail(self, scene: ServedScene) -> bytes:
        """The picture of a scene, a JPEG; empty where it has none."""
        if scene.thumbnail_url is None:
            return b""
        with self._open("GET", scene.thumbnail_url.removeprefix(self.url)) as answer:
            return answer.read()

    def adapters(self) -> dict[str, Any]:
        """The encoder, the adapters that answer, and those of the registry that could be loaded."""
        return self._call("GET", "/v1/adapters")

    def load_adapter(self, ref: str, name: str | None = None) -> str:
        """Load an adapter of the server's registry; what it is called there."""
        wanted = {"adapter": ref} | ({} if name is None else {"name": name})
        return self._call("POST", "/v1/adapters", json.dumps(wanted).encode(), "application/json")["name"]

    def unload_adapter(self, name: str) -> None:
        """Let an adapter of the server go."""
        self._call("DELETE", f"/v1/adapters/{quote(name, safe='')}")

    def health(self) -> dict[str, Any]:
        """Whether the server is there, its encoder and adapters."""
        return self._call("GET", "/healthz")

    def _ask(self, path: str, video: Any, served: str | None, options: Mapping[str, Any]) -> Any:
        if (video is None) == (served is None):
            raise InputError("give one video: a file of this machine, or as `served` a path below the server's root")
        if served is not None:
            return self._call("POST", path, json.dumps({"video": served, **options}).encode(), "application/json")
        file = Path(video).expanduser()
        if not file.is_file():
            raise InputError(f"{file}: no such file")
        boundary = uuid.uuid4().hex
        before = b"".join(_form_fields(options, boundary)) + _form_head(boundary, "file", file.name)
        after = f"\r\n--{boundary}--\r\n".encode()
        length = len(before) + file.stat().st_size + len(after)
        kind = f"multipart/form-data; boundary={boundary}"
        return self._call("POST", path, _form(before, file, after), kind, length)

    def _call(
        self, method: str, path: str, body: Any = None, kind: str | None = None, length: int | None = None
    ) -> Any:
        with self._open(method, path, body, kind, length) as answer:
            return json.loads(answer.read())

    def _open(
        self, method: str, path: str, body: Any = None, kind: str | None = None, length: int | None = None
    ) -> http.client.HTTPResponse:
        """An answer whose status is good."""
        secure = self._parts.scheme == "https"
        make = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        headers = {"Connection": "close"}
        if kind is not None:
            headers["Content-Type"] = kind
        if length is not None:
            headers["Content-Length"] = str(length)
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        connection = make(self._parts.hostname or "", self._parts.port, timeout=self._timeout_s)
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # refused before all was sent: the answer is there
                connection.request(method, self._parts.path.rstrip("/") + path, body, headers)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise InputError(f"{self.url}: no answer ({error}): is the server running there?") from error
        if answer.status >= 400:
            raise _error_of(answer)
        return answer


def connect(url: str, key: str | None = None, timeout_s: float = 300.0) -> Connection:
    """A running `prismhub serve`, with the methods of `prismhub`.

    Raises:
        InputError: `url` is none, or no server answers there.
    """
    connection = Connection(url, key, timeout_s)
    connection.health()
    return connection


def _error_of(answer: http.client.HTTPResponse) -> ServerError:
    retry = answer.headers.get("Retry-After", "")
    with answer:
        body = answer.read()
    try:
        message = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        message = f"status {answer.status} {answer.reason}"
    return ServerError(answer.status, message, int(retry) if retry.isdigit() else None)


def _form_fields(options: Mapping[str, Any], boundary: str) -> Iterator[bytes]:
    for name, value in options.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is not None:
                text = str(one).lower() if isinstance(one, bool) else str(one)
                yield _form_head(boundary, name) + text.encode() + b"\r\n"


def _form_head(boundary: str, name: str, filename: str | None = None) -> bytes:
    plain = None if filename is None else filename.encode("utf-8", "replace").decode().translate(_ESCAPED)
    about = f'; filename="{plain}"\r\nContent-Type: application/octet-stream' if plain is not None else ""
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{about}\r\n\r\n'.encode()


_ESCAPED = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A", "\\": "_"})


def _form(before: bytes, file: Path, after: bytes) -> Iterator[bytes]:
    """The body of an upload, piece by piece."""
    yield before
    with file.open("rb") as content:
        while piece := content.read(_CHUNK_BYTES):
            yield piece
    yield after
