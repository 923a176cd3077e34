"""The encoders that have a name, bundled and published, and what a source of an encoder means. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from core_encoder.errors import InputError
from core_encoder.files.hub import HUB_ID
from core_encoder.files.storage import nearest, read_config_json
from core_encoder.models.plug_ins import plugged_encoders

_BUNDLED = Path(__file__).parents[1]


@dataclass(frozen=True)
class EncoderInfo:
    """One encoder that `load_encoder` knows by name; any other folder, `.npz` or Hub id of these kinds works too.

    Of a plug-in no more is known than its name and its package, until it is loaded.
    """

    name: str
    kind: str
    parameters: int | None
    num_frames: int | None
    image_size: int | None
    text: bool | None
    bundled: bool


class Family(NamedTuple):
    """An architecture of `transformers` that `load_encoder` reads: who reads it, and whether it has a text tower."""

    reader: str  # module:function, below this package
    text: bool


FAMILIES = {
    "videoprism_vision_model": Family("checkpoints:read_folder", text=False),
    "videoprism": Family("checkpoints:read_folder", text=True),
    "clip": Family("openai_clip:read_clip_folder", text=True),
    "siglip": Family("siglip:read_siglip", text=True),
    "siglip2": Family("siglip:read_siglip2", text=True),
    "dinov2": Family("frame_models:read_dinov2", text=False),
    "dinov2_with_registers": Family("frame_models:read_dinov2_with_registers", text=False),
    "dinov3_vit": Family("frame_models:read_dinov3", text=False),
    "videomae": Family("tubelet_models:read_videomae", text=False),
    "vjepa2": Family("tubelet_models:read_vjepa2", text=False),
}
"""By the `model_type` of the folder's `config.json`."""


_KNOWN = (
    EncoderInfo("nano", "video-text", 2_360_192, 8, 48, text=True, bundled=True),
    EncoderInfo("google/videoprism-base-f16r288", "video", 114_365_184, 16, 288, text=False, bundled=False),
    EncoderInfo("google/videoprism-large-f8r288", "video", 353_965_056, 8, 288, text=False, bundled=False),
    EncoderInfo("google/videoprism-lvt-base-f16r288", "video-text", 247_623_424, 16, 288, text=True, bundled=False),
    EncoderInfo("google/videoprism-lvt-large-f8r288", "video-text", 579_877_120, 8, 288, text=True, bundled=False),
    EncoderInfo("facebook/vjepa2-vitl-fpc64-256", "video", 303_885_312, 64, 256, text=False, bundled=False),
    EncoderInfo("MCG-NJU/videomae-base", "video", 86_227_200, 16, 224, text=False, bundled=False),
    EncoderInfo("google/siglip2-base-patch16-224", "image-text", 375_187_970, 16, 224, text=True, bundled=False),
    EncoderInfo("openai/clip-vit-large-patch14", "image-text", 427_616_513, 16, 224, text=True, bundled=False),
    EncoderInfo("facebook/dinov3-vitb16-pretrain-lvd1689m", "image", 85_660_416, 16, 224, text=False, bundled=False),
)


def encoders() -> list[EncoderInfo]:
    """The encoders known by name: bundled ones, published ones, then those of other packages."""
    ours = {info.name for info in _KNOWN}
    plugged = [(name, owner) for name, owner in plugged_encoders().items() if name not in ours]
    others = (EncoderInfo(name, f"of {owner}", None, None, None, None, bundled=False) for name, owner in plugged)
    return [*_KNOWN, *others]


def encoder_path(source: str | Path) -> Path | None:
    """The folder or Flax file that `source` means here; None for a Hub id, and for an encoder of another package.

    Raises:
        InputError: no such encoder, file or folder; the nearest name is offered.
    """
    if source in {info.name for info in _KNOWN if info.bundled}:
        return _BUNDLED / str(source)
    try:
        path = Path(source).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError) as error:  # a name that is too long, a home that is not there
        raise InputError(f"{source}: cannot be looked up ({getattr(error, 'strerror', None) or error})") from error
    if is_folder or (is_file and path.suffix == ".npz"):
        return path
    if is_file:
        raise InputError(f"{path}: give the folder that holds it, or a Flax .npz file")
    text = str(source)
    looks_like_path = isinstance(source, Path) or text.startswith(("/", ".", "~")) or "\\" in text
    if looks_like_path or text.count("/") > 1 or text.endswith((".npz", ".safetensors", "/")):
        raise InputError(f"{source}: no such file or folder")
    if HUB_ID.fullmatch(text):
        return None
    known = [info.name for info in encoders()]
    if text in known:
        return None
    raise InputError(f"no encoder is called {text!r}, and no such folder exists{nearest(text, known)}")


def text_source(source: str | Path) -> Path | None:
    """The folder or file of a text encoder: of an encoder, or of any text model; None for a Hub id.

    Raises:
        InputError: there is no such encoder, file or folder.
    """
    try:
        return encoder_path(source)
    except InputError as error:
        raise InputError(f"text tower: {error}") from error


def split_hub_id(name: str) -> tuple[str, str | None]:
    """`org/name@revision` -> `(org/name, revision)`; the revision is None where none is given.

    Raises:
        InputError: it is no Hub id.
    """
    found = HUB_ID.fullmatch(name)
    if found is None:
        raise InputError(f"{name!r} is not a Hub id: expected org/name or org/name@revision")
    return found["repo"], found["revision"]


def check_text_tower(source: str | Path) -> None:
    """Refuse an encoder that is known to have no text tower: by its name, or by the `config.json` of its folder.

    What lies on the Hub or in a Flax file shows when it is loaded.

    Raises:
        InputError: it has none, or there is no such encoder.
    """
    path = encoder_path(source)
    info = {info.name: info for info in _KNOWN}.get(str(source).partition("@")[0])
    if info is None and path is not None and (path / "config.json").is_file():
        config = read_config_json(path / "config.json")
        family = FAMILIES.get(str(config.get("model_type"))) if isinstance(config, dict) else None
        without = family is not None and not family.text
    else:
        without = info is not None and not info.text
    if without:
        raise no_text_tower(str(source))


def no_text_tower(name: str) -> InputError:
    """The error that an encoder has no text tower, and which ones have one."""
    able = ", ".join(info.name for info in _KNOWN if info.text)
    return InputError(f"encoder {name!r} has no text tower, so it knows no words; these have one: {able}")
