"""Tables and shards as rows with random access, and what is said of rows that do not fit."""

from __future__ import annotations

import errno
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core_encoder.errors import InputError
from core_encoder.files.storage import prismhub_home
from pretrain.corpus import row_readers
from pretrain.corpus.clip_index import ClipIndex
from pretrain.corpus.manifest import Tier
from pretrain.corpus.rows import Member, Row
from tests.pretrain.corpora import write_jsonl, write_tar


def write(folder: Path, name: str, text: str, videos: int = 3) -> Path:
    for number in range(videos):
        (folder / f"{number}.mp4").write_bytes(b"x")
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def index_of(table: Path, **fields: Any) -> ClipIndex:
    return ClipIndex.of(Tier("t", "clean", table=table, **fields))


def rows_of(index: ClipIndex) -> list[Row]:
    return [index[number] for number in range(len(index))]


def test_csv(tmp_path: Path) -> None:
    text = 'video,start,end,caption\n0.mp4,,,"a dog, running"\n1.mp4,1.5,4,\n\n2.mp4,0,2.5,"two\nlines"\n'
    index = index_of(write(tmp_path, "clips.csv", text))
    assert rows_of(index) == [
        Row(str(tmp_path / "0.mp4"), 0.0, None, "a dog, running"),
        Row(str(tmp_path / "1.mp4"), 1.5, 4.0, ""),
        Row(str(tmp_path / "2.mp4"), 0.0, 2.5, "two\nlines"),
    ]
    assert index.captioned.tolist() == [0, 2]


def test_tsv_with_byte_order_mark(tmp_path: Path) -> None:
    index = index_of(write(tmp_path, "clips.tsv", "\ufeffvideo\tcaption\n0.mp4\ta, b\n"))
    assert index[0].caption == "a, b"


def test_jsonl_with_captions_of_every_kind(tmp_path: Path) -> None:
    long = "a dog runs and " * 700  # 10,500 characters
    captions = ["собака бежит", "犬が走る 🐕", long, 42, 4.5, None, "", "   ", True, "a \ud83d star"]
    write(tmp_path, "x", "")
    table = write_jsonl(tmp_path / "clips.jsonl", [{"video": "0.mp4", "caption": caption} for caption in captions])
    index = index_of(table)
    expected = ["собака бежит", "犬が走る 🐕", long.strip(), "42", "4.5", "", "", "", "True", "a ? star"]
    assert [row.caption for row in rows_of(index)] == expected
    assert index.captioned.tolist() == [0, 1, 2, 3, 4, 8, 9]


def test_rows_of_one_table_may_have_different_keys(tmp_path: Path) -> None:
    text = '{"video": "0.mp4"}\n{"video": "1.mp4", "caption": "b", "start": 1}\n'
    assert [row.caption for row in rows_of(index_of(write(tmp_path, "clips.jsonl", text)))] == ["", "b"]


def test_parquet(tmp_path: Path) -> None:
    write(tmp_path, "x", "")
    values = {"video": ["0.mp4", "1.mp4"], "start": [0.5, None], "end": [2, None], "caption": [7, None]}
    pq.write_table(pa.table(values), tmp_path / "clips.parquet")
    expected = [Row(str(tmp_path / "0.mp4"), 0.5, 2.0, "7"), Row(str(tmp_path / "1.mp4"))]
    assert rows_of(index_of(tmp_path / "clips.parquet")) == expected


def test_columns_are_renamed_and_labels_kept(tmp_path: Path) -> None:
    text = "clip,text,label,object,extra\n0.mp4,hello,spin,star,x\n"
    table = write(tmp_path, "clips.csv", text)
    [row] = rows_of(index_of(table, columns={"video": "clip", "caption": "extra"}))
    assert (row.caption, row.labels) == ("x", {"label": "spin"})
    [row] = rows_of(index_of(table, columns={"image": "clip"}, labels=("label", "object", "absent")))
    assert (row.caption, row.labels) == ("hello", {"label": "spin", "object": "star"})


def test_rows_can_be_written_and_named_as_a_table(tmp_path: Path) -> None:
    write(tmp_path, "x", "")
    (tmp_path / "a.tar").write_bytes(b"")
    rows = [
        Row(str(tmp_path / "0.mp4"), 1.0, 2.0, "äé", {"object": "star"}),
        Row(str(tmp_path / "a.tar"), caption="b", member=Member("x/1.mp4", 512, 9)),
    ]
    table = write_jsonl(tmp_path / "kept.jsonl", [row.to_dict() for row in rows])
    assert rows_of(index_of(table)) == rows
    assert rows[1].path == f"{tmp_path}/a.tar/x/1.mp4"


def test_labels_of_one_s_own_and_empty_ones(tmp_path: Path) -> None:
    table = write(tmp_path, "clips.csv", "video,label\n0.mp4,dog\n1.mp4,\n2.mp4, \n")
    assert [row.labels for row in rows_of(index_of(table))] == [{"label": "dog"}, {}, {}]
    rows = [{"video": "0.mp4", "labels": {"kind": "cat", "age": 3, "tail": None}, "member": None}]
    assert rows_of(index_of(write_jsonl(tmp_path / "own.jsonl", rows)))[0].labels == {"kind": "cat", "age": "3"}


def test_a_time_that_python_has_no_word_for_is_one_line(tmp_path: Path) -> None:
    far = pa.array([2**60], pa.timestamp("us"))
    pq.write_table(pa.table({"video": ["0.mp4"], "when": far}), tmp_path / "c.parquet")
    with pytest.raises(InputError, match=r"c.parquet: after row 0: not valid Parquet"):
        index_of(tmp_path / "c.parquet")


def test_an_index_is_made_once_and_again_when_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write(tmp_path, "clips.csv", "video,caption\n0.mp4,a\n")
    first = index_of(table)
    with monkeypatch.context() as patched:
        patched.setattr(row_readers, "_csv", None)
        assert rows_of(index_of(table)) == rows_of(first)
    write(tmp_path, "clips.csv", "video,caption\n0.mp4,a\n1.mp4,b\n")
    second = index_of(table)
    assert len(first) == 1 and len(second) == 2
    assert first.digest != second.digest
    assert {path.name[0] for path in (prismhub_home() / "corpus").iterdir()} != {"."}  # nothing half-written is left


def test_the_digest_is_that_of_the_content_wherever_it_lies(tmp_path: Path) -> None:
    digests = set()
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        digests.add(index_of(write(tmp_path / name, "clips.csv", "video,caption\n0.mp4,a\n")).digest)
    assert len(digests) == 1


def test_an_index_survives_pickling_and_knows_its_bounds(tmp_path: Path) -> None:
    index = index_of(write(tmp_path, "clips.csv", "video,caption\n0.mp4,a\n1.mp4,b\n"))
    copy = pickle.loads(pickle.dumps(index))  # noqa: S301 (what worker processes do)
    assert rows_of(copy) == rows_of(index)
    for number in (-1, 2):
        with pytest.raises(IndexError):
            index[number]


def test_a_failed_index_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        index_of(write(tmp_path, "clips.csv", "video,start\n0.mp4,x\n"))
    assert list((prismhub_home() / "corpus").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.csv", "video,start\n0.mp4,0\n1.mp4,soon\n", r"c.csv: line 3: start 'soon' is not a time"),
        ("c.csv", "video,start\n0.mp4,-1\n", r"c.csv: line 2: start '-1' is not a time"),
        ("c.csv", "video,end\n0.mp4,nan\n", r"c.csv: line 2: end 'nan' is not a time"),
        ("c.csv", "video,start,end\n0.mp4,3,3\n", r"c.csv: line 2: end 3 is not after start 3"),
        ("c.csv", "video,caption\n0.mp4,a\n,b\n", r"c.csv: line 3: video is ''; give the path"),
        ("c.csv", "video,caption\n0.mp4,a,b\n", r"c.csv: line 2: 3 fields where the header has 2"),
        ("c.csv", "video,video\n0.mp4,a\n", r"c.csv: line 1: two columns are called 'video'"),
        ("c.csv", 'video,caption\n0.mp4,"a\n', r"c.csv: line 2: not valid CSV"),
        ("c.csv", "vidoe,caption\n0.mp4,a\n", r"c.csv: line 2: no column 'video'; did you mean 'vidoe'"),
        ("c.csv", "video,caption\n", r"c.csv: holds no clips"),
        ("c.csv", "", r"c.csv: holds no clips"),
        ("c.csv", "video,caption\nx.mp4,a\ny.mp4,b\n", r"c.csv: none of its first 2 files exists, e.g. .*x.mp4"),
        ("c.jsonl", '{"video": "0.mp4"}\n{"video": 3}\n', r"c.jsonl: line 2: video is 3; give the path"),
        ("c.jsonl", '{"video": "0.mp4"}\n[1]\n', r"c.jsonl: line 2: must be an object"),
        ("c.jsonl", '{"video": "0.mp4"}\n{"video"\n', r"c.jsonl: line 2: not valid JSON"),
        ("c.jsonl", '{"video": "0.mp4", "labels": {}, "member": 3}\n', r"c.jsonl: line 1: member is 3; give name"),
        ("c.jsonl", '{"video": "0.mp4", "labels": {}, "member": ["a", -5, 1]}\n', r"line 1: member is \['a', -5, 1\]"),
        ("c.jsonl", f'{{"video": "0.mp4", "labels": {{}}, "member": ["a", 1, {10**30}]}}\n', r"line 1: member is"),
        ("c.jsonl", '{"video": "0.mp4", "labels": {"k": [1]}}\n', r"c.jsonl: line 1: k is a list; give one text"),
        (
            "c.jsonl",
            '{"video": "0.mp4", "caption": ["a", "b"]}\n',
            r"c.jsonl: line 1: caption is a list; give one text",
        ),
        ("c.jsonl", '{"video": "0.mp4", "end": true}\n', r"c.jsonl: line 1: end True is not a time"),
        ("c.jsonl", '{"video": "0.mp4", "end": ' + "1" * 400 + "}\n", r"c.jsonl: line 1: end 1+ is not a time"),
        ("c.jsonl", '{"video": "0.mp4", "caption": ' + "1" * 5000 + "}\n", r"c.jsonl: line 1: not valid JSON"),
        ("c.jsonl", '{"video": "0.mp4", "caption": ' + "[" * 10**5 + "\n", r"c.jsonl: line 1: not valid JSON"),
        ("c.jsonl", '{"video": "0.mp4"}\n{"video": "\\ud83d.mp4"}\n', r"c.jsonl: line 2: video is .*; give the path"),
        ("c.csv", f"video,caption\n{'a dog ' * 60},0.mp4\n", r"c.csv: none of its first 1 files exists, e.g. .*a dog"),
        ("c.parquet", "PAR1 no", r"c.parquet: after row 0: not valid Parquet"),
        ("c.xlsx", "", r"c.xlsx: not a table; take a file ending in .csv"),
    ],
)
def test_what_does_not_fit_is_named_with_file_and_row(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        index_of(write(tmp_path, name, text))
    assert "\n" not in str(caught.value)


def test_a_renamed_column_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'txet'; did you mean 'text'"):
        index_of(write(tmp_path, "clips.csv", "video,text\n0.mp4,a\n"), columns={"caption": "txet"})


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_bytes(b"video,caption\n0.mp4,\xff\xfe\n")
    with pytest.raises(InputError, match=r"c.csv: after line \d: not UTF-8"):
        index_of(tmp_path / "c.csv")


def test_a_table_that_went_away(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="clips.csv: cannot be opened"):
        index_of(tmp_path / "clips.csv")


def test_a_table_that_cannot_be_read_is_blamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(InputError, match=r"/folder.jsonl: cannot be read \(Is a directory\)"):
        index_of(tmp_path / "folder.jsonl")
    table = write(tmp_path, "clips.csv", "video\n0.mp4\n")
    permitted = Path.open

    def forbidden(path: Path, *given: Any, **named: Any) -> Any:  # root, who may read all, runs tests too
        if path == table:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return permitted(path, *given, **named)

    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(InputError, match=r"/clips.csv: cannot be read \(Permission denied\)"):
        index_of(table)


def shard_index(folder: Path, **fields: Any) -> ClipIndex:
    return ClipIndex.of(Tier("web", "noisy", shards=(str(folder / "*.tar"),), **fields))


def test_shards(tmp_path: Path) -> None:
    annotation = json.dumps({"caption": "b", "start": 0.5, "end": 1, "label": "spin", "other": [1]}).encode()
    write_tar(
        tmp_path / "0.tar",
        [("x/a.mp4", b"AAAA"), ("x/a.txt", b" a cat \n"), ("x/b.webm", b"BB"), ("x/b.json", annotation)],
    )
    write_tar(
        tmp_path / "1.tar", [("c.json", b'{"caption": 7}'), ("c.MP4", b"CCC"), ("d.txt", b"alone"), ("e.mov", b"E")]
    )
    index = shard_index(tmp_path)
    a, b, c, e = rows_of(index)
    assert (a.video, a.path, a.caption) == (f"{tmp_path}/0.tar", f"{tmp_path}/0.tar/x/a.mp4", "a cat")
    assert (b.start_s, b.end_s, b.caption, b.labels) == (0.5, 1.0, "b", {"label": "spin"})
    assert (c.caption, e.caption, e.video) == ("7", "", f"{tmp_path}/1.tar")
    contents = []
    for row in (a, b, c, e):
        assert row.member is not None
        with Path(row.video).open("rb") as file:
            file.seek(row.member.offset)
            contents.append(file.read(row.member.size))
    assert contents == [b"AAAA", b"BB", b"CCC", b"E"]


def test_shards_of_images(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [("a.jpg", b"AAAA"), ("a.txt", b"a cat"), ("b.mp4", b"BB")])
    assert [row.path for row in rows_of(shard_index(tmp_path, media="image"))] == [f"{tmp_path}/0.tar/a.jpg"]


def test_a_shard_and_a_member_whose_names_are_no_utf8_can_be_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "th\udce9.tar", [("caf\udce9.mp4", b"AAAA")])
    [row] = rows_of(shard_index(tmp_path))
    assert row.path == f"{tmp_path}/th\\udce9.tar/caf\\udce9.mp4"
    assert row.member is not None and os.fsencode(row.member.name) == b"caf\xe9.mp4"
    assert rows_of(index_of(write_jsonl(tmp_path / "kept.jsonl", [row.to_dict()]))) == [row]


def test_the_same_shards_as_videos_and_as_images(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [("x.mp4", b"AAAA"), ("x.jpg", b"BB"), ("x.txt", b"a cat")])
    for media, name in (("video", "x.mp4"), ("image", "x.jpg"), ("video", "x.mp4")):
        assert [row.path for row in rows_of(shard_index(tmp_path, media=media))] == [f"{tmp_path}/0.tar/{name}"]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.mp4", b"A"), ("a.json", b"{")], r"0.tar: sample 'a': its annotation is not valid"),
        ([("a.mp4", b"A"), ("a.json", b"[]")], r"0.tar: sample 'a': its .json must be an object"),
        ([("a.mp4", b"A"), ("a.json", b'{"start": "x"}')], r"0.tar: sample 'a': start 'x' is not a time"),
        ([("a.mp4", b"A"), ("a.txt", b"\xff")], r"0.tar: sample 'a': its annotation is not valid"),
        (
            [("a.mp4", b"A"), ("a.json", b'{"caption": ' + b"1" * 5000 + b"}")],
            r"0.tar: sample 'a': its annotation is not",
        ),
        ([("a.txt", b"A")], r"0.tar: holds no clips"),
    ],
)
def test_samples_that_do_not_fit(tmp_path: Path, members: list[tuple[str, bytes]], message: str) -> None:
    write_tar(tmp_path / "0.tar", members)
    with pytest.raises(InputError, match=message):
        shard_index(tmp_path)


def test_a_shard_that_is_cut_off_or_no_tar(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "0.tar", [(f"{i}.mp4", os.urandom(2000)) for i in range(9)])
    whole.write_bytes(whole.read_bytes()[:9000])
    with pytest.raises(InputError, match=r"0.tar: not a whole, uncompressed tar"):
        shard_index(tmp_path)
    whole.write_bytes(b"\x1f\x8b" + os.urandom(3000))
    with pytest.raises(InputError, match=r"0.tar: not a whole, uncompressed tar"):
        shard_index(tmp_path)


@pytest.mark.parametrize("damage", ["after a member", "after one block of zeros", "a header of zeros", "a bad header"])
def test_members_missing_from_the_end_of_a_shard_are_missed(tmp_path: Path, damage: str) -> None:
    shard = write_tar(tmp_path / "0.tar", [(f"{i}.mp4", os.urandom(2000)) for i in range(3)])
    assert len(shard_index(tmp_path)) == 3
    size, content = 512 + 2048, shard.read_bytes()  # of a member
    shard.write_bytes(
        {
            "after a member": content[: 2 * size],
            "after one block of zeros": content[: 3 * size + 512],
            "a header of zeros": content[: 2 * size] + bytes(512) + content[2 * size + 512 :],
            "a bad header": content[: 2 * size] + b"\xff" * 512 + content[2 * size + 512 :],
        }[damage]
    )
    with pytest.raises(InputError, match=r"0.tar: not a whole, uncompressed tar \(no end of archive at byte \d+"):
        shard_index(tmp_path)
