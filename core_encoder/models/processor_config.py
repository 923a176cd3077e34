"""The processor configs of `transformers`, read and written as data: how frames become the pixels of a model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core_encoder.errors import InputError
from core_encoder.files.storage import read_config_json
from core_encoder.preprocessing import Preprocessing
from core_encoder.said_once import warn_once

log = logging.getLogger(__name__)

VIDEO_FILE, IMAGE_FILE, JOINT_FILE = (
    "video_preprocessor_config.json",
    "preprocessor_config.json",
    "processor_config.json",
)
_FILTERS = {2: "bilinear", 3: "bicubic"}  # PIL's numbers
_SQUEEZED_FROM = 384  # with a crop_pct, from this side on the frame is squeezed instead of cut


def processor_settings(folder: Path) -> tuple[Path, Mapping[str, Any]] | None:
    """The file of a folder that says how frames are prepared, and what it says of them; None where there is none.

    Raises:
        InputError: it is not readable, or holds no names and values.
    """
    for name in (VIDEO_FILE, IMAGE_FILE, JOINT_FILE):
        path = folder / name
        if not path.is_file():
            continue
        given = read_config_json(path)
        if name == JOINT_FILE and isinstance(given, dict):
            given = given.get("video_processor", given.get("image_processor"))
            if given is None:
                continue
        if not isinstance(given, dict):
            raise InputError(f"{path}: holds no names and values")
        return path, given
    return None


def read_preprocessing(folder: Path, defaults: Mapping[str, Any]) -> Preprocessing:
    """How the folder's processor prepares a frame; what it leaves out is as in `defaults`, those of its class.

    Raises:
        InputError: the file is damaged, or asks for what is not supported here.
    """
    found = processor_settings(folder)
    if found is None:
        said = f"{folder.resolve().name}: holds no {VIDEO_FILE} or {IMAGE_FILE}"
        warn_once(log, said, "so that frames are prepared as its model family does by default")
        found = folder / IMAGE_FILE, {}
    path, given = found
    try:
        return _preprocessing({**defaults, **{name: value for name, value in given.items() if value is not None}})
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error


def _preprocessing(given: Mapping[str, Any]) -> Preprocessing:
    if not given.get("do_resize", True):
        raise ValueError("do_resize false is not supported: frames come in any size")
    resample = given.get("resample", 3)
    if resample not in _FILTERS:
        raise ValueError(f"resample {resample} is not supported, only 2 (bilinear) and 3 (bicubic)")
    size, short_side = _geometry(given)
    mean: Any = (0.0, 0.0, 0.0)
    std: Any = (1.0, 1.0, 1.0)
    if given.get("do_normalize", True):
        mean, std = tuple(given["image_mean"]), tuple(given["image_std"])
    factor = float(given.get("rescale_factor", 1 / 255)) if given.get("do_rescale", True) else 1.0
    if abs(unit := 255 * factor) < 1e-12:
        raise ValueError("rescale_factor is 0")
    if abs(unit - 1) > 1e-9:  # our pixels are in [0, 1], theirs in [0, 255] times the factor
        mean, std = (tuple(float(value) / unit for value in values) for values in (mean, std))
    return Preprocessing(
        image_size=size,
        geometry="resize" if short_side is None else "center_crop",
        interpolation="bicubic" if resample == 3 else "bilinear",
        mean=mean,
        std=std,
        short_side=short_side,
    )


def _geometry(given: Mapping[str, Any]) -> tuple[int, int | None]:
    """The side of the square, and the short side of the frame that it is cut from; None where the frame is squeezed."""
    size, crop_pct = given["size"], given.get("crop_pct")
    side = _side(size)
    if crop_pct is not None:
        return side, None if side >= _SQUEEZED_FROM else int(side / crop_pct)
    if not given.get("do_center_crop", False):
        return side, None
    crop = _side(given.get("crop_size", size))
    if isinstance(size, dict) and "height" in size:
        if crop != side:
            raise ValueError(f"a frame squeezed to {side} x {side} with a crop of {crop} is not supported")
        return side, None
    if crop > side:
        raise ValueError(f"a crop of {crop} from a short side of {side} is not supported: it would have a border")
    return crop, side


def _side(size: Any) -> int:
    """224 from 224, {"shortest_edge": 224} or {"height": 224, "width": 224}."""
    if isinstance(size, int):
        return size
    if "shortest_edge" in size:
        return int(size["shortest_edge"])
    if size.get("height") is None or size["height"] != size.get("width"):
        raise ValueError(f"size {dict(size)} is not square")
    return int(size["height"])


def describe_processor(preprocessing: Preprocessing, processor: str, **more: Any) -> dict[str, Any]:
    """What the config of an image or video processor of this class says, and `more` that it alone knows."""
    size = preprocessing.image_size
    square = {"height": size, "width": size}
    cropped = preprocessing.geometry == "center_crop"
    kind = "video_processor_type" if processor.endswith("VideoProcessor") else "image_processor_type"
    return {
        kind: processor,
        "do_resize": True,
        "size": {"shortest_edge": preprocessing.short_side or size} if cropped else square,
        "do_center_crop": cropped,
        "crop_size": square,
        "resample": 3 if preprocessing.interpolation == "bicubic" else 2,
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": list(preprocessing.mean),
        "image_std": list(preprocessing.std),
        **more,
    }
