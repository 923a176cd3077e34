"""What a stranger may try: paths, links, addresses, playlists, huge or broken uploads, decoders that die or hang."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prismhub.client import ServerError
from prismhub.server import decode_pool
from tests.prismhub.server.hostile_videos import playlists, write_claims, write_claims_in_header, write_million
from tests.prismhub.server.serving import Reply, Running, serving
from tests.videos import moving_square, write_video


def form(name: str, content: bytes, **fields: str) -> tuple[bytes, str]:
    """The body of an upload, and its content type."""
    parts = [f'--B\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()]
    head = f'--B\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return "".join(parts).encode() + head.encode() + content + b"\r\n--B--\r\n", "multipart/form-data; boundary=B"


def upload(server: Running, name: str, content: bytes, path: str = "/v1/predict", **headers: str) -> Reply:
    body, kind = form(name, content)
    return server.request("POST", path, body, content_type=kind, **headers)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A served root with one video, links that lead in and out of it, and a secret video beside it."""
    folder = tmp_path / "served root"
    write_video(folder / "in" / "a.mp4", moving_square())
    write_video(tmp_path / "secret.mp4", moving_square(seed=3))
    (folder / "inside.mp4").symlink_to("in/a.mp4")
    (folder / "out.mp4").symlink_to(tmp_path / "secret.mp4")
    (folder / "up").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.mp4")
    return folder


@pytest.mark.usefixtures("trained")
def test_nothing_outside_the_root_is_opened_and_no_answer_tells_whether_it_is_there(root: Path, tmp_path: Path) -> None:
    secret = str(tmp_path / "secret.mp4")
    with serving(adapter=["x"], root=str(root)) as server:
        for good in ("in/a.mp4", "inside.mp4", "in/../in/a.mp4", "up/served root/in/a.mp4"):
            assert server.client.predict(served=good)["x"][0]["video"] == good
        for outside in ("out.mp4", "up/secret.mp4", "../secret.mp4", "in/../../secret.mp4"):
            there = server.request("POST", "/v1/predict", {"video": outside})
            gone = server.request(
                "POST", "/v1/predict", {"video": outside.replace("secret", "nothing").replace("out", "no")}
            )
            assert there.status == gone.status == 404
            assert there.error.startswith("no video ") and there.error.endswith("below the served root")
        for absolute in (secret, f"file:{secret}", f"/{secret}", "C:\\x.mp4", "/dev/zero"):
            assert server.request("POST", "/v1/predict", {"video": absolute}).status in (404, 422)
        for url in (
            f"file://{secret}",
            "http://127.0.0.1:1/a.mp4",
            "concat:in/a.mp4|in/a.mp4",
            "subfile,,start,0,end,0,,:in/a.mp4",
        ):
            assert server.request("POST", "/v1/predict", {"video": url}).status in (404, 422)
        for odd in ("", "in", ".", "..", "in/a.mp4\0.txt", "a" * 900, "pipe.mp4"):
            refused = server.request("POST", "/v1/predict", {"video": odd})
            assert refused.status in (404, 422), odd
            assert str(tmp_path) not in refused.error
        for path in ("/v1/embed", "/v1/zero-shot"):
            refused = server.request(
                "POST", path, {"video": "../secret.mp4", **({"labels": "a,b"} if "zero" in path else {})}
            )
            assert refused.status == 404
    with serving(adapter=["x"]) as server:
        refused = server.request("POST", "/v1/predict", {"video": "in/a.mp4"})
        assert (refused.status, "no root" in refused.error) == (403, True)


@contextmanager
def listening() -> Iterator[tuple[str, list[bytes]]]:
    """The URL of a server that writes down who comes."""
    came: list[bytes] = []
    with socket.socket() as mine:
        mine.bind(("127.0.0.1", 0))
        mine.listen()

        def accept() -> None:
            while True:
                try:
                    other, _ = mine.accept()
                except OSError:
                    return
                came.append(other.recv(100))
                other.close()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{mine.getsockname()[1]}", came


@pytest.mark.usefixtures("trained")
def test_playlists_lead_nowhere(root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    read_s = 1_000_000_000
    os.utime(secret, (read_s, read_s))
    with listening() as (url, came), serving(adapter=["x"], root=str(root)) as server:
        for name, path in playlists(root, url, secret).items():
            for reply in (
                server.request("POST", "/v1/predict", {"video": path.name}),
                upload(server, path.name, path.read_bytes()),
            ):
                assert reply.status == 422, name
                assert str(tmp_path) not in reply.error and url not in reply.error
        assert not came
        assert server.client.predict(served="in/a.mp4"), "the server goes on"
    assert secret.stat().st_atime == read_s, "nobody read it"


@pytest.mark.usefixtures("trained")
def test_uploads_that_are_no_videos_are_answered_in_one_line(tmp_path: Path) -> None:
    good = write_video(tmp_path / "a.mp4", moving_square()).read_bytes()
    with serving(adapter=["x"], max_upload_mb=1.0) as server:
        folder = server.served.uploads.folder
        for name, content, status, says in (
            ("empty.mp4", b"", 422, "the file is empty"),
            ("text.mp4", b"no video\n" * 9, 422, "text, not a video"),
            ("noise.mp4", os.urandom(5000), 422, "Invalid data"),
            ("cut.mp4", good[: len(good) // 2], 422, ""),
            ("large.mp4", bytes(1_100_000), 413, "an upload may have 1 MB"),
        ):
            reply = upload(server, name, content)
            assert reply.status == status and says in reply.error, name
            assert str(folder) not in reply.error and "/" not in reply.error.replace("n/a", "")
            assert "content-security-policy" in reply.headers or status == 413
        assert upload(server, "../../../evil.mp4\r\nX: y", good).status in (200, 422)
        named = upload(server, "..\\\\..\\\\evil/../b.mp4", good)
        assert named.json["x"][0]["video"] == "b.mp4"
        for body, kind, status in (
            (b"{", "application/json", 422),
            (b"[" * 100_000, "application/json", 422),
            (b'{"video": 3}', "application/json", 422),
            (b'{"video": "a", "vidoe": "b"}', "application/json", 422),
            (b'{"video": "a", "window": NaN}', "application/json", 422),
            (b"", "application/json", 422),
            (b"x", "text/plain", 415),
            (b"x", "multipart/form-data", 422),
            (b"--B\r\n", "multipart/form-data; boundary=B", 422),
        ):
            reply = server.request("POST", "/v1/predict", body, content_type=kind)
            assert reply.status in (status, 400), body[:20]
            assert reply.error
        assert (
            server.request("POST", "/v1/predict", {"video": "a", "vidoe": "b"}).error
            == "vidoe: extra inputs are not permitted"
        )
        assert not list(folder.iterdir()), "nothing is left of any of them"
        assert upload(server, "a.mp4", good).status == 200


@pytest.mark.usefixtures("trained")
def test_uploads_larger_than_allowed_are_cut_off_whether_they_say_so_or_not(tmp_path: Path) -> None:
    with serving(adapter=["x"], max_upload_mb=1.0) as server:
        head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=B\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as one:  # five gigabytes, by its own word
            one.sendall((head + "Content-Length: 5000000000\r\n\r\n").encode())
            assert one.recv(100).startswith(b"HTTP/1.1 413")
        with socket.create_connection(("127.0.0.1", server.port)) as one:  # without a word
            one.sendall((head + "Transfer-Encoding: chunked\r\n\r\n").encode())
            begins = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
            one.sendall(b"%x\r\n%s\r\n" % (len(begins), begins))
            sent = 0
            try:
                while sent < 50_000_000:
                    one.sendall(b"10000\r\n" + bytes(0x10000) + b"\r\n")
                    sent += 0x10000
            except (BrokenPipeError, ConnectionResetError):
                pass
            assert sent < 50_000_000, "it was stopped"
        with socket.create_connection(("127.0.0.1", server.port)) as one:  # and half an upload
            one.sendall((head + "Content-Length: 100000\r\n\r\n").encode() + begins + bytes(1000))
            time.sleep(0.2)
        _until(lambda: server.served.running == 0)
        assert not list(server.served.uploads.folder.iterdir())
        assert upload(server, "a.mp4", write_video(tmp_path / "a.mp4", moving_square()).read_bytes()).status == 200


def with_time(server: Running, seconds: float) -> None:
    """From now on a request may take so long."""
    server.served.settings = replace(server.served.settings, max_seconds=seconds)


def _until(holds: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


@pytest.mark.usefixtures("trained")
def test_videos_that_claim_too_much_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    wide = write_video(tmp_path / "root" / "wide.mp4", moving_square(8, 64, 96))
    long = write_video(tmp_path / "root" / "long.mp4", moving_square(64, 16, 16), fps=1)
    many = write_million(tmp_path / "root" / "many.mov", 5000)
    with serving(
        adapter=["x"], root=str(tmp_path / "root"), max_pixels=6000, max_clip_seconds=20, max_frames=4000
    ) as server:
        for path, says in (
            (wide, "its pictures have 96 x 64 pixels, and no more than 6,000 are allowed here"),
            (many, "it holds more than 4,000 frames"),
            (long, "long.mp4: 64.0 s are more than the 20 s that this server looks at: give start and end"),
            (write_claims(tmp_path / "root" / "a.avi"), "cannot be decoded"),
            (write_claims(tmp_path / "root" / "a.mkv"), "cannot be decoded"),
            (write_claims_in_header(tmp_path / "root" / "b.mp4"), "cannot be decoded"),
            (write_claims_in_header(tmp_path / "root" / "c.mp4", 12_000), "12000 x 12000 pixels"),
        ):
            for reply in (
                server.request("POST", "/v1/predict", {"video": path.name}),
                upload(server, path.name, path.read_bytes()),
            ):
                assert reply.status == 422 and says in reply.error, reply.error
        part = server.client.predict(served="long.mp4", start=30, end=40)
        assert part["x"][0]["video"].startswith("long.mp4#")
        dense = write_million(tmp_path / "root" / "dense.mov", 3000)
        refused = server.request("POST", "/v1/predict", {"video": dense.name})
        assert refused.status == 422 and "are more than 240 a second" in refused.error


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_windows_without_number_are_refused_and_many_end_with_the_time_of_their_request(tmp_path: Path) -> None:
    """Each of them took gigabytes in a decode process, or the lane of long clips for as long as it liked."""
    (tmp_path / "root").mkdir()
    write_video(tmp_path / "root" / "long.mp4", moving_square(100, 16, 16), fps=1)
    with serving(adapter=["x"], root=str(tmp_path / "root")) as server:
        for path in ("/v1/predict", "/v1/embed"):
            for window, said in (
                ({"window": 1e-9}, "window: input should be greater than or equal to 0.004"),
                ({"window": 1.0, "step": 1e-9}, "step: input should be greater than or equal to 0.004"),
                ({"window": 1 / 240}, "more than 20,000 windows: give a longer step"),
            ):
                began = time.monotonic()
                reply = server.request("POST", path, {"video": "long.mp4"} | window)
                assert reply.status == 422 and said in reply.error and time.monotonic() - began < 10
        with_time(server, 1.0)
        assert server.request("POST", "/v1/embed", {"video": "long.mp4", "window": 0.012}).status == 504
        _until(lambda: server.served.answering.lanes.long.busy == 0)
        with_time(server, 60.0)
        assert server.request("POST", "/v1/embed", {"video": "long.mp4", "window": 10.0}).status == 200


@pytest.mark.usefixtures("trained")
def test_a_million_pictures_of_one_pixel_are_refused_in_seconds(tmp_path: Path) -> None:
    path = write_million(tmp_path / "many.mov")
    with serving(adapter=["x"]) as server:
        began = time.monotonic()
        with pytest.raises(ServerError, match="it holds more than 750,000 frames, which is the limit here"):
            server.client.predict(path)
        assert time.monotonic() - began < 60


@pytest.mark.usefixtures("trained")
def test_a_decoder_that_dies_costs_its_own_request_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [write_video(tmp_path / f"{seed}.mp4", moving_square(seed=seed)) for seed in range(6)]
    killed: list[int] = []
    before = decode_pool.DecodeProcess.send

    def send(self: decode_pool.DecodeProcess, order: Any) -> None:
        """The process of the third upload dies as it begins with it, as of a fault in a decoder."""
        content = Path(order.clip.path).read_bytes()
        if content == paths[2].read_bytes() and not killed:
            assert self.process.pid is not None
            killed.append(self.process.pid)
            os.kill(self.process.pid, signal.SIGSEGV)
            self.process.join()
        before(self, order)

    monkeypatch.setattr(decode_pool.DecodeProcess, "send", send)
    with serving(adapter=["x"], max_wait_ms=500, workers=2) as server:
        with ThreadPoolExecutor(6) as several:
            replies = list(several.map(lambda path: upload(server, path.name, path.read_bytes()), paths))
        assert [reply.status for reply in replies] == [200, 200, 422, 200, 200, 200]
        assert replies[2].error == "its decoder died of it: the file is damaged, or made to do so"
        assert upload(server, "again.mp4", paths[2].read_bytes()).status == 200
        assert b"prismhub_decode_deaths_total 1" in server.request("GET", "/metrics").body
        assert len(server.served.answering._pool.process_ids) == 3


@pytest.mark.usefixtures("trained")
def test_a_decoder_that_hangs_is_killed_when_the_time_of_its_request_is_over(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"{seed}.mp4", moving_square(seed=seed)) for seed in range(2)]
    with serving(adapter=["x"], workers=1) as server:
        pool = server.served.answering._pool
        assert upload(server, "a.mp4", paths[0].read_bytes()).status == 200
        before = pool.process_ids
        for process in before:
            os.kill(process, signal.SIGSTOP)  # it says nothing any more, like a loop without an end
        with_time(server, 2.0)
        late = upload(server, "b.mp4", paths[1].read_bytes())
        with_time(server, 120.0)
        assert late.status == 504 and "longer than the 2 s" in late.error
        _until(lambda: len(pool.process_ids) == 2 and len(set(pool.process_ids) & set(before)) == 1)
        assert upload(server, "b.mp4", paths[1].read_bytes()).status == 200, "the new one is asked first"
        (killed,) = set(before) - set(pool.process_ids)
        with pytest.raises(ProcessLookupError):
            os.kill(killed, 0)


@pytest.mark.usefixtures("trained")
def test_beyond_the_queue_requests_are_told_when_to_come_again(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.mp4", moving_square()).read_bytes()
    with serving(adapter=["x"], queue=2) as server:
        with_time(server, 3.0)
        head = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=B\r\n"
        slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(2)]
        for one in slow:  # uploads that never go on
            one.sendall((head + "Content-Length: 1000\r\n\r\n--B\r\n").encode())
        _until(lambda: server.served.running == 2)
        full = upload(server, "a.mp4", content)
        assert full.status == 503 and int(full.headers["retry-after"]) >= 1
        assert full.error == "too many requests at once: try again later"
        assert server.request("GET", "/healthz").status == 200
        for one in slow:
            assert one.recv(100).startswith(b"HTTP/1.1 504"), "the time of an upload is that of its request"
            one.close()
        _until(lambda: server.served.running == 0)
        with_time(server, 120.0)
        assert upload(server, "a.mp4", content).status == 200


@pytest.mark.usefixtures("trained")
def test_failures_of_the_server_itself_say_nothing_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = write_video(tmp_path / "a.mp4", moving_square()).read_bytes()
    with serving(adapter=["x"]) as server:

        def fails(*about: Any, **given: Any) -> Any:
            raise RuntimeError(f"cannot read {tmp_path}/secret")

        monkeypatch.setattr(server.served.answering.hub, "answers", fails)
        reply = upload(server, "a.mp4", content)
        assert (reply.status, reply.error) == (500, "the server failed; its own log says why")
        monkeypatch.undo()
        assert upload(server, "a.mp4", content).status == 200


@pytest.mark.usefixtures("trained")
def test_keys_hosts_and_pages_are_checked_on_every_route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = write_video(tmp_path / "a.mp4", moving_square()).read_bytes()
    monkeypatch.setenv("PRISMHUB_API_KEY", "sesame")
    with serving(adapter=["x"]) as server:
        for method, path in (
            ("GET", "/docs"),
            ("GET", "/openapi.json"),
            ("GET", "/metrics"),
            ("GET", "/v1/adapters"),
            ("DELETE", "/v1/adapters/x"),
            ("POST", "/v1/predict"),
            ("GET", "/nowhere"),
        ):
            refused = server.request(method, path)
            assert refused.status == 401 and refused.headers["www-authenticate"] == "Bearer"
            assert server.request(method, path, host="evil.example", x_api_key="sesame").status == 421
            assert server.request(method, path, origin="http://evil.example", x_api_key="sesame").status == 403
        assert server.request("GET", "/healthz").status == 200
        assert server.request("GET", "/nowhere", x_api_key="sesame").status == 404
        assert upload(server, "a.mp4", content).status == 401
        assert upload(server, "a.mp4", content, authorization="Bearer sesame").status == 200
        assert server.client.predict(tmp_path / "a.mp4")
    monkeypatch.delenv("PRISMHUB_API_KEY")
    with serving(api_key="other") as server:
        assert server.served.settings.key == "other"
        assert server.request("GET", "/metrics", x_api_key="sesame").status == 401


@pytest.mark.usefixtures("trained")
def test_bodies_that_break_off_into_nonsense_leave_no_trace_of_an_error(caplog: pytest.LogCaptureFixture) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with serving(adapter=["x"]) as server:
        log = logging.getLogger("uvicorn.error")
        log.addHandler(caplog.handler)
        try:
            with socket.create_connection(("127.0.0.1", server.port)) as one:  # refused before it could be answered
                one.sendall(head + b"zz\r\n")
                assert one.recv(1000).startswith(b"HTTP/1.1 400")
            with socket.create_connection(("127.0.0.1", server.port)) as one:  # answered before it was refused
                one.sendall(head)
                assert one.recv(1000).startswith(b"HTTP/1.1 200")
                one.sendall(b"zz\r\n")
                while one.recv(1000):
                    pass
            assert server.request("GET", "/healthz").status == 200
        finally:
            log.removeHandler(caplog.handler)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.usefixtures("trained")
def test_questions_that_nobody_waits_for_hold_no_decode_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What a question had under way is let go with it, and not when Python next looks for cycles."""
    write_video(tmp_path / "long.mp4", moving_square(16 * 60, 64, 64))
    asked = {"video": "long.mp4", "window": 0.5, "step": 0.0625}
    with serving(adapter=["x"], root=str(tmp_path), workers=1) as server:
        pool = server.served.answering._pool
        assert server.request("POST", "/v1/predict", {"video": "long.mp4", "end": 1.0}).status == 200
        gc.collect()
        gc.disable()
        try:
            with_time(server, 1.0)
            for _ in range(3):
                assert server.request("POST", "/v1/predict", asked).status == 504
            with_time(server, 120.0)
            _until(lambda: pool._idle.qsize() == 2)
            assert server.request("POST", "/v1/predict", {"video": "long.mp4", "end": 1.0}).status == 200
        finally:
            gc.enable()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], "nothing failed either"
