"""VideoCon's lists of Something-Something: templates out of prompts of several lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_encoder.errors import InputError
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.videocon import read_videocon, videocon_classes
from tests.tasks.miniatures import videocon
from tests.tasks.miniatures.clips import with_windows_ends


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return videocon.write(tmp_path)


def test_each_video_has_the_template_that_matches(folder: Path) -> None:
    data = DatasetFolder(folder)
    assert videocon_classes(data, "temporal") == (
        "Covering something with something",
        "Lifting up one end of something, then letting it drop down",
        "Uncovering something",
    )
    samples = read_videocon(data, "temporal")
    assert [one.labels[0].split()[0] for one in samples] == ["Covering"] * 2 + ["Lifting"] * 2 + ["Uncovering"] * 2
    assert samples[0].id == "104590" and all(Path(one.clip.path).is_file() for one in samples)
    assert len(read_videocon(data, "events")) == 4


def test_other_endings_and_files_from_windows(folder: Path) -> None:
    plain = [(one.id, one.labels) for one in read_videocon(DatasetFolder(folder), "events")]
    for video in (folder / "20bn-something-something-v2").iterdir():
        video.rename(video.with_suffix(".webm"))
    with_windows_ends(folder / "eval_ssv2_events.csv")
    samples = read_videocon(DatasetFolder(folder), "events")
    assert [(one.id, one.labels) for one in samples] == plain
    assert all(one.clip.path.endswith(".webm") for one in samples)


def test_a_caption_may_be_the_template_itself(folder: Path) -> None:
    (folder / "eval_ssv2_events.csv").write_text("videopath,caption,match\nvideos/204590.avi,Holding [something],1\n")
    assert read_videocon(DatasetFolder(folder), "events")[0].labels == ("Holding something",)


def test_damage_is_named(folder: Path) -> None:
    file = folder / "eval_ssv2_events.csv"
    header, row = "videopath,caption,match\n", 'v/{}.avi,"Holding [something]",{}\n'
    for damaged, complaint in (
        (header + row.format("a", 2), r"events.csv: line 2: match '2' is neither 0 nor 1"),
        (header + row.format("a", 0) + row.format("b", 1), r"events.csv: line 2: no row of this video has match 1"),
        (header + 2 * row.format("a", 1), r"events.csv: line 3: video 'a' matches 'Holding something' already"),
        (header + 'v/a.avi,"Is this\nit?",1\n', r"events.csv: line 3: caption .* is no template"),
        (header + "v/a.avi,,1\n", r"events.csv: line 2: caption is empty"),
        ("videopath,match\nv/a.avi,1\n", r"events.csv: line 1: there is no column 'caption'"),
    ):
        file.write_text(damaged)
        with pytest.raises(InputError, match=complaint):
            read_videocon(DatasetFolder(folder), "events")
    file.unlink()
    with pytest.raises(InputError, match=r"there is no eval_ssv2_events.csv in it"):
        videocon_classes(DatasetFolder(folder), "events")
