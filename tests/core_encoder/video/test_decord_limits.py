"""Files that decord cannot open, misnumbers or shows otherwise: `auto` knows them beforehand, and takes PyAV."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from core_encoder.errors import UnreadableVideo
from core_encoder.video.decoders import open_video
from core_encoder.video.decord_reader import has_decord
from core_encoder.video.h264_header import may_interlace
from tests.core_encoder.video.numbered_videos import number, numbered, write
from tests.videos import moving_square

pytestmark = pytest.mark.skipif(not has_decord(), reason="no decord")
VP8 = {"codec": "libvpx", "options": {"cpu-used": "8", "deadline": "realtime"}}
VP9 = {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}}
AV1 = {"codec": "libsvtav1", "options": {"preset": "12"}}
LIVE = {"container": {"live": "1"}, "piped": True}  # what a browser's recorder writes
MIRRORED = {"prepare": lambda stream: stream.set_display_matrix((-65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30))}
TAGGED = {"prepare": lambda stream: stream.metadata.update({"rotate": "90"})}
NO_LENGTH = "decord opens no file that states neither how many frames it has nor how long it is; use decoder 'pyav'"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "recorded_vp8.webm": (VP8 | LIVE, NO_LENGTH),
    "recorded_vp9.webm": (VP9 | LIVE, NO_LENGTH),
    "piped_h264.mkv": ({"piped": True}, NO_LENGTH),
    "av1.mp4": (AV1, "decord has no decoder for AV1; use decoder 'pyav'"),
    "av1.webm": (AV1, "decord has no decoder for AV1"),
    "av1.mkv": (AV1, "decord has no decoder for AV1"),
    "recorded_av1.webm": (AV1 | LIVE, "decord has no decoder for AV1"),
    "turned.mkv": ({"rotation": 180}, "decord turns pictures another way in Matroska and WebM files"),
    "tagged.mkv": (TAGGED, "decord turns pictures another way in Matroska"),
    "tagged.webm": (VP8 | TAGGED, "decord turns pictures another way in Matroska"),
    "mirrored.mp4": (MIRRORED, "decord does not mirror pictures as the file asks"),
    "mirrored.mkv": (MIRRORED, "decord does not mirror pictures as the file asks"),
}
UNTURNED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "turned.mkv": lambda frame: np.rot90(frame, 2),
    "mirrored.mp4": lambda frame: frame[:, ::-1],
    "mirrored.mkv": lambda frame: frame[:, ::-1],
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_decord_refuses_auto_reads_with_pyav(tmp_path: Path, name: str) -> None:
    how, reason = REFUSED[name]
    path = write(tmp_path / name, numbered(50), **how)
    with open_video(path) as video:
        assert video.decoder == "pyav" and video.facts.num_frames == 50
        assert (video.facts.width, video.facts.height) == (96, 64)
        shown = [UNTURNED.get(name, np.asarray)(frame) for frame in video.read(range(50))]
        assert [number(frame) for frame in shown] == list(range(50))
        assert number(UNTURNED.get(name, np.asarray)(video.read([31])[0])) == 31, "after a seek back"
    with pytest.raises(UnreadableVideo) as raised:
        open_video(path, "decord")
    assert reason in str(raised.value)


def test_a_header_that_states_no_believable_duration(tmp_path: Path) -> None:
    content = write(tmp_path / "whole.webm", numbered(50), **VP8).read_bytes()
    at = content.index(b"\x44\x89\x88") + 3  # Matroska's duration: a double of milliseconds
    for stated in (0.0, 1.0, -5.0, float("nan"), float("inf")):
        path = tmp_path / "stated.webm"
        path.write_bytes(content[:at] + np.array([stated], ">f8").tobytes() + content[at + 8 :])
        with open_video(path) as video:
            assert video.decoder == "pyav" and video.facts.num_frames == 50
            assert video.facts.duration_s == pytest.approx(2.0)


@pytest.mark.parametrize(("width", "height"), [(98, 65), (97, 65), (1, 1), (5, 3)])
@pytest.mark.parametrize("how", [VP8, VP9], ids=["vp8", "vp9"])
def test_odd_heights_are_left_to_pyav(tmp_path: Path, how: dict[str, Any], width: int, height: int) -> None:
    path = write(tmp_path / "odd.webm", moving_square(6, height, width), **how)
    with open_video(path) as video, open_video(path, "pyav") as ours:
        assert video.decoder == "pyav" and (video.facts.width, video.facts.height) == (width, height)
        assert (video.read(range(6)) == ours.read(range(6))).all()
    with open_video(path, "decord") as theirs:
        assert theirs.read(range(6)).shape == (6, height, width, 3)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_of_two_video_streams_the_same_is_read_whatever_the_decoder(tmp_path: Path, suffix: str) -> None:
    """A screen and a face, as recorders of lectures write them."""
    path = tmp_path / f"two.{suffix}"
    with av.open(str(path), "w") as file:
        streams = [file.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, (width, height) in zip(streams, [(96, 64), (192, 128)], strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.options = {"crf": "12", "preset": "ultrafast"}
        for small, large in zip(numbered(40), numbered(40, 128, 192), strict=True):
            for stream, pixels in zip(streams, (small, large), strict=True):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        for stream in streams:
            file.mux(stream.encode())
    with open_video(path) as video:
        assert video.decoder == "pyav" and (video.facts.width, video.facts.num_frames) == (96, 40)
        assert [number(frame) for frame in video.read(range(40))] == list(range(40))
    with pytest.raises(UnreadableVideo, match="decord may take another of the 2 video streams"):
        open_video(path, "decord")


@pytest.mark.parametrize(("suffix", "codec", "pixels"), [("mp4", "png", "rgb24"), ("mkv", "mjpeg", "yuvj420p")])
def test_a_cover_picture_before_the_video(tmp_path: Path, suffix: str, codec: str, pixels: str) -> None:
    path = tmp_path / f"cover.{suffix}"
    with av.open(str(path), "w") as file:
        cover = file.add_stream(codec, rate=1)
        cover.width, cover.height, cover.pix_fmt = 320, 240, pixels
        cover.disposition = av.stream.Disposition.attached_pic
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        grey = av.VideoFrame.from_ndarray(np.full((240, 320, 3), 128, np.uint8), format="rgb24")
        file.mux([*cover.encode(grey), *cover.encode()])
        for pixels_of_one in numbered(20):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels_of_one, format="rgb24")))
        file.mux(stream.encode())
    with open_video(path) as video:
        assert [number(frame) for frame in video.read(range(20))] == list(range(20))


def joined(path: Path, parts: list[Path]) -> Path:
    """The packets of several files one after another, as `ffmpeg -f concat -c copy` leaves them."""
    with av.open(str(path), "w") as file:
        copy, after = None, 0
        for part in parts:
            with av.open(str(part)) as source:
                stream = source.streams.video[0]
                copy = copy or file.add_stream_from_template(stream)
                packets = [packet for packet in source.demux(stream) if packet.size]
                for packet in packets:
                    packet.pts, packet.dts, packet.stream = packet.pts + after, packet.dts + after, copy
                    file.mux(packet)
                after = max(packet.pts + packet.duration for packet in packets)
    return path


def test_frames_that_become_interlaced_after_the_first(tmp_path: Path) -> None:
    parts = [
        write(tmp_path / f"{mode}.mkv", numbered(20), options={"x264-params": f"{mode}=1:repeat-headers=1"})
        for mode in ("fake-interlaced", "interlaced")
    ]
    path = joined(tmp_path / "broadcast.mkv", parts)
    with open_video(path) as video, open_video(path, "decord") as theirs:
        assert video.decoder == "pyav"
        frames = video.read(range(40)).astype(int)
        difference = np.abs(frames - theirs.read(range(40))).mean((1, 2, 3))
    assert difference[:20].max() == 0 and difference[20:].min() > 0.1, "decord spreads their colours another way"


@pytest.mark.parametrize(
    ("options", "pixel_format", "expected"),
    [
        ("", "yuv420p", False),
        ("interlaced=1", "yuv420p", True),
        ("fake-interlaced=1", "yuv420p", True),
        ("cqm=jvt:8x8dct=1", "yuv420p", False),
        ("cqm=jvt:8x8dct=1:interlaced=1", "yuv420p", True),
        ("cqm=jvt:8x8dct=1", "yuv444p", False),
        ("cqm=jvt:8x8dct=1:interlaced=1", "yuv444p", True),
        ("cqm4=" + ",".join(["6", "13", "20", "28"] * 4), "yuv420p", False),
        ("bframes=3:interlaced=1", "yuv420p10le", True),
    ],
)
def test_the_header_of_h264_tells_interlacing(tmp_path: Path, options: str, pixel_format: str, expected: bool) -> None:
    given = {"preset": "medium"} | ({"x264-params": options} if options else {})
    for suffix in ("mp4", "avi"):  # two ways to keep the header
        path = write(tmp_path / f"x.{suffix}", numbered(4), options=given, pixel_format=pixel_format)
        with av.open(str(path)) as file:
            assert may_interlace(file.streams.video[0].codec_context.extradata) == expected


def test_a_header_that_does_not_tell() -> None:
    for broken in (None, b"", b"\x01", b"\x01\x42\xc0\x0b\xff\xe1\x00\x16\x67\x42", b"\0\0\1\x68\xce", bytes(40)):
        assert may_interlace(broken)


@pytest.mark.parametrize("decoder", ["auto", "pyav", "decord"])
def test_two_frames_that_carry_one_time(tmp_path: Path, decoder: str) -> None:
    """Slow motion in Matroska, whose clock counts milliseconds."""
    path = write(tmp_path / "slow_motion.mkv", numbered(40), rate=2000)
    with open_video(path, decoder) as video:
        assert [number(frame) for frame in video.read(range(40))] == list(range(40))
        assert [number(video.read([index])[0]) for index in (31, 4, 5, 17)] == [31, 4, 5, 17]


def test_colours_that_cannot_be_converted_are_a_reason(tmp_path: Path) -> None:
    path = write(tmp_path / "ycgco.mp4", numbered(4), options={"x264-params": "colormatrix=YCgCo"})
    for decoder in ("auto", "pyav"):
        with (
            pytest.raises(UnreadableVideo, match=r"its colours \(yuv420p, matrix 8\) cannot be converted to RGB"),
            open_video(path, decoder) as video,
        ):
            video.read([0])


CODECS: dict[str, dict[str, Any]] = {
    "libx264": {},
    "libx265": {"options": {"x265-params": "log-level=none", "preset": "ultrafast"}},
    "libx265 closed": {"options": {"x265-params": "log-level=none:open-gop=0", "preset": "ultrafast"}},
    "libx264 444": {"pixel_format": "yuv444p"},
    "libx264 10 bit": {"pixel_format": "yuv420p10le"},
    "libx264 bt709": {"options": {"x264-params": "colormatrix=bt709:colorprim=bt709:transfer=bt709"}},
    "libx264 bt2020": {"options": {"x264-params": "colormatrix=bt2020nc:colorprim=bt2020:transfer=smpte2084"}},
    "libx264 turned": {"rotation": 90},
    "libvpx": VP8,
    "libvpx-vp9": VP9,
    "libvpx-vp9 with alpha": VP9 | {"pixel_format": "yuva420p"},
    "libvpx-vp9 422": VP9 | {"pixel_format": "yuv422p"},
    "mpeg4": {},
    "mpeg4 interlaced": {"options": {"flags": "+ildct+ilme"}},
    "mpeg2video": {},
    "mjpeg": {"pixel_format": "yuvj420p"},
    "prores": {"pixel_format": "yuv422p10le"},
    "ffv1": {},
    "flv": {},
    "wmv2": {},
    "png": {"pixel_format": "rgb24"},
    "gif": {"pixel_format": "rgb8"},
    "tiff": {"pixel_format": "rgb24"},
}
SUFFIXES = ("mp4", "mov", "mkv", "webm", "avi", "flv", "ts", "wmv", "mxf", "gif")
CARRIED: dict[str, str] = {
    "webm": "libvpx libvpx-vp9",
    "flv": "flv libx264",
    "gif": "gif",
    "wmv": "wmv2 libx264",
    "mxf": "mpeg2video libx264",
    "ts": "libx264 libx265 mpeg2video",
    "mp4": "libx264 libx265 libvpx-vp9 mpeg4 mpeg2video mjpeg",
    "mov": "libx264 mpeg4 mjpeg prores png tiff",
    "mkv": "libx264 libx265 libvpx libvpx-vp9 mpeg4 mpeg2video mjpeg prores ffv1",
    "avi": "libx264 libvpx mpeg4 mpeg2video mjpeg ffv1 flv wmv2 png",
}
PAIRS = [
    (codec, suffix)
    for suffix, codec in itertools.product(SUFFIXES, CODECS)
    if codec.partition(" ")[0] in CARRIED[suffix].split()
]


@pytest.mark.parametrize(("codec", "suffix"), PAIRS)
def test_auto_gives_the_frames_of_pyav_whatever_the_file(tmp_path: Path, codec: str, suffix: str) -> None:
    how = {"codec": codec.partition(" ")[0]} | CODECS[codec]
    path = write(tmp_path / f"x.{suffix}", numbered(20), **how)
    with open_video(path, "pyav") as ours, open_video(path) as video:
        expected = ours.read(range(20))
        assert (video.read(range(20)) == expected).all()
        assert (video.read([13, 2, 17, 5]) == expected[[13, 2, 17, 5]]).all()
