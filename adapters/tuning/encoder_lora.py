"""The LoRA of an encoder: beside the head on disk as PEFT lays it out, in use merged into the encoder's weights.

Reading and merging need torch alone. A merged encoder is as fast as the one it was made of, and shares all weights with
it that LoRA does not touch.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapters.card import ENCODER_LORA_FOLDER
from core_encoder.encoder import Encoder
from core_encoder.errors import InputError
from core_encoder.files.storage import check_finite, read_config_json, read_tensors, write_json, write_tensors
from core_encoder.models.trunk import Trunk, trunk_of

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"  # PEFT's names
_BEFORE, _A, _B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
_PLAIN = {"bias": "none", "use_rslora": False, "use_dora": False, "rank_pattern": {}, "alpha_pattern": {}}


@dataclass(frozen=True)
class EncoderLora:
    """Low-rank changes of linear maps: `weight + alpha / rank * B A`.

    `pairs` maps the name of each map, as a model of `transformers` calls it, to `A (rank, in)` and `B (out, rank)`.
    """

    rank: int
    alpha: float
    pairs: Mapping[str, tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, model: Any, trunk: Trunk) -> EncoderLora:
        """That of a `PeftModel` with one LoRA on the root of a trunk."""
        from peft import get_peft_model_state_dict

        config = model.peft_config["default"]
        pairs: dict[str, tuple[Tensor, Tensor]] = {}
        for name, (down, up) in _pairs(get_peft_model_state_dict(model)).items():
            theirs = trunk.names_of(name)  # several where one map of ours is theirs together: they share A
            parts = up.chunk(len(theirs))
            pairs |= {one: (down.clone(), part.clone()) for one, part in zip(theirs, parts, strict=True)}
        return cls(config.r, float(config.lora_alpha), pairs)

    def fingerprint(self, of_encoder: str) -> str:
        """SHA-256 over the fingerprint of an encoder and these changes of it: the name of the features it makes then.

        Not that of the merged weights, whose last bits depend on the machine.
        """
        about = {"encoder": of_encoder, "rank": self.rank, "alpha": self.alpha}
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        for name, pair in sorted(self.pairs.items()):
            for tensor in pair:
                digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
                digest.update(tensor.contiguous().numpy().tobytes())  # floats on the CPU, as `_pairs` makes them
        return digest.hexdigest()

    def merged_into(self, encoder: Encoder) -> Encoder:
        """A new encoder with the changes; the given one stays as it is.

        Raises:
            InputError: it has no linear map of some name, or one of another shape.
        """
        same = {id(one): nn.Parameter(one.data, requires_grad=False) for one in encoder.model.parameters()}
        model = copy.deepcopy(encoder.model, same)
        trunk, left = trunk_of(model, encoder.name), dict(self.pairs)
        for name, place in trunk.linear_maps().items():
            theirs = trunk.names_of(name)
            if left.keys() & {*theirs}:
                parts = place.weight.float().chunk(len(theirs))
                pairs = [left.pop(one, None) for one in theirs]
                changed = [self._changed(*one) for one in zip(theirs, parts, pairs, strict=True)]
                place.weight = nn.Parameter(torch.cat(changed).to(place.weight.dtype), requires_grad=False)
        if left:
            raise InputError(f"encoder {encoder.name!r} has no linear map {sorted(left)[0]!r}, which this LoRA changes")
        fingerprint = self.fingerprint(encoder.fingerprint)
        return Encoder(model, f"{encoder.name}+lora", encoder.preprocessing, encoder.tokenizer, fingerprint)

    def _changed(self, name: str, weight: Tensor, pair: tuple[Tensor, Tensor] | None) -> Tensor:
        """The weight (out, in) of one map with its change."""
        if pair is None:
            return weight
        down, up = (one.to(weight.device) for one in pair)
        if weight.shape != (len(up), down.shape[1]):
            raise InputError(f"the LoRA of {name!r} does not fit a linear map of shape {tuple(weight.shape)}")
        return weight + (up @ down) * (self.alpha / self.rank)

    def write(self, folder: Path, base: str) -> None:
        """Write it into its folder below that of an adapter, as `PeftModel.from_pretrained` reads it.

        `base` is what the encoder is loaded by that it belongs to.
        """
        target = folder / ENCODER_LORA_FOLDER
        about = {"peft_type": "LORA", "r": self.rank, "lora_alpha": self.alpha, "target_modules": sorted(self.pairs)}
        about |= {"base_model_name_or_path": base, "inference_mode": True, "lora_dropout": 0.0, **_PLAIN}
        write_json(target / _CONFIG, {**about, "fan_in_fan_out": False, "task_type": None})
        tensors: dict[str, Tensor] = {}
        for name, (down, up) in self.pairs.items():
            tensors |= {f"{_BEFORE}{name}{_A}": down.contiguous(), f"{_BEFORE}{name}{_B}": up.contiguous()}
        write_tensors(target / _WEIGHTS, tensors, {"format": "pt"})

    @classmethod
    def read(cls, folder: Path) -> EncoderLora:
        """Read what `write` wrote below the folder of an adapter.

        Raises:
            InputError: files are missing or damaged, not of plain LoRA, or hold NaN.
        """
        source = folder / ENCODER_LORA_FOLDER
        about = read_config_json(source / _CONFIG)
        plain = isinstance(about, dict) and about.get("peft_type") == "LORA"
        if not plain or any(about.get(name, value) != value for name, value in _PLAIN.items()):
            raise InputError(f"{source / _CONFIG}: not the configuration of plain LoRA")
        rank, alpha = about.get("r"), about.get("lora_alpha")
        if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1:
            raise InputError(f"{source / _CONFIG}: rank {rank!r} and alpha {alpha!r} are no numbers of LoRA")
        tensors = read_tensors(source / _WEIGHTS)
        check_finite(tensors, source / _WEIGHTS)
        try:
            pairs = _pairs(tensors)
        except KeyError as error:
            raise InputError(f"{source / _WEIGHTS}: {error.args[0]}") from error
        if any(down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1] for down, up in pairs.values()):
            raise InputError(f"{source / _WEIGHTS}: its pairs are no matrices of one rank")
        return cls(rank, float(alpha), pairs)


def _pairs(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """PEFT's tensors as pairs by the name of their map.

    Raises:
        KeyError: one is not half of a pair.
    """
    pairs = {}
    for name, tensor in tensors.items():
        inner = name.removeprefix(_BEFORE)
        if inner.endswith(_A) and (other := name.removesuffix(_A) + _B) in tensors:
            pairs[inner.removesuffix(_A)] = tensor.detach().cpu().float(), tensors[other].detach().cpu().float()
        elif not (inner.endswith(_B) and name.removesuffix(_B) + _A in tensors):
            raise KeyError(f"{name!r} is not half of a pair of LoRA")
    return pairs
