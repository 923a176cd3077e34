"""The HTTP side of the server: FastAPI's routes, and what happens to every request around them."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core_encoder.errors import InputError, UnreadableVideo
from prismhub.server.answering import Answering, Asked, clip_of
from prismhub.server.api_page import api_page
from prismhub.server.decode_pool import TookTooLong
from prismhub.server.guard import Guard
from prismhub.server.metrics import Metrics
from prismhub.server.page_routes import add_page
from prismhub.server.questions import AdapterToLoad, EmbedQuestion, PredictQuestion, VideoQuestion, ZeroShotQuestion
from prismhub.server.refusal import Refused, public_text
from prismhub.server.served_files import ServedRoot, Uploads, upload_name
from prismhub.server.settings import ServeSettings

_MOST_JSON = 4 << 20
_LISTS = ("adapters", "candidates", "labels", "templates", "text")
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"),
    (b"referrer-policy", b"no-referrer"),
)  # of every answer that has none of its own
Question = TypeVar("Question", bound=VideoQuestion)
log = logging.getLogger(__name__)


@dataclass(eq=False)
class Served:
    """What the routes work with."""

    settings: ServeSettings
    answering: Answering
    uploads: Uploads
    metrics: Metrics
    root: ServedRoot
    hidden: dict[str, str]  # folders of this machine, which no client is told of
    running: int = 0
    decoders: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.decoders = ThreadPoolExecutor(self.settings.reading.workers, thread_name_prefix="decode")

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[float]:
        """A place in the queue while the block runs, and until when.

        Raises:
            Refused: no place is free, or the time is over.
        """
        if self.running >= self.settings.queue:
            wait_s = max(1, math.ceil(self.metrics.mean_seconds))
            raise Refused(503, "too many requests at once: try again later", {"Retry-After": str(wait_s)})
        self.running += 1
        try:
            async with asyncio.timeout(self.settings.max_seconds):
                yield time.monotonic() + self.settings.max_seconds
        except (TimeoutError, TookTooLong) as error:
            text = f"it took longer than the {self.settings.max_seconds:g} s that a request may take"
            raise Refused(504, text) from error
        finally:
            self.running -= 1

    async def begin(self, ask: Callable[..., Any], *about: Any) -> Any:
        """Ask in a thread that may wait for a decode process, and wait for the answer."""
        future = await asyncio.get_running_loop().run_in_executor(self.decoders, ask, *about)
        return await asyncio.wrap_future(future)


def make_app(served: Served) -> FastAPI:
    """The application, ready for a server."""
    app = FastAPI(
        title="prismhub",
        description="One frozen video encoder in memory, many adapters on it.",
        docs_url=None,  # FastAPI's page loads scripts from elsewhere; ours needs none
        redoc_url=None,
    )
    guard = Guard(served.settings.key, served.settings.host, served.settings.allow_host)
    app.add_middleware(_Around, served=served, guard=guard)
    _add_errors(app, served)
    _add_questions(app, served)
    _add_adapters(app, served)
    add_page(app, served)

    @app.get("/healthz", summary="Whether the server is there; needs no key")
    async def healthz() -> dict[str, Any]:
        hub = served.answering.hub
        wants_key = served.settings.key is not None
        return {"status": "ok", "encoder": hub.encoder.name, "adapters": list(hub.adapters), "wants_key": wants_key}

    @app.get("/metrics", summary="Counters for Prometheus", response_class=PlainTextResponse)
    async def metrics() -> PlainTextResponse:
        return PlainTextResponse(served.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(api_page(app.openapi()))

    return app


def _add_questions(app: FastAPI, served: Served) -> None:
    """The routes that answer about a video."""

    @app.post("/v1/predict", summary="What adapters say of a video", openapi_extra=_body_of(PredictQuestion))
    async def predict(request: Request) -> JSONResponse:
        async with served.admitted() as deadline:
            return await _ask(served, request, PredictQuestion, served.answering.predict, deadline)

    @app.post("/v1/zero-shot", summary="Which of some classes a video shows", openapi_extra=_body_of(ZeroShotQuestion))
    async def zero_shot(request: Request) -> JSONResponse:
        async with served.admitted() as deadline:
            return await _ask(served, request, ZeroShotQuestion, served.answering.zero_shot, deadline)

    @app.post("/v1/embed", summary="The vectors of a video, or of texts", openapi_extra=_body_of(EmbedQuestion))
    async def embed(request: Request) -> JSONResponse:
        async with served.admitted() as deadline:
            question, upload = await _read(request, EmbedQuestion)
            if question.text is None:
                return await _ask_about(served, question, upload, served.answering.embed, deadline)
            if upload is not None or question.video is not None:
                raise Refused(422, "give a video or texts, not both")
            texts = [question.text] if isinstance(question.text, str) else question.text
            return JSONResponse(await served.begin(served.answering.embed_texts, texts, deadline))


def _add_adapters(app: FastAPI, served: Served) -> None:
    """The routes about the adapters themselves."""

    @app.get("/v1/adapters", summary="The adapters that answer, and those that could be loaded")
    def list_loaded() -> dict[str, Any]:
        from adapters.registry import list_adapters

        hub = served.answering.hub
        loaded = [
            {
                "name": name,
                "kind": one.kind,
                "answers": one.target_kind,
                "labels": list(one.answer_labels),
                "needs": list(one.needed_inputs),
                "threshold": getattr(one.config, "threshold", None),
                "task": one.info.task,
                "license": one.info.license,
                "metric": one.info.evaluations[0].main_metric if one.info.evaluations else None,
                "score": one.info.evaluations[0].main if one.info.evaluations else None,
            }
            for name, one in hub.adapters.items()
        ]
        return {
            "encoder": {
                "name": hub.encoder.name,
                "fingerprint": hub.encoder.fingerprint,
                "words": hub.encoder.has_text,
            },
            "adapters": loaded,
            "available": [one.ref for one in list_adapters() if one.encoder == hub.encoder.name],
            "report": served.settings.report is not None,
        }

    @app.post("/v1/adapters", status_code=201, summary="Load an adapter of the server's registry")
    def load(wanted: AdapterToLoad) -> dict[str, str]:
        return {"name": served.answering.add_adapter(wanted.adapter, wanted.name)}

    @app.delete("/v1/adapters/{name}", summary="Let an adapter go")
    def unload(name: str) -> dict[str, str]:
        served.answering.remove_adapter(name)
        return {"name": name}


async def _ask(
    served: Served, request: Request, kind: type[Question], ask: Callable[..., Any], deadline: float
) -> JSONResponse:
    question, upload = await _read(request, kind)
    return await _ask_about(served, question, upload, ask, deadline)


async def _ask_about(
    served: Served, question: VideoQuestion, upload: UploadFile | None, ask: Callable[..., Any], deadline: float
) -> JSONResponse:
    """Ask about the video of a question; what was uploaded goes when the answer is there."""
    if (upload is None) == (question.video is None):
        raise Refused(422, "give one video: upload it as the field `file`, or name a path below the root as `video`")
    path: Path | None = None
    try:
        if upload is not None:
            name = upload_name(upload.filename)
            path = where = await asyncio.to_thread(served.uploads.keep, upload.file, name)
        else:
            assert question.video is not None
            name, where = question.video, served.root.find(question.video)
        asked = Asked(clip_of(str(where), question), _sample_name(name, question), deadline)
        try:
            return JSONResponse(await served.begin(ask, asked, question))
        except InputError as error:
            reason = error.reason if isinstance(error, UnreadableVideo) else str(error)
            raise Refused(422, public_text(reason, served.hidden | {str(where): name})) from error
        finally:
            served.answering.over(asked)
    finally:
        if path is not None:
            path.unlink(missing_ok=True)
        if upload is not None:
            await upload.close()


def _sample_name(name: str, question: VideoQuestion) -> str:
    """What answers call the clip, as `prismhub predict` does."""
    from tasks.readers.annotations import bounds_text

    return name + bounds_text(clip_of(name, question))


async def _read(request: Request, kind: type[Question]) -> tuple[Question, UploadFile | None]:
    """A question and what was uploaded with it, of a form or of JSON.

    Raises:
        Refused: it is neither, or holds fields that are unknown or wrong; the first is named.
    """
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    upload: UploadFile | None = None
    try:
        if sent == "multipart/form-data":
            form = await request.form(max_files=1, max_fields=2000)
            fields: dict[str, Any] = {}
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    upload = value
                    if name != "file":
                        raise Refused(422, f"the video is uploaded as the field `file`, not {name!r}")
                elif name in fields:
                    before = fields[name]
                    fields[name] = [*before, value] if isinstance(before, list) else [before, value]
                else:
                    fields[name] = [value] if name in _LISTS and name not in ("adapters", "labels") else value
        elif sent == "application/json":
            body = await request.body()
            if len(body) > _MOST_JSON:
                raise Refused(413, f"JSON may have {_MOST_JSON >> 20} MB, no more")
            fields = json.loads(body)
        else:
            raise Refused(415, "send multipart/form-data with the video as `file`, or application/json")
        return kind.model_validate(fields), upload
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(422, f"the body is no JSON: {error}") from error
    except ValidationError as error:
        raise Refused(422, _first_problem(error.errors())) from error


def _first_problem(errors: Any) -> str:
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return f"{where or 'the body'}: {first['msg'][:1].lower()}{first['msg'][1:]}"


def _body_of(kind: type[BaseModel]) -> dict[str, Any]:
    """How OpenAPI describes a body that is JSON, or a form with a file."""
    schema = kind.model_json_schema()
    upload = {"file": {"type": "string", "format": "binary", "description": "The video."}}
    form = schema | {"properties": upload | {k: v for k, v in schema["properties"].items() if k != "video"}}
    return {
        "requestBody": {
            "required": True,
            "content": {"multipart/form-data": {"schema": form}, "application/json": {"schema": schema}},
        }
    }


def _add_errors(app: FastAPI, served: Served) -> None:
    """Every error is `{"error": "one line"}`."""

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"error": error.message}, error.status, error.headers)

    @app.exception_handler(InputError)
    async def wrong(request: Request, error: InputError) -> JSONResponse:
        return JSONResponse({"error": public_text(str(error), served.hidden)}, 422)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": _first_problem(error.errors())}, 422)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        return JSONResponse({"error": "the upload stopped half way"}, 400)  # nobody is there to read it


class _Around:
    """Around every request: the guard before it, the limit of its body, its line in the metrics, and its failure."""

    def __init__(self, app: ASGIApp, served: Served, guard: Guard) -> None:
        self._app, self._served, self._guard = app, served, guard
        self._limit = int(served.settings.max_upload_mb * 1_000_000)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, read = time.monotonic(), 500, 0
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        text = f"an upload may have {self._served.settings.max_upload_mb:g} MB, no more"
        too_large = Refused(413, text, {"Connection": "close"})  # else the rest of it would still be read

        async def limited() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._limit:
                raise too_large
            return message

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in _HEADERS if one[0] not in own)]
            await send(message)

        try:
            self._guard.check(scope["method"], scope["path"], headers)
            length = headers.get("content-length", "0")
            if not length.isdigit() or int(length) > self._limit:
                raise too_large
            await self._app(scope, limited, noted)
        except Refused as error:
            await JSONResponse({"error": error.message}, error.status, error.headers)(scope, receive, noted)
        except Exception:
            log.exception("%s %s failed", scope["method"], scope["path"])
            if status == 500:
                await JSONResponse({"error": "the server failed; its own log says why"}, 500)(scope, receive, noted)
        finally:
            route = scope.get("route")
            self._served.metrics.request(getattr(route, "path", "other"), status, time.monotonic() - began)
