"""Decoding of real files: every frame carries its own number, so a wrong frame cannot pass for the right one."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
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
from tests.videos import moving_square

N = 60
B_FRAMES = {"preset": "medium", "bf": "3"}
OPEN_GOP = B_FRAMES | {"x264-params": "open-gop=1:keyint=12:min-keyint=12:scenecut=0"}
DECODERS = [
    "pyav",
    pytest.param("decord", marks=pytest.mark.skipif(not video_module.has_decord(), reason="no decord")),
]


def numbered(num_frames: int = N, height: int = 64, width: int = 96) -> np.ndarray:
    """Frames `(T, H, W, 3)` whose number stands in the top row, in black and white squares of 8 pixels."""
    frames = moving_square(num_frames, height, width)
    for t in range(num_frames):
        for bit in range(10):
            frames[t, :8, 8 * bit : 8 * bit + 8] = 255 * ((t >> bit) & 1)
    return frames


def number(frame: np.ndarray) -> int:
    return sum(int(frame[4, 8 * bit + 4].mean() > 128) << bit for bit in range(10))


def write(
    path: Path,
    frames: np.ndarray,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    times_ms: Sequence[int] | None = None,
    rotation: int = 0,
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container or {}) as file:
        stream = file.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], pixel_format
        stream.codec_context.gop_size = 12
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        stream.options = ({"crf": "12", "preset": "ultrafast"} if codec == "libx264" else {}) | (options or {})
        for t, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = int(times_ms[t]), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


IRREGULAR_MS = np.cumsum(np.random.default_rng(0).integers(10, 100, N)).tolist()
FILES: dict[str, dict[str, Any]] = {
    "plain.mp4": {},
    "faststart.mp4": {"container": {"movflags": "faststart"}},
    "fragments.mp4": {"container": {"movflags": "frag_keyframe+empty_moov"}},
    "b_frames.mp4": {"options": B_FRAMES},
    "b_frames.mkv": {"options": B_FRAMES},
    "b_frames.avi": {"options": B_FRAMES},
    "b_frames.ts": {"options": B_FRAMES},
    "open_gop.mp4": {"options": OPEN_GOP},
    "open_gop.mkv": {"options": OPEN_GOP},
    "variable_rate.mp4": {"options": B_FRAMES, "times_ms": IRREGULAR_MS},
    "variable_rate.mkv": {"options": B_FRAMES, "times_ms": IRREGULAR_MS},
    "late_start.mp4": {"options": B_FRAMES, "times_ms": [5000 + 40 * t for t in range(N)]},
    "full_range.mp4": {"pixel_format": "yuvj420p"},
    "ten_bit.mp4": {"pixel_format": "yuv420p10le"},
    "interlaced.mp4": {"options": {"x264-params": "interlaced=1:tff=1"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg1.mpg": {"codec": "mpeg1video"},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "flash.flv": {},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}},
    "Ein Vidéo 视频 (1).mp4": {"options": B_FRAMES},
}


NOT_FOR_DECORD = (".ts", ".mpg", ".flv")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of `FILES` under a name, written once."""
    folder = tmp_path_factory.mktemp("vidéos with spaces")

    def make(name: str) -> Path:
        path = folder / name
        return path if path.exists() else write(path, numbered(), **FILES[name])

    return make


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


def unreadable(path: Path, decoder: str) -> str:
    """The one line that opening and reading every frame of a file ends in."""
    with pytest.raises(UnreadableVideo) as raised, open_video(path, decoder) as video:
        video.read(range(video.facts.num_frames))
    message = str(raised.value)
    assert raised.value.path == str(path) and message.startswith(str(path)) and "\n" not in message
    assert len(message) < len(str(path)) + 250, "a reason, not a stack trace"
    return message


@pytest.mark.parametrize("decoder", ["auto", *DECODERS])
def test_files_that_are_no_videos(tmp_path: Path, decoder: str, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 50)
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile plain.mp4\n")
    write(tmp_path / "plain.mp4", numbered(4))
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        file.mux(stream.encode(sound))
        file.mux(stream.encode())
    for name, reason in {
        "missing.mp4": "no such file",
        "empty.mp4": "empty",
        "folder.mp4": "a folder",
        "text.mp4": "Invalid data",
        "sound.mp4": "no video stream",
        "list.mp4": "a playlist",
    }.items():
        assert reason in unreadable(tmp_path / name, decoder)
    assert capfd.readouterr().err == "", "decoders keep quiet; the error says it all"


@pytest.mark.parametrize("decoder", ["auto", *DECODERS])
@pytest.mark.parametrize("share", [0.15, 0.5, 0.8])
@pytest.mark.parametrize("name", ["plain.mp4", "faststart.mp4", "fragments.mp4", "b_frames.mkv", "b_frames.avi"])
def test_truncated_files_are_refused(
    made: Callable[[str], Path],
    tmp_path: Path,
    name: str,
    share: float,
    decoder: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    content = made(name).read_bytes()
    path = tmp_path / name
    path.write_bytes(content[: int(len(content) * share)])
    reason = unreadable(path, decoder)
    assert "truncated" in reason or name == "plain.mp4", "only that one had its index at the end"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["b_frames.mkv", "b_frames.avi", "faststart.mp4"])
def test_losing_the_tail_never_shows_a_wrong_frame(made: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    """Near the end only an index may be gone: all frames are right, or the file is refused."""
    content = made(name).read_bytes()
    opened = 0
    for lost in range(1, 2000, 199):
        path = tmp_path / name
        path.write_bytes(content[:-lost])
        try:
            with open_video(path) as video:
                numbers = [number(frame) for frame in video.read(range(video.facts.num_frames))]
        except UnreadableVideo as error:
            assert "truncated" in error.reason
            continue
        assert numbers == list(range(len(numbers))) and len(numbers) >= N - 7, "less than this Matroska cannot tell"
        opened += 1
    assert opened == 0 or not name.endswith(".mp4")


def test_a_transport_stream_may_end_anywhere(made: Callable[[str], Path], tmp_path: Path) -> None:
    content = made("b_frames.ts").read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(content[: len(content) // 2])
    with open_video(path, "auto") as video:
        whole = range(video.facts.num_frames - 1)
        assert 20 < len(whole) < 40
        assert [number(frame) for frame in video.read(whole)] == list(whole)


@pytest.mark.parametrize("decoder", ["auto", *DECODERS])
def test_damaged_bytes_never_crash_or_hang(
    made: Callable[[str], Path], tmp_path: Path, decoder: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each damaged file is decoded or refused with one line; PyAV gives no frame that its decoder marks as damaged."""
    content = made("b_frames.mp4").read_bytes()
    refused = 0
    for seed in range(12):
        rng, damaged = random.Random(seed), bytearray(content)
        for _ in range(rng.choice([1, 10, 200])):
            damaged[rng.randrange(48, len(content))] = rng.randrange(256)
        path = tmp_path / "damaged.mp4"
        path.write_bytes(damaged)
        try:
            with open_video(path, decoder) as video:
                assert video.read(range(0, video.facts.num_frames, 7)).shape[0] > 0
        except UnreadableVideo as error:
            assert "\n" not in str(error) and str(error).startswith(str(path))
            refused += 1
    assert refused > 0
    assert capfd.readouterr().err == ""


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


def write_ten_minutes_of_1080p(path: Path) -> None:
    """6000 frames of H.264 at 10 a second: one group of 100 pictures encoded once and repeated 60 times."""
    background = np.kron(np.random.default_rng(0).integers(0, 255, (27, 48, 3)), np.ones((40, 40, 1))).astype(np.uint8)
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 1920, 1080, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.gop_size = Fraction(1, 10), Fraction(10), 100
    encoder.options = {"preset": "ultrafast", "crf": "28", "threads": "1"}
    coded = []
    for t in range(100):
        background[:, 16 * t : 16 * t + 16] = (t, 255 - t, 128)
        coded += encoder.encode(av.VideoFrame.from_ndarray(background, format="rgb24"))
    coded += encoder.encode()
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 1920, 1080, "yuv420p"
        stream.codec_context.extradata = encoder.extradata
        for repeat in range(60):
            for t, packet in enumerate(coded):
                copy = av.Packet(bytes(packet))
                copy.stream, copy.time_base, copy.is_keyframe = stream, Fraction(1, 10), packet.is_keyframe
                copy.pts = copy.dts = 100 * repeat + t
                file.mux(copy)


GROWTH = """
import sys
from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.preprocessing import Preprocessing
from core_encoder.video.decoders import open_video, read_clip
import av, decord, torch
def peak_mib(line):
    return int(next(l for l in open("/proc/self/status") if l.startswith(line)).split()[1]) / 1024
Preprocessing(288).apply(__import__("numpy").zeros((480, 640, 3), "uint8"))
before = peak_mib("VmRSS")
frames = read_clip(Clip(sys.argv[1]), ClipPlan(16), Preprocessing(288), sys.argv[2])
with open_video(sys.argv[1], sys.argv[2]) as video:
    assert video.facts.num_frames == 6000 and abs(video.facts.duration_s - 600) < 1, video
assert frames.shape == (16, 288, 288, 3) and frames.std() > 10
print(peak_mib("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own account of memory")
def test_sixteen_frames_of_ten_minutes_of_1080p_stay_under_300_mb(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    write_ten_minutes_of_1080p(path)
    for decoder in ("decord", "pyav") if video_module.has_decord() else ("pyav",):
        command = [sys.executable, "-c", GROWTH, str(path), decoder]
        grown = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert grown < 300, f"{decoder} grew by {grown:.0f} MiB"
