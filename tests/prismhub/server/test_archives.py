"""Archives of a server: what a search finds, scenes with picture and video, one encoder, and what others change."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import prismhub
from adapters import save_to_registry
from core_encoder.encoder import load_encoder
from core_encoder.errors import InputError
from prismhub.archive import archive_space
from prismhub.archive.found_scenes import FoundScene
from prismhub.archive.searching import ArchiveSearch
from prismhub.cli import run
from prismhub.client import ServerError
from prismhub.server.archives import archive_names
from tests.adapters.every_kind import ROWS
from tests.core_encoder.checkpoint_files import save, vision_model
from tests.prismhub.archive.real_archives import Shown, write_world_video
from tests.prismhub.server.serving import Running, serving
from tests.prismhub.server.test_answers import metrics_of

LEFT = "a red circle moving left"
VIDEOS = {
    "derby 2024/GoalReplay3.mp4": [
        Shown("red circle", "moving left"),
        Shown("red circle", "moving left"),
        Shown("blue star", "approaching"),
    ],
    "holiday.mp4": [Shown("green square", "moving up"), Shown("yellow heart", "shaking")],
    "stra\N{LATIN SMALL LETTER SHARP S}e.mp4": [Shown("cyan triangle", "receding"), Shown("blue star", "moving down")],
}
SRT = "1\n00:00:00,200 --> 00:00:00,900\nwhat a goal\n\n2\n00:00:01,200 --> 00:00:01,800\nsaid the commentator\n"


@pytest.fixture(scope="session")
def world(home_of_x: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `videos/` and an `archive/` of a scene a second, with the answers of `x`; to be copied or read."""
    folder = tmp_path_factory.mktemp("world of archives")
    for seed, (name, shown) in enumerate(VIDEOS.items()):
        write_world_video(folder / "videos" / name, shown, seed=seed)
    (folder / "videos" / "derby 2024" / "GoalReplay3.en.srt").write_text(SRT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMHUB_HOME", str(home_of_x))
        prismhub.index(folder / "videos", out=folder / "archive", adapter="x", window=1.0)
    return folder


@pytest.fixture
def own(world: Path, tmp_path: Path) -> Path:
    """An archive of the test's own, of videos that lie in `videos/` beside it."""
    shutil.copytree(world / "videos", tmp_path / "videos")
    prismhub.index(tmp_path / "videos", out=tmp_path / "archive", window=1.0)
    return tmp_path / "archive"


@pytest.fixture(scope="module")
def served(world: Path) -> Iterator[Running]:
    """A server of this archive with the videos as its root."""
    with serving(archive=[str(world / "archive")], root=str(world / "videos")) as server:
        yield server


def same(found: FoundScene, wanted: FoundScene, root: Path) -> None:
    """What a server tells of a scene is what a search here finds."""
    assert str(root / found.video) == wanted.video
    assert (found.id, found.start_s, found.end_s, found.scenes) == (
        wanted.id,
        wanted.start_s,
        wanted.end_s,
        wanted.scenes,
    )
    assert found.score == pytest.approx(wanted.score, abs=1e-6) and found.parts == pytest.approx(wanted.parts)
    assert (found.labels, found.caption) == (wanted.labels, wanted.caption)
    assert found.describe()["speech"] == wanted.describe()["speech"] and found.shares() == wanted.shares()


@pytest.mark.parametrize(
    "options",
    [
        {"text": LEFT},
        {"text": LEFT, "all": True, "top": 2},
        {"text": "a goal", "mode": "text"},
        {"text": "a blue star", "mode": "vector", "anyway": True},
        {"text": "a giraffe that eats leaves", "mode": "vector"},
        {"text": '"said the"'},
        {"text": LEFT, "where": "name like 'holiday%' and duration > 0.5", "anyway": True},
        {"where": "speech like '%goal%'"},
        {"text": "stra\N{LATIN SMALL LETTER SHARP S}e & more? 100 %"},
    ],
)
def test_a_search_finds_what_the_command_finds(world: Path, served: Running, options: dict[str, Any]) -> None:
    wanted = prismhub.search(world / "archive", **options)
    text = options.pop("text", None)
    found = served.client.search(text, **options)
    assert (len(found), len(found.nearest), found.asked) == (len(wanted), len(wanted.nearest), wanted.asked)
    for one, other in zip((*found, *found.nearest), (*wanted, *wanted.nearest), strict=True):
        same(one, other, world / "videos")
    root = f"{world / 'videos'}/"
    assert found.nothing == wanted.nothing.replace(root, "")


def test_examples_are_scenes_uploads_and_videos_below_the_root(world: Path, served: Running) -> None:
    client, video = served.client, world / "videos" / "holiday.mp4"
    wanted = prismhub.search(world / "archive", like=video, start=0.0, end=1.0, top=3)
    for found in (
        client.search(like=video, start=0.0, end=1.0, top=3),
        client.search(served="holiday.mp4", start=0.0, end=1.0, top=3),
    ):
        assert [(one.id, one.start_s) for one in found] == [(one.id, one.start_s) for one in wanted]
        assert found[0].video == "holiday.mp4" and found.asked.startswith("like holiday.mp4")
    narrowed = client.search(like=video, where="video like 'derby%'")
    assert {one.video for one in narrowed} == {"derby 2024/GoalReplay3.mp4"}
    assert not list(served.served.uploads.folder.iterdir()), "an upload goes with its request"

    (first,) = client.search(where="video like 'derby%' and start = 0", all=True)
    others = client.search(like=first.id, all=True, top=6)
    assert first.id not in {one.id for one in others} and len(others) == 6
    assert others[0].video == first.video, "the second half of the same motion is the most alike"
    folded = client.search(like=first.id)
    assert all(one.video != first.video or one.start_s > first.start_s for one in folded)


def test_all_that_is_known_of_a_scene(world: Path, served: Running) -> None:
    (found,) = served.client.search(where="speech like '%goal%'")
    details = served.client.scenes(found.id)
    with ArchiveSearch(world / "archive") as archive:
        (kept,) = archive.index.scenes([found.id], thumbnails=True)
        assert details.findings == kept.scene.findings and {one.adapter for one in details.findings} == {"x"}
        assert details.speech == kept.scene.speech and details.speech[0].text == "what a goal"
        assert (details.duration_s, details.width, details.height) == (3.0, 64, 64)
        assert details.recorded == kept.video.recorded
    assert details.video == "derby 2024/GoalReplay3.mp4" and details.archive == "archive"
    assert [(start, end) for _, start, end in details.neighbours] == [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)]
    assert details.neighbours[0][0] == found.id
    assert served.client.thumbnail(details) == kept.scene.thumbnail
    again = served.request("GET", f"/v1/scenes/{found.id}/thumbnail")
    assert again.headers["content-type"] == "image/jpeg" and again.body.startswith(b"\xff\xd8")
    tag = again.headers["etag"]
    assert served.request("GET", f"/v1/scenes/{found.id}/thumbnail", if_none_match=tag).status == 304
    assert served.request("HEAD", f"/v1/scenes/{found.id}/thumbnail").headers["content-length"] == str(len(again.body))
    for number in (0, 10**9, 2**70):
        gone = served.request("GET", f"/v1/scenes/{number}")
        assert gone.status == 404 and gone.error == f"the archive 'archive' has no scene {number}"
    assert served.request("GET", "/v1/scenes/one").status == 422
    assert served.request("GET", f"/v1/search?like={10**9}").status == 404


def test_what_archives_hold_is_listed_and_counted(world: Path, served: Running) -> None:
    (about,) = served.client.archives()
    columns, labels = about.pop("columns"), about.pop("labels")
    assert about == {
        "name": "archive",
        "scenes": 7,
        "videos": 3,
        "encoder": "nano",
        "adapters": ["x"],
        "words": True,
        "own_encoder": False,
    }
    assert "label" in columns and "root" not in columns and set(labels) <= {"b", "d"}
    served.client.search(LEFT)
    counts = metrics_of(served.request("GET", "/metrics").body.decode())
    assert counts['prismhub_requests_total{path="/v1/search",status="200"}'] >= 1
    assert counts["prismhub_archives"] == 1 and counts["prismhub_streams_running"] == 0
    described = served.request("GET", "/openapi.json").json["paths"]
    assert {"/v1/archives", "/v1/search", "/v1/scenes/{number}"} <= set(described)
    assert set(described["/v1/search"]) == {"get", "post"}
    page = served.request("GET", "/docs").body
    assert b"/v1/search" in page and b"where" in page


def test_archives_are_called_like_their_folders(world: Path, tmp_path: Path) -> None:
    assert archive_names(["/a/films", "/b/films/", "/c/films", "/c/other"]) == ["films", "films-2", "films-3", "other"]
    shutil.copytree(world / "archive", tmp_path / "archive")
    prismhub.index(world / "videos" / "holiday.mp4", out=tmp_path / "some films & more", window=1.0)
    folders = [world / "archive", tmp_path / "archive", tmp_path / "some films & more"]
    with serving(archive=[str(one) for one in folders]) as server:
        names = [one["name"] for one in server.client.archives()]
        assert names == ["archive", "archive-2", "some films & more"]
        assert len(server.client.search(where="duration > 0", all=True)) == 7
        (found, _) = server.client.search(where="duration > 0", all=True, archive="some films & more")
        assert found.archive == "some films & more" and "archive=some%20films%20%26%20more" in found.stream_url
        assert server.client.scenes(found.id, "some films & more").video == "holiday.mp4"
        assert server.client.thumbnail(found)
        with pytest.raises(ServerError, match=r"no archive 'archiv'; did you mean 'archive") as refused:
            server.client.search(LEFT, archive="archiv")
        assert refused.value.status == 404
    with serving() as server, pytest.raises(ServerError, match="has no archive: start it with --archive") as refused:
        server.client.search(LEFT)
    assert refused.value.status == 404 and server.served.archives.__len__() == 0


@pytest.mark.usefixtures("trained")
def test_the_encoder_is_loaded_once(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_space, "open_encoder", lambda *about: pytest.fail("a second encoder"))
    with serving(adapter=["x"], archive=[str(world / "archive")]) as server:
        (archive,) = server.served.archives
        assert archive.space().result().open() is server.served.answering.hub.encoder
        assert server.client.search(LEFT)[0].video == "derby 2024/GoalReplay3.mp4"
        assert "x" in server.client.predict(world / "videos" / "holiday.mp4")


def test_spaces_of_adapters_use_the_encoder_and_the_adapter_of_the_server(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = next(row for row in ROWS if row.name == "lit_text")
    save_to_registry(row.on(load_encoder("nano")), "words")
    archive = tmp_path / "archive"
    prismhub.index(world / "videos", out=archive, adapter="words", window=1.0)
    wanted = prismhub.search(archive, LEFT, anyway=True)
    alike = prismhub.search(archive, like=world / "videos" / "holiday.mp4")
    monkeypatch.setattr(archive_space, "open_encoder", lambda *about: pytest.fail("a second encoder"))
    with serving(archive=[str(archive)]) as server:
        assert [one.id for one in server.client.search(LEFT, anyway=True)] == [one.id for one in wanted]
        found = server.client.search(like=world / "videos" / "holiday.mp4")
        assert [one.id for one in found] == [one.id for one in alike]
    with serving(adapter=["words"], archive=[str(archive)]) as server:
        (opened,) = server.served.archives
        space = opened.space().result()
        assert space._space is not None and space._space.adapter is server.served.answering.hub.adapters["words"]
        assert [one.id for one in server.client.search(LEFT, anyway=True)] == [one.id for one in wanted]


def test_an_archive_of_another_encoder_brings_its_own(world: Path, tmp_path: Path) -> None:
    other, archive = save(vision_model(7), tmp_path / "other"), tmp_path / "without words"
    prismhub.index(world / "videos", out=archive, encoder=str(other), window=1.0)
    video = world / "videos" / "holiday.mp4"
    wanted = prismhub.search(archive, like=video, all=True)
    with serving(archive=[str(world / "archive"), str(archive)]) as server:
        mine, theirs = server.client.archives()
        assert (mine["own_encoder"], theirs["own_encoder"], theirs["words"]) == (False, True, False)
        found = server.client.search(like=video, archive="without words", all=True)
        assert [one.id for one in found] == [one.id for one in wanted]
        told = server.client.search("goal", archive="without words")
        assert told[0].video == "derby 2024/GoalReplay3.mp4" and "knows no words" in told.notes[0]
        with pytest.raises(ServerError, match="knows no words"):
            server.client.search("goal", archive="without words", mode="vector")
    with serving(archive=[str(archive)]) as server:
        assert server.client.health()["encoder"] == "other", "the encoder of the first archive is the server's"
        assert not server.client.archives()[0]["own_encoder"]
    shutil.rmtree(other)
    with (
        pytest.raises(InputError, match="its encoder 'other' is not at hand"),
        serving(adapter=[], encoder="nano", archive=[str(archive)]),
    ):
        pass


def test_what_others_change_is_seen_at_the_next_request(own: Path) -> None:
    videos = own.parent / "videos"
    with serving(archive=[str(own)]) as server:
        client = server.client
        before = client.search(LEFT, all=True)
        assert len(client.search(where="duration > 0", all=True)) == 7
        write_world_video(videos / "new.mp4", [Shown("red circle", "moving left")], seed=9)
        assert prismhub.index(videos, out=own).added == 1
        assert len(client.search(where="duration > 0", all=True)) == client.archives()[0]["scenes"] == 8
        assert {one.video for one in client.search(LEFT, all=True, anyway=True)} > {"new.mp4"}
        (videos / "holiday.mp4").unlink()
        assert prismhub.index(videos, out=own).removed == 1
        assert not client.search(where="name = 'holiday.mp4'")

        shutil.rmtree(own)
        with pytest.raises(ServerError, match="archive 'archive' cannot be read now") as refused:
            client.search(LEFT)
        assert refused.value.status == 503 and refused.value.retry_after_s
        with pytest.raises(ServerError, match="cannot be read now"):
            client.scenes(before[0].id)
        prismhub.index(videos / "new.mp4", out=own)
        (found,) = client.search(LEFT, anyway=True)
        assert found.video == "new.mp4" and client.scenes(found.id).neighbours[0][0] == found.id

        other = save(vision_model(7), own.parent / "other")
        shutil.rmtree(own)
        prismhub.index(videos / "new.mp4", out=own, encoder=str(other))
        assert client.archives()[0]["own_encoder"]
        assert client.search("new")[0].video == "new.mp4"
        assert client.search(like=videos / "new.mp4")[0].video == "new.mp4"
        shutil.rmtree(other)
        shutil.rmtree(own)
        with pytest.raises(ServerError, match="cannot be read now"):
            client.archives()


def test_an_archive_that_is_not_there_is_said_before_the_server_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", "--archive", str(tmp_path / "gone"), "--port", "0"]) == 2
    said = capsys.readouterr().err
    assert "gone: no such folder; make one with: prismhub index" in said and said.count("\n") == 1


def test_scenes_are_typed_and_read_well(served: Running) -> None:
    found = served.client.search(LEFT)
    assert isinstance(found[0], FoundScene) and repr(found[0]).startswith(
        "FoundScene('derby 2024/GoalReplay3.mp4', 0.0"
    )
    details = served.client.scenes(found[0].id)
    assert replace(details, score=1.0).describe()["video"] == "derby 2024/GoalReplay3.mp4"
