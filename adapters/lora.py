"""LoRA on a model, by `peft`: fresh, or as saved in PEFT's own layout.

Source: Hu et al., arXiv 2106.09685; alpha is twice the rank unless it is given.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

LORA_FOLDER = "lora"


def with_lora(
    model: Any, rank: int, targets: Sequence[str] | str, saved: Path | None = None, alpha: float | None = None
) -> Any:
    """The model with LoRA on the linear maps `targets`, all of them for `all-linear`; `saved` is a folder of PEFT's."""
    from peft import LoraConfig, PeftModel, get_peft_model

    with warnings.catch_warnings():  # of what `peft` asks `transformers`
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        if saved is not None:
            return PeftModel.from_pretrained(model, str(saved), is_trainable=True)
        named = targets if isinstance(targets, str) else list(targets)
        config = LoraConfig(r=rank, lora_alpha=2 * rank if alpha is None else alpha, target_modules=named)
        return get_peft_model(model, config)


def save_lora(model: Any, folder: Path, base: str) -> None:
    """Write the LoRA of a model into `folder`, as PEFT reads it; `base` names the model that it belongs to."""
    for config in model.peft_config.values():
        config.base_model_name_or_path = base
    own: Any = getattr(model.get_base_model(), "config", None)
    if hasattr(own, "_name_or_path"):  # of `transformers`, whose name PEFT's card gives
        own._name_or_path = base
    model.save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)
