"""Scenes as files: the frames of the source and no others, copied or encoded; edit lists that add up."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.video.decoders import open_video
from prismhub.archive.cut_scenes import save_scene, saved_name
from prismhub.archive.edit_list import Cut, edit_list
from tests.videos import moving_square, write_video

FPS = 16


def frames_of(path: Path) -> np.ndarray:
    with open_video(str(path)) as reader:
        return reader.read(range(reader.facts.num_frames)).astype(np.int16)


def nearest(frames: np.ndarray, source: np.ndarray) -> list[int]:
    """Which frame of the source each frame is."""
    return [int(np.abs(source - frame).mean(axis=(1, 2, 3)).argmin()) for frame in frames]


@pytest.fixture(scope="module", params=[0, 2], ids=["in order", "B-frames"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds, with a key frame every second."""
    path = tmp_path_factory.mktemp("source") / "a film.mp4"
    return write_video(path, moving_square(48, 64, 192), fps=FPS, gop=16, bframes=request.param)


def test_a_span_from_a_key_frame_is_copied(source: Path, tmp_path: Path) -> None:
    saved = save_scene(source, 1.0, 2.0, tmp_path / "new", "cut")
    assert saved.copied and saved.path == tmp_path / "new" / "cut.mp4"
    cut, whole = frames_of(saved.path), frames_of(source)
    assert np.array_equal(cut[:16], whole[16:32]) and 16 <= len(cut) <= 19


def test_any_other_span_is_encoded_anew_to_the_frame(source: Path, tmp_path: Path) -> None:
    saved = save_scene(source, 0.5, 1.75, tmp_path, "cut")
    assert not saved.copied
    cut, whole = frames_of(saved.path), frames_of(source)
    assert nearest(cut, whole) == list(range(8, 28))
    assert np.abs(cut - whole[8:28]).mean() < 3


def test_a_span_up_to_the_end_and_between_frames_holds_what_is_on_screen(source: Path, tmp_path: Path) -> None:
    whole = frames_of(source)
    assert nearest(frames_of(save_scene(source, 2.5, 99.0, tmp_path, "end").path), whole) == list(range(40, 48))
    assert nearest(frames_of(save_scene(source, 0.55, 0.6, tmp_path, "moment").path), whole) == [9]


def test_sound_goes_with_it(tmp_path: Path) -> None:
    import av

    path = tmp_path / "with sound.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.codec_context.gop_size = 16
        sound = container.add_stream("aac", rate=16000)
        for frame in moving_square(32):
            container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(video.encode())
        for start in range(0, 32000, 1000):
            tone = np.sin(np.arange(start, start + 1000) / 5, dtype=np.float32)[None]
            heard = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            heard.sample_rate, heard.pts = 16000, start
            container.mux(sound.encode(heard))
        container.mux(sound.encode())
    for start, copied in ((1.0, True), (0.5, False)):
        saved = save_scene(path, start, start + 0.5, tmp_path, f"cut {start}")
        assert saved.copied is copied and not saved.silent
        with av.open(str(saved.path)) as container:
            heard = sum(frame.samples for frame in container.decode(audio=0))
        assert 16000 * 0.3 <= heard <= 16000 * 0.7


def test_a_film_that_was_turned_stays_upright(tmp_path: Path) -> None:
    import av

    frames = np.zeros((16, 64, 96, 3), np.uint8)
    frames[:, :32] = 255  # white above
    plain, turned = write_video(tmp_path / "plain.mp4", frames, fps=FPS), tmp_path / "turned.mp4"
    with av.open(str(plain)) as source, av.open(str(turned), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        if not hasattr(stream, "set_display_rotation") and not hasattr(stream, "display_rotation"):
            pytest.skip("this PyAV cannot write how a film is turned")
        stream.set_display_rotation(90)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    expected, cut = frames_of(turned), frames_of(save_scene(turned, 0.25, 0.75, tmp_path, "cut").path)
    assert cut.shape[1:] == expected.shape[1:] and np.abs(cut - expected[4:12]).mean() < 5


def test_what_cannot_be_cut_is_said(tmp_path: Path, source: Path) -> None:
    with pytest.raises(UnreadableVideo, match="not there any more"):
        save_scene(tmp_path / "gone.mp4", 0, 1, tmp_path, "x")
    (tmp_path / "no.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(UnreadableVideo, match="cannot be cut"):
        save_scene(tmp_path / "no.mp4", 0, 1, tmp_path, "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["no.mp4"]


def test_names_sort_by_rank_and_tell_scenes_apart() -> None:
    assert saved_name(3, "/a/my film (1).mp4", 12.5, 17) == "003-my-film-1-12.5-17.0"
    assert saved_name(1, "/a/映画.mp4", 0, 1) == "001-video-0.0-1.0"


def events(text: str, rate: int) -> list[tuple[str, float, float, float, float]]:
    """What another program reads of an edit list: clip, source and record in seconds."""
    found = []
    lines = text.splitlines()
    for line, name in pairwise(lines):
        match = re.fullmatch(r"(\d{3})  AX +V +C +" + " ".join([r"(\d\d):(\d\d):(\d\d):(\d\d)"] * 4), line)
        if match is None:
            continue
        numbers = list(map(int, match.groups()[1:]))
        assert all(frame < rate for frame in numbers[3::4])
        times = [h * 3600 + m * 60 + s + f / rate for h, m, s, f in zip(*[iter(numbers)] * 4, strict=True)]
        found.append((name.removeprefix("* FROM CLIP NAME: "), *times))
    return found


def test_an_edit_list_names_files_and_times_and_leaves_no_gap() -> None:
    cuts = [Cut("/v/a.mp4", 1.0, 3.5, "a\ngoal"), Cut("/v/b c.mp4", 3661.2, 3661.21), Cut("/v/a.mp4", 0, 10)]
    text = edit_list("goals\nand more", cuts, 24.97)
    assert text.startswith("TITLE: goals\\nand more\nFCM: NON-DROP FRAME\n")
    found = events(text, 25)
    assert [name for name, *_ in found] == ["a.mp4", "b c.mp4", "a.mp4"]
    at = 3600.0
    for cut, (_, start, end, record, record_end) in zip(cuts, found, strict=True):
        assert start == pytest.approx(cut.start_s, abs=0.02) and end - start >= 1 / 25 - 1e-9
        assert end == pytest.approx(max(cut.end_s, start + 1 / 25), abs=0.021)
        assert record == pytest.approx(at) and record_end - record == pytest.approx(end - start)
        at = record_end
    with pytest.raises(InputError, match="nothing to cut"):
        edit_list("x", [], 25)
    with pytest.raises(InputError, match="ask for fewer with --top"):
        edit_list("x", cuts[:1] * 1000, 25)
