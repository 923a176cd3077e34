"""Subtitles as people leave them: beside a video and in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core_encoder.video.file_facts import read_file_facts
from prismhub.archive.scenes import Cue
from prismhub.archive.subtitles import parse_subtitles, read_subtitles, sidecars, speech_digest, spoken_in
from tests.videos import moving_square, write_video

SRT = """1
00:00:00,500 --> 00:00:01,500
<i>Good evening,</i>
{\\an8}ladies &amp; gentlemen

2
00:00:02,000 --> 00:00:03,000
Für Elise ♪
"""
SAID = [Cue(0.5, 1.5, "Good evening, ladies & gentlemen"), Cue(2.0, 3.0, "Für Elise ♪")]
VTT = """WEBVTT - a title
Kind: captions

STYLE
::cue { color: red }

NOTE nobody
says this

intro
00:00.500 --> 00:01.500 align:start position:0%
<v Fred>Good evening,</v>
ladies &amp; gentlemen

00:00:02.000 --> 00:00:03.000
<00:00:02.500><c.yellow>Für</c> Elise ♪
"""


@pytest.mark.parametrize(
    "text", [SRT, VTT, SRT.replace("\n", "\r\n"), SRT.replace(",", "."), SRT.replace(" --> ", "-->")]
)
def test_srt_and_webvtt(text: str) -> None:
    said = [(cue.start_s, cue.end_s, cue.text.replace(".", ",")) for cue in parse_subtitles(text)]
    assert said == [(cue.start_s, cue.end_s, cue.text) for cue in SAID]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"], ids=str
)
def test_encodings(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "a.srt"
    text = SRT.replace("♪", "ß")
    marked = "\ufeff" + text if encoding in ("utf-16-le", "utf-16-be") else text
    for number, one in enumerate((text, marked)):
        file.write_bytes(one.encode(encoding))
        assert read_subtitles(file) == [SAID[0], Cue(2.0, 3.0, "Für Elise ß")], number


def test_times_that_make_no_sense() -> None:
    """Overlapping, backwards, of a hundred hours, without a number, without a line between."""
    cues = parse_subtitles(
        "1\n00:00:05,000 --> 00:00:09,000\nlong\n\n2\n00:00:06,000 --> 00:00:07,000\nin between\n3\n"
        "00:00:08,000 --> 00:00:02,000\nbackwards\n\n100:00:00,000 --> 100:00:01,000\nvery late\n\n"
        "00:00:01,5 --> 00:00:02,25\nno zeros\n\n00:00:xx --> 00:00:03\nno time at all\n\n5\n00:00:10 --> 00:00:11\n\n"
    )
    assert cues == [
        Cue(1.5, 2.25, "no zeros"),
        Cue(5.0, 9.0, "long"),
        Cue(6.0, 7.0, "in between"),
        Cue(8.0, 8.001, "backwards"),
        Cue(360000.0, 360001.0, "very late"),
    ]
    assert [cue.text for cue in spoken_in(cues, 6.5, 8.0)] == ["long", "in between"]
    assert [cue.text for cue in spoken_in(cues, 8.0, 20.0)] == ["long", "backwards"]
    assert spoken_in(cues, 9.0, 20.0) == ()


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_any_text_can_be_read(text: str) -> None:
    for cue in parse_subtitles(text):
        assert cue.text and cue.end_s > cue.start_s


@given(st.binary(max_size=200))
def test_any_bytes_can_be_read(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.mktemp("subtitles") / "a.srt"
    file.write_bytes(data)
    assert isinstance(read_subtitles(file), list)


def test_which_files_belong_to_a_video() -> None:
    folder = Path("/v")
    videos = [folder / "a.mp4", folder / "a.b.mkv", folder / "c d.mov", folder / "in" / "a.mp4"]
    names = ["a.srt", "a.en.srt", "a.pt-BR.forced.VTT", "a.b.de.vtt", "c d.srt", "in/a.srt", "ab.srt", "x.srt", "a.txt"]
    found = sidecars(videos, [folder / name for name in names])
    assert {
        video.name if video.parent == folder else "in/" + video.name: [file.name for file in files]
        for video, files in found.items()
    } == {
        "a.mp4": ["a.en.srt", "a.pt-BR.forced.VTT", "a.srt"],
        "a.b.mkv": ["a.b.de.vtt"],
        "c d.mov": ["c d.srt"],
        "in/a.mp4": ["a.srt"],
    }


def test_the_digest_tells_a_change(tmp_path: Path) -> None:
    one, other = tmp_path / "a.srt", tmp_path / "a.en.srt"
    one.write_text("x")
    other.write_text("")
    first = speech_digest([one])
    assert speech_digest([]) == "" and first != speech_digest([one, other])
    one.write_text("y")
    assert speech_digest([one]) != first


def with_subtitles(path: Path, shift_s: float = 0.0) -> Path:
    """A Matroska file that holds the cues above as a stream; its pictures begin at `shift_s`."""
    import av

    video = write_video(path.with_suffix(".mp4"), moving_square(64))
    srt = path.with_suffix(".srt")
    srt.write_text(SRT, encoding="utf-8")
    with av.open(str(video)) as pictures, av.open(str(srt)) as words, av.open(str(path), "w") as out:
        to = {one: out.add_stream_from_template(one) for one in (pictures.streams.video[0], words.streams.subtitles[0])}
        packets = [
            packet
            for source in (pictures, words)
            for packet in source.demux()
            if packet.pts is not None and packet.size
        ]
        for packet in sorted(packets, key=lambda one: one.dts * one.time_base):
            shift = round(shift_s / packet.time_base)
            packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
            packet.stream = to[packet.stream]
            out.mux(packet)
    video.unlink()
    srt.unlink()
    return path


@pytest.mark.parametrize("shift_s", [0.0, 3.0])
def test_streams_of_subtitles(tmp_path: Path, shift_s: float) -> None:
    """Their times count from the first picture, as those of scenes do."""
    facts = read_file_facts(with_subtitles(tmp_path / "a.mkv", shift_s))
    assert [(round(start, 2), round(end, 2), text) for start, end, text in facts.cues] == [
        (0.5, 1.5, "Good evening, ladies &amp; gentlemen"),
        (2.0, 3.0, "Für Elise ♪"),
    ]


def test_when_a_file_was_recorded(tmp_path: Path) -> None:
    import os

    import av

    path = write_video(tmp_path / "a.mp4", moving_square(8))
    os.utime(path, (1_600_000_000, 1_600_000_000))
    assert read_file_facts(path).recorded == "2020-09-13T12:26:40+00:00", "a container that does not say: the file"
    said = tmp_path / "b.mkv"
    with av.open(str(path)) as source, av.open(str(said), "w") as out:
        out.metadata["creation_time"] = "2001-02-03T04:05:06.000000Z"
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux():
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    assert read_file_facts(said).recorded.startswith("2001-02-03T04:05:06")
