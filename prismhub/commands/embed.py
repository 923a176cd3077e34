"""`prismhub embed`: features of videos as arrays, a row a view, in memory or in one file; or a folder for OpenTAD."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
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
from prismhub.features import (
    check_encoding,
    describe_windows,
    feature_source,
    feature_spec,
    in_windows,
    open_encoder,
    reading_of,
    vector_kind,
)
from prismhub.opentad import FeatureGrid, OpenTadFolder, check_folder, check_videos, write_folder
from prismhub.printing import print_json
from prismhub.progress import SILENT, Show
from prismhub.settings import EmbedSettings

if TYPE_CHECKING:
    from core_encoder.encoder import Encoder
    from core_encoder.features.failures import Failure
    from core_encoder.features.feature_spec import FeatureSpec, Record


def embed(settings: EmbedSettings, show: Show = SILENT) -> Embeddings | OpenTadFolder:
    """Features of videos, a row a view in the order of the videos; those that cannot be read are its `failures`.

    Features of files are kept in the store, so that a run that was cut off goes on. With `out` the rows are also
    written to that file, unless there is none. With `format` they are written, video by video, to the folder `out`.

    Raises:
        InputError: no video, an unknown encoder or a kind it does not have, a file that cannot be written, or windows
            that are no whole number of frames.
    """
    if settings.format is not None:
        check_folder(settings.out)
    elif settings.out is not None:
        check_target(settings.out)
    videos = find_inputs(settings.videos)
    settings.cluster.check()
    if settings.cluster.on_ray and isinstance(videos[0], ArrayVideo):
        raise InputError("arrays are encoded in this process: leave engine out, or give the videos as files")
    check_encoding(settings.encoding)
    _check_windows(settings, videos)
    if settings.format is not None:
        check_videos(videos)

    encoder = open_encoder(settings.encoding.encoder, settings.accelerator, settings.encoding.encoder_dtype)
    spec = _spec(encoder, settings, show)
    if settings.format is not None:
        FeatureGrid.of(spec.plan, spec.kind)
        check_folder(settings.out, spec)
    from adapters.predicting import records_of
    from core_encoder.features.failures import Failure

    failures: list[Failure] = []
    if isinstance(videos[0], ArrayVideo):
        spec = replace(spec, decoder="none")
    else:
        videos, failures = _encode(encoder, videos, spec, settings, show)
    source = feature_source(encoder, spec, settings.reading, videos)
    found_of = records_of(source, videos, settings.reading.clips_per_batch)
    by_path = zip(video_paths(videos), found_of, strict=True)
    if settings.format is not None and settings.out is not None:
        return write_folder(settings.out, spec, _width(encoder, spec), by_path, failures)
    rows: list[tuple[str, Record]] = []
    for path, found in by_path:
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
    encoding = settings.encoding
    kind = settings.kind or vector_kind(encoder, show, encoding.layers)
    if settings.format is not None and settings.window is None and encoding.sampling == "uniform":
        encoding = in_windows(encoding, kind, encoder.num_frames)
    spec = feature_spec(encoder, encoding, kind, encoding.layers)
    if settings.window is not None:
        spec = replace(spec, plan=ClipPlan.windows(spec.plan.num_frames, settings.window, settings.step))
    if encoding is not settings.encoding:
        show.note(f"{describe_windows(spec.plan)}, as adapters of whole videos learn from")
    return spec


def _encode(
    encoder: Encoder, clips: list[Clip], spec: FeatureSpec, settings: EmbedSettings, show: Show
) -> tuple[list[Clip], list[Failure]]:
    """Store the features of all clips; those that can be had, and why the others cannot."""
    from benchmarks.encoding import encode_missing

    report = encode_missing(encoder, clips, [spec], reading_of(settings.reading, settings.cluster), show)
    failed = {failure.clip: failure for failure in report.failures}
    return [clip for clip in clips if clip not in failed], [failed[clip] for clip in clips if clip in failed]


def _as_arrays(
    encoder: Encoder, spec: FeatureSpec, rows: Sequence[tuple[str, Record]], failures: Sequence[Failure]
) -> Embeddings:
    values = np.empty((len(rows), *spec.record_shape(prod(spec.grid or ()), _width(encoder, spec))), np.float32)
    frame_times = np.empty((len(rows), spec.num_steps))
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


def _width(encoder: Encoder, spec: FeatureSpec) -> int:
    return (encoder.embedding_dim if spec.kind == "embedding" else encoder.dim) or 0


def print_embed(settings: EmbedSettings) -> tuple[Failure, ...]:
    """Run `prismhub embed` and print what was written; the videos that could not be read.

    Raises:
        InputError: as `embed`, or nothing says where to write.
    """
    if settings.out is None:
        where = "the folder to write" if settings.format else "the file to write, .npz, .parquet or .safetensors"
        raise InputError(f"option 'out' is missing: {where}")
    done = embed(settings, Show(settings.output.quiet))
    if isinstance(done, OpenTadFolder):
        if settings.output.json:
            print_json(done.describe())
        else:
            print(done)
        return done.failures
    if settings.output.json:
        written = str(settings.out) if len(done) else None
        about = {"file": written, "kind": done.about["kind"], "shape": list(done.values.shape)}
        print_json(about | {"failed": [asdict(failure) for failure in done.failures]})
    elif len(done):  # what could not be read was said while encoding
        print(f"{settings.out}: {done.about['kind']} of {len(set(done.paths))} videos, {done.values.shape}")
    return done.failures
