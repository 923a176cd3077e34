"""What a saved adapter says about itself: `adapter_config.json` for programs, the `README.md` model card for people."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from core_encoder.config import config_from_dict
from core_encoder.errors import EncoderMismatch, InputError
from core_encoder.features.feature_spec import FeatureSpec
from core_encoder.files.storage import read_json

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CARD_FILE = "README.md"
SCHEMA_VERSION = 1
PIPELINE_TAG = "video-classification"


@dataclass(frozen=True)
class MetricValue:
    """One figure of an evaluation; `n` of `n_total` samples of the split were evaluated, `interval` holds 95 %."""

    name: str
    value: float
    split: str = "val"
    n: int | None = None
    n_total: int | None = None
    interval: tuple[float, float] | None = None

    def __str__(self) -> str:
        interval = f" [{self.interval[0]:.4g}, {self.interval[1]:.4g}]" if self.interval else ""
        return f"{self.name} {self.value:.4g}{interval}"


@dataclass(frozen=True)
class AdapterInfo:
    """Everything a saved adapter records beside its weights.

    `features` names the encoder (with its fingerprint), clip plan, preprocessing and kind of features it was trained
    on; `encoder_source` is what `load_encoder` was given. The first metric is the main one.
    """

    kind: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    dim: int = 0
    label_names: tuple[str, ...] = ()
    features: FeatureSpec | None = None
    encoder_source: str = ""
    task: str = "classification"
    dataset: str = ""
    metrics: tuple[MetricValue, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    license: str = "unknown"
    weights_sha256: str = ""

    @property
    def encoder(self) -> str:
        """The name of the encoder, empty when the adapter was trained on features of unknown origin."""
        return self.features.encoder if self.features else ""

    def check_encoder(self, name: str, fingerprint: str, who: str = "this adapter") -> None:
        """Refuse an encoder the adapter was not trained on.

        Raises:
            EncoderMismatch: the fingerprints differ.
        """
        if self.features and self.features.fingerprint != fingerprint:
            raise EncoderMismatch(
                f"{who} was trained on features of encoder {self.encoder!r} ({self.features.fingerprint[:12]}), "
                f"not of {name!r} ({fingerprint[:12]}): load that encoder, or train an adapter for this one"
            )

    def check_labels(self, expected: Sequence[str], who: str = "this adapter") -> None:
        """Refuse an adapter whose classes are not `expected`, in this order.

        Raises:
            InputError: the class lists differ; the first difference is named.
        """
        if tuple(expected) == self.label_names:
            return
        pairs = zip(self.label_names, expected, strict=False)
        place = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(expected), len(self.label_names)))
        ours, theirs = (
            repr(names[place]) if place < len(names) else "nothing" for names in (self.label_names, tuple(expected))
        )
        raise InputError(
            f"{who} knows {len(self.label_names)} classes, not the {len(expected)} expected: "
            f"class {place} is {ours} instead of {theirs}"
        )

    def to_json(self) -> dict[str, Any]:
        """The content of `adapter_config.json`."""
        whole: dict[str, Any] = {"schema_version": SCHEMA_VERSION} | asdict(self)
        whole["features"] = self.features.describe() if self.features else None
        whole["label_names_sha256"] = _label_digest(self.label_names)
        return json.loads(json.dumps(whole))  # tuples become lists: what a reader will see

    @classmethod
    def from_json(cls, given: Any, where: str = CONFIG_FILE) -> AdapterInfo:
        """Read what `to_json` gave.

        Raises:
            InputError: another schema version, an unknown key, a value of the wrong type, or altered label names.
        """
        if not isinstance(given, dict) or "schema_version" not in given:
            raise InputError(f"{where}: not the configuration of a prismhub adapter (it has no 'schema_version')")
        fields = dict(given)
        if (version := fields.pop("schema_version")) != SCHEMA_VERSION:
            raise InputError(
                f"{where}: schema version {version!r} cannot be read by this prismhub, which reads {SCHEMA_VERSION}; "
                "install the prismhub version the adapter was saved with"
            )
        labels, features = fields.pop("label_names_sha256", None), fields.pop("features", None)
        info = config_from_dict(cls, fields, where)
        if labels != _label_digest(info.label_names):
            raise InputError(f"{where}: the label names are not the ones that were saved (their sha256 differs)")
        return replace(info, features=FeatureSpec.from_dict(features) if features else None)


def read_info(folder: str | Path) -> AdapterInfo:
    """Read the `adapter_config.json` of a saved adapter.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    file = Path(folder) / CONFIG_FILE
    if not file.is_file():
        raise InputError(f"{folder}: no adapter here (there is no {CONFIG_FILE})")
    return AdapterInfo.from_json(read_json(file), str(file))


def current_versions() -> dict[str, str]:
    """The versions an adapter records: Python, prismhub, torch, lightning, numpy."""
    versions = {"python": platform.python_version()}
    for name in ("prismhub", "torch", "lightning", "numpy"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "unknown"
    return versions


def model_card(info: AdapterInfo, name: str) -> str:
    """The `README.md` of a saved adapter: YAML front matter with `model-index`, then use, data, protocol, limits."""
    import yaml

    front: dict[str, Any] = {
        "license": info.license,
        "library_name": "prismhub",
        "base_model": info.encoder or None,
        "datasets": [info.dataset] if info.dataset else None,
        "metrics": sorted({metric.name for metric in info.metrics}) or None,
        "pipeline_tag": PIPELINE_TAG if info.task == "classification" else None,
        "tags": ["prismhub", "video", "frozen-encoder", info.kind],
    }
    if info.metrics:
        front["model-index"] = [{"name": name, "results": [_index_entry(info, split) for split in _splits(info)]}]
    kept = {key: value for key, value in front.items() if value is not None}
    parts = [f"---\n{yaml.safe_dump(kept, sort_keys=False, allow_unicode=True)}---", f"# {name}"]
    parts.append(
        f"A `{info.kind}` adapter for the frozen video encoder `{info.encoder or 'not recorded'}`. "
        "It holds only the head; the encoder is loaded apart and is never changed."
    )
    parts.append(
        "## Use\n\n```python\nfrom adapters import load_adapter\n\n"
        f'adapter = load_adapter("{name}")\nprint(adapter.predict(["video.mp4"])[0].top(5))\n```'
    )
    parts.append(f"## Data\n\nTrained on {info.dataset or 'a data set that was not named'}, task `{info.task}`.")
    if info.label_names:
        shown = ", ".join(info.label_names[:50]) + (", ..." if len(info.label_names) > 50 else "")
        parts.append(f"{len(info.label_names)} classes: {shown}")
    parts.append(f"## Protocol\n\n{_protocol(info)}")
    parts.append(f"## Results\n\n{_results(info)}")
    parts.append(
        "## Limits\n\nThe scores hold for videos like those of the data above, sampled by the protocol above. "
        "A video of none of the classes still gets one of their names."
    )
    return "\n\n".join(parts) + "\n"


def _label_digest(names: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(names), ensure_ascii=False).encode()).hexdigest()


def _splits(info: AdapterInfo) -> list[str]:
    return list(dict.fromkeys(metric.split for metric in info.metrics))


def _index_entry(info: AdapterInfo, split: str) -> dict[str, Any]:
    name = info.dataset or "unnamed"
    return {
        "task": {"type": PIPELINE_TAG, "name": info.task},
        "dataset": {"name": name, "type": name, "split": split},
        "metrics": [
            {"type": metric.name, "name": metric.name, "value": metric.value}
            for metric in info.metrics
            if metric.split == split
        ],
    }


def _protocol(info: AdapterInfo) -> str:
    if info.features is None:
        return "The features' origin was not recorded."
    plan = ", ".join(f"{key} {value}" for key, value in info.features.plan.describe().items())
    size = info.features.preprocessing.image_size
    layers = f" of layers {list(info.features.layers)}" if info.features.layers else ""
    return (
        f"Frozen `{info.features.kind}` features{layers} ({info.features.dtype}) at {size} x {size} px; "
        f"clip plan: {plan}; seed {info.seed}. Scores of several views are averaged as probabilities."
    )


def _results(info: AdapterInfo) -> str:
    if not info.metrics:
        return "Not evaluated."
    rows = ["| metric | split | value | 95 % interval | n evaluated of n |", "| --- | --- | --- | --- | --- |"]
    for metric in info.metrics:
        interval = f"{metric.interval[0]:.4f} to {metric.interval[1]:.4f}" if metric.interval else "not computed"
        of = (
            f"{metric.n} of {metric.n_total}" if metric.n is not None and metric.n_total is not None else "not recorded"
        )
        rows.append(f"| {metric.name} | {metric.split} | {metric.value:.4f} | {interval} | {of} |")
    return "\n".join(rows)
