"""The HTTP side of the server: FastAPI's routes, and what happens to every request around them."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core_encoder.errors import InputError
from prismhub.server.answering import Answering
from prismhub.server.api_page import api_page
from prismhub.server.archive_routes import add_archives
from prismhub.server.archives import ServedArchives
from prismhub.server.decode_pool import TookTooLong
from prismhub.server.guard import Guard
from prismhub.server.indexed_files import Streams
from prismhub.server.metrics import Metrics
from prismhub.server.page_routes import add_page
from prismhub.server.questions import AdapterToLoad, EmbedQuestion, PredictQuestion, VideoQuestion, ZeroShotQuestion
from prismhub.server.refusal import Refused, public_text
from prismhub.server.request_bodies import Question, asked_video, body_of, first_problem, read_question
from prismhub.server.served_files import ServedRoot, Uploads
from prismhub.server.settings import AnsweringSettings, ServeSettings
from prismhub.server.tickets import Tickets

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:"),
    (b"referrer-policy", b"no-referrer"),
)  # of every answer that has none of its own
log = logging.getLogger(__name__)


@dataclass(eq=False)
class Served:
    """What the routes work with."""

    settings: AnsweringSettings
    answering: Answering
    uploads: Uploads
    metrics: Metrics
    root: ServedRoot
    hidden: dict[str, str]  # folders of this machine, which no client is told of
    report: Path | None = None  # a page of results
    archives: ServedArchives = field(default_factory=ServedArchives)
    tickets: Tickets = field(default_factory=lambda: Tickets(needed=False))
    streams: Streams = field(default_factory=Streams)
    running: int = 0
    mean_seconds: float = 1.0  # of the last requests, the later the more
    decoders: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self.decoders = ThreadPoolExecutor(self.settings.reading.workers, thread_name_prefix="decode")
        self.answering.lanes.admitted = lambda: self.running

    @asynccontextmanager
    async def admitted(self) -> AsyncIterator[float]:
        """A place in the queue while the block runs, and until when.

        Raises:
            Refused: no place is free, or the time is over.
        """
        if self.running >= self.settings.queue:
            wait_s = max(1, math.ceil(self.mean_seconds))
            raise Refused(503, "too many requests at once: try again later", {"Retry-After": str(wait_s)})
        self.running += 1
        began = time.monotonic()
        try:
            async with asyncio.timeout(self.settings.max_seconds):
                yield time.monotonic() + self.settings.max_seconds
        except (TimeoutError, TookTooLong) as error:
            text = f"it took longer than the {self.settings.max_seconds:g} s that a request may take"
            raise Refused(504, text) from error
        finally:
            self.running -= 1
            self.mean_seconds += 0.1 * (time.monotonic() - began - self.mean_seconds)

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
    settings = served.settings
    assert isinstance(settings, ServeSettings)
    guard = Guard(settings.key, settings.host, settings.allow_host, served.tickets)
    app.add_middleware(_Around, served=served, guard=guard, max_upload_mb=settings.max_upload_mb)
    _add_errors(app, served)
    _add_questions(app, served)
    _add_adapters(app, served)
    add_archives(app, served)
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

    @app.post("/v1/predict", summary="What adapters say of a video", openapi_extra=body_of(PredictQuestion))
    async def predict(request: Request) -> JSONResponse:
        async with served.admitted() as deadline:
            return await _ask(served, request, PredictQuestion, served.answering.predict, deadline)

    @app.post("/v1/zero-shot", summary="Which of some classes a video shows", openapi_extra=body_of(ZeroShotQuestion))
    async def zero_shot(request: Request) -> JSONResponse:
        async with served.admitted() as deadline:
            return await _ask(served, request, ZeroShotQuestion, served.answering.zero_shot, deadline)

    @app.post("/v1/embed", summary="The vectors of a video, or of texts", openapi_extra=body_of(EmbedQuestion))
    async def embed(request: Request) -> JSONResponse:
        async with served.admitted() as deadline:
            question, upload = await read_question(request, EmbedQuestion)
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
            "report": served.report is not None,
            "report_page": served.tickets.address("/report") if served.report else None,
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
    question, upload = await read_question(request, kind)
    return await _ask_about(served, question, upload, ask, deadline)


async def _ask_about(
    served: Served, question: VideoQuestion, upload: UploadFile | None, ask: Callable[..., Any], deadline: float
) -> JSONResponse:
    async with asked_video(served, question, upload, deadline) as asked:
        return JSONResponse(await served.begin(ask, asked, question))


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
        return JSONResponse({"error": first_problem(error.errors())}, 422)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code, error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        return JSONResponse({"error": "the upload stopped half way"}, 400)  # nobody is there to read it


class _Around:
    """Around every request: the guard before it, the limit of its body, its line in the metrics, and its failure."""

    def __init__(self, app: ASGIApp, served: Served, guard: Guard, max_upload_mb: float) -> None:
        self._app, self._served, self._guard = app, served, guard
        self._max_upload_mb, self._limit = max_upload_mb, int(max_upload_mb * 1_000_000)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, read = time.monotonic(), 500, 0
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        text = f"an upload may have {self._max_upload_mb:g} MB, no more"
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
            self._guard.check(scope["method"], scope["path"], headers, scope["query_string"].decode("latin-1"))
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
