"""The archive in a folder: what comes back, what readers see meanwhile, what a kill leaves, and whom it refuses."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core_encoder.errors import InputError
from prismhub.archive import schema, vectors
from prismhub.archive.filters import parse_filter
from prismhub.archive.folder_reader import FolderReader, SceneQuery
from prismhub.archive.scene_index import FolderIndex
from prismhub.archive.scenes import AdapterRecord, Finding
from prismhub.archive.words import WordQuery
from tests import ROOT
from tests.prismhub.archive.archives import RECORD, WIDTH, make, random_videos, scene, unit, video


def nearest(index: FolderReader, vector: np.ndarray, where: str = "", depth: int = 200) -> list[tuple[str, int]]:
    """Path and place of the scenes nearest to a vector."""
    filtered = parse_filter(where) if where else None
    found = index.search(SceneQuery(vector, where=filtered, depth=depth)).by_vector
    return [(one.video.path, one.place) for one in index.scenes([scene for scene, _ in found])]


def worded(index: FolderReader, text: str, where: str = "") -> list[str]:
    """`PATH/PLACE` of the scenes that hold words."""
    filtered = parse_filter(where) if where else None
    found = index.search(SceneQuery(words=WordQuery.parse(text), where=filtered)).by_words
    return [f"{one.video.path}/{one.place}" for one in index.scenes([scene for scene, _ in found])]


def test_a_video_comes_back_as_it_was_put_in(tmp_path: Path) -> None:
    given = video("a/b.mp4", scene(0, unit(np.ones(WIDTH)), ["goal"], "a caption", "hello"), scene(2))
    index = make(tmp_path / "archive", [given])
    back = index.video("/videos", "a/b.mp4")
    assert back is not None
    assert replace(back, scenes=()).__dict__ == replace(given, scenes=()).__dict__
    for ours, theirs in zip(back.scenes, given.scenes, strict=True):
        assert (ours.start_s, ours.end_s) == (theirs.start_s, theirs.end_s)
        assert (ours.findings, ours.speech, ours.thumbnail) == (theirs.findings, theirs.speech, theirs.thumbnail)
        assert np.allclose(ours.vector, theirs.vector, atol=1e-3) and ours.vector.shape == theirs.vector.shape
    assert index.video("/videos", "nowhere.mp4") is None
    assert index.made_of() == {("/videos", "a/b.mp4"): given.made_of}
    assert index.record == RECORD


def test_vectors_are_ranked_as_a_plain_product_ranks_them(tmp_path: Path) -> None:
    videos = random_videos(40)
    index = make(tmp_path / "archive", videos)
    matrix = np.stack([one.vector for each in videos for one in each.scenes]).astype(np.float16).astype(np.float32)
    names = [(each.path, place) for each in videos for place in range(3)]
    for query in unit(np.random.default_rng(1).standard_normal((5, WIDTH))):
        expected = [names[place] for place in np.argsort(-(matrix @ query), kind="stable")]
        assert nearest(index, query) == expected
        odd = [(path, place) for path, place in expected if int(path[1:-4]) % 2]
        where = " or ".join(f"video = 'v{i}.mp4'" for i in range(1, 40, 2))
        assert nearest(index, query, where) == odd
        assert nearest(index, query, "start = 4", depth=3) == [one for one in expected if one[1] == 2][:3]


def test_words_are_found_wherever_they_stand_and_in_any_form(tmp_path: Path) -> None:
    index = make(
        tmp_path / "archive",
        [
            video("Derby_2024/GoalReplay3.mp4", scene(0, labels=["corner kick"]), scene(2, speech="Çok güzel! Café")),
            video("b.mp4", scene(0, caption="two dogs are jumping"), scene(2, speech="一只红色的狗在跑")),
        ],
    )
    assert worded(index, "dog jumps") == ["b.mp4/0"]
    assert worded(index, "GOAL")[:1] == ["Derby_2024/GoalReplay3.mp4/0"] and len(worded(index, "replay")) == 2
    assert worded(index, "cafe") == ["Derby_2024/GoalReplay3.mp4/1"]
    assert worded(index, "红色") == ["b.mp4/1"] and worded(index, "色红") == []
    assert worded(index, '"corner kick"') == ["Derby_2024/GoalReplay3.mp4/0"]
    assert worded(index, '"kick corner"') == []
    for nothing in ("", "!!!", '""', '"', "AND", "a* OR", "NEAR(x y)", "captions:dogs", "-dogs", "\0"):
        assert all(one.startswith("b.mp4") for one in worded(index, nothing))


def test_what_is_in_quotes_holds_for_vectors_too(tmp_path: Path) -> None:
    near, far = unit(np.eye(WIDTH)[0]), unit(np.eye(WIDTH)[1])
    index = make(tmp_path / "archive", [video("a.mp4", scene(0, near), scene(2, far, speech="penalty kick"))])
    found = index.search(SceneQuery(near, WordQuery.parse('goal "penalty kick"')))
    assert len(found.by_vector) == len(found.by_words) == found.allowed == 1


def test_a_video_again_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    vectors = unit(np.eye(WIDTH))
    index = make(tmp_path / "archive", [video("a.mp4", scene(0, vectors[0], caption="old words"))])
    index.upsert([video("a.mp4", scene(0, vectors[1], caption="new words"), scene(2, vectors[2]), digest="1")])
    assert len(index) == 2 and worded(index, "old") == [] and worded(index, "new") == ["a.mp4/0"]
    assert nearest(index, vectors[0], depth=1) == [("a.mp4", 0)]  # the row of the old scene is no scene's
    assert index.delete([("/videos", "a.mp4"), ("/videos", "b.mp4")]) == 1
    assert len(index) == 0 and nearest(index, vectors[1]) == [] and worded(index, "new") == []
    for table in ("findings", "cues", "thumbnails", "words"):
        assert index._one(f"SELECT count(*) FROM {table}") == 0


def test_the_answers_of_a_new_adapter_come_in_and_go_with_it(tmp_path: Path) -> None:
    index = make(tmp_path / "archive", [video("a.mp4", scene(0, caption="a dog"), scene(2))])
    z = AdapterRecord("z", "linear", "b" * 64)
    index.describe(replace(RECORD, adapters={**RECORD.adapters, "z": z}))
    index.add_findings("/videos", "a.mp4", "z", "digest", [[Finding("z", "barking")], []])
    index.add_findings("/videos", "a.mp4", "z", "digest 2", [[Finding("z", "sleeping")], []])
    assert worded(index, "barking") == [] and worded(index, "sleeping") == worded(index, "dog") == ["a.mp4/0"]
    assert index.made_of()["/videos", "a.mp4"]["adapter z"] == "digest 2"
    with pytest.raises(InputError, match="has 2 scenes, and 1 were answered"):
        index.add_findings("/videos", "a.mp4", "z", "", [[]])
    with pytest.raises(InputError, match=r"b\.mp4: no such video"):
        index.add_findings("/videos", "b.mp4", "z", "", [[]])
    index.describe(RECORD)
    assert worded(index, "sleeping") == [] and worded(index, "dog") == ["a.mp4/0"]
    assert "adapter z" not in index.made_of()["/videos", "a.mp4"]


def test_a_reader_sees_one_state_while_another_writes(tmp_path: Path) -> None:
    vectors = unit(np.eye(WIDTH))
    index = make(tmp_path / "archive", [video("a.mp4", scene(0, vectors[0], caption="words"))])
    with FolderReader.open(tmp_path / "archive") as reader:
        with reader.snapshot():
            assert nearest(reader, vectors[0]) == [("a.mp4", 0)]
            index.upsert([video("b.mp4", scene(0, vectors[0], caption="words"), scene(2, vectors[1]))])
            index.delete([("/videos", "a.mp4")])
            assert nearest(reader, vectors[0]) == [("a.mp4", 0)] and worded(reader, "words") == ["a.mp4/0"]
        assert nearest(reader, vectors[0]) == [("b.mp4", 0), ("b.mp4", 1)] and worded(reader, "words") == ["b.mp4/0"]


def test_a_video_that_cannot_be_put_in_leaves_all_as_it_was(tmp_path: Path) -> None:
    index = make(tmp_path / "archive", random_videos(2))
    with pytest.raises(InputError, match="holds vectors of 8 numbers, not 9"):
        index.upsert([video("v0.mp4", scene(0, caption="changed")), video("c.mp4", scene(0, np.ones(9, np.float32)))])
    with pytest.raises(InputError, match="not finite"):
        index.upsert([video("c.mp4", scene(0, np.full(WIDTH, np.nan, np.float32)))])
    with pytest.raises(InputError, match="not of length 1"):
        index.upsert([video("c.mp4", scene(0, np.ones(WIDTH, np.float32)))])
    with pytest.raises(InputError, match="comes twice"):
        index.upsert([video("c.mp4"), video("c.mp4")])
    assert len(index) == 6 and worded(index, "changed") == [] and len(worded(index, "word0")) == 1


WRITER = """
import sys
import threading
from tests.prismhub.archive.archives import *
index = FolderIndex.open(sys.argv[1])
for number in range(100_000):
    rng = np.random.default_rng(number)
    scenes = [scene(i, unit(rng.standard_normal(WIDTH)), caption=f"n{number}") for i in range(4)]
    index.upsert([video(f"k{number % 50}.mp4", *scenes)])
    print(number, flush=True)
"""


def test_a_writer_that_is_killed_leaves_whole_videos(tmp_path: Path) -> None:
    make(tmp_path / "archive", []).close()
    for _ in range(3):
        words = [sys.executable, "-c", WRITER, str(tmp_path / "archive")]
        with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=ROOT) as writer:
            assert writer.stdout is not None
            for _ in range(30):
                writer.stdout.readline()
            time.sleep(0.003)
            os.kill(writer.pid, signal.SIGKILL)
        with FolderIndex.open(tmp_path / "archive") as index:
            every = [index.video(*key) for key in index.made_of()]
            assert every and all(one is not None and len(one.scenes) == 4 for one in every)
            for one in every:
                number = int(one.scenes[0].findings[0].text[1:])
                rng = np.random.default_rng(number)
                for kept in one.scenes:
                    assert np.allclose(kept.vector, unit(rng.standard_normal(WIDTH)), atol=1e-3)
            index.upsert(random_videos(1, seed=9))
            assert len(worded(index, "word0")) == 1
            index.delete([("/videos", "v0.mp4")])


def test_rows_that_nobody_names_are_thrown_out(tmp_path: Path) -> None:
    index = make(tmp_path / "archive", random_videos(10))
    with FolderReader.open(tmp_path / "archive") as reader:
        assert len(nearest(reader, unit(np.ones(WIDTH)))) == 30
        index.delete([("/videos", f"v{i}.mp4") for i in range(3, 9)])
        before = [replace(one, scenes=()) for key in index.made_of() if (one := index.video(*key))]
        queries = unit(np.random.default_rng(2).standard_normal((4, WIDTH)))
        found = [nearest(index, query) for query in queries]
        index.optimize()
        files = {path.name: path.stat().st_size for path in (tmp_path / "archive").glob("vectors-*")}
        assert files == {"vectors-2.f16": 12 * WIDTH * 2}
        assert [nearest(index, query) for query in queries] == found == [nearest(reader, query) for query in queries]
        assert [one.path for one in before] == ["v0.mp4", "v1.mp4", "v2.mp4", "v9.mp4"]
        index.upsert(random_videos(4))
        assert len(nearest(reader, queries[0])) == 15


def test_a_large_archive_without_usearch_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("prismhub.archive.scene_index.has_usearch", lambda: False)
    make(tmp_path / "small", random_videos(4)).optimize()
    assert not caplog.records
    monkeypatch.setattr("prismhub.archive.scene_index.APPROXIMATE_FROM", 12)
    monkeypatch.setattr("prismhub.archive.scene_index.MOST_BESIDE", 1)
    make(tmp_path / "large", random_videos(4)).optimize()
    assert "12 scenes are searched one by one" in caplog.text and "pip install 'prismhub[archive]'" in caplog.text


def test_a_large_archive_is_searched_by_a_graph_that_finds_nearly_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("usearch")
    monkeypatch.setattr("prismhub.archive.scene_index.APPROXIMATE_FROM", 3000)
    monkeypatch.setattr("prismhub.archive.scene_index.MOST_BESIDE", 1)
    index = make(tmp_path / "archive", random_videos(1000))
    queries = unit(np.random.default_rng(3).standard_normal((50, WIDTH)))
    exact = [nearest(index, query, depth=10) for query in queries]
    index.optimize()
    assert index._saved("vectors")["expansion"] >= 64
    assert index.vector_search()._expansion >= 64
    graph = [nearest(index, query, depth=10) for query in queries]
    hits = sum(len(set(one) & set(other)) for one, other in zip(exact, graph, strict=True))
    assert hits >= vectors.LEAST_RECALL * 500
    index.upsert([video("late.mp4", scene(0, queries[0]))])  # not in the graph yet
    assert nearest(index, queries[0], depth=1) == [("late.mp4", 0)]
    index.delete([("/videos", "late.mp4")])
    assert nearest(index, queries[0], depth=10)[:3] == exact[0][:3]
    index.upsert([video("late.mp4", scene(0, queries[1]))])
    graph_file = index.vector_search().file.graph_path
    before = graph_file.stat().st_mtime_ns
    index.upsert([video("later.mp4", scene(0, queries[2]))])
    index.optimize()
    assert graph_file.stat().st_mtime_ns > before and index._saved("vectors")["held"] == 3003
    assert nearest(index, queries[1], depth=1) == [("late.mp4", 0)]
    before = graph_file.stat().st_mtime_ns
    index.upsert([video("latest.mp4", scene(0, queries[3]))])
    index.optimize()  # one row beside the graph is no reason to write it again
    assert graph_file.stat().st_mtime_ns == before
    assert nearest(index, queries[3], depth=1) == [("latest.mp4", 0)]


def test_only_an_archive_is_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder; make one with: prismhub index"):
        FolderReader.open(tmp_path / "nowhere")
    with pytest.raises(InputError, match="no archive; make one with"):
        FolderReader.open(tmp_path)
    (tmp_path / schema.DATABASE).write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match="damaged .*not a database"):
        FolderReader.open(tmp_path)
    (tmp_path / schema.DATABASE).unlink()
    other = sqlite3.connect(tmp_path / schema.DATABASE)
    other.execute("CREATE TABLE mine (x)")
    other.commit()
    with pytest.raises(InputError, match="of something else, no archive"):
        FolderReader.open(tmp_path)
    with pytest.raises(InputError, match="of something else, no archive"):
        FolderIndex.create(tmp_path, RECORD)
    make(tmp_path / "new", []).close()
    newer = sqlite3.connect(tmp_path / "new" / schema.DATABASE)
    newer.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    newer.close()
    with pytest.raises(InputError, match=f"schema {schema.VERSION + 1}.*update prismhub"):
        FolderReader.open(tmp_path / "new")


def test_an_archive_may_be_called_anything_and_lie_on_a_disk_that_is_full(tmp_path: Path) -> None:
    index = make(tmp_path / "my archive? ü #1 100%20", random_videos(2))
    assert len(index) == 6 and len(FolderReader.open(index.folder)) == 6
    import resource

    size = (index.folder / "vectors-1.f16").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, before[1]))  # no file may grow beyond
    try:
        with pytest.raises((InputError, OSError)):
            index.upsert(random_videos(9, seed=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(index) == 6 and len(worded(index, "word3")) == 1
    index.upsert(random_videos(9, seed=1))
    assert len(index) == 27 and len(nearest(index, unit(np.ones(WIDTH)))) == 27


def test_vectors_of_another_encoder_do_not_come_in(tmp_path: Path) -> None:
    make(tmp_path / "archive", random_videos(1)).close()
    with pytest.raises(InputError, match="its vectors are of encoder 'nano'.*not of 'clip'"):
        FolderIndex.create(tmp_path / "archive", replace(RECORD, encoder="clip", fingerprint="c" * 64))
    with pytest.raises(InputError, match="other settings than these"):
        FolderIndex.create(tmp_path / "archive", replace(RECORD, features={"kind": "clip"}))
    FolderIndex.create(tmp_path / "archive", replace(RECORD, roots=("/videos",)))
    make(tmp_path / "empty", []).close()
    FolderIndex.create(tmp_path / "empty", replace(RECORD, encoder="clip", fingerprint="c" * 64))


def test_an_archive_whose_scenes_are_all_gone_takes_vectors_of_another_width(tmp_path: Path) -> None:
    index = make(tmp_path / "archive", random_videos(3))
    index.keep_background(unit(np.ones((2, WIDTH))), np.zeros(2, np.float32), 1, 9)
    index.delete(list(index.made_of()))
    wide = replace(RECORD, encoder="clip", fingerprint="c" * 64, width=2 * WIDTH)
    index.describe(wide)
    assert index.background() is None
    index.upsert([video("new.mp4", scene(0, unit(np.ones(2 * WIDTH))))])
    assert nearest(index, unit(np.ones(2 * WIDTH))) == [("new.mp4", 0)]
    index.optimize()
    assert [path.name for path in index.folder.glob("vectors-*")] == ["vectors-2.f16"]


def test_what_killed_runs_leave_is_thrown_out(tmp_path: Path) -> None:
    index = make(tmp_path / "archive", random_videos(3))
    left = [".vectors-1.hnsw.999999-0123abcd.tmp", "vectors-0.f16", "vectors-2.f16", "vectors-0.hnsw"]
    for name in left:
        (index.folder / name).write_bytes(b"left")
    index.optimize()
    assert sorted(path.name for path in index.folder.iterdir() if "vectors" in path.name) == ["vectors-1.f16"]
    assert len(nearest(index, unit(np.ones(WIDTH)))) == 9


@pytest.mark.parametrize("part", [slice(4096, None), slice(150_000, None), slice(20_000, 40_000)], ids=str)
def test_a_damaged_database_is_said_in_one_line(tmp_path: Path, part: slice, says: Callable[..., str]) -> None:
    index = make(tmp_path / "archive", random_videos(300))
    index.optimize()
    index.close()
    path = tmp_path / "archive" / schema.DATABASE
    data = bytearray(path.read_bytes())
    data[part] = b"\xa5" * len(data[part])
    path.write_bytes(data)
    asked = ["search", str(path.parent), "--mode", "text", "--top", "900", "--where"]
    assert "damaged" in says(2, *asked, "caption like '%word%'")
    assert "damaged" in says(2, "search", str(path.parent), "word3 everywhere", "--mode", "text")


@pytest.mark.parametrize(("size", "problem"), [(None, "missing"), (40, "shorter than the archive says")])
def test_vectors_that_were_lost_are_missed_in_one_line(tmp_path: Path, size: int | None, problem: str) -> None:
    make(tmp_path / "archive", random_videos(3)).close()
    path = tmp_path / "archive" / "vectors-1.f16"
    if size is None:
        path.unlink()
    else:
        os.truncate(path, size)
    with FolderIndex.open(tmp_path / "archive") as index, pytest.raises(InputError, match=problem):
        index.upsert(random_videos(1, seed=1))
    with FolderReader.open(tmp_path / "archive") as reader:
        assert len(reader) == 9 and worded(reader, "word0") == ["v0.mp4/0"]
        with pytest.raises(InputError, match=problem):
            nearest(reader, unit(np.ones(WIDTH)))


def test_two_that_make_an_archive_at_once_make_one(tmp_path: Path) -> None:
    code = """
import sys
import threading
from pathlib import Path
from prismhub.archive import schema
sys.stdin.readline()
for number in range(20):
    schema.create(Path(sys.argv[1]) / str(number)).close()
"""
    words = [sys.executable, "-c", code, str(tmp_path)]
    both = [subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.close()
    assert [process.wait(60) for process in both] == [0, 0]


def test_an_archive_is_made_beside_one_who_begins_to_write(tmp_path: Path) -> None:
    """What SQLite calls locked at once, without waiting."""
    other = sqlite3.connect(tmp_path / schema.DATABASE, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    soon = threading.Timer(0.3, other.rollback)
    soon.start()
    schema.create(tmp_path).close()
    soon.join()
    other.close()


def test_names_of_files_need_not_be_utf8(tmp_path: Path) -> None:
    odd = [replace(video("d\udcff/caf\udce9.mp4", scene(0, caption="a dog")), root="/vid\udce9os")]
    index = make(tmp_path / "archive", [*odd, video("plain.mp4", scene(0, caption="a dog"))])
    key = ("/vid\udce9os", "d\udcff/caf\udce9.mp4")
    assert sorted(index.made_of()) == sorted([key, ("/videos", "plain.mp4")])
    assert index.video(*key) is not None and worded(index, "caf") == ["d\udcff/caf\udce9.mp4/0"]
    index.add_findings(*key, "z", "0", [[Finding("z", "cat")]])
    assert worded(index, "cat") == ["d\udcff/caf\udce9.mp4/0"] == worded(index, "cat", "name like 'caf%'")
    index.upsert(odd)
    assert index.delete([key]) == 1 and list(index.made_of()) == [("/videos", "plain.mp4")]


@pytest.mark.skipif(os.access("/", os.W_OK), reason="the superuser may write everywhere")
def test_an_archive_in_a_place_that_cannot_be_written_to_is_read(tmp_path: Path) -> None:
    make(tmp_path / "archive", random_videos(2)).close()
    (tmp_path / "archive").chmod(0o500)
    try:
        with FolderReader.open(tmp_path / "archive") as reader:
            assert len(worded(reader, "word3")) == 1
    finally:
        (tmp_path / "archive").chmod(0o700)


def test_a_full_disk_is_said_and_leaves_all_as_it_was(tmp_path: Path) -> None:
    index = make(tmp_path / "archive", random_videos(2))
    pages = index._one("PRAGMA page_count")
    index._run(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(InputError, match="the disk is full; free space"):
        index.upsert(random_videos(3000, seed=1))
    index._run("PRAGMA max_page_count = 1000000")
    assert len(index) == 6 and len(worded(index, "word3")) == 1
    index.upsert(random_videos(3))
    assert len(index) == 9


def test_an_error_of_the_disk_is_told_as_a_full_one_where_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that is full SQLite may say so, or fail at what it maps beside its file."""
    for free, says in ((0, "the disk is full; free space and run"), (1 << 30, "cannot be opened or written")):
        monkeypatch.setattr(schema, "free_bytes", lambda folder, free=free: free)
        with pytest.raises(InputError, match=says), schema.saying_what_is_wrong(tmp_path / "scenes.sqlite"):
            raise sqlite3.OperationalError("disk I/O error")
