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
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from core_encoder.checkpoints import Checkpoint, Source, assign, build
from core_encoder.contrastive import VideoHeadConfig, VideoTextConfig, VideoTextModel
from core_encoder.errors import InputError
from core_encoder.text_tower import TextConfig, TextTokenizer
from core_encoder.video import Preprocessing
from core_encoder.vivit import ViViTConfig

_STACK = "transformers_stack/x_layers/"
_POOLER = "params/contrastive_vision_pooler/"
_STACKS = {"spatial_layers": f"spatial_encoder/{_STACK}", "temporal_layers": f"temporal_encoder/{_STACK}"}
_STACKS |= {"auxiliary_layers": f"params/auxiliary_encoder/{_STACK}"}
_STACKS |= {"layers": "params/text_encoder/unimodal_transformer/x_layers/"}
_LEAVES = {"norm1": "layer_norm", "norm2": "ff_layer/layer_norm"}
_LEAVES |= {"fc1": "ff_layer/ffn_layer1/linear", "fc2": "ff_layer/ffn_layer2/linear"}
_LEAVES |= {"patch_projection": "patch_projection/linear", "spatial_norm": "spatial_ln", "temporal_norm": "temporal_ln"}
_ALONE = {
    "video_head.pooling.query": f"{_POOLER}pooling_attention_query",
    "video_head.pooling.per_dim_scale": f"{_POOLER}pooling_attention/per_dim_scale/per_dim_scale",
    "video_head.norm.weight": f"{_POOLER}pooling_attention_layer_norm/scale",
    "video_head.norm.bias": f"{_POOLER}pooling_attention_layer_norm/bias",
    "text_tower.token_embedding.weight": "params/text_encoder/token_emb/emb_var",
    "text_tower.class_embedding": "params/text_encoder/cls_emb",
    "text_tower.norm.weight": "params/text_encoder/unimodal_ln/scale",
    "text_tower.norm.bias": "params/text_encoder/unimodal_ln/bias",
}
_POOLING = {"q": "query", "k": "key", "v": "value", "o": "post"}


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
    if model.text_tower is not None and text is not None:  # the file holds no position table: it is fixed
        from core_encoder.text_tower import sinusoids

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
    spatial_layers, heads, mlp_dim = stack(prefix + _STACKS["spatial_layers"])
    vision = ViViTConfig(
        width=width,
        heads=heads,
        mlp_dim=mlp_dim,
        spatial_layers=spatial_layers,
        temporal_layers=stack(prefix + _STACKS["temporal_layers"])[0],
        patch_size=patch,
        image_size=grid * patch,
        num_frames=shape(f"{prefix}temporal_pos_emb/emb_var", 2)[0],
    )
    if prefix == "params/":
        return VideoTextConfig(vision)
    auxiliary = _STACKS["auxiliary_layers"] + "self_attention/query/w"
    _, pooling_heads, head_width = shape(f"{_POOLER}pooling_attention/key/w", 3)
    head = VideoHeadConfig(shape(auxiliary, 4)[0] if auxiliary in tensors else 0, pooling_heads * head_width)
    layers, heads, mlp_dim = stack(_STACKS["layers"])
    vocabulary, width = shape("params/text_encoder/token_emb/emb_var", 2)
    return VideoTextConfig(vision, head, TextConfig(vocabulary, width, heads, mlp_dim, layers))


def _sources(model: VideoTextModel, prefix: str) -> dict[str, Source]:
    """Our tensor names -> where the file keeps them."""
    config = model.config
    text_heads = config.text.heads if config.text is not None else 1
    layers_of = {
        "spatial_layers": config.vision.spatial_layers,
        "temporal_layers": config.vision.temporal_layers,
        "auxiliary_layers": config.video_head.auxiliary_layers if config.video_head is not None else 0,
        "layers": config.text.layers if config.text is not None else 0,
    }
    return {
        name: _source(name, tuple(tensor.shape), prefix, config.vision, text_heads, layers_of)
        for name, tensor in model.state_dict().items()
    }


def _source(
    name: str, shape: tuple[int, ...], prefix: str, vision: ViViTConfig, text_heads: int, layers_of: Mapping[str, int]
) -> Source:
    if name == "text_tower.positions":
        return Source(("positions",), shape)
    if name in _ALONE:
        return Source((_ALONE[name],), shape[1:] if name.endswith("pooling.query") else shape)
    if name.endswith("_positions"):
        return Source((f"{prefix}{name.split('.')[1].split('_')[0]}_pos_emb/emb_var",), shape)
    part, rest = name.split(".", 1)
    heads = text_heads if part == "text_tower" else vision.heads
    if pooling := re.fullmatch(r"pooling\.([qkvo])\.(weight|bias)", rest):
        which, leaf = _POOLING[pooling[1]], pooling[2]
        return _attention(f"{_POOLER}pooling_attention/", (which,), leaf, shape, heads, None, None)
    if not (in_layer := re.fullmatch(r"(\w*layers)\.(\d+)\.(\w+)\.(weight|bias)", rest)):
        stem, leaf = rest.split(".")
        return _plain(f"{prefix}{_LEAVES[stem]}/", stem, leaf, shape, None, None, vision.patch_size)
    stack, layer, stem, leaf = in_layer[1], int(in_layer[2]), in_layer[3], in_layer[4]
    where = (prefix if part == "vision" else "") + _STACKS[stack]
    depth = layers_of[stack]
    if stem in ("qkv", "out"):
        names = ("query", "key", "value") if stem == "qkv" else ("post",)
        return _attention(f"{where}self_attention/", names, leaf, shape, heads, layer, depth)
    return _plain(f"{where}{_LEAVES[stem]}/", stem, leaf, shape, layer, depth, vision.patch_size)


def _attention(
    where: str,
    names: tuple[str, ...],
    leaf: str,
    shape: tuple[int, ...],
    heads: int,
    layer: int | None,
    depth: int | None,
) -> Source:
    """A projection to heads, or `post` back from them; `shape` is that of our weight or bias."""
    stacked = () if depth is None else (depth,)
    rows = shape[0] // len(names)
    paths = tuple(f"{where}{name}/{'w' if leaf == 'weight' else 'b'}" for name in names)
    if names == ("post",):
        split = (rows, heads, shape[1] // heads) if leaf == "weight" else (rows,)
        return Source(paths, stacked + split, layer, lambda part: part.flatten(1) if part.ndim > 1 else part)
    if leaf == "bias":
        return Source(paths, (*stacked, heads, rows // heads), layer, torch.flatten)
    return Source(paths, (*stacked, shape[1], heads, rows // heads), layer, lambda part: part.flatten(1).T)


def _plain(
    where: str, stem: str, leaf: str, shape: tuple[int, ...], layer: int | None, depth: int | None, patch_size: int
) -> Source:
    """A norm or a linear map, whose kernel is (in, out); patch pixels are (row, column, channel)."""
    stacked = () if depth is None else (depth,)
    if "norm" in stem:
        return Source((where + ("scale" if leaf == "weight" else "bias"),), stacked + shape, layer)
    if leaf == "bias":
        return Source((f"{where}bias",), stacked + shape, layer)
    if stem != "patch_projection":
        return Source((f"{where}kernel",), stacked + shape[::-1], layer, torch.t)

    def channels_first(kernel: Tensor) -> Tensor:
        return kernel.unflatten(0, (patch_size, patch_size, 3)).permute(3, 2, 0, 1).flatten(1)  # (D, 3*p*p)

    return Source((f"{where}kernel",), shape[::-1], layer, channels_first)
