"""Text encoders: a text -> one vector. The text tower of a video-text encoder, or a text model of `transformers`.

load_text_encoder("nano")                                     the tower of an encoder that has one
load_text_encoder("sentence-transformers/all-MiniLM-L6-v2")   the folder or Hub id of a text model
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from core_encoder.encoder import load_encoder
from core_encoder.errors import InputError
from core_encoder.files.hub import HUB_ID, snapshot
from core_encoder.files.storage import read_config_json, write_json
from core_encoder.models.checkpoints import CONFIG, WEIGHTS, copy_files
from core_encoder.models.known_encoders import FAMILIES, split_hub_id, text_source
from core_encoder.models.model_configs import TextConfig
from core_encoder.models.text_tower import TextTokenizer, TextTower, Tokenizer
from core_encoder.models.transformers_files import (
    TOKENIZER_FILES,
    UNREADABLE,
    check_safetensors,
    open_tokenizer,
    reason_of,
    without_bars,
)
from core_encoder.models.video_text import VideoTextModel
from core_encoder.said_once import warn_once

log = logging.getLogger(__name__)

ABOUT = "text_encoder.json"
_BESIDE_THE_WEIGHTS = ["*.json", "*.txt", "*.model", "1_Pooling/config.json", WEIGHTS, "model-*.safetensors"]
_OTHER_FORMATS = ["onnx/*", "openvino/*", "*/*.safetensors"]

Pooling = Literal["mean", "cls"]


class TextEncoder(nn.Module):
    """Texts to vectors `(B, D)`, of any length; `model(ids, mask)` does it for token ids `(B, L)`.

    `source` is what `load_text_encoder` was given, `about` all that is needed to build the model again.
    """

    def __init__(self, model: nn.Module, tokenizer: Tokenizer, dim: int, about: dict[str, Any], source: str) -> None:
        super().__init__()
        self.model: Any = model
        self.tokenizer = tokenizer
        self.dim = dim
        self.about = about
        self.source = source

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Texts -> `(B, D)`; those that are too long are cut, which is said once."""
        device = next(self.parameters()).device
        ids, mask = (part.to(device) for part in self.tokenizer(texts))
        vectors: Tensor = self.model(ids, mask)
        return vectors

    def fingerprint(self) -> str:
        """SHA-256 over the float32 weights and the architecture."""
        digest = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            if tensor.is_floating_point():
                values = tensor.detach().to("cpu", torch.float32).contiguous()
                digest.update(f"{name} {tuple(values.shape)}\n".encode())
                digest.update(memoryview(values.numpy()).cast("B"))
        return digest.hexdigest()

    def write_files(self, folder: Path) -> None:
        """Write everything but the weights: `build_text_encoder` makes the same model of it, with weights of its own.

        Raises:
            InputError: the disk is full.
        """
        write_json(folder / ABOUT, self.about)
        self.tokenizer.save(folder)


class PooledText(nn.Module):
    """A text model of `transformers` whose token outputs become one vector: their mean, or the first one."""

    def __init__(self, model: nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids `(B, L)` and mask `(B, L)`, True = real -> `(B, D)`."""
        tokens = self.model(input_ids=ids, attention_mask=mask.long(), return_dict=True).last_hidden_state  # (B, L, D)
        if self.pooling == "cls":
            first: Tensor = tokens[:, 0]
            return first  # (B, D)
        real = mask[..., None].to(tokens.dtype)
        return (tokens * real).sum(1) / real.sum(1).clamp_min(1.0)  # (B, D)


class ClipText(nn.Module):
    """The text half of CLIP: the output at the end token, projected."""

    def __init__(self, text_model: nn.Module, text_projection: nn.Module) -> None:
        super().__init__()
        self.text_model = text_model
        self.text_projection = text_projection

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids `(B, L)` and mask `(B, L)`, True = real -> `(B, D)`."""
        seen = self.text_model(input_ids=ids, attention_mask=mask.long(), return_dict=True)
        projected: Tensor = self.text_projection(seen.pooler_output)
        return projected


class SiglipText(nn.Module):
    """The text half of SigLIP: its vector of the last position."""

    def __init__(self, text_model: nn.Module, pad_id: int) -> None:
        super().__init__()
        self.text_model = text_model
        self.pad_id = pad_id

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids `(B, L)` and mask `(B, L)`, True = real -> `(B, D)`."""
        from core_encoder.models.siglip import text_vectors

        return text_vectors(self.text_model, ids, mask, self.pad_id)


class TextModelTokenizer:
    """The tokenizer of a text model, from the files of its folder; longer texts are cut, which is said once.

    Raises:
        InputError: there is none, or it cannot be read.
    """

    def __init__(self, folder: Path, max_length: int) -> None:
        self.folder, self.max_length = folder, max_length
        self._tokenizer = open_tokenizer(folder)

    def __call__(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        whole = self._tokenizer(list(texts), verbose=False)["input_ids"]
        longest = max(map(len, whole), default=0)
        if longest > self.max_length:
            warn_once(log, f"texts longer than {self.max_length} tokens are cut", f"(this one has {longest})")
        rows = self._tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        return rows["input_ids"], rows["attention_mask"].bool()

    def save(self, folder: Path) -> None:
        """Copy the tokenizer files into `folder`."""
        copy_files(self.folder, folder, TOKENIZER_FILES)


def load_text_encoder(source: str | Path) -> TextEncoder:
    """Load a text encoder, trainable and in float32.

    `source` is an encoder with a text tower (a bundled name, folder, Flax file or Hub id), or a folder or Hub id of a
    text model in `transformers` format, pooled as its `1_Pooling/config.json` says (sentence-transformers), else by the
    mean. No code is loaded and no pickle is read.

    Raises:
        InputError: there is no such source, it is no text encoder, or its files are damaged.
    """
    path = text_source(source)
    if path is None and HUB_ID.fullmatch(str(source)) is None:  # an encoder of another package
        return _tower_of(str(source))
    if path is None:
        repo, revision = split_hub_id(str(source))
        path = snapshot(*(str(source), repo, revision, _BESIDE_THE_WEIGHTS, "a folder"), ignored=_OTHER_FORMATS)
        is_text_model = (path / CONFIG).is_file() and _model_type(path) not in FAMILIES
    else:
        is_text_model = path.is_dir() and (path / CONFIG).is_file() and _model_type(path) not in FAMILIES
    return _text_model(path, str(source)) if is_text_model else _tower_of(str(source))


def build_text_encoder(folder: Path, source: str) -> TextEncoder:
    """The model that `TextEncoder.write_files` described, with initial weights.

    Raises:
        InputError: the files are damaged.
    """
    about = read_config_json(folder / ABOUT)
    try:
        if about["kind"] == "tower":
            config = TextConfig(**about["config"])
            tokenizer = TextTokenizer.find(folder, config.vocab_size, config.max_length)
            if tokenizer is None:
                raise InputError(f"{folder}: holds no tokenizer")
            return TextEncoder(TextTower(config), tokenizer, config.width, about, source)
        if about["kind"] == "clip":
            return _clip_from(about, folder, source)
        if about["kind"] == "siglip":
            return _siglip_from(about, folder, source)
        from transformers import AutoConfig, AutoModel

        config = AutoConfig.for_model(**about["config"])
        model = _encoder_half(AutoModel.from_config(config))
        return _pooled(model, about, folder, source)
    except (*UNREADABLE, InputError) as error:
        raise InputError(f"{folder}: not a text tower that this prismhub can build ({reason_of(error)})") from error


def _text_model(folder: Path, source: str) -> TextEncoder:
    """A folder of a text model in `transformers` format."""
    from transformers import AutoConfig, AutoModel

    check_safetensors(folder)
    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        if hasattr(config, "vision_config"):
            raise InputError(
                f"{folder}: a {config.model_type!r} model is no text encoder; give a folder of its text half"
            )
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
        with without_bars():
            model, said = AutoModel.from_pretrained(
                str(folder), dtype=torch.float32, output_loading_info=True, **options
            )
    except UNREADABLE as error:
        raise InputError(f"{folder}: not a text model that transformers opens ({reason_of(error)})") from error
    model = _encoder_half(model)
    own = {name for name in said["missing_keys"] if not name.startswith("pooler.")} & model.state_dict().keys()
    if own:
        raise InputError(f"{folder}: {len(own)} tensors are missing: {', '.join(sorted(own)[:6])}")
    return _pooled(model, {"kind": "transformers", "pooling": _pooling(folder)}, folder, source)


def _pooled(model: Any, about: dict[str, Any], folder: Path, source: str) -> TextEncoder:
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # of next-sentence prediction; nothing reads it
    about = {
        **about,
        "config": json.loads(model.config.to_json_string(use_diff=True)),
        "max_length": about.get("max_length") or _max_length(folder, model.config),
    }
    about["config"]["model_type"] = model.config.model_type
    for name in ("_name_or_path", "transformers_version"):
        about["config"].pop(name, None)
    tokenizer = TextModelTokenizer(folder, about["max_length"])
    return TextEncoder(PooledText(model, about["pooling"]), tokenizer, int(model.config.hidden_size), about, source)


def _encoder_half(model: Any) -> Any:
    """The half of a text-to-text model that reads; any other model as it is."""
    return model.get_encoder() if getattr(model.config, "is_encoder_decoder", False) else model


def _tower_of(source: str) -> TextEncoder:
    """The text tower of a video-text encoder."""
    from core_encoder.models.known_encoders import no_text_tower

    encoder = load_encoder(source)
    if not encoder.has_text:
        raise no_text_tower(encoder.name)
    if encoder.tokenizer is None:
        raise InputError(
            f"encoder {encoder.name!r} came without a tokenizer: put its tokenizer.json beside the weights"
        )
    known = encoder.model
    model: Any
    about: dict[str, Any]
    if isinstance(known, VideoTextModel) and known.config.text is not None:
        model, config = known.text_tower, known.config.text
        about, dim = {"kind": "tower", "config": asdict(config)}, config.width
    elif hasattr(known, "clip"):
        text = json.loads(known.clip.config.text_config.to_json_string(use_diff=True))
        dim = int(known.clip.config.projection_dim)
        about = {"kind": "clip", "config": text, "projection_dim": dim}
        model = ClipText(known.clip.text_model, known.clip.text_projection)
    elif hasattr(known, "siglip"):
        config = known.siglip.config.text_config
        text = json.loads(config.to_json_string(use_diff=True)) | {"model_type": config.model_type}
        about, dim = {"kind": "siglip", "config": text, "pad_id": known.pad_id}, known.embedding_dim
        model = SiglipText(known.siglip.text_model, known.pad_id)
    else:
        raise InputError(f"encoder {encoder.name!r} is of another package: its text tower cannot be trained apart")
    return TextEncoder(model.requires_grad_(True), encoder.tokenizer, dim, about, source)


def _clip_from(about: dict[str, Any], folder: Path, source: str) -> TextEncoder:
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    from core_encoder.models.openai_clip import ClipTokenizer

    config = CLIPTextConfig(**{**about["config"], "projection_dim": about["projection_dim"]})
    clip: Any = CLIPTextModelWithProjection(config)
    tokenizer = ClipTokenizer(folder, int(config.max_position_embeddings))
    model = ClipText(clip.text_model, clip.text_projection)
    return TextEncoder(model, tokenizer, about["projection_dim"], about, source)


def _siglip_from(about: dict[str, Any], folder: Path, source: str) -> TextEncoder:
    from transformers import Siglip2TextConfig, Siglip2TextModel, SiglipTextConfig, SiglipTextModel

    from core_encoder.models.siglip import SiglipTokenizer

    given = dict(about["config"])
    second = given.pop("model_type") == "siglip2_text_model"
    config: Any = (Siglip2TextConfig if second else SiglipTextConfig)(**given)
    text_model: Any = (Siglip2TextModel if second else SiglipTextModel)(config)
    tokenizer = SiglipTokenizer(folder, int(config.max_position_embeddings), about["pad_id"])
    return TextEncoder(SiglipText(text_model, about["pad_id"]), tokenizer, int(config.projection_size), about, source)


def _model_type(folder: Path) -> str | None:
    config = read_config_json(folder / CONFIG)
    kind = config.get("model_type") if isinstance(config, dict) else None
    return kind if isinstance(kind, str) else None


def _pooling(folder: Path) -> Pooling:
    """How sentence-transformers pools this model, the mean where it does not say."""
    file = folder / "1_Pooling" / CONFIG
    given = read_config_json(file) if file.is_file() else {"pooling_mode_mean_tokens": True}
    if given.get("pooling_mode_mean_tokens"):
        return "mean"
    if given.get("pooling_mode_cls_token"):
        return "cls"
    raise InputError(f"{file}: only the mean of the tokens and the first token are supported")


def _max_length(folder: Path, config: Any) -> int:
    """The most tokens of a text: as sentence-transformers says, else what tokenizer and positions allow."""
    known = []
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        given = read_config_json(folder / name).get(key) if (folder / name).is_file() else None
        known += [int(given)] if isinstance(given, int | float) and 0 < given < 1_000_000 else []
    positions = getattr(config, "max_position_embeddings", None)
    known += [positions] if isinstance(positions, int) and positions > 0 else []
    return min(known, default=512)
