"""MSR-VTT in miniature: its JSON, the files of split 1K-A as CLIP4Clip and Frozen in Time give them out, and videos."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

from tests.tasks.miniatures.clips import write_clip

TEST = ("video7010", "video7011", "video9770")  # of the official test split
TRAIN = ("video0", "video6512", "video6513")  # the last one is of val
CAPTIONS = (
    "a person is connecting something to system",
    "a red square moves to the right",
    "a little girl does gymnastics",
    "someone, outside, is 'waiting'",
    "a man talks",
    "a man talks",
)


def captions_of(video: str) -> list[str]:
    """Three captions of a video, of which two may be equal."""
    number = int(video.removeprefix("video"))
    return [CAPTIONS[(number + place) % len(CAPTIONS)] for place in range(3)]


def write(folder: Path, videos: tuple[str, ...] = TEST + TRAIN) -> Path:
    """The table of 1K-A, the data set's own JSON, and the videos."""
    rows = [f'ret{k},msr{name[5:]},{name},"{captions_of(name)[0]}"\n' for k, name in enumerate(TEST)]
    (folder / "MSRVTT_JSFUSION_test.csv").write_text("key,vid_key,video_id,sentence\n" + "".join(rows))
    write_json(folder / "MSRVTT_data.json", videos)
    for name in videos:
        write_clip(folder / "videos" / "all" / f"{name}.mp4")
    return folder


def write_json(file: Path, videos: tuple[str, ...] = TEST + TRAIN, splits: bool = True) -> None:
    """The format that the data set's authors give out."""
    listed = [
        {"category": 9, "url": "https://www.youtube.com/watch?v=x", "video_id": name, "start time": 137.72}
        | {"end time": 149.44, "id": number}
        | ({"split": split_of(name)} if splits else {})
        for number, name in enumerate(videos)
    ]
    said = [(name, caption) for name in videos for caption in captions_of(name)]
    sentences = [
        {"caption": caption, "video_id": name, "sen_id": number} for number, (name, caption) in enumerate(said)
    ]
    info = {"contributor": "Microsoft MSM Group", "data_created": "2016-04-14 14:30:20", "version": "1.0"}
    file.write_text(json.dumps({"info": info, "videos": listed, "sentences": sentences}))


def split_of(video: str) -> str:
    """The official split of a video, as it is written."""
    number = int(video.removeprefix("video"))
    return "train" if number < 6513 else "validate" if number < 7010 else "test"


def as_umt(folder: Path) -> None:
    """1K-A as UMT and Singularity give it out instead: one list of JSON."""
    (folder / "MSRVTT_JSFUSION_test.csv").unlink()
    pairs = [{"video": f"{name}.mp4", "caption": captions_of(name)[0]} for name in TEST]
    (folder / "msrvtt_test1k.json").write_text(json.dumps(pairs))


def as_two_files(folder: Path) -> None:
    """Captions in the two files of the data set's own challenge instead, that of the test videos by itself."""
    (folder / "MSRVTT_data.json").unlink()
    write_json(folder / "train_val_videodatainfo.json", TRAIN)
    write_json(folder / "test_videodatainfo.json", TEST)


def as_frozen_in_time(folder: Path) -> dict[str, int]:
    """1K-A as Frozen in Time gives it out instead: captions in COCO's format, a list, and which caption of each."""
    (folder / "MSRVTT_JSFUSION_test.csv").unlink()
    (folder / "MSRVTT_data.json").unlink()
    inner = folder / "annotation"
    inner.mkdir()
    said = [(name, caption) for name in TEST + TRAIN for caption in captions_of(name)]
    annotations = [{"image_id": name, "caption": caption, "id": number} for number, (name, caption) in enumerate(said)]
    (inner / "MSR_VTT.json").write_text(json.dumps({"info": {}, "images": [], "annotations": annotations}))
    lists = folder / "structured-symlinks"
    lists.mkdir()
    (lists / "val_list_jsfusion.txt").write_text("\n".join(TEST) + "\n")
    places = {name: number % 3 for number, name in enumerate(TEST)}
    (lists / "jsfusion_val_caption_idx.pkl").write_bytes(pickle.dumps(places, protocol=3))
    return places
