"""The server's answers as tools of the Model Context Protocol: search, predict and zero-shot on files below a root."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp_types import ToolAnnotations
from pydantic import ValidationError

from core_encoder.errors import InputError
from prismhub.server.app import Served
from prismhub.server.archive_routes import like_example
from prismhub.server.questions import ExampleQuestion, PredictQuestion, SearchQuestion, VideoQuestion, ZeroShotQuestion
from prismhub.server.refusal import Refused, public_text
from prismhub.server.request_bodies import asked_video, first_problem

_ON_A_SERVER = ("thumbnail", "stream")  # of a scene: addresses that lead nowhere here


class ToolServer(MCPServer[Any]):
    """An MCP server whose errors are one line each."""

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        """Call a tool; what is wrong with its arguments is said as the HTTP server says it."""
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError:  # its message tells nothing of the machine, the log tells all
            raise
        except ToolError as error:
            problem = error.__cause__
            text = first_problem(problem.errors()) if isinstance(problem, ValidationError) else str(error)
            raise ToolError(" ".join(text.split())) from None


def make_tools(served: Served, version: str) -> ToolServer:
    """The tools of what is served, ready to run."""
    hub = served.answering.hub
    archives = ", ".join(one.name for one in served.archives) or "none"
    about = (
        f"Questions about videos. Adapters: {', '.join(hub.adapters) or 'none'}. Archives: {archives}. "
        "Videos are named by their paths below the served root."
    )
    tools = ToolServer("prismhub", instructions=about, version=version, log_level="WARNING")
    reads = ToolAnnotations(read_only_hint=True, open_world_hint=False)

    async def search(
        q: str = "",
        archive: str = "",
        where: str = "",
        like: int | None = None,
        video: str = "",
        start: float | None = None,
        end: float | None = None,
        mode: str = "hybrid",
        top: int = 10,
        anyway: bool = False,
    ) -> dict[str, Any]:
        """Find scenes in an archive of videos, by words (q), by a condition, or like an example.

        where is a condition such as: label = 'goal' and duration > 2. like is the id of a scene, video the path of an
        example below the root, of which start and end choose seconds. mode is hybrid, vector (looks) or text (words).
        Scenes come with id, video, start and end in seconds, labels, caption and speech, the best first.
        """
        common = {"mode": mode, "top": top, "anyway": anyway} | _given(q=q, archive=archive, where=where)
        if not video:
            return await _answered(served, lambda deadline: _search(served, common | {"like": like}))
        if like is not None:
            raise ToolError("give like or video, not both")
        fields = common | {"video": video, "end": end} | ({} if start is None else {"start": start})
        return await _answered(served, lambda deadline: _search_by_example(served, fields, deadline))

    async def predict(
        video: str,
        adapters: list[str] | None = None,
        start: float = 0.0,
        end: float | None = None,
        window: float | None = None,
        step: float | None = None,
        question: str = "",
        threshold: float | None = None,
        top: int | None = None,
    ) -> dict[str, Any]:
        """What trained adapters say of a video: labels, segments, captions or answers, by adapter.

        window asks for an answer for every so many seconds, one each step seconds. question is for adapters that
        answer questions.
        """
        given = {"window": window, "step": step, "threshold": threshold, "top": top} | _given(question=question)
        fields = {"video": video, "adapters": adapters, "start": start, "end": end} | given
        ask = served.answering.predict
        return await _answered(served, lambda deadline: _ask(served, PredictQuestion, fields, ask, deadline))

    async def zero_shot(
        video: str,
        labels: list[str],
        template: str = "",
        adapter: str = "",
        start: float = 0.0,
        end: float | None = None,
    ) -> dict[str, Any]:
        """Which of some classes a video shows, told by their names alone, without training.

        template is a text with {} for the name, such as: a video of {}.
        """
        given = {"labels": labels, "all_scores": True} | _given(template=template, adapter=adapter)
        fields = {"video": video, "start": start, "end": end} | given
        ask = served.answering.zero_shot
        (answer,) = await _answered(served, lambda deadline: _ask(served, ZeroShotQuestion, fields, ask, deadline))
        return answer

    for tool in (search, predict, zero_shot):
        tools.add_tool(tool, annotations=reads, structured_output=False)
    return tools


def _given(**texts: str) -> dict[str, str]:
    """Texts that are not empty; the package reads one that may also be None as JSON where it can, such as `{}`."""
    return {name: text for name, text in texts.items() if text}


async def _answered(served: Served, ask: Callable[[float], Awaitable[Any]]) -> Any:
    """The answer, or why there is none as the error of a tool."""
    try:
        async with served.admitted() as deadline:
            return await ask(deadline)
    except Refused as error:
        raise ToolError(error.message) from error
    except ValidationError as error:
        raise ToolError(first_problem(error.errors())) from error
    except InputError as error:
        raise ToolError(public_text(str(error), served.hidden)) from error


async def _ask(served: Served, kind: type[VideoQuestion], fields: Any, ask: Any, deadline: float) -> Any:
    question = kind.model_validate(fields)
    async with asked_video(served, question, None, deadline) as asked:
        return await served.begin(ask, asked, question)


async def _search(served: Served, fields: Any) -> dict[str, Any]:
    question = SearchQuestion.model_validate(fields)
    if question.q is None and question.where is None and question.like is None:
        raise Refused(422, "say what to look for: q, where, like or video")
    archive = served.archives.find(question.archive)
    return _told(await asyncio.wrap_future(archive.search(question, like=question.like)))


async def _search_by_example(served: Served, fields: Any, deadline: float) -> dict[str, Any]:
    question = ExampleQuestion.model_validate(fields)
    archive = served.archives.find(question.archive)
    async with asked_video(served, question, None, deadline) as asked:
        return _told(await like_example(served, archive, question, asked))


def _told(found: dict[str, Any]) -> dict[str, Any]:
    """A search's answer without what only a page can show."""
    for scenes in (found["scenes"], found["nearest"]):
        for one in scenes:
            for name in _ON_A_SERVER:
                del one[name]
    return found
