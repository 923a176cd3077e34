"""What a corpus takes on a cluster, from a few rates: GPU-days, cores, bytes, money, for each kind of features.

Everything follows from a few clips like those of the corpus, with R clips a second of one GPU, C of one core that
decodes, and B bytes that are stored of a clip:

    GPU-days         clips / R / 86,400
    cores of a GPU   R / C
    core-days        clips / C / 86,400
    frames to a GPU  R x frames x side x side x 3 bytes a second, through Ray's object store
    stored           clips x B, written at GPUs x R x B bytes a second
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from core_encoder.config import option
from core_encoder.errors import InputError
from core_encoder.files.storage import readable_bytes

if TYPE_CHECKING:
    from core_encoder.clip_plan import Clip
    from core_encoder.encoder import Encoder
    from core_encoder.features.estimate import Estimate

H100_FLOPS = 989e12
"""Dense bf16 matrix products of one H100 SXM in a second, by its data sheet."""

UTILISATION = 0.4
"""Share of them that a well-fed encoder reaches; an assumption, not a measurement."""

_DECODED = 24  # clips, to see how fast a core decodes


@dataclass(frozen=True)
class CorpusSettings:
    """What a dry run reckons with, beside the clips that it is given as a sample."""

    corpus_clips: int | None = option(
        None, "Dry run: reckon for so many clips like these: GPU-days, cores, bytes, cost."
    )
    gpus: int | None = option(None, "Corpus: GPUs at work (default: 64).")
    gpu_clips_per_s: float | None = option(
        None, "Corpus: clips a second of one GPU (default: by arithmetic, at 40 % of an H100 in bf16)."
    )
    core_clips_per_s: float | None = option(
        None, "Corpus: clips a second that one core decodes (default: measured here on a few of these)."
    )
    gpu_hour_price: float | None = option(None, "Corpus: price of an hour of a GPU.")
    core_hour_price: float | None = option(None, "Corpus: price of an hour of a core.")
    gb_month_price: float | None = option(None, "Corpus: price of keeping a GB for a month.")

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is None:
                continue
            if self.corpus_clips is None:
                raise InputError(f"{name} is of a corpus: say of how many clips with corpus_clips")
            if value < 0 or (value == 0 and not name.endswith("price")):
                raise InputError(f"{name} must be above 0, not {value:g}")


@dataclass(frozen=True)
class KindCost:
    """What one kind of features takes; prices are None where they were not given."""

    kind: str
    bytes_per_clip: float
    total_bytes: float
    bytes_per_s: float  # written, by all GPUs
    storage_per_month: float | None


@dataclass(frozen=True)
class CorpusCost:
    """What a corpus takes: the pass over its pixels, and each kind of features that is kept of it."""

    clips: int
    gpus: int
    flops_per_clip: float
    gpu_clips_per_s: float
    core_clips_per_s: float
    gpu_days: float
    core_days: float
    cores_per_gpu: float
    frame_bytes_per_s: float  # to one GPU
    days: float
    cost: float | None
    kinds: tuple[KindCost, ...]
    assumed: str  # where the rates come from

    def lines(self) -> list[str]:
        """The pass, in words."""
        cost = "" if self.cost is None else f"; cost of the pass {self.cost:,.0f}"
        return [
            f"{self.clips:,} clips of {self.flops_per_clip / 1e12:.3g} TFLOP; {self.assumed}",
            f"one pass: {self.gpu_days:,.1f} GPU-days, {self.days:,.1f} days on {self.gpus} GPUs{cost}",
            f"decoding: {self.core_days:,.0f} core-days, {self.cores_per_gpu:.1f} cores for each GPU, "
            f"{readable_bytes(self.frame_bytes_per_s)} of frames a second to each",
        ]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Titles and rows of text, a row a kind."""
        header = ["kind", "a clip", "stored", f"written by {self.gpus} GPUs", "storage a month"]
        rows = [
            [
                one.kind,
                readable_bytes(one.bytes_per_clip),
                readable_bytes(one.total_bytes),
                f"{readable_bytes(one.bytes_per_s)}/s",
                "-" if one.storage_per_month is None else f"{one.storage_per_month:,.0f}",
            ]
            for one in self.kinds
        ]
        return header, rows

    def describe(self) -> dict[str, Any]:
        """Every number, ready for JSON."""
        return asdict(self) | {"kinds": [asdict(one) for one in self.kinds]}


def corpus_cost(
    encoder: Encoder, clips: Sequence[Clip], sizes: Sequence[Estimate], settings: CorpusSettings
) -> CorpusCost:
    """What `corpus_clips` clips like `clips` take, of which `sizes` are the estimates, one a kind.

    Raises:
        InputError: none of the clips can be decoded.
    """
    assert settings.corpus_clips is not None
    spec, count, gpus = sizes[0].spec, settings.corpus_clips, settings.gpus or 64
    views = max(sizes[0].num_views, 1) / max(sizes[0].num_clips - sizes[0].num_cached, 1)
    flops = views * flops_of_view(encoder, sizes)
    from_gpu = settings.gpu_clips_per_s or UTILISATION * H100_FLOPS / flops
    from_core = settings.core_clips_per_s or decoding_rate(clips, sizes)
    gpu_days, core_days = count / from_gpu / 86_400, count / from_core / 86_400
    prices = [(gpu_days * 24, settings.gpu_hour_price), (core_days * 24, settings.core_hour_price)]
    told = [hours * price for hours, price in prices if price is not None]
    gpu_rate = "as given" if settings.gpu_clips_per_s else f"by arithmetic at {UTILISATION:.0%} of an H100"
    core_rate = "as given" if settings.core_clips_per_s else "measured here"
    kinds = []
    for size in sizes:
        each = views * size.bytes_per_view[size.spec.kind]
        stored = None if settings.gb_month_price is None else count * each / 1e9 * settings.gb_month_price
        kinds.append(KindCost(size.spec.kind, each, count * each, gpus * from_gpu * each, stored))
    return CorpusCost(
        clips=count,
        gpus=gpus,
        flops_per_clip=flops,
        gpu_clips_per_s=from_gpu,
        core_clips_per_s=from_core,
        gpu_days=gpu_days,
        core_days=core_days,
        cores_per_gpu=from_gpu / from_core,
        frame_bytes_per_s=from_gpu * views * spec.plan.num_frames * 3 * spec.preprocessing.image_size**2,
        days=gpu_days / gpus,
        cost=sum(told) if told else None,
        kinds=tuple(kinds),
        assumed=f"a GPU encodes {from_gpu:.3g} clips/s ({gpu_rate}), a core decodes {from_core:.3g} ({core_rate})",
    )


def flops_of_view(encoder: Encoder, sizes: Sequence[Estimate]) -> float:
    """Operations of one forward pass of a view, two for each multiply-add of its matrix products; nothing is computed.

    Windows that share the spatial half take less.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    spec = sizes[0].spec
    side = spec.preprocessing.image_size
    weightless = copy.deepcopy(encoder).to("meta")
    video = torch.empty(1, spec.plan.num_frames, 3, side, side, device="meta")
    with FlopCounterMode(display=False) as counter:
        weightless(video, embed=any(size.spec.kind == "embedding" for size in sizes))
    return float(counter.get_total_flops())


def decoding_rate(clips: Sequence[Clip], sizes: Sequence[Estimate]) -> float:
    """Clips that one core decodes in a second, by a few of them.

    Raises:
        InputError: none of them can be decoded.
    """
    from core_encoder.features.encoding import frame_queue, pass_decoder
    from core_encoder.video.clip_decoder import ClipsOfFiles
    from core_encoder.video.decoding import ClipFrames, DecodeWorkers

    some = [clips[place * len(clips) // min(len(clips), _DECODED)] for place in range(min(len(clips), _DECODED))]
    decoder = pass_decoder([size.spec for size in sizes], (), 8, may_share=sizes[0].spec.plan.sampling == "dense")
    queue = frame_queue(8)
    started, done = time.process_time(), 0
    with DecodeWorkers(ClipsOfFiles(some, decoder, queue).jobs(), queue, 1) as workers:
        for part in workers:
            done += isinstance(part, ClipFrames) and part.last
    if not done:
        raise InputError(f"{some[0].path}: cannot be decoded, nor the others of the sample: give core_clips_per_s")
    return done / max(time.process_time() - started, 1e-9)
