"""The routes of archives: what they hold, search in them, and their scenes with picture and video."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import JSONResponse, Response

from prismhub.server.indexed_files import file_answer, open_indexed, picture_answer
from prismhub.server.questions import ExampleQuestion, SceneQuestion, SearchQuestion
from prismhub.server.refusal import Refused
from prismhub.server.request_bodies import asked_video, body_of, read_question

if TYPE_CHECKING:
    from prismhub.server.app import Served
    from prismhub.server.archives import ServedArchive
    from prismhub.server.asked import Asked


async def like_example(served: Served, archive: ServedArchive, question: SceneQuestion, asked: Asked) -> Any:
    """The scenes of an archive that answer a question and are like a clip."""
    space = await asyncio.wrap_future(archive.space())
    vector = await served.begin(served.answering.example, asked, space)
    return await asyncio.wrap_future(archive.search(question, example=(asked.name, vector)))


def add_archives(app: FastAPI, served: Served) -> None:
    """The routes about archives."""

    @app.get("/v1/archives", summary="The archives that can be searched")
    async def list_archives() -> dict[str, Any]:
        return {"archives": [await asyncio.to_thread(one.describe) for one in served.archives]}

    @app.get("/v1/search", summary="Scenes by words, by condition, or like another scene")
    async def search(question: Annotated[SearchQuestion, Query()]) -> JSONResponse:
        async with served.admitted():
            if question.q is None and question.where is None and question.like is None:
                raise Refused(422, "say what to look for: q, where or like")
            archive = served.archives.find(question.archive)
            return JSONResponse(await asyncio.wrap_future(archive.search(question, like=question.like)))

    @app.post("/v1/search", summary="Scenes like an example video", openapi_extra=body_of(ExampleQuestion))
    async def search_by_example(request: Request) -> JSONResponse:
        async with served.admitted() as deadline:
            question, upload = await read_question(request, ExampleQuestion)
            archive = served.archives.find(question.archive)
            async with asked_video(served, question, upload, deadline) as asked:
                return JSONResponse(await like_example(served, archive, question, asked))

    @app.get("/v1/scenes/{number}", summary="All that is known of a scene")
    async def scene(number: int, archive: str | None = None) -> dict[str, Any]:
        return await asyncio.to_thread(served.archives.find(archive).scene, number)

    @app.head("/v1/scenes/{number}/thumbnail", include_in_schema=False)
    @app.get("/v1/scenes/{number}/thumbnail", summary="The picture of a scene, a JPEG", response_class=Response)
    async def thumbnail(request: Request, number: int, archive: str | None = None) -> Response:
        kept = await asyncio.to_thread(served.archives.find(archive).kept, number, thumbnail=True)
        if not kept.scene.thumbnail:
            raise Refused(404, f"scene {number} has no picture")
        return picture_answer(kept.scene.thumbnail, request.headers)

    @app.head("/v1/scenes/{number}/video", include_in_schema=False)
    @app.get("/v1/scenes/{number}/video", summary="The video of a scene, whole or in ranges", response_class=Response)
    async def video(request: Request, number: int, archive: str | None = None) -> Response:
        served.streams.check()
        kept = await asyncio.to_thread(served.archives.find(archive).kept, number)
        return file_answer(await asyncio.to_thread(open_indexed, kept.video), request.headers, served.streams)
