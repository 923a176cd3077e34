"""Commands about videos that lie elsewhere: the features of local files, reasons, and no secret anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import prismhub
from core_encoder.config import config_from_dict
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.store_upkeep import list_stores
from core_encoder.video.opening import VideoLimits
from prismhub.cli import run
from prismhub.progress import SILENT
from prismhub.server.running import open_served
from prismhub.server.settings import ServeSettings
from tests.remote_servers import BUCKET, WebServer

SECRETS = ("SECRET", "user:pw")


def files_with_secrets(*folders: Path) -> list[Path]:
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return [file for file in files if any(secret.encode() in file.read_bytes() for secret in SECRETS)]


def test_signed_addresses_in_a_manifest(
    web: WebServer,
    video_file: Callable[..., Path],
    tmp_path: Path,
    private_home: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    names = [video_file(f"{seed}.mp4", seed=seed).name for seed in range(2)] + ["none.mp4"]
    whole = [f"http://user:pw@127.0.0.1:{web.port}/{name}?X-Amz-Signature=SECRET" for name in names]
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "there.csv").write_text("path,label\n" + "".join(f"{url},a\n" for url in whole))
    there, here = tmp_path / "there", tmp_path / "here"
    options = ["--encoder", "nano", "--kind", "clip"]
    assert run(["encode", str(lists / "there.csv"), *options, "--store", str(there)]) == 3
    assert run(["encode", *(str(tmp_path / name) for name in names[:2]), *options, "--store", str(here)]) == 0
    ours, theirs = (FeatureStore.open(list_stores(root)[0].folder) for root in (here, there))
    assert ours.keys() == theirs.keys()
    assert torch.equal(ours.read_batch(ours.keys()), theirs.read_batch(ours.keys()))
    [failure] = [json.loads(line) for line in (theirs.folder / "failures.jsonl").read_text().splitlines()]
    host = f"127.0.0.1:{web.port}"
    assert (failure["path"], failure["reason"]) == (f"http://{host}/none.mp4", f"{host}: there is no such file")
    assert failure["path"] in caplog.text and not any(secret in caplog.text for secret in SECRETS)
    assert not files_with_secrets(there, private_home)


def test_a_command_keeps_its_limits(web: WebServer, video_file: Callable[..., Path], tmp_path: Path) -> None:
    video_file("a.mp4")
    web.piece_s = web.first_s = 0.3
    done = prismhub.encode(f"{web.url}/a.mp4", encoder="nano", kind="clip", store=tmp_path / "s", remote_timeout=0.1)
    [failure] = done.report.failures
    assert failure.reason == f"127.0.0.1:{web.port}: its bytes did not come within 0.1 s (--remote-timeout allows more)"


@pytest.mark.slow
def test_training_and_asking_with_everything_elsewhere(
    s3: Any, video_file: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(8):
        s3.put(str(video_file(f"{seed}.mp4", seed=seed)), f"{BUCKET}/data/{'ab'[seed % 2]}/{seed}.mp4")
    store = f"s3://{BUCKET}/features"
    trained = prismhub.train(data=f"s3://{BUCKET}/data/", adapter="linear", name="far", store=store, epochs=1)
    record = json.loads((trained.folder / "adapter_config.json").read_text())
    assert f"s3:/{BUCKET}" not in json.dumps(record)
    answers = prismhub.predict(f"s3://{BUCKET}/data/a/", adapter="far", store=store).predictions
    assert [one.sample_id for one in answers] == [f"s3://{BUCKET}/data/a/{seed}.mp4" for seed in (0, 2, 4, 6)]
    capsys.readouterr()
    assert run(["cache", "list", "--store", store, "--json"]) == 0
    [listed] = json.loads(capsys.readouterr().out)
    assert listed["clips"] == 8 and listed["folder"].startswith(store)
    assert run(["cache", "verify", "--store", store]) == 0


@pytest.mark.parametrize(
    "arguments, problem",
    [
        (["encode", "https://127.0.0.1:9/videos/"], "a web server lists no files"),
        (["encode", "s3://bucket/list.csv"], "manifests are read from this machine"),
        (["index", "https://127.0.0.1:9/videos/", "--out", "archive"], "a web server lists no files"),
        (["index", "hf://org/name#train", "--out", "archive"], "data sets of the Hub are not indexed"),
        (["encode", "a.mp4", "--store", "https://host/features"], "no such file or folder"),
        (["encode", "https://127.0.0.1:9/a.mp4", "--local-copies", "-1"], "local_copies must not be negative"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str], problem: str, nothing_known: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    said = capsys.readouterr().err
    assert problem in said and said.count("\n") == 1


def test_the_server_opens_no_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    class Begun(Exception):
        pass

    def begin(workers: int, limits: VideoLimits, batch_size: int) -> None:
        raise Begun(limits)

    monkeypatch.setattr("prismhub.server.decode_pool.DecodePool", begin)
    settings = config_from_dict(ServeSettings, {"adapter": ["none"]})
    with pytest.raises(Begun) as caught, open_served(settings, SILENT):
        pass
    assert not caught.value.args[0].remote
