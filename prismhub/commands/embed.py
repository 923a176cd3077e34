"""`prismhub embed`: features of videos as arrays, a row a view, in memory or in one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from core_encoder.array_videos import ArrayVideo
from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.errors import InputError
from core_encoder.models.known_encoders import encoders
from prismhub.clips import find_inputs, video_paths
from prismhub.embeddings import Embeddings, check_target
from prismhub.features import check_encoding, feature_source, feature_spec, open_encoder, reading_of
from prismhub.progress import SILENT, Show
from prismhub.settings import EmbedSettings

if TYPE_CHECKING:
    from core_encoder.encoder import Encoder
    from core_encoder.features.failures import Failure
    from core_encoder.features.feature_spec import FeatureSpec, Record


def embed(settings: EmbedSettings, show: Show = SILENT) -> Embeddings:
    """Features of videos, a row a view in the order of the videos; those that cannot be read are its `failures`.

    Features of files are kept in the store, so that a run that was cut off goes on. With `out` the rows are also
    written to that file, unless there is none.

    Raises:
        InputError: no video, an unknown encoder or a kind it does not have, a file that cannot be written, or windows
            that are no whole number of frames.
    """
    if settings.out is not None:
        check_target(settings.out)
    videos = find_inputs(settings.videos)
    check_encoding(settings.encoding)
    _check_windows(settings, videos)

    encoder = open_encoder(settings.encoding.encoder, settings.accelerator, settings.encoding.encoder_dtype)
    spec = _spec(encoder, settings, show)
    from adapters.predicting import records_of
    from core_encoder.features.failures import Failure

    failures: list[Failure] = []
    if isinstance(videos[0], ArrayVideo):
        spec = replace(spec, decoder="none")
    else:
        videos, failures = _encode(encoder, videos, spec, settings, show)
    source = feature_source(encoder, spec, settings.reading, videos)
    rows: list[tuple[str, Record]] = []
    for path, found in zip(
        video_paths(videos), records_of(source, videos, settings.reading.clips_per_batch), strict=True
    ):
        if isinstance(found, Failure):
            failures.append(found)
        else:
            rows += [(path, record) for record in found]
    embeddings = _as_arrays(encoder, spec, rows, failures)
    if settings.out is not None and rows:
        embeddings.save(settings.out)
    elif settings.out is not None:
        show.note(f"{settings.out}: not written, no video could be read")
    return embeddings


def _check_windows(settings: EmbedSettings, videos: Sequence[Clip] | Sequence[ArrayVideo]) -> None:
    if settings.window is None:
        return
    if isinstance(videos[0], ArrayVideo):
        raise InputError("window is in seconds, which an array does not know; give the video as a file")
    known = {info.name: info.num_frames for info in encoders()}
    num_frames = settings.encoding.num_frames or known.get(settings.encoding.encoder)
    if num_frames is not None:  # else it is said when the encoder is loaded
        ClipPlan.windows(num_frames, settings.window, settings.step)


def _spec(encoder: Encoder, settings: EmbedSettings, show: Show) -> FeatureSpec:
    kind = settings.kind
    if kind is None:
        kind = "clip" if encoder.embedding_dim is None or settings.encoding.layers else "embedding"
        if encoder.embedding_dim is None:
            show.note(f"encoder {encoder.name!r} makes no embeddings: taking clip, the mean of its tokens")
    spec = feature_spec(encoder, settings.encoding, kind, settings.encoding.layers)
    if settings.window is not None:
        spec = replace(spec, plan=ClipPlan.windows(spec.plan.num_frames, settings.window, settings.step))
    return spec


def _encode(
    encoder: Encoder, clips: list[Clip], spec: FeatureSpec, settings: EmbedSettings, show: Show
) -> tuple[list[Clip], list[Failure]]:
    """Store the features of all clips; those that can be had, and why the others cannot."""
    from benchmarks.encoding import encode_missing

    report = encode_missing(encoder, clips, [spec], reading_of(settings.reading), show)
    failed = {failure.clip: failure for failure in report.failures}
    return [clip for clip in clips if clip not in failed], [failed[clip] for clip in clips if clip in failed]


def _as_arrays(
    encoder: Encoder, spec: FeatureSpec, rows: Sequence[tuple[str, Record]], failures: Sequence[Failure]
) -> Embeddings:
    width = encoder.embedding_dim if spec.kind == "embedding" else encoder.dim
    values = np.empty((len(rows), *spec.record_shape(prod(spec.grid or ()), width or 0)), np.float32)
    frame_times = np.empty((len(rows), spec.plan.num_frames))
    frame_mask = np.empty(frame_times.shape, np.bool_)
    for place, (_, record) in enumerate(rows):
        values[place] = record.values.float().numpy()
        frame_times[place], frame_mask[place] = record.info.times_s, record.frame_mask.numpy()
    times = [(record.start_s, record.end_s) for _, record in rows]
    by_frame = spec.kind in ("frames", "tokens")
    return Embeddings(
        values,
        np.array(times, np.float64).reshape(len(rows), 2),
        tuple(path for path, _ in rows),
        {"prismhub": version("prismhub"), **spec.describe()},
        frame_times if by_frame else None,
        frame_mask if by_frame and not frame_mask.all() else None,
        tuple(failures),
    )
