"""The Flax `.npz` files that VideoPrism was published in: the architecture is read from the shapes of the arrays.

Names are joined by `/` under `params/`; the layers of a stack lie on axis 0; attention weights are (width, heads,
head width) for query, key, value and also for `post`, which maps heads x head width back to the width.
"""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core_encoder.errors import InputError
from core_encoder.models.checkpoints import Checkpoint, assign, build
from core_encoder.models.model_configs import TextConfig, VideoHeadConfig, VideoTextConfig, ViViTConfig
from core_encoder.models.text_tower import TextTokenizer, sinusoids
from core_encoder.models.transformers_format import Source
from core_encoder.models.video_text import VideoTextModel
from core_encoder.preprocessing import Preprocessing

_STACK = "transformers_stack/x_layers/"
_POOLER = "params/contrastive_vision_pooler/"
_TEXT = "params/text_encoder/"
_STACKS = {
    "vision.spatial_layers": f"spatial_encoder/{_STACK}",  # below the prefix of the encoder, as the next
    "vision.temporal_layers": f"temporal_encoder/{_STACK}",
    "video_head.auxiliary_layers": f"params/auxiliary_encoder/{_STACK}",
    "text_tower.layers": f"{_TEXT}unimodal_transformer/x_layers/",
}
_MAPS = {
    "norm1": "layer_norm",
    "norm2": "ff_layer/layer_norm",
    "fc1": "ff_layer/ffn_layer1/linear",
    "fc2": "ff_layer/ffn_layer2/linear",
    "vision.patch_projection": "patch_projection/linear",
    "vision.spatial_norm": "spatial_ln",
    "vision.temporal_norm": "temporal_ln",
    "video_head.norm": f"{_POOLER}pooling_attention_layer_norm",
    "text_tower.norm": f"{_TEXT}unimodal_ln",
}
_PROJECTIONS = {
    "qkv": ("self_attention/", ("query", "key", "value")),
    "out": ("self_attention/", ("post",)),
    "video_head.pooling.q": (f"{_POOLER}pooling_attention/", ("query",)),
    "video_head.pooling.k": (f"{_POOLER}pooling_attention/", ("key",)),
    "video_head.pooling.v": (f"{_POOLER}pooling_attention/", ("value",)),
    "video_head.pooling.o": (f"{_POOLER}pooling_attention/", ("post",)),
}
_VALUES = {
    "vision.spatial_positions": "spatial_pos_emb/emb_var",
    "vision.temporal_positions": "temporal_pos_emb/emb_var",
    "video_head.pooling.query": f"{_POOLER}pooling_attention_query",
    "video_head.pooling.per_dim_scale": f"{_POOLER}pooling_attention/per_dim_scale/per_dim_scale",
    "text_tower.token_embedding.weight": f"{_TEXT}token_emb/emb_var",
    "text_tower.class_embedding": f"{_TEXT}cls_emb",
    "text_tower.positions": "positions",  # in no file: it is fixed
}


def read_npz(path: Path) -> Checkpoint:
    """Read a Flax checkpoint; a SentencePiece model beside it becomes the tokenizer of the text tower.

    Raises:
        InputError: the file is damaged, pickled, or not a VideoPrism checkpoint.
    """
    tensors = _read_arrays(path)
    prefix = (
        "params/vision_encoder/" if "params/vision_encoder/patch_projection/linear/kernel" in tensors else "params/"
    )
    try:
        config = _architecture(tensors, prefix)
    except (KeyError, ValueError) as error:
        reason = f"no array {error.args[0]}" if isinstance(error, KeyError) else error
        raise InputError(f"{path}: not a VideoPrism checkpoint: {reason}") from error
    model = build(config)
    text = config.text
    if text is not None:
        tensors["positions"] = sinusoids(text.max_length, text.width)
    assign(model, _sources(model, prefix), tensors, set(), path)
    tokenizer = None if text is None else TextTokenizer.find(path.parent, text.vocab_size, text.max_length)
    return Checkpoint(model, Preprocessing(config.vision.image_size), tokenizer)


def _read_arrays(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: not a whole .npz file of plain arrays ({' '.join(str(error).split())})") from error
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            raise InputError(f"{path}: array {name} holds {array.dtype}, not floating-point numbers")
    return {name: torch.from_numpy(array.astype(np.float32, copy=False)) for name, array in arrays.items()}


def _architecture(tensors: Mapping[str, Tensor], prefix: str) -> VideoTextConfig:
    def shape(name: str, axes: int) -> tuple[int, ...]:
        found = tuple(tensors[name].shape)
        if len(found) != axes:
            raise ValueError(f"array {name} has shape {found}, not {axes} axes")
        return found

    def stack(where: str) -> tuple[int, int, int]:
        """Layers, heads and width of the MLP of a stack."""
        layers, _, heads, _ = shape(f"{where}self_attention/query/w", 4)
        return layers, heads, shape(f"{where}ff_layer/ffn_layer1/linear/kernel", 3)[2]

    pixels, width = shape(f"{prefix}patch_projection/linear/kernel", 2)
    places = shape(f"{prefix}spatial_pos_emb/emb_var", 2)[0]
    patch, grid = math.isqrt(pixels // 3), math.isqrt(places)
    if 3 * patch**2 != pixels or grid**2 != places:
        raise ValueError(f"patches of {pixels} numbers on {places} places: only square ones are supported")
    spatial_layers, heads, mlp_dim = stack(prefix + _STACKS["vision.spatial_layers"])
    vision = ViViTConfig(
        width=width,
        heads=heads,
        mlp_dim=mlp_dim,
        spatial_layers=spatial_layers,
        temporal_layers=stack(prefix + _STACKS["vision.temporal_layers"])[0],
        patch_size=patch,
        image_size=grid * patch,
        num_frames=shape(f"{prefix}temporal_pos_emb/emb_var", 2)[0],
    )
    if prefix == "params/":
        return VideoTextConfig(vision)
    auxiliary = _STACKS["video_head.auxiliary_layers"] + "self_attention/query/w"
    _, pooling_heads, head_width = shape(f"{_POOLER}pooling_attention/key/w", 3)
    head = VideoHeadConfig(shape(auxiliary, 4)[0] if auxiliary in tensors else 0, pooling_heads * head_width)
    layers, heads, mlp_dim = stack(_STACKS["text_tower.layers"])
    vocabulary, width = shape(_VALUES["text_tower.token_embedding.weight"], 2)
    return VideoTextConfig(vision, head, TextConfig(vocabulary, width, heads, mlp_dim, layers))


def _sources(model: VideoTextModel, prefix: str) -> dict[str, Source]:
    """Our tensor names -> where the file keeps them."""
    vision, text = model.config.vision, model.config.text
    depths = {"vision.spatial_layers": vision.spatial_layers, "vision.temporal_layers": vision.temporal_layers}
    depths["video_head.auxiliary_layers"] = model.config.video_head.auxiliary_layers if model.config.video_head else 0
    depths["text_tower.layers"] = text.layers if text else 0
    sources = {}
    for name, tensor in model.state_dict().items():
        shape = tuple(tensor.shape)
        heads = text.heads if text and name.startswith("text_tower.") else vision.heads
        if in_stack := re.fullmatch(r"([\w.]*layers)\.(\d+)\.(\w+)\.(weight|bias)", name):
            stack, layer, stem, leaf = in_stack.groups()
            source = _map_source(stem, leaf, shape, heads, vision.patch_size)
            names = tuple(_STACKS[stack] + path for path in source.names)
            source = replace(source, names=names, shape=(depths[stack], *source.shape), layer=int(layer))
        elif name in _VALUES:
            source = Source((_VALUES[name],), shape[1:] if name == "video_head.pooling.query" else shape)
        else:
            stem, leaf = name.rsplit(".", 1)
            source = _map_source(stem, leaf, shape, heads, vision.patch_size)
        if name.startswith("vision."):
            source = replace(source, names=tuple(prefix + path for path in source.names))
        sources[name] = source
    return sources


def _map_source(stem: str, leaf: str, shape: tuple[int, ...], heads: int, patch_size: int) -> Source:
    """A weight or bias of one norm, linear map or attention projection; `shape` is that of ours."""
    if stem in _PROJECTIONS:
        where, which = _PROJECTIONS[stem]
        names = tuple(f"{where}{name}/{'w' if leaf == 'weight' else 'b'}" for name in which)
        rows = shape[0] // len(names)
        if which == ("post",):  # from heads x head width back to the width
            if leaf == "bias":
                return Source(names, shape)
            return Source(names, (rows, heads, shape[1] // heads), convert=lambda part: part.flatten(1))
        if leaf == "bias":
            return Source(names, (heads, rows // heads), convert=torch.flatten)
        return Source(names, (shape[1], heads, rows // heads), convert=lambda part: part.flatten(1).T)
    where = _MAPS[stem]
    if "norm" in stem:
        return Source((f"{where}/{'scale' if leaf == 'weight' else 'bias'}",), shape)
    if leaf == "bias":
        return Source((f"{where}/bias",), shape)
    if stem == "vision.patch_projection":  # pixels are (row, column, channel) there, (channel, row, column) here

        def channels_first(kernel: Tensor) -> Tensor:
            return kernel.unflatten(0, (patch_size, patch_size, 3)).permute(3, 2, 0, 1).flatten(1)  # (D, 3*p*p)

        return Source((f"{where}/kernel",), shape[::-1], convert=channels_first)
    return Source((f"{where}/kernel",), shape[::-1], convert=torch.t)
