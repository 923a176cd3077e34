"""`prismhub encode`: videos into the feature store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.encoding import encode_missing, state_size
from prismhub.clips import find_clips
from prismhub.features import check_encoding, feature_spec, open_encoder, reading_of
from prismhub.progress import SILENT, Show
from prismhub.settings import EncodeSettings

if TYPE_CHECKING:
    from core_encoder.extraction import ExtractionReport
    from core_encoder.features.estimate import Estimate


@dataclass(frozen=True)
class Encoded:
    """What `encode` did: a report, or after a dry run the estimates alone, one a kind."""

    estimates: tuple[Estimate, ...]
    report: ExtractionReport | None


def encode(settings: EncodeSettings, show: Show = SILENT) -> Encoded:
    """Encode videos into the feature store: every kind that is asked for in one pass.

    Raises:
        InputError: no video, an unknown encoder, or the features do not fit on the disk.
    """
    clips = find_clips(settings.videos)
    settings.cluster.check()
    check_encoding(settings.encoding)
    encoder = open_encoder(settings.encoding.encoder, settings.accelerator, settings.encoding.encoder_dtype)
    specs = [feature_spec(encoder, settings.encoding, kind, settings.encoding.layers) for kind in settings.kind]
    reading = reading_of(settings.reading, settings.cluster)
    if settings.dry_run:
        return Encoded(tuple(state_size(encoder, clips, spec, reading.root) for spec in specs), None)
    return Encoded((), encode_missing(encoder, clips, specs, reading, show, settings.failures))
