"""COCO-style JSON of videos: boxes in pixels of frames, with categories and, where it has them, tracks. No torch.

    {"videos":      [{"id": 1, "name": "a.mp4", "fps": 25}],
     "images":      [{"id": 7, "video_id": 1, "frame_id": 50, "width": 640, "height": 360}],
     "annotations": [{"image_id": 7, "bbox": [x, y, width, height], "category_id": 3, "track_id": 2}],
     "categories":  [{"id": 3, "name": "walk"}]}

`frame_id` (or `frame_index`) counts from 0; an image may have `time_s` (or `timestamp`) instead. Without `videos` the
folder of an image's `file_name` is its video. `instance_id` is another word for `track_id`; several categories of one
box are several annotations, or a list `category_ids`. A file of results, a bare list, is not enough: it has no images.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from core_encoder.files.storage import read_json
from tasks.readers.box_rows import BoxRow


def read_coco(path: str | Path) -> list[BoxRow]:
    """The boxes of a file, one row a box and category; images without annotations are moments at which nobody is there.

    Raises:
        InputError: one line with file, annotation, field and the fix.
    """
    path = Path(path)
    given = read_json(path)
    if not isinstance(given, dict) or not all(isinstance(given.get(name), list) for name in ("images", "annotations")):
        raise InputError(f"{path}: is no COCO-style file: it needs the lists images and annotations")
    names = {one.get("id"): str(one.get("name")) for one in given.get("categories", ())}
    videos = {one.get("id"): one for one in given.get("videos", ())}
    images = {image.get("id"): _image(path, place, image, videos) for place, image in enumerate(given["images"])}
    rows, seen = [], set()
    for place, one in enumerate(given["annotations"]):
        where = f"annotation {place}"
        if one.get("image_id") not in images:
            raise InputError(f"{path}: {where}: image_id {one.get('image_id')!r} is none of its images")
        seen.add(one["image_id"])
        box = one.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(_is_number(edge) for edge in box):
            raise InputError(f"{path}: {where}: bbox {box!r} is not [x, y, width, height]")
        x, y, width, height = map(float, box)
        track = one.get("track_id", one.get("instance_id"))
        categories = one.get("category_ids", [one["category_id"]] if "category_id" in one else [])
        unknown = [index for index in categories if names and index not in names]
        if unknown:
            raise InputError(f"{path}: {where}: category_id {unknown[0]!r} is none of its categories")
        labels: list[str | None] = [names.get(index, str(index)) for index in categories]
        for label in labels or [None]:
            rows.append(
                BoxRow(
                    path,
                    where,
                    corners=(x, y, x + width, y + height),
                    label=label,
                    track="" if track is None else str(track),
                    score=float(one.get("score", 1.0)),
                    in_pixels=True,
                    **images[one["image_id"]],
                )
            )
    rows += [BoxRow(path, f"image {index}", corners=None, **images[index]) for index in images if index not in seen]
    if not rows:
        raise InputError(f"{path}: holds no boxes")
    return rows


def category_ids(path: str | Path) -> dict[str, int]:
    """The number of each category by its name."""
    return {str(one["name"]): int(one["id"]) for one in read_json(Path(path)).get("categories", ())}


def _image(path: Path, place: int, image: Mapping[str, Any], videos: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    """The video, moment and picture of an image, by the names that `BoxRow` has."""
    video = videos.get(image.get("video_id"))
    if video is not None:
        name = video.get("file_name") or video.get("name")
    else:
        name = Path(str(image.get("file_name", ""))).parent.name
    if not name:
        raise InputError(f"{path}: image {place}: is of no video: it needs video_id, or a file_name in its folder")
    time_s = image.get("time_s", image.get("timestamp"))
    frame = image.get("frame_id", image.get("frame_index"))
    if time_s is None and frame is None:
        raise InputError(f"{path}: image {place}: has no moment: it needs frame_id, or time_s in seconds")
    for name_of, value in (("time_s", time_s), ("frame_id", frame)):
        if value is not None and (not _is_number(value) or value < 0):
            raise InputError(f"{path}: image {place}: {name_of} {value!r} is not a number of at least 0")
    fps = None if video is None else video.get("fps")
    if time_s is None and frame is not None and _is_number(fps) and float(fps or 0) > 0:
        time_s = float(frame) / float(fps or 1)
    size = image.get("width"), image.get("height")
    picture = (float(size[0] or 0), float(size[1] or 0)) if all(_is_number(one) and one for one in size) else None
    return {
        "video": str(name),
        "time_s": None if time_s is None else float(time_s),
        "frame": None if time_s is not None or frame is None else int(frame),
        "picture": picture,
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
