"""A grid of settings: options of the head and of the training, each setting resolved and checked. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from adapters.training.training_config import TrainingConfig
from core_encoder.config import config_from_dict, config_to_dict
from core_encoder.errors import InputError
from core_encoder.files.storage import nearest

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from adapters.registry import HeadOptions


@dataclass(frozen=True)
class Setting:
    """One point of the grid, resolved: its readable name, what it overrides, and the two configs that result."""

    name: str
    overrides: dict[str, Any]
    head: Any
    training: TrainingConfig


def resolve_settings(
    cls: type[Adapter] | HeadOptions, head: Any, config: TrainingConfig, grid: Sequence[Mapping[str, Any]] = ({},)
) -> tuple[Setting, ...]:
    """Every setting of the grid with its two configs; what `train` will do, to be refused before features are made.

    Raises:
        InputError: an unknown option, a value out of range, or one that cannot vary within a grid.
    """
    base = dict(head or {}) if head is None or isinstance(head, Mapping) else config_to_dict(head)
    free = {
        f.name: owner for owner in (cls.Config, TrainingConfig) for f in fields(owner) if f.metadata.get("grid", True)
    }
    shared = {f.name for owner in (cls.Config, TrainingConfig) for f in fields(owner)} - free.keys()
    settings = []
    for overrides in grid or ({},):
        for name in overrides:
            if name in shared:
                raise InputError(f"grid: {name!r} cannot vary between settings that share one pass over the features")
            if name not in free:
                raise InputError(f"grid: unknown option {name!r}{nearest(name, free)}")
        mine = {name: value for name, value in overrides.items() if free[name] is not TrainingConfig}
        rest = {name: value for name, value in overrides.items() if free[name] is TrainingConfig}
        head_config: Any = config_from_dict(cls.Config, base | mine, cls.kind)
        training = config_from_dict(TrainingConfig, config_to_dict(config) | rest, "training")
        values = {n: getattr(training if free[n] is TrainingConfig else head_config, n) for n in overrides}
        label = " ".join(f"{n}={v:g}" if isinstance(v, float) else f"{n}={v}" for n, v in values.items())
        settings.append(Setting(label or "default", values, head_config, training))
    names = [setting.name for setting in settings]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"grid: setting {sorted(twice)[0]!r} comes twice")
    return tuple(settings)
