"""The frozen encoder as everything above sees it: load one by name, ask it for features and embeddings."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from core_encoder.errors import InputError
from core_encoder.files.storage import check_finite, write_text
from core_encoder.models.known_encoders import FAMILIES, encoder_path
from core_encoder.models.plug_ins import load_plugged
from core_encoder.models.text_tower import Tokenizer
from core_encoder.models.video_text import VideoTextModel
from core_encoder.preprocessing import Preprocessing

_TEXTS_AT_ONCE = 64


@dataclass
class VideoFeatures:
    """What an encoder says about a batch of clips.

    T counts time steps: a frame each, or `tubelet` frames each. `tokens` (B, T, N, D); `embedding` (B, E) where the
    encoder makes one and it was asked for; `hidden` maps every asked layer to its raw output (B, T, N, D); `frame_mask`
    (B, T) is True for time steps with a real frame, None when all have one.
    """

    tokens: Tensor
    embedding: Tensor | None = None
    hidden: dict[int, Tensor] = field(default_factory=dict)
    frame_mask: Tensor | None = None


class Model(Protocol):
    """What an architecture offers to `Encoder`; it is also an `nn.Module`.

    `tubelet` frames make one time step of tokens. Only with `has_halves` are `encode_spatial` and `encode_temporal`
    called, only with `embeds_tokens` `embed_tokens`, only with `has_text` `embed_token_ids`.
    """

    num_frames: int
    tubelet: int
    image_size: int
    patch_size: int
    dim: int
    num_layers: int
    embedding_dim: int | None
    embeds_tokens: bool
    has_halves: bool
    has_text: bool

    def describe(self) -> dict[str, Any]: ...
    def __call__(
        self, video: Tensor, frame_mask: Tensor | None, layers: Sequence[int], embed: bool
    ) -> tuple[Tensor, dict[int, Tensor], Tensor | None]: ...
    def encode_spatial(self, video: Tensor) -> Tensor: ...
    def encode_temporal(self, spatial: Tensor, frame_mask: Tensor | None) -> Tensor: ...
    def embed_tokens(self, tokens: Tensor, frame_mask: Tensor | None) -> Tensor: ...
    def embed_token_ids(self, ids: Tensor, mask: Tensor) -> Tensor: ...


class Encoder(nn.Module):
    """A frozen encoder: always in eval mode, and without gradients but in `with_gradients`.

    Videos are (B, T, 3, H, W) float RGB in [0, 1]; any T that is a multiple of `tubelet`, any H and W that are
    multiples of `patch_size`. Frame masks are bool (B, T), True for real frames; padding changes nothing for them, and
    real frame i is frame i of T. Tokens are (B, T / tubelet, N, D).
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        preprocessing: Preprocessing,
        tokenizer: Tokenizer | None = None,
        fingerprint: str | None = None,
    ) -> None:
        super().__init__()
        self.model: Any = model.requires_grad_(False).eval()
        self.name = name
        self.preprocessing = preprocessing
        self.tokenizer = tokenizer
        self._fingerprint = fingerprint  # None: of the weights, taken when it is asked for
        self.training = False

    num_frames = property(lambda self: int(self.model.num_frames), doc="Frames of a clip as trained; any other works.")
    image_size = property(lambda self: int(self.model.image_size), doc="Side of a frame as trained, in pixels.")
    patch_size = property(lambda self: int(self.model.patch_size), doc="Side of a patch, in pixels.")
    tubelet = property(lambda self: int(self.model.tubelet), doc="Frames that make one time step of tokens.")
    dim = property(lambda self: int(self.model.dim), doc="Width D of a token.")
    num_layers = property(lambda self: int(self.model.num_layers), doc="Layers that `forward(layers=)` can return.")

    @property
    def embedding_dim(self) -> int | None:
        """Width E of an embedding, or None when the encoder makes none."""
        return self.model.embedding_dim

    @property
    def embeds_tokens(self) -> bool:
        """Whether the embedding is made of the tokens alone (`embed_tokens`)."""
        return bool(self.model.embeds_tokens)

    @property
    def has_halves(self) -> bool:
        """Whether one half sees single frames, so that windows that overlap can share it (`encode_spatial`)."""
        return bool(self.model.has_halves)

    @property
    def has_text(self) -> bool:
        """Whether texts can be embedded."""
        return bool(self.model.has_text)

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the float32 weights, the architecture and the preprocessing.

        The same for the same weights from any file format, on any device; a cast does not change it, because it is
        taken before the first cast.
        """
        if self._fingerprint is None:
            self._fingerprint = self._fingerprint_now()
        return self._fingerprint

    def _fingerprint_now(self) -> str:
        about = {"model": self.model.describe(), "preprocessing": self.preprocessing.describe()}
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            if tensor.is_floating_point():
                values = tensor.detach().to("cpu", torch.float32).contiguous()
                digest.update(f"{name} {tuple(values.shape)}\n".encode())
                digest.update(memoryview(values.numpy()).cast("B"))
        return digest.hexdigest()

    @torch.no_grad()
    def forward(
        self,
        video: Tensor,
        frame_mask: Tensor | None = None,
        layers: Sequence[int] = (),
        embed: bool = False,
    ) -> VideoFeatures:
        """Encode `video`; `layers` names hidden layers to return (negative from the end), `embed` asks for embeddings.

        Raises:
            ValueError: a shape, mask or layer that does not fit.
            InputError: `embed` with an encoder that makes no embeddings.
        """
        return self.with_gradients(video, frame_mask, layers, embed)

    def with_gradients(
        self,
        video: Tensor,
        frame_mask: Tensor | None = None,
        layers: Sequence[int] = (),
        embed: bool = False,
    ) -> VideoFeatures:
        """As `forward`, for whoever tunes the encoder: gradients flow to the parameters that want them."""
        if embed and self.embedding_dim is None:
            raise InputError(f"encoder {self.name!r} makes no video embeddings: use a video-text encoder")
        tokens, hidden, embedding = self.model(self._normalize(video), frame_mask, layers, embed)
        return VideoFeatures(tokens, embedding, hidden, self.step_mask(frame_mask))

    def step_mask(self, frame_mask: Tensor | None) -> Tensor | None:
        """The time steps with a real frame, bool (B, T / tubelet), of a mask of frames (B, T)."""
        if frame_mask is None or self.tubelet == 1:
            return frame_mask
        return frame_mask.unflatten(1, (-1, self.tubelet)).any(2)

    def embed_video(self, video: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Video (B, T, 3, H, W) -> unit vectors (B, E)."""
        embedding = self(video, frame_mask, embed=True).embedding
        assert embedding is not None
        return embedding

    @torch.no_grad()
    def encode_spatial(self, video: Tensor) -> Tensor:
        """The half that sees one frame alone: video (B, T, 3, H, W) -> (B, T, N, D).

        Raises:
            InputError: the encoder sees frames together, and has no such half.
        """
        if not self.has_halves:
            raise InputError(f"encoder {self.name!r} sees its frames together: it has no half for single ones")
        return self.model.encode_spatial(self._normalize(video))

    @torch.no_grad()
    def encode_temporal(self, spatial: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """The half that mixes frames: outputs of `encode_spatial` (B, T, N, D) -> tokens (B, T, N, D)."""
        spatial = spatial.to(self.device, self.dtype)
        return self.model.encode_temporal(spatial, frame_mask)

    @torch.no_grad()
    def embed_tokens(self, tokens: Tensor, frame_mask: Tensor | None = None) -> Tensor:
        """Tokens (B, T, N, D) of this encoder -> unit vectors (B, E).

        Raises:
            InputError: the encoder makes no embeddings, or not of its tokens.
        """
        if not self.embeds_tokens:
            raise InputError(f"encoder {self.name!r} makes no embedding of tokens: embed the video")
        return self.model.embed_tokens(tokens.to(self.device, self.dtype), frame_mask)

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """A list of texts -> unit vectors (len(texts), E); texts that are too long are cut, which is said once.

        Raises:
            InputError: the encoder has no text tower, or its tokenizer file is missing.
            ValueError: `texts` is one string.
        """
        if isinstance(texts, str):
            raise ValueError("give a list of texts, not one string")
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("every text must be a string")
        self._require_text()
        if self.tokenizer is None:
            raise InputError(
                f"encoder {self.name!r} came without a tokenizer: put its tokenizer.json or spiece.model (the C4 "
                "English SentencePiece model) beside the weights, or use embed_token_ids"
            )
        rows = []
        for first in range(0, len(texts), _TEXTS_AT_ONCE):
            rows.append(self.embed_token_ids(*self.tokenizer(texts[first : first + _TEXTS_AT_ONCE])))
        return torch.cat(rows) if rows else torch.zeros(0, self.embedding_dim or 0, device=self.device)

    @torch.no_grad()
    def embed_token_ids(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids (B, L) and bool mask (B, L), True = real token -> unit vectors (B, E).

        Raises:
            InputError: the encoder has no text tower.
            ValueError: shapes that do not fit, too many tokens, an id outside the vocabulary.
        """
        self._require_text()
        return self.model.embed_token_ids(ids.to(self.device), mask.to(self.device))

    def _require_text(self) -> None:
        if not self.has_text:
            raise InputError(
                f"encoder {self.name!r} has no text tower: use one that has, "
                "such as google/videoprism-lvt-base-f16r288, a CLIP or a SigLIP model"
            )

    def _normalize(self, video: Tensor) -> Tensor:
        if not video.is_floating_point():
            raise ValueError(f"a video is float RGB in [0, 1], not {video.dtype}: use to_video_tensor")
        if video.ndim != 5 or video.shape[2] != 3:
            raise ValueError(f"a video is (B, T, 3, H, W), not {tuple(video.shape)}")
        video = video.to(self.device)
        mean, std = self.preprocessing.mean, self.preprocessing.std
        if any(mean) or any(value != 1 for value in std):
            shift, scale = (video.new_tensor(values, dtype=torch.float32)[:, None, None] for values in (mean, std))
            video = (video.float() - shift) / scale
        return video.to(self.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Encoder:
        self.fingerprint  # noqa: B018  taken now, while the weights are as they were stored
        return super()._apply(fn, recurse)

    def train(self, mode: bool = True) -> Encoder:
        """A frozen encoder stays in eval mode."""
        return super().train(False)

    def __repr__(self) -> str:
        return (
            f"Encoder({self.name!r}: {self.num_frames} frames of {self.image_size} px, {self.num_layers} layers, "
            f"width {self.dim}, {self.num_parameters / 1e6:.1f} M parameters, "
            f"{'with' if self.has_text else 'no'} text tower, "
            f"{self.dtype}, {self.device})"
        )


def load_encoder(
    source: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    local_files_only: bool = False,
) -> Encoder:
    """Load a frozen encoder.

    `source` is a bundled name (`nano`), a folder in `transformers` format (of one of
    `core_encoder.models.known_encoders.FAMILIES`, or what `save_encoder` wrote), a Flax `.npz` of VideoPrism, a Hub id
    `org/name[@revision]`, or the name of an encoder of another package (`core_encoder.models.plug_ins`).

    Raises:
        InputError: the source is unknown, missing, damaged or of a kind that is not supported.
    """
    encoder = _from_files(source, local_files_only)
    check_finite(dict(encoder.model.named_parameters()), source)
    try:
        target = torch.device(device)
        return encoder if (encoder.device, encoder.dtype) == (target, dtype) else encoder.to(target, dtype)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {str(device)!r} cannot be used: {str(error).splitlines()[0]}") from error


def _from_files(source: str | Path, local_files_only: bool) -> Encoder:
    from core_encoder.files.hub import HUB_ID, download
    from core_encoder.models.checkpoints import folder_kind
    from core_encoder.models.flax_checkpoint import read_npz

    path, name = encoder_path(source), str(source)
    if path is None and HUB_ID.fullmatch(name) is None:
        return load_plugged(name, None)
    if path is None:
        path = download(name, local_files_only)
    else:
        name = path.stem if path.is_file() else path.resolve().name
    if path.is_file():
        checkpoint = read_npz(path)
    else:
        kind = folder_kind(path)
        if kind not in FAMILIES:
            return load_plugged(kind, path)
        module, _, reader = FAMILIES[kind].reader.partition(":")
        checkpoint = getattr(importlib.import_module(f"core_encoder.models.{module}"), reader)(path)
    return Encoder(checkpoint.model, name, checkpoint.preprocessing, checkpoint.tokenizer)


def save_encoder(encoder: Encoder, folder: str | Path) -> Path:
    """Write `encoder` as a folder in `transformers` format: config, safetensors, tokenizer, README.

    `transformers.AutoModel` opens it with the same outputs, and `load_encoder` with the same fingerprint (weights are
    written in the dtype they have, so save before casting). Every file is whole or absent.

    Raises:
        InputError: the disk is full, `transformers` has no class for this model, or it is of another package and cannot
            be written.
    """
    from core_encoder.models.checkpoints import write_folder

    folder = Path(folder).expanduser()
    if isinstance(encoder.model, VideoTextModel):
        write_folder(folder, encoder.model, encoder.tokenizer)
    elif hasattr(encoder.model, "write"):
        encoder.model.write(folder, encoder.preprocessing, encoder.tokenizer)
    else:
        raise InputError(f"encoder {encoder.name!r} cannot be saved: its {type(encoder.model).__name__} has no `write`")
    write_text(folder / "README.md", _card(encoder))
    return folder


def _card(encoder: Encoder) -> str:
    return f"""---
library_name: transformers
tags: [prismhub, video]
---

# {encoder.name}

Frozen video encoder: {encoder.num_frames} frames of {encoder.image_size} x {encoder.image_size} pixels, patches of \
{encoder.patch_size} pixels, {encoder.num_layers} layers of width {encoder.dim}, \
{encoder.num_parameters / 1e6:.1f} M parameters, {"with" if encoder.has_text else "without"} a text tower.

Open it with `core_encoder.load_encoder(folder)` or `transformers.AutoModel.from_pretrained(folder)`.

Fingerprint: `{encoder._fingerprint_now()}`
"""
