"""Saved adapters as the commands use them: the features they read here, and their encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from core_encoder.errors import InputError
from fit.device import find_device
from prismhub.features import open_encoder
from prismhub.progress import Show
from prismhub.settings import SavedAdapterSettings

if TYPE_CHECKING:
    from adapters.adapter import Adapter
    from adapters.card import AdapterInfo
    from core_encoder.encoder import Encoder
    from core_encoder.features.feature_spec import FeatureSpec


def recorded_spec(info: AdapterInfo, settings: SavedAdapterSettings, show: Show) -> FeatureSpec:
    """The features an adapter reads: by default in the precision of its training, with the decoder as it is here."""
    from core_encoder.video.decoders import decoder_id

    spec = info.features
    if spec is None:
        raise InputError(
            f"adapter {settings.adapter!r} does not record which encoder it was trained on; use it on features instead"
        )
    wanted = spec.decoder.partition("-")[0]
    try:
        decoder = decoder_id(wanted)
    except InputError:
        decoder = decoder_id("auto")
        show.note(f"note: trained with decoder {wanted}, which is not installed; using {decoder}")
    return replace(spec, precision=settings.encoder_dtype or spec.precision, decoder=decoder)


def adapter_encoder(adapter: Adapter, settings: SavedAdapterSettings, spec: FeatureSpec) -> Encoder:
    """The encoder of an adapter, given or where it was in training; the adapter uses it from now on."""
    find_device(settings.accelerator)
    source = settings.encoder or adapter.info.encoder_source or adapter.info.encoder
    try:
        encoder = open_encoder(source, settings.accelerator, spec.precision)
    except InputError as error:
        if settings.encoder:
            raise
        raise InputError(f"the adapter's encoder is not at hand ({error}): say where it lies with --encoder") from error
    adapter.use_encoder(encoder)
    return encoder
