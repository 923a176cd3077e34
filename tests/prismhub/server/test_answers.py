"""What a server answers is what the commands print; requests of one kind share a batch."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import prismhub
from adapters import save_to_registry
from core_encoder.encoder import load_encoder
from core_encoder.errors import InputError
from prismhub.cli import run
from prismhub.client import ServerError
from prismhub.server import decode_pool
from tests.adapters.every_kind import ROWS
from tests.prismhub.server.serving import serving
from tests.prismhub.small_data import read_json
from tests.videos import moving_square, write_video


@pytest.fixture
def two(trained: Path) -> Path:
    """The home holds a second adapter `y`, a copy of `x`."""
    shutil.copytree(trained / "adapters" / "x", trained / "adapters" / "y")
    return trained


def test_answers_are_those_that_predict_prints(
    two: Path, splits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(splits / "test")  # then the path of a video is its path below the root
    asked = ["predict", "b/0.mp4", "--adapter", "x", "--adapter", "y"]
    printed = read_json(capsys, *asked)
    every = read_json(capsys, *asked, "--all-scores")
    windows = read_json(capsys, *asked, "--window", "0.25", "--step", "0.25")
    alone = read_json(capsys, "predict", "b/0.mp4", "--adapter", "x")
    store = two / "features"
    shutil.rmtree(store)  # the server decodes and encodes by itself
    with serving(adapter=["x", "y"], root=str(splits / "test")) as server:
        assert server.client.predict(served="b/0.mp4") == printed
        assert server.client.predict(served="b/0.mp4", all_scores=True) == every
        assert server.client.predict(served="b/0.mp4", window=0.25, step=0.25) == windows
        assert server.client.predict(served="b/0.mp4", adapters=["x"]) == {"x": alone}
        uploaded = server.client.predict(splits / "test" / "b" / "0.mp4", all_scores=True)
        assert uploaded == {name: [row | {"video": "0.mp4"} for row in rows] for name, rows in every.items()}
        assert not list(server.served.uploads.folder.iterdir()), "an upload goes with its request"
        part = server.client.predict(served="b/0.mp4", adapters=["x"], start=0.25, end=0.5)["x"][0]
        assert part["video"] == "b/0.mp4#0.250-0.500" or part["video"].startswith("b/0.mp4#")


def test_videos_much_longer_than_the_training_are_answered_in_windows_as_predict_does(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "long.mp4", moving_square(16 * 8))
    monkeypatch.chdir(tmp_path)
    printed = read_json(capsys, "predict", "long.mp4", "--adapter", "x", "--quiet")
    assert len(printed[0]["windows"]) > 4
    with serving(adapter=["x"], root=str(tmp_path)) as server:
        assert server.client.predict(served="long.mp4")["x"] == printed


def test_zero_shot_and_embeddings_are_those_of_the_commands(
    splits: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(splits / "test")
    labels = ["a red circle", "a dim square", "nothing"]
    printed = read_json(capsys, "zero-shot", "b/0.mp4", "--labels", ",".join(labels), "--all-scores", "--quiet")
    expected = prismhub.embed("b/0.mp4")
    windows = prismhub.embed("b/0.mp4", window=0.25)
    texts = prismhub.load_encoder("nano").embed_text(labels).numpy()
    with serving(root=str(splits / "test")) as server:
        client = server.client
        assert client.zero_shot(served="b/0.mp4", labels=labels, all_scores=True) == printed
        clips = read_json(
            capsys, "zero-shot", "b/0.mp4", "--labels", ",".join(labels), "--templates", "clip-kinetics-v1", "--quiet"
        )
        assert client.zero_shot(served="b/0.mp4", labels=labels, templates=["clip-kinetics-v1"]) == clips
        for found, wanted in (
            (client.embed(served="b/0.mp4"), expected),
            (client.embed("b/0.mp4", window=0.25), windows),
        ):
            np.testing.assert_allclose(found.values, wanted.values, atol=2e-3)
            np.testing.assert_allclose(found.times, wanted.times)
            assert found.about["fingerprint"] == wanted.about["fingerprint"]
        np.testing.assert_allclose(client.embed_text(labels), texts, atol=1e-5)
        refused = server.request("POST", "/v1/zero-shot", {"video": "b/0.mp4", "labels": ["/etc/passwd"]})
        assert (refused.status, refused.error) == (422, "labels must be at least two different names")
        refused = server.request(
            "POST", "/v1/zero-shot", {"video": "b/0.mp4", "labels": "a,b", "templates": ["/etc/hosts"]}
        )
        assert refused.status == 422 and "has no {}" in refused.error


def test_adapters_come_and_go_while_requests_run(two: Path, splits: Path) -> None:
    video = splits / "test" / "b" / "0.mp4"
    with serving(adapter=["x"]) as server:
        client = server.client
        errors: list[Exception] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                try:
                    assert "x" in client.predict(video, adapters=["x"])
                except Exception as error:
                    errors.append(error)

        askers = [threading.Thread(target=ask) for _ in range(2)]
        for one in askers:
            one.start()
        assert client.load_adapter("y") == "y"
        assert client.load_adapter("y@v1", "again") == "again"
        assert [one["name"] for one in client.adapters()["adapters"]] == ["x", "y", "again"]
        assert set(client.predict(video)) == {"x", "y", "again"}
        client.unload_adapter("again")
        assert set(client.predict(video)) == {"x", "y"}
        stop.set()
        for one in askers:
            one.join()
        assert not errors
        with pytest.raises(ServerError, match="called 'y' is here already"):
            client.load_adapter("y")
        with pytest.raises(ServerError, match=r"registry of this server has no adapter 'yy'.*'y'"):
            client.load_adapter("yy")
        folder = str(two / "adapters" / "y" / "v1")
        with pytest.raises(
            ServerError, match="has no adapter"
        ) as refused:  # folders of the machine are not looked into
            client.load_adapter(folder)
        assert refused.value.status == 404
        with pytest.raises(ServerError, match="the server has no adapter 'z'"):
            client.unload_adapter("z")
        client.unload_adapter("x")
        client.unload_adapter("y")
        with pytest.raises(ServerError, match="no adapter to ask"):
            client.predict(video)


def test_an_adapter_that_no_request_can_ask_can_be_unloaded() -> None:
    boxes = next(row for row in ROWS if row.name == "spatiotemporal_localizer")
    save_to_registry(boxes.on(load_encoder("nano")), "boxes")
    with serving(adapter=["boxes"]) as server:
        with pytest.raises(ServerError, match="no adapter to ask"):
            server.client.predict(served=None, video=__file__)
        server.client.unload_adapter("boxes")
        assert server.client.health()["adapters"] == []


def test_requests_that_wait_together_are_encoded_together(trained: Path, tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"{seed}.mp4", moving_square(seed=seed)) for seed in range(6)]
    with serving(adapter=["x"], max_wait_ms=2000, workers=2) as server:
        with ThreadPoolExecutor(6) as many:
            found = list(many.map(server.client.predict, paths))
        assert [one["x"][0]["video"] for one in found] == [path.name for path in paths]
        counts = metrics_of(server.request("GET", "/metrics").body.decode())
        assert counts["prismhub_batched_total"] == 6 and counts["prismhub_batches_total"] <= 3
        assert counts['prismhub_requests_total{path="/v1/predict",status="200"}'] == 6
        assert counts['prismhub_request_seconds_count{path="/v1/predict"}'] == 6
        assert counts["prismhub_requests_running"] == 0
        same = paths[0].read_bytes()
        copies = [tmp_path / f"copy {number}.mp4" for number in range(3)]
        for path in copies:
            path.write_bytes(same)
        with ThreadPoolExecutor(3) as many:
            again = list(many.map(lambda path: server.client.predict(path, all_scores=True)["x"][0], copies))
        scores = server.client.predict(paths[0], all_scores=True)["x"][0]["scores"]
        for one in again:
            assert one["scores"] == pytest.approx(scores, abs=1e-5)


def test_old_decode_processes_give_way_to_new_ones(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square())
    monkeypatch.setattr(decode_pool, "_MOST_ORDERS", 3)
    with serving(adapter=["x"], workers=1) as server:
        pool = server.served.answering._pool
        before = set(pool.process_ids)
        answers = [server.client.predict(path) for _ in range(5)]  # each of two orders
        assert all(one == answers[0] for one in answers)
        assert len(pool.process_ids) == len(before) and set(pool.process_ids) != before and pool.deaths == 0


@pytest.mark.slow
def test_decode_processes_start_for_themselves_where_none_is_forked(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square())
    with serving(adapter=["x"], workers=1) as server:
        forked = server.client.predict(path)
    contexts = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
    monkeypatch.delitem(contexts, "forkserver")
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    with serving(adapter=["x"], workers=1) as server:
        assert server.client.predict(path) == forked


def metrics_of(text: str) -> dict[str, float]:
    """The samples of Prometheus' text format."""
    samples = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in samples}


def test_the_api_describes_itself_without_other_servers(trained: Path) -> None:
    with serving(adapter=["x"]) as server:
        described = server.request("GET", "/openapi.json").json
        assert {"/v1/predict", "/v1/embed", "/v1/zero-shot", "/v1/adapters", "/healthz", "/metrics"} <= set(
            described["paths"]
        )
        shown = server.request("GET", "/docs")
        assert shown.status == 200 and b"/v1/predict" in shown.body and b"window" in shown.body
        assert b"http://" not in shown.body and b"https://" not in shown.body and b"<script" not in shown.body
        health = {"status": "ok", "encoder": "nano", "adapters": ["x"], "wants_key": False}
        assert server.client.health() == health


def test_connect_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not the URL of a server"):
        prismhub.connect("localhost:8000")
    with pytest.raises(InputError, match=r"http://127.0.0.1:9: no answer .* is the server running there"):
        prismhub.connect("http://127.0.0.1:9")
    with serving() as server:
        client = prismhub.connect(server.url)
        with pytest.raises(InputError, match="no such file"):
            client.predict(tmp_path / "gone.mp4")
        with pytest.raises(InputError, match="give one video"):
            client.predict()


def test_an_adapter_of_another_encoder_is_refused_before_the_server_starts(
    two: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = two / "adapters" / "y" / "v1" / "adapter_config.json"
    about = json.loads(config.read_text())
    about["features"]["fingerprint"] = "0" * 64
    config.write_text(json.dumps(about))
    assert run(["serve", "--adapter", "x", "--adapter", "y", "--port", "0"]) == 2
    assert "adapter 'y' was trained on features of encoder" in capsys.readouterr().err
