"""MSR-VTT's own file: what is read of it, and a line for everything that is wrong with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from pretrain.world.captioned_videos import write_captioned_videos
from tasks.readers.captions import CaptionedSample, read_captions

VIDEO = {"video_id": "video0", "category": 9, "url": "", "start time": 137.72, "end time": 149.44, "id": 0}
SENTENCE = {"sen_id": 0, "video_id": "video0", "caption": "a man  walks"}


def write(folder: Path, videos: Any, sentences: Any) -> Path:
    (folder / "a").mkdir(exist_ok=True)
    (folder / "a" / "video0.mp4").touch()
    (folder / "MSR_VTT.json").write_text(json.dumps({"info": {}, "videos": videos, "sentences": sentences}))
    return folder / "MSR_VTT.json"


def test_captions_of_a_video_and_its_split(tmp_path: Path) -> None:
    videos = [VIDEO | {"split": "validate"}, VIDEO | {"video_id": "video1", "split": "test"}]
    said = [SENTENCE, SENTENCE | {"caption": "he walks"}, SENTENCE | {"caption": "a man walks"}]
    file = write(tmp_path, videos, said)  # nobody has said anything of video1
    wanted = [CaptionedSample("video0", Clip(str(tmp_path / "a/video0.mp4")), (), "val", ("a man walks", "he walks"))]
    assert read_captions(file) == read_captions(file, videos=tmp_path / "a") == wanted


def test_what_the_world_writes(tmp_path: Path) -> None:
    samples = read_captions(write_captioned_videos(tmp_path, {"train": 2, "val": 1, "test": 1}, size=16, num_frames=2))
    assert [one.split for one in samples] == ["train", "train", "val", "test"]
    assert all(len(one.captions) == 4 and Path(one.clip.path).is_file() for one in samples)


@pytest.mark.parametrize(
    ("videos", "sentences", "complaint"),
    [
        ([], [SENTENCE], "no list 'videos'"),
        ([VIDEO], {"a": 1}, "no list 'sentences'"),
        ([VIDEO, VIDEO], [SENTENCE], "video 2: video 'video0' is listed twice"),
        ([VIDEO | {"split": "trian"}], [SENTENCE], r"video 1: split 'trian' is unknown.*'train'"),
        ([VIDEO], [SENTENCE, SENTENCE | {"video_id": "video9"}], "sentence 2: video 'video9' is not among"),
        ([VIDEO], [SENTENCE | {"caption": " "}], "sentence 1: caption ' ' is empty"),
        ([VIDEO], ["a man walks"], "sentence 1: must be an object"),
        ([VIDEO | {"video_id": "b"}], [SENTENCE | {"video_id": "b"}], "none of its 1 videos exists.*--videos"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, videos: Any, sentences: Any, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        read_captions(write(tmp_path, videos, sentences))


def test_a_folder_of_videos_is_for_this_format_alone(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").write_text("video,caption\na.mp4,a dog\n")
    with pytest.raises(InputError, match="relative to it"):
        read_captions(tmp_path / "captions.csv", videos=tmp_path)
