"""What a request brings: a question, in JSON or in the fields of a form, and a video, uploaded or below the root."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError, UnreadableVideo
from prismhub.server.asked import Asked
from prismhub.server.questions import VideoQuestion
from prismhub.server.refusal import Refused, public_text
from prismhub.server.served_files import upload_name

if TYPE_CHECKING:
    from prismhub.server.app import Served

_MOST_JSON, _MOST_FIELD = 4 << 20, 64 << 10  # bytes
_LISTS = ("adapters", "candidates", "labels", "templates", "text")
Question = TypeVar("Question", bound=VideoQuestion)


async def read_question(request: Request, kind: type[Question]) -> tuple[Question, UploadFile | None]:
    """A question and what was uploaded with it, of a form or of JSON.

    Raises:
        Refused: it is neither, or holds fields that are unknown or wrong; the first is named.
    """
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    upload: UploadFile | None = None
    try:
        if sent == "multipart/form-data":
            form = await request.form(max_files=1, max_fields=2000, max_part_size=_MOST_FIELD)
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
            fields = json.loads(await _read_json(request))
        else:
            raise Refused(415, "send multipart/form-data with the video as `file`, or application/json")
        return kind.model_validate(fields), upload
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(422, f"the body is no JSON: {error}") from error
    except ValidationError as error:
        raise Refused(422, first_problem(error.errors())) from error


async def _read_json(request: Request) -> bytes:
    """The body of a request, of which no more is read than it may have."""
    length, body = request.headers.get("content-length", "0"), bytearray()
    too_large = Refused(413, f"JSON may have {_MOST_JSON >> 20} MB, no more", {"Connection": "close"})
    if not length.isdigit() or int(length) > _MOST_JSON:
        raise too_large
    async for part in request.stream():
        body += part
        if len(body) > _MOST_JSON:
            raise too_large
    return bytes(body)


@asynccontextmanager
async def asked_video(
    served: Served, question: VideoQuestion, upload: UploadFile | None, deadline: float
) -> AsyncIterator[Asked]:
    """The clip that a question is about, while the block asks; what was uploaded goes when it ends.

    Raises:
        Refused: not one video, or it cannot be answered about.
    """
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
            yield asked
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


def clip_of(path: str, question: VideoQuestion) -> Clip:
    """The clip that a question is about.

    Raises:
        InputError: it ends before it begins.
    """
    return Clip(path, question.start, question.end)


def _sample_name(name: str, question: VideoQuestion) -> str:
    """What answers call the clip, as `prismhub predict` does."""
    from tasks.readers.annotations import bounds_text

    return name + bounds_text(clip_of(name, question))


def first_problem(errors: Any) -> str:
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    return f"{where or 'the body'}: {first['msg'][:1].lower()}{first['msg'][1:]}"


def body_of(kind: type[BaseModel]) -> dict[str, Any]:
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
