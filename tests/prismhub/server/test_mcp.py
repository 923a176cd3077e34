"""`prismhub mcp` as an MCP client starts it: a process of its own, asked over stdio by the package's own client."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import prismhub
from prismhub.cli import run
from tests import ROOT
from tests.prismhub.server.test_archives import LEFT, world  # noqa: F401 (a fixture)
from tests.prismhub.server.test_ending import of_home, until

Call = Callable[..., Awaitable[Any]]


def with_tools(home: Path, options: list[str], use: Callable[[Any, Call], Awaitable[None]], tmp_path: Path) -> str:
    """Start the command with these options, hand a client and a way to call tools to `use`; what was said on stderr."""
    from mcp import Client, StdioServerParameters, stdio_client

    words = ["-m", "prismhub", "mcp", "--accelerator", "cpu", *options]
    given = {"PRISMHUB_HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    started = StdioServerParameters(command=sys.executable, args=words, env=given, cwd=ROOT)

    async def talk() -> None:
        with (tmp_path / "stderr.txt").open("w") as said:
            async with Client(stdio_client(started, errlog=said)) as client:

                async def call(name: str, **arguments: Any) -> Any:
                    answer = await client.call_tool(name, arguments)
                    (content,) = answer.content
                    if answer.is_error:
                        assert "\n" not in content.text, content.text
                        return content.text
                    return json.loads(content.text)

                await use(client, call)

    asyncio.run(talk())
    return (tmp_path / "stderr.txt").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_tools_answer_as_the_commands_do(
    private_home: Path,
    world: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(world / "videos")
    predicted = prismhub.predict("holiday.mp4", adapter="x").predictions[0]
    labels = ["a green square moving up", "a blue star"]
    named = prismhub.zero_shot("holiday.mp4", labels=labels, template="{}").predictions[0]
    found = prismhub.search(world / "archive", LEFT, top=2)
    alike = prismhub.search(world / "archive", like="holiday.mp4", start=0.0, end=1.0)
    monkeypatch.chdir(ROOT)

    async def use(client: Any, call: Call) -> None:
        tools = {one.name: one for one in (await client.list_tools()).tools}
        assert list(tools) == ["search", "predict", "zero_shot"]
        assert all(one.description and one.annotations.read_only_hint for one in tools.values())
        assert tools["predict"].input_schema["required"] == ["video"]
        assert "Adapters: x. Archives: archive." in client.instructions and client.server_info.name == "prismhub"

        (answer,) = (await call("predict", video="holiday.mp4"))["x"]
        assert (answer["video"], answer["label"]) == ("holiday.mp4", predicted.describe()["label"])
        answer = await call("zero_shot", video="holiday.mp4", labels=labels, template="{}")
        assert isinstance(answer, dict), answer
        assert answer["label"] == named.describe()["label"] and set(answer["scores"]) == set(labels)

        scenes = (await call("search", q=LEFT, top=2))["scenes"]
        assert [(one["id"], one["start"]) for one in scenes] == [(one.id, one.start_s) for one in found]
        assert scenes[0]["video"] == "derby 2024/GoalReplay3.mp4" and "thumbnail" not in scenes[0]
        by_video = (await call("search", video="holiday.mp4", start=0.0, end=1.0))["scenes"]
        assert [one["id"] for one in by_video] == [one.id for one in alike]
        by_scene = (await call("search", like=scenes[0]["id"]))["scenes"]
        assert scenes[0]["id"] not in {one["id"] for one in by_scene}
        spoken = (await call("search", where="speech like '%goal%'"))["scenes"]
        assert spoken[0]["speech"].startswith("what a goal")
        several = await asyncio.gather(*(call("predict", video="holiday.mp4") for _ in range(6)))
        assert all(one == several[0] for one in several)

    said = with_tools(
        private_home,
        ["--adapter", "x", "--archive", str(world / "archive"), "--root", str(world / "videos")],
        use,
        tmp_path,
    )
    assert "Traceback" not in said, said
    if Path("/proc").exists():
        until(lambda: not of_home(private_home))


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_errors_are_one_line_and_the_server_goes_on(
    private_home: Path,
    world: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "text.mp4").write_text("no video")
    (root / "out.mp4").symlink_to(world / "videos" / "holiday.mp4")

    async def use(client: Any, call: Call) -> None:
        for name, arguments, says in (
            ("predict", {"video": "gone.mp4"}, "no video 'gone.mp4' below the served root"),
            ("predict", {"video": "out.mp4"}, "no video 'out.mp4' below the served root"),
            ("predict", {"video": "../../etc/passwd"}, "below the served root"),
            ("predict", {"video": "http://127.0.0.1/a.mp4"}, "not a URL"),
            ("predict", {"video": "text.mp4"}, "text, not a video"),
            ("predict", {"video": "text.mp4", "adapters": ["y"]}, "the server has no adapter 'y'"),
            ("predict", {}, "video: field required"),
            ("predict", {"video": "text.mp4", "start": -1}, "start: input should be greater"),
            ("predict", {"video": ["a", "b"]}, "video: input should be a valid string"),
            ("zero_shot", {"video": "text.mp4", "labels": ["a"]}, "at least two different names"),
            ("search", {}, "say what to look for"),
            ("search", {"q": "a", "archive": "other"}, "no archive 'other'"),
            ("search", {"q": "a", "mode": "sql"}, "mode: input should be 'hybrid'"),
            ("search", {"where": "lable = 'x'"}, "did you mean 'label'"),
            ("search", {"q": "a", "top": 10**6}, "top: input should be less"),
            ("search", {"like": 1, "video": "text.mp4"}, "give like or video"),
            ("search", {"like": 10**9}, "has no scene"),
            ("sarch", {}, "sarch"),
        ):
            said = await call(name, **arguments)
            assert isinstance(said, str) and says in said, (name, arguments, said)
            assert str(tmp_path) not in said and str(world) not in said
        assert (await call("search", q="goal"))["scenes"]

    with_tools(
        private_home, ["--adapter", "x", "--archive", str(world / "archive"), "--root", str(root)], use, tmp_path
    )


def test_stdout_holds_the_protocol_and_nothing_else(private_home: Path, tmp_path: Path) -> None:
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "0"},
        },
    }
    lines = [
        hello,
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
    ]
    words = [sys.executable, "-m", "prismhub", "mcp", "--root", str(tmp_path), "--accelerator", "cpu"]
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ,
    )
    assert process.stdin is not None and process.stdout is not None
    for line in lines:
        process.stdin.write(json.dumps(line) + "\n")
    process.stdin.flush()
    answers = [json.loads(process.stdout.readline()) for _ in range(2)]
    rest, said = process.communicate(timeout=60)  # stdin ends, and the server with it
    assert [one["id"] for one in answers] == [1, 2] and rest == "" and process.returncode == 0, said
    assert {one["name"] for one in answers[1]["result"]["tools"]} == {"search", "predict", "zero_shot"}
    assert "Traceback" not in said


def test_what_is_missing_is_said_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for options, says in (
        (["--archive", str(tmp_path / "gone")], "no such folder"),
        (["--adapter", "gone"], "no adapter named 'gone'"),
        (["--root", str(tmp_path / "gone")], "no such folder"),
    ):
        assert run(["mcp", *options]) == 2
        shown = capfd.readouterr()
        assert says in shown.err and shown.err.count("\n") == 1 and not shown.out
