"""Training on frozen features: one loop for all heads, a grid of settings side by side on one pass over the features.

    result = train("map_classifier", train_set, val_set, label_names=names, run_dir="run", grid=[{"lr": 1e-3}, {}])
    result.best.save_pretrained("my-adapter")

The same call again continues a killed run from its last checkpoint and ends with the same weights; a finished run is
read back without training.
"""

from __future__ import annotations

import functools
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.adapter import Adapter
from adapters.card import AdapterInfo
from adapters.context import Context, TargetSchema
from adapters.features import FeatureDataset, digest_of
from adapters.registry import adapter_kind
from adapters.training.grid import resolve_settings
from adapters.training.training_config import (
    HOW_IT_RUNS,
    MetricFactory,
    ProgressCallback,
    TrainingConfig,
    TrainingDiverged,
)
from adapters.tuning.tune_config import Strategy
from core_encoder.config import config_to_dict
from core_encoder.errors import InputError
from core_encoder.files.storage import check_finite
from fit.claim import Aspect, claim
from fit.run_log import METRICS_FILE

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from adapters.training.training_loop import TrainingRun
    from adapters.tuning.tuned_adapter import Tuning


RUN_FILE = "run.json"
_ASPECTS = (
    *(Aspect(name) for name in ("kind", "dim", "targets", "grid")),
    Aspect("label_names", otherwise="in names or order"),
    Aspect("head", "head"),
    Aspect("training", "training"),
    *(Aspect(name, otherwise="other samples, targets or features") for name in ("train_set", "val_set")),
    Aspect("encoder"),
    Aspect("tuning", "tuning"),
)


@dataclass(frozen=True)
class SettingResult:
    """How one setting of the grid ended; `score` is its best validation score (higher is better), None without one."""

    name: str
    overrides: dict[str, Any]
    score: float | None
    best_epoch: int
    epochs: int
    stopped: str


@dataclass(frozen=True)
class TrainingResult:
    """The best head with its best epoch's weights, all settings from best to worst, and their record by epoch."""

    best: Adapter
    settings: tuple[SettingResult, ...]
    history: tuple[dict[str, Any], ...]
    run_dir: Path

    @property
    def score(self) -> float | None:
        """The validation score of `best`."""
        return self.settings[0].score


def train(
    kind: str | type[Adapter],
    train_set: FeatureDataset,
    val_set: FeatureDataset | None = None,
    *,
    label_names: Sequence[str] = (),
    targets: TargetSchema | None = None,
    head: Any = None,
    config: TrainingConfig | None = None,
    grid: Sequence[Mapping[str, Any]] = ({},),
    run_dir: str | Path,
    metric: MetricFactory | None = None,
    info: AdapterInfo | None = None,
    progress: ProgressCallback | None = None,
    restart: bool = False,
    tuning: Tuning | None = None,
) -> TrainingResult:
    """Train a head on features; the best setting and epoch by validation are kept.

    `targets` is the schema of the targets; `label_names` is short for that of single-label classes. `head` is the
    head's config or a mapping; each setting of `grid` overrides options of the head or of `config`.
    Without `metric` the validation loss decides, without `val_set` the last epoch counts. `info` brings what the saved
    adapter should record of encoder, task and data. With several devices, processes are started: the data sets and
    `metric` must be picklable. Ctrl-C keeps the step it interrupts. With `tuning` the encoder trains, too, and examples
    are frames (`adapters.tuning.frame_examples`).

    Raises:
        InputError: an option, target or feature is wrong, or `run_dir` holds another run (`restart` drops it).
        TrainingDiverged: the loss of every setting became NaN or infinite.
        KeyboardInterrupt: Ctrl-C, with the last step kept.
    """
    from adapters.training.training_loop import CHECKPOINT_FILE, TrainingRun, read_state

    config = config or TrainingConfig()
    cls = adapter_kind(kind) if isinstance(kind, str) else kind
    if len(train_set) == 0:
        raise InputError("there is no sample to train on")
    targets = targets or TargetSchema(cls.target_kind, tuple(label_names))
    settings = resolve_settings(cls, head, config, grid)
    info = info or AdapterInfo()
    dim = tuning.dim if tuning else int(train_set[0].features.shape[-1])
    context = Context(dim, targets, info.features, info.grid, encoder_source=info.encoder_source)
    val_set = () if val_set is None else val_set
    run_dir = Path(run_dir)
    if restart:
        for name in (RUN_FILE, CHECKPOINT_FILE, METRICS_FILE):
            (run_dir / name).unlink(missing_ok=True)
        shutil.rmtree(run_dir / "tensorboard", ignore_errors=True)
    record = {
        "kind": cls.kind,
        "dim": context.dim,
        "targets": targets.kind,
        "label_names": list(targets.label_names),
        "grid": "; ".join(setting.name for setting in settings),
        "head": _by_setting({setting.name: config_to_dict(setting.head) for setting in settings}),
        "training": _by_setting({setting.name: _what_decides(setting.training) for setting in settings}),
        "train_set": digest_of(train_set),
        "val_set": digest_of(val_set),
        "encoder": info.features.fingerprint if info.features else "",
        "tuning": tuning.record if tuning else {},
    }
    claim(run_dir / RUN_FILE, record, _ASPECTS, "use another folder or restart it")
    run = TrainingRun(cls, settings, context, config, train_set, val_set, metric, run_dir, tuning)
    state = read_state(run_dir)
    if state is None or not state.done:
        _launch(run, progress or (lambda now: None))
    return _result(run, info)


def _what_decides(config: TrainingConfig) -> dict[str, Any]:
    return {name: value for name, value in config_to_dict(config).items() if name not in HOW_IT_RUNS}


def _by_setting(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The options of every setting in one mapping: `lr`, or of several `dropout=0.1: lr`."""
    if len(configs) == 1:
        return dict(*configs.values())
    return {f"{name}: {key}": value for name, config in configs.items() for key, value in config.items()}


def _fabric(config: TrainingConfig, strategy: Strategy, devices: int | str, plugins: Any = None) -> Fabric:
    from lightning.fabric import Fabric

    how: Any = "auto"
    if isinstance(devices, int) and devices > 1:
        if strategy == "fsdp":
            from adapters.tuning.tuned_adapter import fsdp_of_tuned

            how = fsdp_of_tuned(config.precision, devices)
        else:
            how = "ddp_find_unused_parameters_true"  # a step need not use everything
    asked = {"accelerator": config.accelerator, "devices": devices, "precision": config.precision}
    try:
        return Fabric(**asked, strategy=how, plugins=plugins)
    except Exception as error:  # Lightning names an unknown or absent device in exceptions of many types
        reason = " ".join(str(error).split())
        raise InputError(f"accelerator {config.accelerator!r} with devices {devices!r}: {reason}") from error


def _launch(run: TrainingRun, progress: ProgressCallback) -> None:
    """Run the loop in this process, or in started ones when there are several devices."""
    from fit.device import OneDevice
    from fit.launch import start, started_outside, work_here

    config = run.config
    strategy: Strategy = run.tuning.config.strategy if run.tuning else "ddp"
    count = 1 if config.devices == 1 else int(_fabric(config, "ddp", config.devices).world_size)
    if run.tuning:
        run.tuning.config.check_devices(count)
    if started_outside():
        fabric = _fabric(config, strategy, count)
        fabric.launch()
        work_here(fabric, run, progress)
    elif count > 1:
        start(run, functools.partial(_fabric, config, strategy), count, progress, (TrainingDiverged,))
    else:
        work_here(OneDevice(config.accelerator, config.precision), run, progress)


def _result(run: Any, info: AdapterInfo) -> TrainingResult:
    """Read the finished run back from its folder."""
    from adapters.training.training_loop import CHECKPOINT_FILE, read_split, read_state

    state = read_state(run.run_dir)
    assert state is not None
    counters = state.candidates
    worth = [-math.inf if c["best_score"] is None else c["best_score"] for c in counters]
    order = sorted(range(len(counters)), key=lambda i: (counters[i]["diverged"], -worth[i]))
    results = [
        SettingResult(
            run.settings[i].name,
            run.settings[i].overrides,
            counters[i]["best_score"],
            counters[i]["best_epoch"],
            counters[i]["epochs"],
            counters[i]["stopped"],
        )
        for i in order
    ]
    file = run.run_dir / CHECKPOINT_FILE
    tensors = read_split(file, len(counters))[order[0]]
    check_finite({n: t for n, t in tensors.items() if n.startswith("best/")}, str(file))
    best = run.build(run.settings[order[0]]).eval()
    if run.tuning is None:  # kinds that train with their encoder keep nothing that would have to be encoded anew
        best.calibrate(run.train_set)  # what it keeps of the training set beside its weights, such as a vocabulary
    best.load_weights({n.removeprefix("best/"): t for n, t in tensors.items() if n.startswith("best/")}, str(file))
    training = run.settings[order[0]].training
    best.described_as(replace(info, training=config_to_dict(training), seed=training.seed))
    return TrainingResult(best.finished(), tuple(results), tuple(state.history), run.run_dir)
