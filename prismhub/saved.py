"""Saved adapters as the commands use them: the features they read here, their encoder, and the hub of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from core_encoder.errors import EncoderMismatch, InputError
from fit.device import find_device
from prismhub.features import default_store, open_encoder
from prismhub.progress import Show
from prismhub.settings import PartsSettings, ReadingSettings, RunningSettings

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from adapters.card import AdapterInfo
    from adapters.hub import Hub
    from core_encoder.encoder import Encoder
    from core_encoder.features.feature_spec import FeatureSpec


def recorded_spec(ref: str, info: AdapterInfo, running: RunningSettings, show: Show) -> FeatureSpec:
    """The features an adapter reads: by default in the precision of its training, with the decoder as it is here.

    Raises:
        InputError: it does not record which they are.
    """
    from core_encoder.video.decoders import decoder_id

    spec = info.features
    if spec is None:
        raise InputError(f"adapter {ref!r} does not record which encoder it was trained on; use it on features instead")
    wanted = spec.decoder.partition("-")[0]
    try:
        decoder = decoder_id(wanted)
    except InputError:
        decoder = decoder_id("auto")
        show.note(f"note: trained with decoder {wanted}, which is not installed; using {decoder}")
    return replace(spec, precision=running.encoder_dtype or spec.precision, decoder=decoder)


def shared_specs(
    adapters: Mapping[str, tuple[str, AdapterInfo]], running: RunningSettings, show: Show
) -> dict[str, FeatureSpec]:
    """The features that adapters, given by name as reference and record, read of one encoder.

    Raises:
        InputError: one was trained on another encoder than the first, or in another precision; it is named.
    """
    specs = {name: recorded_spec(ref, info, running, show) for name, (ref, info) in adapters.items()}
    (first, spec), *others = specs.items()
    for name, other in others:
        if adapters[name][1].fingerprint_to_load != adapters[first][1].fingerprint_to_load:
            raise EncoderMismatch(
                f"adapter {name!r} was trained on features of encoder {other.encoder!r} ({other.fingerprint[:12]}), "
                f"adapter {first!r} on those of {spec.encoder!r} ({spec.fingerprint[:12]}): ask them apart"
            )
        if other.precision != spec.precision:
            raise InputError(
                f"adapter {name!r} was trained on features in {other.precision}, adapter {first!r} in "
                f"{spec.precision}: choose one of both with --encoder-dtype"
            )
    if len({one.decoder for one in specs.values()}) > 1:
        show.note(f"note: trained with different decoders; using {spec.decoder}")
    return {name: replace(one, decoder=spec.decoder) for name, one in specs.items()}


def adapter_encoder(adapter: Adapter, running: RunningSettings, spec: FeatureSpec) -> Encoder:
    """The encoder of an adapter, given or where it was in training, with its LoRA; the adapter uses it from now on."""
    adapter.use_encoder(recorded_encoder([adapter.info], running, spec))
    return adapter.find_encoder()


def recorded_encoder(infos: Sequence[AdapterInfo], running: RunningSettings, spec: FeatureSpec) -> Encoder:
    """The encoder that is given, or the first that lies where one of some adapters had it in training.

    Raises:
        InputError: it is not at hand.
    """
    find_device(running.accelerator)
    if running.encoder:
        return open_encoder(running.encoder, running.accelerator, spec.precision)
    problem: InputError | None = None
    for source in dict.fromkeys(info.encoder_to_load for info in infos):
        try:
            return open_encoder(source, running.accelerator, spec.precision)
        except InputError as error:
            problem = problem or error
    raise InputError(f"the adapter's encoder is not at hand ({problem}): say where it lies with --encoder") from problem


def moved_parts(infos: Sequence[AdapterInfo], parts: PartsSettings) -> list[dict[str, str]]:
    """For each adapter what it names and does not hold, with where that lies now: text tower, LLM.

    Raises:
        InputError: a place is given, and no adapter names such a thing.
    """
    given = {one.name: place for one in fields(PartsSettings) if (place := getattr(parts, one.name)) is not None}
    for part in given:
        if not any(part in info.config for info in infos):
            raise InputError(f"{part} means nothing for {infos[0].kind}: it has none")
    return [{part: place for part, place in given.items() if part in info.config} for info in infos]


def open_hub(
    adapters: Mapping[str, tuple[str, AdapterInfo]],
    specs: Mapping[str, FeatureSpec],
    running: RunningSettings,
    reading: ReadingSettings,
    **how: Any,
) -> Hub:
    """Adapters and their encoder, loaded; `specs` are those of `shared_specs`, `how` other arguments of `Hub`."""
    from adapters.hub import Hub
    from adapters.registry import load_adapter

    spec, infos = next(iter(specs.values())), [info for _, info in adapters.values()]
    moved = moved_parts(infos, running)
    encoder = recorded_encoder(infos, running, spec)
    device = str(encoder.device)
    return Hub(
        encoder,
        {
            name: load_adapter(ref, device=device, moved=parts)
            for (name, (ref, _)), parts in zip(adapters.items(), moved, strict=True)
        },
        cache=reading.store or default_store(),
        decoder=spec.decoder.partition("-")[0],
        batch_size=reading.clips_per_batch,
        workers=reading.workers,
        **how,
    )
