"""`prismhub encode`: videos into the feature store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from benchmarks.corpus_cost import corpus_cost
from benchmarks.encoding import encode_missing, state_size
from prismhub.clips import find_clips
from prismhub.features import check_encoding, feature_spec, open_encoder, reading_of
from prismhub.printing import print_json, print_table
from prismhub.progress import SILENT, Show
from prismhub.settings import EncodeSettings

if TYPE_CHECKING:
    from benchmarks.corpus_cost import CorpusCost
    from core_encoder.extraction import ExtractionReport
    from core_encoder.features.estimate import Estimate
    from core_encoder.features.failures import Failure


@dataclass(frozen=True)
class Encoded:
    """What `encode` did: a report, or after a dry run the estimates, one a kind, and what a corpus would take."""

    estimates: tuple[Estimate, ...]
    report: ExtractionReport | None
    corpus: CorpusCost | None = None


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
        sizes = tuple(state_size(encoder, clips, spec, reading.root) for spec in specs)
        given = settings.corpus
        return Encoded(sizes, None, corpus_cost(encoder, clips, sizes, given) if given.corpus_clips else None)
    return Encoded((), encode_missing(encoder, clips, specs, reading, show, settings.failures))


def print_encode(settings: EncodeSettings) -> Sequence[Failure]:
    """Encode and print what was done; returns the clips that could not be encoded."""
    done = encode(settings, Show(settings.output.quiet))
    if done.report is not None:
        _print_report(done.report, settings.output.json)
        return done.report.failures
    if settings.output.json:
        sizes = [
            {"kind": size.spec.kind, "clips": size.num_clips, "views": size.num_views}
            | {"bytes": size.total_bytes, "fits": size.fits}
            for size in done.estimates
        ]
        print_json(sizes if done.corpus is None else {"sample": sizes, "corpus": done.corpus.describe()})
        return ()
    print("\n".join(map(str, done.estimates)))
    if done.corpus is not None:
        print("\n".join(done.corpus.lines()))
        print_table(*done.corpus.table())
    return ()


def _print_report(report: ExtractionReport, as_json: bool) -> None:
    if not as_json:
        print("\n".join(map(str, report.folders)))
        return
    print_json(
        {
            "stores": [str(folder) for folder in report.folders],
            "clips": report.n_clips,
            "cached": report.n_cached,
            "derived": report.n_derived,
            "encoded": report.n_encoded,
            "failed": [asdict(failure) for failure in report.failures],
            "overruns": [asdict(overrun) for overrun in report.overruns],
            "clips_per_s": report.clips_per_s,
            "bottleneck": report.bottleneck,
        }
    )
