"""Many files and long ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import prismhub
from prismhub.archive.folder_reader import FolderReader
from tests.prismhub.archive.test_scene_cuts import edited
from tests.videos import moving_square, write_video


@pytest.mark.slow
def test_ten_thousand_tiny_files(tmp_path: Path) -> None:
    """Of forty contents, each under many names; the second run and the removal of half of them open no video."""
    folder, contents = (
        tmp_path / "many",
        [
            write_video(tmp_path / "made" / f"{number}.mp4", moving_square(4, 32, 32, seed=number))
            for number in range(40)
        ],
    )
    for number in range(10_000):
        (folder / f"{number % 100:02}").mkdir(parents=True, exist_ok=True)
        os.link(contents[number % 40], folder / f"{number % 100:02}" / f"{number:05}.mp4")
    (folder / "00" / "broken.mp4").write_bytes(b"\0" * 100)
    done = prismhub.index(folder, out=tmp_path / "archive")
    assert (done.added, done.scenes, len(done.failures)) == (10_000, 10_000, 1)
    for number in range(0, 10_000, 2):
        (folder / f"{number % 100:02}" / f"{number:05}.mp4").unlink()
    done = prismhub.index(folder, out=tmp_path / "archive")
    assert (done.unchanged, done.removed, done.added) == (5000, 5000, 0)
    with FolderReader.open(tmp_path / "archive") as index:
        assert len(index) == 5000


@pytest.mark.slow
def test_a_file_of_six_hours(tmp_path: Path) -> None:
    """Twenty seconds again and again, never encoded anew; memory stays what it is for a short file."""
    import av

    short = edited(tmp_path / "short.mp4", [8, 12], fps=1)
    path = tmp_path / "v" / "long.mp4"
    path.parent.mkdir()
    with av.open(str(path), "w") as out:
        with av.open(str(short)) as source:
            stream = out.add_stream_from_template(source.streams.video[0])
            packets = [packet for packet in source.demux(source.streams.video[0]) if packet.size]
            kept = [(bytes(one), one.pts, one.dts, one.is_keyframe, one.time_base) for one in packets]
        for repeat in range(6 * 180):
            for data, pts, dts, is_key, time_base in kept:
                packet = av.Packet(data)
                shift = round(20 * repeat / time_base)
                packet.pts, packet.dts, packet.time_base, packet.is_keyframe = (
                    pts + shift,
                    dts + shift,
                    time_base,
                    is_key,
                )
                packet.stream = stream
                out.mux(packet)
    (path.parent / "long.srt").write_text(
        "05:59:58,500 --> 05:59:59,500\nalmost over\n\n100:00:00,0 --> 100:00:01,0\nlate\n"
    )
    resource = pytest.importorskip("resource")  # not on Windows
    before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    done = prismhub.index(path.parent, out=tmp_path / "archive")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000 < max(before_mb, 400) + 400
    assert (done.videos, done.scenes, done.failures) == (1, 3 * 6 * 180, ())
    with FolderReader.open(tmp_path / "archive") as index:
        video = index.video(str(path.parent), "long.mp4")
    assert video is not None and video.duration_s == pytest.approx(6 * 3600)
    assert [(one.start_s, one.end_s) for one in video.scenes[-2:]] == [(21588, 21594), (21594, 21600)]
    assert [cue.text for one in video.scenes for cue in one.speech] == ["almost over"]
