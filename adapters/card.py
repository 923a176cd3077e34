"""What a saved adapter says about itself: `adapter_config.json` for programs, the `README.md` model card for people."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from adapters.context import TargetSchema
from adapters.scores import Score, Scores
from adapters.task_scores import TaskScores, eval_results, main_first
from core_encoder.config import config_from_dict
from core_encoder.errors import EncoderMismatch, InputError
from core_encoder.features.feature_spec import FeatureSpec
from core_encoder.fields import whole_number
from core_encoder.files.storage import read_config_json

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CARD_FILE = "README.md"
SCHEMA_VERSION = 2
MOST_DIM = 1 << 16  # no encoder is wider; a head for more would be built before its weights could say otherwise
ENCODER_LORA_FOLDER, OWN_ENCODER_FOLDER = "encoder_lora", "encoder"  # where the encoder trained, too
MOVABLE_PARTS = {"text_tower": "text tower", "llm": "language model"}  # those that commands have an option for


@dataclass(frozen=True)
class CardText:
    """What a task family says on the model cards of its adapters."""

    pipeline_tag: str = ""  # the Hub's word for the job, empty where it has none
    answers: str = ""  # what one prediction is, as Python that prints it: `top(5)`
    given: str = ""  # what must be given beside each video, as Python: `{"question": "who?"}`
    averaging: str = ""  # how several views become one answer
    limits: str = ""


@dataclass(frozen=True)
class TunedFrom:
    """That the encoder trained with the head: how, which one it was before, and by which options."""

    how: Literal["lora", "full"]
    encoder: str
    fingerprint: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AdapterInfo:
    """Everything a saved adapter records beside its weights.

    `features` names the encoder (with its fingerprint), clip plan, preprocessing and kind of features it was trained
    on; `encoder_source` is what `load_encoder` was given. `assets` maps the kind's own files to their sha256. With
    `tuned_from`, `features` are those of the tuned encoder: by LoRA, of that of `encoder_source` with the LoRA in the
    adapter's folder; else of the one that lies there whole.
    """

    kind: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    dim: int = 0
    targets: TargetSchema = field(default_factory=TargetSchema)
    grid: tuple[int, int] | None = None
    features: FeatureSpec | None = None
    encoder_source: str = ""
    task: str = "classification"
    dataset: str = ""
    card: CardText = field(default_factory=CardText)
    evaluations: tuple[Scores, ...] = ()
    results: tuple[TaskScores, ...] = ()  # on tasks beside its own data, added later
    tuned_from: TunedFrom | None = None
    blind: Scores | None = None  # those of a twin that sees no video, beside the first evaluation
    training: dict[str, Any] = field(default_factory=dict)
    seed: int | None = None
    created: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    license: str = "unknown"
    weights_sha256: str = ""
    assets: dict[str, str] = field(default_factory=dict)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The classes, in the order of the scores; empty where there are none."""
        return self.targets.label_names

    @property
    def encoder(self) -> str:
        """The name of the encoder, empty when the adapter was trained on features of unknown origin."""
        return self.features.encoder if self.features else ""

    @property
    def encoder_to_load(self) -> str:
        """What `load_encoder` is to be given; of an adapter with LoRA the encoder it was tuned from."""
        return self.encoder_source or (self.tuned_from.encoder if self.tuned_from else self.encoder)

    @property
    def fingerprint_to_load(self) -> str:
        """The fingerprint of that encoder; empty where it is not known."""
        if self.tuned_from is not None and self.tuned_from.how == "lora":
            return self.tuned_from.fingerprint
        return self.features.fingerprint if self.features else ""

    def check_encoder(self, name: str, fingerprint: str, who: str = "this adapter") -> None:
        """Refuse an encoder the adapter was not trained on; with LoRA, the one that it was tuned from will do.

        Raises:
            EncoderMismatch: the fingerprints differ.
        """
        if self.features and fingerprint not in (self.features.fingerprint, self.fingerprint_to_load):
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
        if self.tuned_from is None:
            del whole["tuned_from"]  # what is frozen reads as before
        elif self.tuned_from.how == "full":
            whole["encoder_source"] = ""  # it lies in the folder, wherever that is
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
        version = fields.pop("schema_version")
        if version == 1:
            fields = _from_schema_1(fields)
        elif version != SCHEMA_VERSION:
            raise InputError(
                f"{where}: schema version {version!r} cannot be read by this prismhub, "
                f"which reads 1 to {SCHEMA_VERSION}; install the prismhub version the adapter was saved with"
            )
        labels, features = fields.pop("label_names_sha256", None), fields.pop("features", None)
        info = config_from_dict(cls, {**fields, "features": None}, where)
        whole_number(where, "dim", info.dim, at_least=0, at_most=MOST_DIM)
        if labels != _label_digest(info.label_names):
            raise InputError(f"{where}: the label names are not the ones that were saved (their sha256 differs)")
        try:
            return replace(info, features=FeatureSpec.from_dict(features) if features else None)
        except InputError as error:
            raise InputError(f"{where}: features: {error}") from error


def read_info(folder: str | Path) -> AdapterInfo:
    """Read the `adapter_config.json` of a saved adapter.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    file = Path(folder) / CONFIG_FILE
    if not file.is_file():
        raise InputError(f"{folder}: no adapter here (there is no {CONFIG_FILE})")
    info = AdapterInfo.from_json(read_config_json(file), str(file))
    if info.tuned_from is not None and info.tuned_from.how == "full":
        return replace(info, encoder_source=str((Path(folder) / OWN_ENCODER_FOLDER).absolute()))
    return info


def current_versions() -> dict[str, str]:
    """The versions an adapter records: Python, prismhub, torch, lightning, numpy."""
    versions = {"python": platform.python_version()}
    for name in ("prismhub", "torch", "lightning", "numpy"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "unknown"
    return versions


def model_card(info: AdapterInfo, name: str, parts: Mapping[str, str] | None = None) -> str:
    """The `README.md` of a saved adapter: YAML front matter with `model-index`, then use, data, protocol, limits.

    `parts` are options of the head that name what the folder does not hold (`Adapter.parts_elsewhere`).
    """
    from huggingface_hub import ModelCardData

    results = eval_results(info)
    front = ModelCardData(
        license=info.license,
        library_name="prismhub",
        base_model=(info.tuned_from.encoder if info.tuned_from else info.encoder) or None,
        datasets=[info.dataset] if info.dataset else None,
        metrics=metric_names(info) or None,
        pipeline_tag=info.card.pipeline_tag or None,
        tags=["prismhub", "video", f"{info.tuned_from.how}-tuned" if info.tuned_from else "frozen-encoder", info.kind],
        model_name=name if results else None,
        eval_results=results or None,
    )
    paragraphs = [f"---\n{front.to_yaml()}\n---", f"# {name}"]
    paragraphs.append(_what_it_is(info))
    given = f", given={info.card.given}" if info.card.given else ""
    paragraphs.append(
        "## Use\n\n```python\nfrom adapters import load_adapter\n\n"
        f'adapter = load_adapter("{name}")\n'
        f'print(adapter.predict(["video.mp4"]{given})[0].{info.card.answers or "describe()"})\n```'
    )
    paragraphs += [_part_elsewhere(name, option, place) for option, place in (parts or {}).items()]
    paragraphs.append(f"## Data\n\nTrained on {info.dataset or 'a data set that was not named'}, task `{info.task}`.")
    if info.label_names:
        shown = ", ".join(info.label_names[:50]) + (", ..." if len(info.label_names) > 50 else "")
        paragraphs.append(f"{len(info.label_names)} classes: {shown}")
    paragraphs.append(f"## Protocol\n\n{_protocol(info)}")
    paragraphs.append(results_section(info))
    limits = "The scores hold for videos like those of the data above, sampled by the protocol above."
    paragraphs.append(f"## Limits\n\n{' '.join(part for part in (limits, info.card.limits) if part)}")
    return "\n\n".join(paragraphs) + "\n"


def _what_it_is(info: AdapterInfo) -> str:
    tuned = info.tuned_from
    if tuned is None:
        return (
            f"A `{info.kind}` adapter for the frozen video encoder `{info.encoder or 'not recorded'}`. "
            "It holds only the head; the encoder is loaded apart and is never changed."
        )
    listed = {name: " and ".join(one) if isinstance(one, list) else one for name, one in tuned.options.items()}
    options = ", ".join(f"{name} {value or 'none'}" for name, value in listed.items() if name != "tune")
    if tuned.how == "lora":
        kept = (
            f"The folder holds the head and, in `{ENCODER_LORA_FOLDER}/` in PEFT's layout, the LoRA of the encoder, "
            "which is loaded apart."
        )
    else:
        kept = f"The folder holds the head and, in `{OWN_ENCODER_FOLDER}/`, the encoder that it was trained with."
    return (
        f"A `{info.kind}` adapter that was trained together with its video encoder, which began as `{tuned.encoder}` "
        f"({tuned.how}: {options}). {kept}"
    )


def metric_names(info: AdapterInfo) -> list[str]:
    """The metrics of which the adapter has scores, by name."""
    judged = (*info.evaluations, *(one.scores for one in info.results))
    return sorted({metric for scores in judged for metric in scores.values})


def results_section(info: AdapterInfo) -> str:
    """The section of a model card that holds every score."""
    paragraphs = ["## Results", _results(info)]
    if info.results:
        rows = ["| task | metric | split | value | 95 % interval | n evaluated of n | protocol |", "|" + " --- |" * 7]
        for one in info.results:
            for name, score in main_first(one.scores):
                cells = [one.task, name, one.scores.split, f"{score.value:.4f}", _interval(score), _count(one.scores)]
                rows.append(f"| {' | '.join([*cells, one.protocol])} |")
        paragraphs += ["On other data, and judged again:", "\n".join(rows)]
    return "\n\n".join(paragraphs)


def _part_elsewhere(name: str, option: str, place: str) -> str:
    """What the adapter needs and does not hold, and how to say where it lies."""
    known = MOVABLE_PARTS.get(option)
    in_a_command = f", in a command by `--{option.replace('_', '-')} PLACE`" if known else ""
    return (
        f"Its {known or option} `{place}` is loaded apart too. Where it lies elsewhere, say so: in Python by "
        f'`load_adapter("{name}", moved={{"{option}": "PLACE"}})`{in_a_command}.'
    )


def _from_schema_1(fields: dict[str, Any]) -> dict[str, Any]:
    """What version 1 wrote: classes only, scores as a list of metrics with their split."""
    config, metrics = fields.get("config") or {}, fields.pop("metrics", None) or ()
    names = fields.pop("label_names", ())
    fields["targets"] = {"label_names": names, "multi_label": bool(config.get("multi_label"))}
    by_split: dict[str, list[dict[str, Any]]] = {}
    for metric in metrics:
        by_split.setdefault(metric.get("split", ""), []).append(metric)
    fields["evaluations"] = [
        {
            "split": split,
            "main_metric": several[0]["name"],
            "n_evaluated": several[0].get("n") or 0,
            "n_total": several[0].get("n_total") or 0,
            "values": {one["name"]: _score_of_schema_1(one) for one in several},
        }
        for split, several in by_split.items()
    ]
    return fields


def _score_of_schema_1(metric: dict[str, Any]) -> dict[str, Any]:
    low, high = metric.get("interval") or (None, None)
    return {"value": metric["value"], "low": low, "high": high}


def _label_digest(names: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(names), ensure_ascii=False).encode()).hexdigest()


def _protocol(info: AdapterInfo) -> str:
    if info.features is None:
        return "The features' origin was not recorded."
    plan = ", ".join(f"{key} {value}" for key, value in info.features.plan.describe().items())
    size = info.features.preprocessing.image_size
    layers = f" of layers {list(info.features.layers)}" if info.features.layers else ""
    state = "Tuned" if info.tuned_from else "Frozen"
    sentence = (
        f"{state} `{info.features.kind}` features{layers} ({info.features.dtype}) at {size} x {size} px; "
        f"clip plan: {plan}; seed {info.seed}."
    )
    return f"{sentence} {info.card.averaging}".rstrip()


def _results(info: AdapterInfo) -> str:
    if not info.evaluations:
        return "Not evaluated."
    titles = ["metric", "split", "value", "95 % interval", "n evaluated of n"]
    titles += ["blind twin, which sees no video"] if info.blind else []
    rows = [f"| {' | '.join(titles)} |", "|" + " --- |" * len(titles)]
    for number, scores in enumerate(info.evaluations):
        for name, score in main_first(scores):
            row = [name, scores.split, f"{score.value:.4f}", _interval(score), _count(scores)]
            if info.blind:
                twin = None if number else info.blind.values.get(name)
                row.append(f"{twin.value:.4f}" if twin else "")
            rows.append(f"| {' | '.join(row)} |")
    return "\n".join(rows)


def _interval(score: Score) -> str:
    ends = score.interval
    return f"{ends[0]:.4f} to {ends[1]:.4f}" if ends else "not computed"


def _count(scores: Scores) -> str:
    return f"{scores.n_evaluated} of {scores.n_total}" if scores.n_total else "not recorded"
