"""Who speaks of the scenes of an archive: its encoder, which makes their vectors, and its adapters.

What an archive lacks is told from what is recorded; torch is imported where something is encoded or asked.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.card import CONFIG_FILE
from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.errors import EncoderMismatch, InputError
from core_encoder.files.storage import nearest
from core_encoder.models.known_encoders import encoder_path
from prismhub.archive.index_settings import IndexSettings
from prismhub.archive.scenes import NO_VECTOR, AdapterRecord, ArchiveRecord, Finding
from prismhub.features import open_encoder
from prismhub.progress import Show
from prismhub.questions import section_names
from prismhub.saved import moved_parts, recorded_encoder, shared_specs
from prismhub.settings import RunningSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from adapters.adapter import Adapter
    from adapters.card import AdapterInfo
    from adapters.predictions import Prediction
    from core_encoder.encoder import Encoder
    from core_encoder.features.feature_spec import FeatureSpec, Record

ENCODER_SPACE = "encoder"
Records = Mapping["FeatureSpec", Sequence["Record"]]
Loaded = tuple["Encoder", Mapping[str, "Adapter"]]


@dataclass(frozen=True, eq=False)
class SceneAnswers:
    """An encoder and adapters, loaded when first asked, and the features that each of them reads.

    `space` is as in `ArchiveRecord`; `kept` are features that are stored for adapters to come.
    """

    load: Callable[[], Loaded]
    source: str
    space: str
    features: FeatureSpec  # of the vectors
    specs: Mapping[str, FeatureSpec]  # of the adapters
    infos: Mapping[str, AdapterInfo]
    refs: Mapping[str, str]
    kept: tuple[FeatureSpec, ...] = ()

    @cached_property
    def _loaded(self) -> Loaded:
        return self.load()

    @property
    def encoder(self) -> Encoder:
        """The encoder.

        Raises:
            InputError: it is not at hand, or another one than the archive's.
        """
        return self._loaded[0]

    @property
    def adapters(self) -> Mapping[str, Adapter]:
        """The adapters by name, as `encoder`."""
        return self._loaded[1]

    @property
    def all_specs(self) -> list[FeatureSpec]:
        """The features of a scene, those of its vector first."""
        return list(dict.fromkeys([self.features, *self.specs.values(), *self.kept]))

    @property
    def fingerprints(self) -> dict[str, str]:
        """The SHA-256 of the weights of every adapter, by its name."""
        return {name: info.weights_sha256 for name, info in self.infos.items()}

    def record(self, known: ArchiveRecord | None, roots: tuple[str, ...], cuts: Mapping[str, Any]) -> ArchiveRecord:
        """What the archive is to record; features stay as they were described, whichever decoder is installed now."""
        adapters = {
            name: AdapterRecord(self.refs[name], info.kind, info.weights_sha256) for name, info in self.infos.items()
        }
        if known is not None:
            return replace(known, source=self.source, adapters=adapters, roots=roots, cuts=cuts)
        return ArchiveRecord(
            encoder=self.encoder.name,
            fingerprint=self.encoder.fingerprint,
            source=self.source,
            features=self.features.describe(),
            space=self.space,
            width=self._width,
            adapters=adapters,
            roots=roots,
            cuts=cuts,
        )

    def space_digest(self) -> str:
        """Changes with everything that would make another vector of the same scene."""
        about = {name: value for name, value in self.features.describe().items() if name not in ("decoder", "encoder")}
        about["space"] = self.fingerprints.get(self.space, self.space)
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    @property
    def _width(self) -> int:
        if self.space not in ("", ENCODER_SPACE):
            adapter: Any = self.adapters[self.space]
            return int(adapter.embed_text(["a video"]).shape[-1])
        embeds = self.features.kind == "embedding"
        return int((self.encoder.embedding_dim if embeds else self.encoder.dim) or 0)

    def vectors(self, scenes: Sequence[tuple[Clip, Records]], batch_size: int) -> list[NDArray[np.float32]]:
        """The unit vector `(E,)` of every scene."""
        import torch
        from torch.nn.functional import normalize

        if self.space not in ("", ENCODER_SPACE):
            answers: list[Any] = self._ask(self.space, scenes, batch_size)
            return [answer.values.float().numpy() for answer in answers]
        found = []
        for _, records in scenes:
            views = torch.stack([record.values.float() for record in records[self.features]])  # (V, E)
            mean = normalize(normalize(views, dim=-1).mean(0), dim=-1).cpu().numpy()
            found.append(mean if np.isfinite(mean).all() and mean.any() else NO_VECTOR)
        return found

    def findings(self, name: str, scenes: Sequence[tuple[Clip, Records]], batch_size: int) -> list[tuple[Finding, ...]]:
        """What an adapter says of every scene."""
        if name == self.space:
            return [() for _ in scenes]
        return [findings_of(name, answer) for answer in self._ask(name, scenes, batch_size)]

    def _ask(self, name: str, scenes: Sequence[tuple[Clip, Records]], batch_size: int) -> list[Prediction]:
        from adapters.predicting import answer_clips
        from adapters.predictions import Truth

        spec = self.specs[name]
        asked = [(records[spec], Truth(f"{clip.path}:{clip.start_s:g}-{clip.end_s:g}")) for clip, records in scenes]
        return answer_clips(self.adapters[name], asked, batch_size)


def findings_of(adapter: str, answer: Prediction) -> tuple[Finding, ...]:
    """What an archive keeps of an answer: the labels that are the answer, its segments, or its text.

    The score of a text is the likelihood of the whole of it, where the adapter knows that.
    """
    from adapters.predictions import ClassScores, Segments, Text

    if isinstance(answer, ClassScores):
        labels = (answer.above() if answer.multi_label else []) or answer.top(1)
        return tuple(Finding(adapter, label, score) for label, score in labels)
    if isinstance(answer, Segments):
        return tuple(
            Finding(adapter, one.label, one.score, start_s=one.start_s, end_s=one.end_s) for one in answer.shown()
        )
    if isinstance(answer, Text):
        likelihood = 1.0 if answer.score is None else math.exp(min(answer.score, 0.0))
        return (Finding(adapter, score=likelihood, text=answer.text),) if answer.text.strip() else ()
    raise InputError(f"adapter {adapter!r} answers with {type(answer).__name__}, which an archive cannot keep")


def open_answers(settings: IndexSettings, known: ArchiveRecord | None, show: Show) -> SceneAnswers:
    """The encoder and the adapters of an archive: those that it has, and those that the settings name.

    Raises:
        InputError: one is not at hand, was trained on another encoder, or answers about boxes; two spaces of vectors.
    """
    refs = _refs(settings, known)
    infos = {name: _describe(name, ref, settings) for name, ref in refs.items()}
    space = _space_of(infos, known)
    running = RunningSettings(
        encoder=settings.encoder or (known.source if known else None),
        accelerator=settings.accelerator,
        encoder_dtype=settings.encoder_dtype or (known.features["precision"] if known else None),
        text_tower=settings.text_tower,
        llm=settings.llm,
    )
    specs = shared_specs({name: (refs[name], infos[name]) for name in refs}, running, show) if infos else {}
    moved = dict(zip(refs, moved_parts(list(infos.values()), running), strict=True)) if infos else {}
    source = running.encoder or next((info.encoder_to_load for info in infos.values()), "nano")
    source = _lasting_encoder(source) if settings.encoder else source

    def load() -> Loaded:
        return _load(settings, known, refs, infos, specs, moved, running)

    if known is None or source != known.source:
        loaded = load()
        load = lambda: loaded  # noqa: E731
    if known is None:
        encoder = loaded[0]
        if space is None:
            space = ENCODER_SPACE if encoder.has_text and encoder.embedding_dim is not None else ""
        features = specs[space] if space in specs else _new_spec(settings, encoder)
    else:
        for name, info in infos.items():
            info.check_encoder(known.encoder, known.fingerprint, f"adapter {name!r}")
        space = known.space
        features = specs[space] if space in specs else _known_spec(settings, known)
    specs = {name: replace(spec, decoder=features.decoder) for name, spec in specs.items()}
    kept = tuple(
        replace(features, kind=kind, layers=(), dtype="fp16") for kind in settings.keep if kind != features.kind
    )
    return SceneAnswers(load, source, space, features, specs, infos, refs, kept)


def _load(
    settings: IndexSettings,
    known: ArchiveRecord | None,
    refs: Mapping[str, str],
    infos: Mapping[str, AdapterInfo],
    specs: Mapping[str, FeatureSpec],
    moved: Mapping[str, Mapping[str, str]],
    running: RunningSettings,
) -> Loaded:
    from adapters.registry import load_adapter

    if specs:
        encoder = recorded_encoder(list(infos.values()), running, next(iter(specs.values())))
    else:
        encoder = open_encoder(running.encoder or "nano", running.accelerator, running.encoder_dtype or "fp32")
    if known is not None and encoder.fingerprint != known.fingerprint:
        raise EncoderMismatch(
            f"{settings.out}: its vectors are of encoder {known.encoder!r} ({known.fingerprint[:12]}), not of "
            f"{encoder.name!r} ({encoder.fingerprint[:12]}): make another archive for it with --out"
        )
    for name, info in infos.items():
        info.check_encoder(encoder.name, encoder.fingerprint, f"adapter {name!r}")
    adapters = {}
    for name, ref in refs.items():
        adapters[name] = load_adapter(ref, device=str(encoder.device), moved=moved[name])
        adapters[name].use_encoder(encoder)
    return encoder, adapters


def _refs(settings: IndexSettings, known: ArchiveRecord | None) -> dict[str, str]:
    """The adapters of the archive and those that are given, by name; a given one takes the place of its namesake."""
    names = [section_names([ref.partition("@")[0]])[0] for ref in settings.adapter]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise InputError(f"adapter {name!r} is named twice: an archive keeps the answers of each name once")
        if name == ENCODER_SPACE:
            raise InputError(f"an adapter of an archive cannot be called {name!r}: register it under another name")
    before = {} if known is None else {name: one.ref for name, one in known.adapters.items()}
    for name in settings.without:
        if name not in before:
            raise InputError(f"without: the archive has no adapter {name!r}{nearest(name, before)}")
        if known is not None and name == known.space:
            raise InputError(f"without: the vectors of the archive are of {name!r}; make another archive instead")
        del before[name]
    return before | {name: _lasting(ref) for name, ref in zip(names, settings.adapter, strict=True)}


def _describe(name: str, ref: str, settings: IndexSettings) -> AdapterInfo:
    from adapters.registry import describe_adapter

    try:
        info = describe_adapter(ref)
    except InputError as error:
        if ref in map(_lasting, settings.adapter):
            raise
        raise InputError(
            f"adapter {name!r} of the archive is not at hand ({error}): name it with --adapter, or forget its answers "
            f"with --without {name}"
        ) from error
    if info.targets.kind == "boxes":
        raise InputError(f"adapter {name!r} answers about boxes that it is given: an archive has none, leave it out")
    if info.fingerprint_to_load != (info.features.fingerprint if info.features else ""):
        raise InputError(
            f"adapter {name!r} has a LoRA of its own, and an archive encodes every scene once, for all adapters: "
            "ask it by predict, or tune the whole encoder"
        )
    return info


def _space_of(infos: Mapping[str, AdapterInfo], known: ArchiveRecord | None) -> str | None:
    """The adapter whose vectors the archive keeps; None where the encoder decides."""
    spaces = [name for name, info in infos.items() if info.targets.kind == "pairs"]
    if known is not None:
        other = next((name for name in spaces if name != known.space), None)
        if other is not None:
            raise InputError(
                f"adapter {other!r} has a space of its own, and the vectors of this archive are of "
                f"{known.space or 'its video features'}: make another archive for it with --out"
            )
        return known.space
    if len(spaces) > 1:
        raise InputError(
            f"adapters {spaces[0]!r} and {spaces[1]!r} both have a space of vectors: an archive has one; leave one out"
        )
    return spaces[0] if spaces else None


def _known_spec(settings: IndexSettings, known: ArchiveRecord) -> FeatureSpec:
    """The features that the vectors of an archive are made of, with the decoder as it is here."""
    from core_encoder.features.feature_spec import FeatureSpec
    from core_encoder.video.decoders import decoder_id

    spec = FeatureSpec.from_dict(known.features)
    asked = settings.num_frames or spec.plan.num_frames, settings.geometry or spec.preprocessing.geometry
    if asked != (spec.plan.num_frames, spec.preprocessing.geometry):
        raise InputError(
            f"{settings.out}: its vectors are of {spec.plan.num_frames} frames, {spec.preprocessing.geometry}: "
            "leave num_frames and geometry out, or make another archive with --out"
        )
    return replace(spec, decoder=decoder_id(settings.decoder), precision=settings.encoder_dtype or spec.precision)


def _new_spec(settings: IndexSettings, encoder: Encoder) -> FeatureSpec:
    """The features that the vectors of a new archive are made of."""
    from core_encoder.extraction import spec_for

    preprocessing = encoder.preprocessing
    if settings.geometry is not None:
        preprocessing = preprocessing.with_geometry(settings.geometry)
    return spec_for(
        encoder,
        ClipPlan(settings.num_frames or encoder.num_frames),
        kind="clip" if encoder.embedding_dim is None else "embedding",
        preprocessing=preprocessing,
        decoder=settings.decoder,
    )


def _lasting(ref: str) -> str:
    """The reference of an adapter that means the same from another folder."""
    path = Path(ref).expanduser()
    is_folder = path.is_dir() and (os.sep in ref or (path / CONFIG_FILE).exists())
    return os.path.abspath(path) if is_folder else ref  # noqa: PTH100


def _lasting_encoder(source: str) -> str:
    """What an encoder is loaded by, from whichever folder.

    Raises:
        InputError: there is no such encoder.
    """
    path = Path(source).expanduser()
    return os.path.abspath(path) if encoder_path(source) == path else source  # noqa: PTH100
