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

import math
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
    names = {_id(path, place, one): str(one.get("name")) for place, one in _listed(path, given, "categories")}
    videos = {_id(path, place, one): one for place, one in _listed(path, given, "videos")}
    images = {
        _id(path, place, image): _image(path, place, image, videos) for place, image in _listed(path, given, "images")
    }
    rows, seen = [], set()
    for where, one in _listed(path, given, "annotations"):
        image = _id(path, where, one, "image_id")
        if image not in images:
            raise InputError(f"{path}: {where}: image_id {image!r} is none of its images")
        seen.add(image)
        box = one.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(_is_number(edge) for edge in box):
            raise InputError(f"{path}: {where}: bbox {box!r} is not [x, y, width, height]")
        x, y, width, height = map(float, box)
        score = one.get("score", 1.0)
        if not _is_number(score):
            raise InputError(f"{path}: {where}: score {score!r} is not a number")
        track = one.get("track_id", one.get("instance_id"))
        categories = one.get("category_ids", [one["category_id"]] if "category_id" in one else [])
        if not isinstance(categories, list) or not all(isinstance(index, int | str) for index in categories):
            raise InputError(f"{path}: {where}: its categories must be numbers of categories, not {categories!r}")
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
                    score=float(score),
                    in_pixels=True,
                    **images[image],
                )
            )
    rows += [BoxRow(path, f"image {index}", corners=None, **images[index]) for index in images if index not in seen]
    if not rows:
        raise InputError(f"{path}: holds no boxes")
    return rows


def category_ids(path: str | Path) -> dict[str, int]:
    """The number of each category of a file by its name, from 1 in their order where their ids are no numbers.

    Raises:
        InputError: its categories are none.
    """
    path = Path(path)
    known = [
        (_id(path, where, one), str(one.get("name"))) for where, one in _listed(path, read_json(path), "categories")
    ]
    return {name: index if isinstance(index, int) else place for place, (index, name) in enumerate(known, start=1)}


_ONE_OF = {"images": "image", "annotations": "annotation", "categories": "category", "videos": "video"}


def _listed(path: Path, given: Mapping[str, Any], name: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The objects of one of a file's lists, each with where it is; nothing where there is no such list.

    Raises:
        InputError: it is something else.
    """
    listed = given.get(name) or []
    if not isinstance(listed, list):
        raise InputError(f"{path}: {name} must be a list of objects, not {listed!r}")
    found = [(f"{_ONE_OF[name]} {place}", one) for place, one in enumerate(listed)]
    for where, one in found:
        if not isinstance(one, dict):
            raise InputError(f"{path}: {where}: must be an object, not {one!r}")
    return found


def _id(path: Path, where: str, record: Mapping[str, Any], field: str = "id") -> int | str:
    """What an object is called, or which other it belongs to.

    Raises:
        InputError: it does not say.
    """
    value = record.get(field)
    if not isinstance(value, int | str):
        raise InputError(f"{path}: {where}: {field} must be a number or a text, not {value!r}")
    return value


def _image(path: Path, where: str, image: Mapping[str, Any], videos: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any]:
    """The video, moment and picture of an image, by the names that `BoxRow` has."""
    video = videos.get(_id(path, where, image, "video_id")) if image.get("video_id") is not None else None
    if video is not None:
        name = video.get("file_name") or video.get("name")
    else:
        name = Path(str(image.get("file_name", ""))).parent.name
    if not name:
        raise InputError(f"{path}: {where}: is of no video: it needs video_id, or a file_name in its folder")
    time_s = image.get("time_s", image.get("timestamp"))
    frame = image.get("frame_id", image.get("frame_index"))
    if time_s is None and frame is None:
        raise InputError(f"{path}: {where}: has no moment: it needs frame_id, or time_s in seconds")
    for name_of, value in (("time_s", time_s), ("frame_id", frame)):
        if value is not None and (not _is_number(value) or value < 0):
            raise InputError(f"{path}: {where}: {name_of} {value!r} is not a number of at least 0")
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
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
