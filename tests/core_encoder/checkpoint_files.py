"""Checkpoints for the tests: `transformers` models with random weights, and Flax files in the published layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    VideoPrismClipModel,
    VideoPrismConfig,
    VideoPrismVideoModel,
    VideoPrismVisionConfig,
    VideoPrismVisionModel,
)

TINY: dict[str, Any] = {
    "hidden_size": 24,
    "num_attention_heads": 3,
    "intermediate_size": 40 * 3,
    "num_spatial_layers": 3,
    "num_temporal_layers": 2,
    "num_auxiliary_layers": 2,
    "tubelet_size": [1, 6, 6],
    "image_size": 30,
    "num_frames": 5,
}
TINY_TEXT: dict[str, Any] = {
    "hidden_size": 24,
    "num_attention_heads": 3,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "vocab_size": 90,
    "max_position_embeddings": 64,
}


@torch.no_grad()
def scatter(model: nn.Module, seed: int = 0) -> Any:
    """Random values for every parameter, so that none can be left out unnoticed."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "position" in name or name.endswith(("query", "cls_emb")):
            scale = 0.5
        elif parameter.ndim < 2:
            scale = 0.2
        else:
            scale = parameter[0].numel() ** -0.5
        parameter.normal_(0.0, scale, generator=generator)
    return model.eval()


def vision_model(seed: int = 0, **config: Any) -> VideoPrismVisionModel:
    return scatter(VideoPrismVisionModel(VideoPrismVisionConfig(**{**TINY, **config})), seed)


def video_model(seed: int = 0, **config: Any) -> VideoPrismVideoModel:
    return scatter(VideoPrismVideoModel(VideoPrismVisionConfig(**{**TINY, **config})), seed)


def video_text_model(seed: int = 0, vision: dict[str, Any] = TINY, text: dict[str, Any] = TINY_TEXT) -> Any:
    return scatter(VideoPrismClipModel(VideoPrismConfig(vision_config=vision, text_config=text)), seed)


def clip_model(seed: int = 0, **vision: Any) -> CLIPModel:
    text = {"hidden_size": 20, "intermediate_size": 44, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"vocab_size": 80, "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
    sizes |= {"image_size": 24, "patch_size": 6, **vision}
    return scatter(CLIPModel(CLIPConfig(text_config=text, vision_config=sizes, projection_dim=18)), seed)


def save(model: Any, folder: Path, **options: Any) -> Path:
    model.save_pretrained(str(folder), **options)
    return folder


def flax_arrays(model: Any) -> dict[str, np.ndarray]:
    """The arrays that the JAX code would hold for the weights of a `transformers` VideoPrism model."""
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    video_text = isinstance(model, VideoPrismClipModel)
    vision = "video_model.vision_model." if video_text else ""
    config = model.config.vision_config if video_text else model.config
    arrays: dict[str, Tensor] = {}

    def norm(to: str, prefix: str) -> None:
        arrays[f"{to}/scale"], arrays[f"{to}/bias"] = state[f"{prefix}.weight"], state[f"{prefix}.bias"]

    def attention(to: str, prefix: str, heads: int) -> None:
        for theirs, ours in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
            weight = state[f"{prefix}.{ours}.weight"]
            arrays[f"{to}/{theirs}/w"] = weight.T.reshape(weight.shape[1], heads, -1)
            arrays[f"{to}/{theirs}/b"] = state[f"{prefix}.{ours}.bias"].reshape(heads, -1)
        weight = state[f"{prefix}.o_proj.weight"]
        arrays[f"{to}/post/w"] = weight.reshape(weight.shape[0], heads, -1)
        arrays[f"{to}/post/b"] = state[f"{prefix}.o_proj.bias"]

    def stack(to: str, prefix: str, layers: int, heads: int) -> None:
        each: list[dict[str, Tensor]] = []
        for i in range(layers):
            before = set(arrays)
            here = f"{prefix}.{i}"
            norm("layer_norm", f"{here}.layernorm_before")
            norm("ff_layer/layer_norm", f"{here}.layernorm_after")
            attention("self_attention", f"{here}.attention", heads)
            for number in (1, 2):
                arrays[f"ff_layer/ffn_layer{number}/linear/kernel"] = state[f"{here}.mlp.fc{number}.weight"].T
                arrays[f"ff_layer/ffn_layer{number}/linear/bias"] = state[f"{here}.mlp.fc{number}.bias"]
            each.append({name: arrays.pop(name) for name in set(arrays) - before})
        for name in each[0]:
            arrays[f"{to}/{name}"] = torch.stack([layer[name] for layer in each])

    top = "params/vision_encoder" if video_text else "params"
    patch = state[f"{vision}spatial_embeddings.patch_embeddings.projection.weight"]  # (D, C, 1, p, q)
    arrays[f"{top}/patch_projection/linear/kernel"] = torch.einsum("dcpq->pqcd", patch[:, :, 0]).flatten(0, 2)
    arrays[f"{top}/patch_projection/linear/bias"] = state[
        f"{vision}spatial_embeddings.patch_embeddings.projection.bias"
    ]
    for half in ("spatial", "temporal"):
        arrays[f"{top}/{half}_pos_emb/emb_var"] = state[f"{vision}{half}_embeddings.position_embeddings"][0]
    norm(f"{top}/spatial_ln", f"{vision}layernorm1")
    norm(f"{top}/temporal_ln", f"{vision}layernorm2")
    heads = config.num_attention_heads
    repeat = "transformers_stack/x_layers"
    stack(f"{top}/spatial_encoder/{repeat}", f"{vision}spatial_layers", config.num_spatial_layers, heads)
    stack(f"{top}/temporal_encoder/{repeat}", f"{vision}temporal_layers", config.num_temporal_layers, heads)
    if video_text:
        text = model.config.text_config
        auxiliary = f"params/auxiliary_encoder/{repeat}"
        stack(auxiliary, "video_model.auxiliary_layers", config.num_auxiliary_layers, heads)
        pooler = "params/contrastive_vision_pooler"
        attention(f"{pooler}/pooling_attention", "video_model.head", heads)
        scale = f"{pooler}/pooling_attention/per_dim_scale/per_dim_scale"
        arrays[scale] = state["video_model.head.per_dim_scale"]
        arrays[f"{pooler}/pooling_attention_query"] = state["video_model.head.pooling_attention_query"][0]
        norm(f"{pooler}/pooling_attention_layer_norm", "video_model.head_layernorm")
        arrays["params/text_encoder/token_emb/emb_var"] = state["text_model.embeddings.token_embedding.weight"]
        arrays["params/text_encoder/cls_emb"] = state["text_model.embeddings.cls_emb"]
        norm("params/text_encoder/unimodal_ln", "text_model.layernorm")
        layers = "params/text_encoder/unimodal_transformer/x_layers"
        stack(layers, "text_model.layers", text.num_hidden_layers, text.num_attention_heads)
    return {name: np.ascontiguousarray(tensor.numpy()) for name, tensor in arrays.items()}


def jax_sinusoids(length: int, width: int) -> np.ndarray:
    """The position table of the JAX text tower, by the formula of its code, in float64."""
    count = width // 2
    inverse = np.exp(-np.arange(count) * np.log(10_000.0) / max(count - 1, 1))
    angles = np.arange(length)[:, None] * inverse[None]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def sentencepiece_model(path: Path) -> Path:
    """A small unigram model with the special ids of the C4 one: pad 0, end 1, unknown 2, no begin."""
    import io

    from sentencepiece import SentencePieceTrainer

    words = "the a man woman dog plays drums jumps runs two quartz zebra and over water bottle playing video of."
    sentences = [f"{a} {b} {c}." for a in words.split() for b in words.split()[::2] for c in words.split()[::3]]
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        vocab_size=40,
        model_type="unigram",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
        num_threads=1,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.getvalue())
    return path


def transformers_tokenizer(model: Path) -> Any:
    """The tokenizer that a converted checkpoint carries, made the way the conversion makes it."""
    from transformers.models.videoprism.tokenization_videoprism import VideoPrismTokenizer

    made = VideoPrismTokenizer.convert_to_native_format(vocab_file=str(model), extra_ids=100)
    charsmap = made.get("_spm_precompiled_charsmap")
    return VideoPrismTokenizer(vocab=made["vocab"], extra_ids=100, _spm_precompiled_charsmap=charsmap)
