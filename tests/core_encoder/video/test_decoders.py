"""Decoding of real files: every frame carries its own number, so a wrong frame cannot pass for the right one."""

from __future__ import annotations

import os
import random
import shutil
import struct
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.preprocessing import Preprocessing
from core_encoder.video import decoders as video_module
from core_encoder.video.decoders import decoder_id, open_video, read_clip
from tests.core_encoder.video.numbered_videos import DECODERS, FILES, IRREGULAR_MS, N, number, numbered, write
from tests.videos import moving_square

NOT_FOR_DECORD = (".ts", ".mpg", ".flv")


@pytest.mark.parametrize("decoder", ["auto", *DECODERS])
@pytest.mark.parametrize("name", FILES)
def test_every_frame_is_the_one_asked_for(made: Callable[[str], Path], name: str, decoder: str) -> None:
    """In order, out of order, and alone after a seek."""
    path = made(name)
    if decoder == "decord" and name.endswith(NOT_FOR_DECORD):
        with pytest.raises(UnreadableVideo, match=r"decord misnumbers frames in \w+ files; use decoder 'pyav'"):
            open_video(path, decoder)
        return
    with open_video(path, decoder) as video:
        assert video.facts.num_frames == N
        assert [number(frame) for frame in video.read(range(N))] == list(range(N))
        shuffled = random.Random(0).sample(range(N), 25)
        assert [number(video.read([index])[0]) for index in shuffled] == shuffled
    with open_video(path, decoder) as video:
        spread = list(range(3, N, 9))
        assert [number(frame) for frame in video.read(spread)] == spread
        assert [number(frame) for frame in video.read([20, 7, 7, 59, 0])] == [20, 7, 7, 59, 0]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", FILES)
def test_expected_frames_are_the_same_where_others_are_not_decoded(
    made: Callable[[str], Path], name: str, threads: int
) -> None:
    with (
        open_video(made(name), "pyav") as plain,
        open_video(made(name), num_threads=threads, read_through=True) as video,
    ):
        assert video.decoder == "pyav"
        for wanted in (range(2, N, 7), range(N), [5, 6, 7, 40]):
            video.expect(wanted)
            parts = [video.read(wanted[first : first + 3]) for first in range(0, len(wanted), 3)]
            assert (np.concatenate(parts) == plain.read(wanted)).all()
        video.expect([3, 30])
        assert [number(frame) for frame in video.read([3, 29, 30, 1])] == [3, 29, 30, 1]  # not all of them expected


def test_frames_that_nobody_expects_are_not_decoded(made: Callable[[str], Path]) -> None:
    with open_video(made("b_frames.mp4"), "pyav") as video:
        video.expect([N - 1])
        video.read([N - 1])
        video._restart()
        assert sum(1 for _ in video._frames) < N


@pytest.mark.skipif(not video_module.has_decord(), reason="no decord")
@pytest.mark.parametrize(
    "name", [name for name in FILES if not name.endswith(("ten_bit.mp4", "interlaced.mp4", *NOT_FOR_DECORD))]
)
def test_both_decoders_give_equal_pixels_and_facts(made: Callable[[str], Path], name: str) -> None:
    with open_video(made(name), "pyav") as ours, open_video(made(name), "decord") as theirs:
        assert ours.facts == theirs.facts
        assert (ours.facts.timestamps == theirs.facts.timestamps).all()
        assert (ours.read(range(N)) == theirs.read(range(N))).all()


@pytest.mark.skipif(not video_module.has_decord(), reason="no decord")
def test_auto_takes_decord_only_where_its_seeks_are_exact(made: Callable[[str], Path]) -> None:
    taken = {}
    for name in FILES:
        with open_video(made(name)) as video:
            taken[name] = video.decoder
    assert {name for name, decoder in taken.items() if decoder == "pyav"} == {
        "b_frames.avi",
        "mpeg4.avi",
        "b_frames.ts",
        "mpeg1.mpg",
        "mpeg2.ts",
        "flash.flv",
        "open_gop.mp4",
        "open_gop.mkv",
        "ten_bit.mp4",
        "interlaced.mp4",
    }


def test_pixels_are_those_that_were_written(made: Callable[[str], Path]) -> None:
    with open_video(made("plain.mp4"), "pyav") as video:
        error = np.abs(video.read(range(N)).astype(int) - numbered())
    assert error.mean() < 3, "H.264 at crf 12 with halved color"


@pytest.mark.parametrize("name", ["variable_rate.mp4", "variable_rate.mkv"])
def test_times_count_from_the_first_frame(made: Callable[[str], Path], name: str) -> None:
    with open_video(made(name)) as video:
        expected = (np.array(IRREGULAR_MS) - IRREGULAR_MS[0]) / 1000
        assert np.abs(video.facts.timestamps - expected).max() <= 1e-3
    asked = [expected[i] + 0.004 for i in (5, 17, 40)]  # 4 ms after a frame appears it is still on screen
    for index, time_s in zip((5, 17, 40), asked, strict=True):
        [frame] = read_clip(Clip(str(made(name)), time_s, time_s + 0.002), ClipPlan(1))
        assert number(frame) == index


@pytest.mark.parametrize("name", ["plain.mp4", "late_start.mp4", "b_frames.mkv", "b_frames.ts", "b_frames.avi"])
def test_facts_of_a_constant_rate(made: Callable[[str], Path], name: str) -> None:
    with open_video(made(name)) as video:
        facts = video.facts
    assert (facts.num_frames, facts.width, facts.height) == (N, 96, 64)
    assert facts.fps == pytest.approx(25, rel=1e-3) and facts.duration_s == pytest.approx(N / 25, rel=1e-3)
    assert np.allclose(facts.timestamps, np.arange(N) / 25, atol=1e-3)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_phone_videos_are_turned_upright(tmp_path: Path, degrees: int, decoder: str) -> None:
    source = numbered(8)
    with open_video(write(tmp_path / "turned.mp4", source, rotation=degrees), decoder) as video:
        upright = np.rot90(source[5], degrees // 90)
        [frame] = video.read([5])
        assert (video.facts.height, video.facts.width) == upright.shape[:2] == frame.shape[:2]
    assert np.abs(frame.astype(int) - upright).mean() < 5


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("height", "width"), [(66, 98), (65, 97), (16, 400), (400, 18)])
def test_odd_sizes(tmp_path: Path, height: int, width: int, decoder: str) -> None:
    pixel_format = "yuv444p" if height % 2 or width % 2 else "yuv420p"
    source = moving_square(6, height, width)
    path = write(tmp_path / "odd.mp4", source, pixel_format=pixel_format)
    with open_video(path, decoder) as video:
        assert np.abs(video.read(range(6)).astype(int) - source).mean() < 8, "skewed rows differ by far more"
        assert video.read([2], Preprocessing(32, "center_crop")).shape == (1, 32, 32, 3)


@pytest.mark.skipif(not video_module.has_decord(), reason="no decord")
@pytest.mark.parametrize("width", [16, 24, 48, 72, 56, 96])
def test_narrow_pictures_whose_rows_decord_pads(tmp_path: Path, width: int) -> None:
    path = write(tmp_path / "narrow.mp4", moving_square(6, 48, width))
    with open_video(path, "decord") as counted, open_video(path, "pyav") as video:
        assert counted.decoder == "decord"
        np.testing.assert_array_equal(counted.read([0, 3]), video.read([0, 3]))


def test_an_edit_list_cuts_frames(made: Callable[[str], Path], tmp_path: Path) -> None:
    """As `-ss` with stream copy leaves them: the file still holds frames 24-29, which must not be shown."""
    content = bytearray(made("plain.mp4").read_bytes())
    entry = content.index(b"elst") + 12  # after version, flags and count: duration, then the media time to start at
    content[entry + 4 : entry + 8] = struct.pack(">i", 30 * 512)
    path = tmp_path / "cut.mp4"
    path.write_bytes(content)
    with open_video(path) as video:
        assert video.facts.num_frames == N - 30 and video.facts.timestamps[0] == 0
        assert [number(frame) for frame in video.read([29, 0, 3, 12])] == [59, 30, 33, 42]
    if video_module.has_decord():
        with pytest.raises(UnreadableVideo, match="edit list"):
            open_video(path, "decord")


def test_a_stream_cut_in_mid_gop_starts_at_its_first_whole_frame(made: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "cut.mkv"
    with av.open(str(made("plain.mp4"))) as source, av.open(str(path), "w") as file:
        stream = source.streams.video[0]
        copy = file.add_stream_from_template(stream)
        for packet in list(source.demux(stream))[7:]:
            if packet.size:
                packet.stream = copy
                file.mux(packet)
    with open_video(path) as video:
        assert [number(frame) for frame in video.read(range(video.facts.num_frames))] == list(range(12, N))


@pytest.mark.parametrize("decoder", DECODERS)
def test_read_clip_resizes_like_the_whole_frames(made: Callable[[str], Path], decoder: str) -> None:
    clip, preprocessing = Clip(str(made("b_frames.mp4")), 0.4, 2.0), Preprocessing(48, "center_crop")
    for plan in (ClipPlan(8), ClipPlan(8, "stride", stride=2), ClipPlan(8, "fps", fps=30, views=2)):
        whole, small = read_clip(clip, plan, None, decoder), read_clip(clip, plan, preprocessing, decoder)
        assert whole.shape == (8, 64, 96, 3) and whole.dtype == small.dtype == np.uint8
        assert (small == np.stack([preprocessing.apply(frame) for frame in whole])).all()
    assert [number(frame) for frame in read_clip(clip, ClipPlan(4), decoder=decoder)] == [15, 25, 35, 45]


def test_read_fills_a_given_array(made: Callable[[str], Path]) -> None:
    out = np.zeros((5, 32, 32, 3), dtype=np.uint8)
    with open_video(made("plain.mp4")) as video:
        assert video.read([3, 1, 4, 1, 5], Preprocessing(32), out=out) is out
        assert (out == video.read([3, 1, 4, 1, 5], Preprocessing(32))).all()
        for index in (-1, N):
            with pytest.raises(IndexError, match=f"frame {index} asked for; the video has {N} frames"):
                video.read([0, index])


def test_a_view_that_is_not_there(made: Callable[[str], Path]) -> None:
    with pytest.raises(InputError, match=r"view 3 asked for, but the plan gives views 0 to 2"):
        read_clip(Clip(str(made("plain.mp4"))), ClipPlan(4, views=3), view=3)


@pytest.mark.parametrize("decoder", DECODERS)
def test_one_frame_is_a_video(tmp_path: Path, decoder: str) -> None:
    clip = Clip(str(write(tmp_path / "one.mp4", numbered(1))))
    frames = read_clip(clip, ClipPlan(4), None, decoder)
    assert (frames == frames[:1]).all() and frames.std() > 10
    with open_video(clip.path, decoder) as video:
        assert ClipPlan(4).views_of(video.facts, clip)[0].num_real == 1


def test_readers_work_side_by_side_in_threads(made: Callable[[str], Path]) -> None:
    names = ["plain.mp4", "b_frames.mp4", "open_gop.mkv", "b_frames.mkv"] * 6

    def numbers(name: str) -> list[int]:
        with open_video(made(name)) as video:
            return [number(frame) for frame in video.read([2, 30, 31, 55])]

    for name in set(names):
        made(name)
    with ThreadPoolExecutor(4) as pool:
        assert set(map(tuple, pool.map(numbers, names))) == {(2, 30, 31, 55)}


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="every name is UTF-8 here")
def test_a_name_that_is_no_utf8(made: Callable[[str], Path], tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4")
    shutil.copyfile(made("plain.mp4"), path)
    with open_video(path) as video:
        assert [number(frame) for frame in video.read([4, 50])] == [4, 50]
    if video_module.has_decord():
        with pytest.raises(UnreadableVideo, match="decord cannot decode it: .*; decoder 'pyav' may"):
            open_video(path, "decord")


def test_a_file_that_cannot_be_sought_is_decoded_from_the_start(
    made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = av.open

    class Unseekable:
        def __init__(self, *args: Any, **named: Any) -> None:
            self._container = opened(*args, **named)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def seek(self, *args: Any, **named: Any) -> None:
            raise OSError(29, "Illegal seek")

    monkeypatch.setattr(av, "open", Unseekable)
    with open_video(made("b_frames.mp4"), "pyav") as video:
        assert [number(frame) for frame in video.read([50, 3, 30])] == [50, 3, 30]


def test_frames_that_decord_gives_up_on(made: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    decord = pytest.importorskip("decord")

    def gives_up(*_: Any) -> None:
        raise decord.DECORDLimitReachedError("[06:45:03] /video/video_reader.cc:731: too many duplicates")

    with open_video(made("plain.mp4"), "decord") as video:
        monkeypatch.setattr(decord.VideoReader, "__getitem__", gives_up)
        with pytest.raises(UnreadableVideo, match="too many duplicates"):
            video.read([4])


def test_another_decord_bridge_does_no_harm(made: Callable[[str], Path]) -> None:
    decord = pytest.importorskip("decord")
    path = made("plain.mp4")
    decord.bridge.set_bridge("torch")
    try:
        with open_video(path, "decord") as video:
            assert [number(frame) for frame in video.read([4, 50])] == [4, 50]
    finally:
        decord.bridge.set_bridge("native")


def test_decoders_are_named_with_their_versions(monkeypatch: pytest.MonkeyPatch, made: Callable[[str], Path]) -> None:
    pyav = f"pyav-{av.__version__}"
    assert decoder_id("pyav") == pyav
    if video_module.has_decord():
        import decord

        assert decoder_id("decord") == f"decord-{decord.__version__}"
        assert decoder_id() == f"auto-decord-{decord.__version__}-{pyav}"
    monkeypatch.setattr(video_module, "has_decord", lambda: False)  # as on arm and macOS
    assert decoder_id() == pyav
    with open_video(made("plain.mp4")) as video:
        assert video.decoder == "pyav"
    for call in (lambda: decoder_id("decord"), lambda: open_video(made("plain.mp4"), "decord")):
        with pytest.raises(InputError, match="'decord' is not installed here; use decoder 'pyav'"):
            call()
    with pytest.raises(InputError, match="'pyva' is unknown; did you mean 'pyav'"):
        open_video(made("plain.mp4"), "pyva")


def test_facts_are_remembered_while_the_file_stays(made: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    shutil.copy(made("b_frames.mp4"), path)
    facts = video_module.read_facts(path)
    with open_video(path) as video, open_video(made("b_frames.mp4")) as fresh:
        assert video.facts is facts and fresh.facts == facts and fresh.facts is not facts
        assert (video.read(range(N)) == fresh.read(range(N))).all()
    shutil.copy(made("plain.mp4"), path)
    os.utime(path, ns=(1, 1))
    with open_video(path) as other:
        assert other.facts is not facts


def test_facts_of_many_videos_are_not_all_remembered(
    made: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(video_module, "_REMEMBERED", 3)
    monkeypatch.setattr(video_module, "_timelines", {})
    for name in ("0.mp4", "1.mp4", "2.mp4", "3.mp4", "4.mp4"):
        shutil.copy(made("plain.mp4"), tmp_path / name)
        video_module.read_facts(tmp_path / name)
    assert [Path(path).name for path, *_ in video_module._timelines] == ["2.mp4", "3.mp4", "4.mp4"]
