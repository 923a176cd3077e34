"""What a stranger may try on archives: paths, links, ranges, conditions, tickets, pages of other sites."""

from __future__ import annotations

import hmac
import os
import re
import shutil
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

import prismhub
from prismhub.client import ServerError
from prismhub.server import tickets as tickets_module
from prismhub.server.indexed_files import range_of
from prismhub.server.refusal import Refused
from prismhub.server.tickets import Tickets
from tests.prismhub.server.serving import Running, serving
from tests.prismhub.server.test_archives import own, world  # noqa: F401 (fixtures)
from tests.prismhub.server.test_attacks import _until
from tests.videos import moving_square, write_video


def below(url: str) -> str:
    """Path and query of an address."""
    return "/" + url.split("#")[0].split("/", 3)[3]


def scene_of(server: Running, name: str) -> int:
    """The first scene of a video."""
    return int(server.client.search(where=f"name = '{name}'", all=True)[0].id)


def test_only_the_file_that_was_indexed_is_given_out(own: Path) -> None:  # noqa: F811
    videos, secret = own.parent / "videos", own.parent / "secret.mp4"
    write_video(secret, moving_square(seed=3))
    (videos / "notes.txt").write_text("a text of the owner")
    holiday = videos / "holiday.mp4"
    content = holiday.read_bytes()
    with serving(archive=[str(own)]) as server:
        number = scene_of(server, "holiday.mp4")

        def status() -> tuple[int, bytes]:
            reply = server.request("GET", f"/v1/scenes/{number}/video")
            assert server.request("HEAD", f"/v1/scenes/{number}/video").status == reply.status
            if reply.status == 404:
                assert reply.error == "the video 'holiday.mp4' is not there as it was indexed"
            return reply.status, reply.body

        assert status() == (200, content)
        for target in (secret, videos / "notes.txt", "/etc/hostname", videos / "derby 2024" / "GoalReplay3.mp4"):
            holiday.unlink()
            holiday.symlink_to(target)
            assert status()[0] == 404, target
        holiday.unlink()
        os.mkfifo(holiday)
        assert status()[0] == 404
        holiday.unlink()
        assert status()[0] == 404, "it was moved away"
        holiday.mkdir()
        assert status()[0] == 404
        holiday.rmdir()
        holiday.write_bytes(content[:-1] + b"x")
        assert status()[0] == 404, "another file of the same name"
        holiday.write_bytes(content)
        assert status() == (200, content)

        inside, outside = videos / "elsewhere.mp4", own.parent / "elsewhere.mp4"
        shutil.copy(holiday, inside)
        holiday.unlink()
        holiday.symlink_to(inside)
        assert status() == (200, content), "a link to the same video within the folder leads nowhere else"
        shutil.move(inside, outside)
        holiday.unlink()
        holiday.symlink_to(outside)
        assert status()[0] == 404, "the same bytes, outside of the folder"

        deep = scene_of(server, "GoalReplay3.mp4")
        assert server.request("GET", f"/v1/scenes/{deep}/video").status == 200
        shutil.move(videos / "derby 2024", own.parent / "derby")
        (videos / "derby 2024").symlink_to(own.parent / "derby")
        assert server.request("GET", f"/v1/scenes/{deep}/video").status == 404, "a folder became a link that leads out"
        assert server.client.search("goal")[0].id == deep, (
            "what is known of it stays until the archive is indexed again"
        )
        assert server.client.scenes(deep).thumbnail_url


def test_paths_are_no_numbers(own: Path) -> None:  # noqa: F811
    with serving(archive=[str(own)]) as server:
        for number in ("../../etc/passwd", "..%2f..%2fetc%2fpasswd", "1%00", "-1", "1e3", "1/../1", "%31"):
            for end in ("", "/video", "/thumbnail"):
                reply = server.request("GET", f"/v1/scenes/{number}{end}")
                assert reply.status in (404, 422) or number == "%31", (number, reply.status)
                assert str(own) not in reply.body.decode(errors="replace")
        for archive in ("../archive", str(own), "archive/../archive", "archive\0", "a" * 5000):
            for path in ("/v1/search?q=a&archive=", "/v1/scenes/1?archive=", "/v1/scenes/1/video?archive="):
                reply = server.request("GET", path + quote(archive, safe=""))
                assert reply.status in (404, 422) and str(own.parent) not in reply.error.replace(archive, "")
        for path in ("/v1/search?q=a&archive=archive&archive=other", "/v1/scenes/1?archive=archive&archive=other"):
            assert server.request("GET", path).status in (404, 422)


def test_ranges(own: Path) -> None:  # noqa: F811
    content = (own.parent / "videos" / "holiday.mp4").read_bytes()
    size = len(content)
    with serving(archive=[str(own)]) as server:
        path = f"/v1/scenes/{scene_of(server, 'holiday.mp4')}/video"
        whole = server.request("GET", path)
        assert whole.body == content and whole.headers["accept-ranges"] == "bytes"
        assert whole.headers["content-type"] == "video/mp4" and whole.headers["x-content-type-options"] == "nosniff"
        for asked, start, stop in (
            ("bytes=0-0", 0, 1),
            ("bytes=0-", 0, size),
            ("bytes=100-199", 100, 200),
            ("bytes=-7", size - 7, size),
            (f"bytes=-{size + 5}", 0, size),
            (f"bytes={size - 1}-{size + 999}", size - 1, size),
            (f"bytes=0-{10**17}", 0, size),
        ):
            part = server.request("GET", path, range=asked)
            assert (part.status, part.body) == (206, content[start:stop]), asked
            assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
            head = server.request("HEAD", path, range=asked)
            assert (head.status, head.body, head.headers["content-length"]) == (206, b"", str(stop - start))
        for asked in (
            "bytes=5-2",
            f"bytes={size}-",
            "bytes=-0",
            "bytes=-",
            "bytes=a-b",
            "bytes=--5",
            "bytes=" + "9" * 30 + "-",
        ):
            none = server.request("GET", path, range=asked)
            assert (none.status, none.headers["content-range"]) == (416, f"bytes */{size}"), asked
            assert none.error == f"the file has {size} bytes, and this is no range of them"
        many = "bytes=" + ",".join(f"{i}-{i}" for i in range(1000))
        for asked in ("bytes=0-1,4-5", many, "items=0-1", "", "0-1"):
            assert server.request("GET", path, range=asked).status == 200, asked[:20]
        tag = whole.headers["etag"]
        assert server.request("GET", path, range="bytes=0-1", if_range=tag).status == 206
        assert server.request("GET", path, range="bytes=0-1", if_range='"another"').body == content
        unchanged = server.request("GET", path, if_none_match=f'"a", {tag}')
        assert (unchanged.status, unchanged.body) == (304, b"")
        _until(lambda: len(server.served.streams.clients) == 0)
        open_files = _open_files()
        for _ in range(30):
            server.request("HEAD", path)
            server.request("GET", path, range="bytes=9-2")
            server.request("GET", path, if_none_match=tag)
        assert _open_files() <= open_files + 5, "files are closed"
    with pytest.raises(Refused):
        range_of("bytes=0-0", 0)


def _open_files() -> int:
    """How many files this process has open; 0 where that cannot be told."""
    listed = Path("/proc/self/fd")
    return len(list(listed.iterdir())) if listed.exists() else 0


def test_a_player_that_goes_or_waits_holds_nothing(own: Path, tmp_path: Path) -> None:  # noqa: F811
    large = own.parent / "videos" / "large.mp4"
    write_video(large, moving_square(8))
    with large.open("ab") as file:
        file.write(bytes(60_000_000))
    prismhub.index(large.parent, out=own)
    with serving(archive=[str(own)]) as server:
        number = scene_of(server, "large.mp4")
        head = f"GET /v1/scenes/{number}/video HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        players = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        for one in players:
            one.sendall(head)
            assert one.recv(1000).startswith(b"HTTP/1.1 200")
        _until(lambda: len(server.served.streams.clients) == 3)
        players.pop().close()
        _until(lambda: len(server.served.streams.clients) == 2)
        server.served.streams._most = 2
        refused = server.request("GET", f"/v1/scenes/{number}/video")
        assert refused.status == 503 and refused.headers["retry-after"]
        assert server.client.search("large")[0].video == "large.mp4"
        began = time.monotonic()
    assert time.monotonic() - began < 10, "players that wait do not keep the server from ending"
    for one in players:
        one.close()


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ("1=1", "a column is expected"),
        ("duration > 0; DROP TABLE scenes", "means nothing here"),
        ("name = 'a' UNION SELECT value FROM archive", "and, or, or the end is expected"),
        ("name = '' OR ''=''", "a column is expected"),
        ("label = (SELECT root FROM videos)", "a value is expected"),
        ("root like '/%'", "there is no column 'root'"),
        ("s.id = 1", "means nothing here"),
        ("lable = 'x'", "did you mean 'label'"),
        ("duration > 'x'", "duration is a number"),
        ("name = 'a", "a text needs its closing quote"),
        ("\0", "holds a character that is no text"),
        ("(" * 80 + "duration > 1" + ")" * 80, "more than 50 brackets"),
        (" and ".join(["duration > 1"] * 250), "more than 200 conditions"),
        ("x" * 20_000, "at most 10000 characters"),
    ],
)
def test_conditions_are_no_sql(world_server: Running, where: str, says: str) -> None:
    reply = world_server.request("GET", f"/v1/search?where={quote(where)}")
    assert reply.status == 422 and says in reply.error, reply.error


@pytest.fixture(scope="module")
def world_server(world: Path) -> object:  # noqa: F811
    with serving(archive=[str(world / "archive")]) as server:
        yield server
        assert len(server.client.search(where="duration > 0", all=True)) == 7, "nothing was changed"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "say what to look for: q, where or like"),
        ("q=", "q: string should have at least 1 character"),
        ("q=%20", "text is empty"),
        ("q=a&top=5001", "top: input should be less than or equal to 5000"),
        ("q=a&top=0", "top: input should be greater"),
        ("q=a&top=99999999999999999999", "top: input should be less"),
        ("q=a&mode=sql", "mode: input should be 'hybrid', 'vector' or 'text'"),
        ("mode=vector&where=duration%20%3E%200", "mode vector needs a text or an example"),
        ("like=1&mode=text", "mode text looks for words"),
        ("like=-1", "like: input should be greater"),
        ("q=a&save=/tmp/x", "save: extra inputs are not permitted"),
        ("q=a&html=/tmp/x.html", "html: extra inputs are not permitted"),
        ("q=" + "a" * 2000, "at most 1000 characters"),
    ],
)
def test_fields_that_are_wrong_are_named(world_server: Running, query: str, says: str) -> None:
    reply = world_server.request("GET", f"/v1/search?{query}")
    assert reply.status == 422 and says in reply.error, reply.error


def test_odd_words_find_something_or_nothing(world_server: Running) -> None:
    for text in (
        '"',
        '""',
        "'; --",
        "NEAR(a b)",
        "a AND",
        "*",
        "labels:x",
        "(",
        "\N{SNOWMAN}",
        "a\0b",
        "%",
    ):
        reply = world_server.request("GET", f"/v1/search?q={quote(text)}")
        assert reply.status in (200, 422), (text, reply.body)
    assert world_server.request("GET", "/v1/search?q=%ff%fe").status in (200, 422)
    assert (
        len(world_server.client.search("a", where="duration > 0", top=5000, mode="vector", anyway=True, all=True)) == 7
    )


def test_examples_of_strangers_are_decoded_apart(world_server: Running, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    with pytest.raises(ServerError, match="text, not a video"):
        world_server.client.search(like=text)
    for fields in ({"video": "../x.mp4"}, {"video": "a.mp4", "like": 1}, {"q": "a"}, {"video": "a", "archive": "none"}):
        reply = world_server.request("POST", "/v1/search", fields)
        assert reply.status in (403, 404, 422) and str(tmp_path) not in reply.error
    assert not list(world_server.served.uploads.folder.iterdir())


def test_tickets_open_one_scene_and_nothing_else(own: Path, tmp_path: Path) -> None:  # noqa: F811
    shutil.copytree(own, tmp_path / "other")
    with serving(archive=[str(own), str(tmp_path / "other")], api_key="sesame") as server:
        first, second = server.client.search(where="duration > 0", all=True, top=2)
        picture, stream = below(first.thumbnail_url), below(first.stream_url)
        for method in ("GET", "HEAD"):
            assert server.request(method, picture).status == 200
            assert server.request(method, stream, range="bytes=0-9").status == 206
        ticket = re.search(r"ticket=([0-9a-f]{64})$", picture)
        assert ticket
        wrong = (
            picture[:-1] + ("0" if picture[-1] != "0" else "1"),  # one sign is another
            picture.replace(ticket[1], ""),
            picture.replace(ticket[1], "a"),
            picture.replace(ticket[1], "%C3%BC%FF%00"),
            picture.split("&")[0],  # none
            picture.replace(f"/{first.id}/", f"/{second.id}/"),  # of another scene
            picture.replace("thumbnail", "video"),  # of its picture
            picture.replace("archive=archive", "archive=other"),  # of another archive
            picture.replace("archive=archive", "archive=archive&archive=other"),
            picture.replace("archive=archive&", ""),
            picture + f"&ticket={ticket[1]}",
            f"/v1/scenes/{first.id}?archive=archive&ticket={ticket[1]}",  # other routes
            f"/v1/search?q=a&archive=archive&ticket={ticket[1]}",
            f"/metrics?archive=archive&ticket={ticket[1]}",
            picture.replace("/v1/scenes/", "/v1/scenes/../scenes/"),
            picture.replace(f"/{first.id}/", f"/0{first.id}/"),
            picture.replace("/thumbnail", "/thumbnail/"),
        )
        for path in wrong:
            assert server.request("GET", path).status == 401, path
        for method in ("POST", "DELETE", "PUT", "OPTIONS"):
            assert server.request(method, picture).status == 401
        assert server.request("GET", picture, origin="http://evil.example").status == 403
        assert server.request("GET", picture, sec_fetch_site="cross-site").status == 403
        assert server.request("GET", picture, host="evil.example").status == 421
        assert server.client.thumbnail(first)
        for method, path in (
            ("GET", "/v1/archives"),
            ("GET", "/v1/search?q=a"),
            ("POST", "/v1/search"),
            ("GET", "/v1/scenes/1"),
            ("GET", "/v1/scenes/1/video"),
        ):
            assert server.request(method, path).status == 401
            assert server.request(method, path, origin="http://evil.example", x_api_key="sesame").status == 403
    with serving(archive=[str(own)], api_key="sesame") as server:
        assert server.request("GET", picture).status == 401, "a ticket ends with its process"
    with serving(archive=[str(own)]) as server:
        assert "ticket" not in server.client.search(where="duration > 0")[0].stream_url


def test_tickets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    original = hmac.compare_digest

    def compare(given: bytes, right: bytes) -> bool:
        compared.append((given, right))
        return original(given, right)

    monkeypatch.setattr(tickets_module.hmac, "compare_digest", compare)
    tickets, others = Tickets(needed=True), Tickets(needed=True)
    path = "/v1/scenes/7/video"
    query = tickets.address(path, "a b").partition("?")[2]
    assert tickets.opens("GET", path, query) and not others.opens("GET", path, query)
    assert not tickets.opens("GET", "/v1/scenes/70/video", query)
    assert len(compared) == 3 and all(len(right) == 64 for _, right in compared)
    assert not tickets.opens("GET", path, "&".join(["archive=a"] * 20))


def test_many_search_one_archive_at_once(world_server: Running) -> None:
    client = world_server.client
    wanted = [one.id for one in client.search("a red circle", anyway=True, all=True)]
    with ThreadPoolExecutor(8) as several:
        found = list(several.map(lambda _: client.search("a red circle", anyway=True, all=True), range(24)))
    assert all([one.id for one in each] == wanted for each in found)
