"""An encoder as the benchmark library mteb sees a model: its video tasks (MVEB) run on cached features.

mteb hands over a data loader. Its data set is read as files, never decoded by mteb, so that a video is known to the
feature store by its bytes: what one task encoded, another one, or `prismhub encode`, need not encode again. mteb is
imported where it is asked of, and is no dependency: `pip install 'prismhub[mteb]'`.
"""

from __future__ import annotations

import functools
import importlib.util
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from core_encoder.clip_plan import Clip
from core_encoder.config import group, option
from core_encoder.errors import InputError
from fit.device import Accelerator
from prismhub.features import check_encoding, clip_source, feature_spec, open_encoder, reading_of, vector_kind
from prismhub.progress import SILENT, Show
from prismhub.settings import EncodingSettings, ReadingSettings

if TYPE_CHECKING:
    from datasets import Dataset

_AT_ONCE = 64  # videos that a data set holds as bytes are written out for so long


@dataclass(frozen=True, kw_only=True)
class MtebSettings:
    """Options of `prismhub.mteb_model`."""

    encoding: EncodingSettings = group()
    kind: Literal["embedding", "clip"] | None = option(
        None, "What a video becomes (default: embedding where the encoder makes one, else clip)."
    )
    accelerator: Accelerator = option("auto", "auto, cpu, gpu or mps.")
    reading: ReadingSettings = group()

    def __post_init__(self) -> None:
        if self.encoding.layers:
            raise InputError("mteb takes a vector a video: leave layers out")


class MtebModel:
    """A model for `mteb.evaluate`: it keeps mteb's `EncoderProtocol`.

    A video becomes one vector, the mean over its views; a text the encoder's embedding of it; a sample with both the
    sum of the two, as mteb's own two-tower models do.
    """

    def __init__(self, settings: MtebSettings, show: Show = SILENT) -> None:
        """Load the encoder.

        Raises:
            InputError: mteb is not installed, an unknown encoder, or a kind it does not have.
        """
        if importlib.util.find_spec("mteb") is None:
            raise InputError("mteb is not installed: pip install 'prismhub[mteb]'")
        check_encoding(settings.encoding)
        self.encoder = open_encoder(settings.encoding.encoder, settings.accelerator, settings.encoding.encoder_dtype)
        kind = settings.kind or vector_kind(self.encoder, show)
        self.spec = feature_spec(self.encoder, settings.encoding, kind, ())
        self._settings = settings

    def __repr__(self) -> str:
        return f"MtebModel({self.spec.kind} of {self.encoder!r})"

    @functools.cached_property
    def mteb_model_meta(self) -> Any:
        """What mteb records: the encoder's name and fingerprint; as an experiment, how features are made otherwise."""
        from mteb.models import ModelMeta

        name, spec = self.encoder.name, self.spec
        usual = feature_spec(self.encoder, EncodingSettings(), vector_kind(self.encoder, SILENT), ())
        otherwise = {"kind": spec.kind, "features": spec.folder_name.rpartition("-")[2]}
        parameters = self.encoder.num_parameters
        texts = self.encoder.has_text and spec.kind == "embedding"
        return ModelMeta(
            loader=None,
            name=name if "/" in name else f"prismhub/{name}",
            revision=spec.fingerprint[:12],
            release_date=None,
            languages=["eng-Latn"] if texts else None,
            n_parameters=parameters,
            memory_usage_mb=round(parameters * self.encoder.dtype.itemsize / 2**20),
            max_tokens=None,
            embed_dim=self.encoder.embedding_dim if spec.kind == "embedding" else self.encoder.dim,
            license=None,
            open_weights=None,
            public_training_code=None,
            public_training_data=None,
            framework=["PyTorch"],
            similarity_fn_name="cosine",
            use_instructions=False,
            training_datasets=None,
            modalities=["video", "text"] if texts else ["video"],
            experiment_kwargs=None if spec == replace(usual, precision="fp32") else otherwise,
        )

    def encode(
        self, inputs: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, prompt_type: Any = None, **kwargs: Any
    ) -> NDArray[np.float32]:
        """The vectors `(n, E)` of the samples of a data loader, in its order.

        Raises:
            InputError: samples without video and text, texts for an encoder that knows no words, or a video that
                cannot be read: mteb has no score for part of a split.
        """
        where = f"mteb task {task_metadata.name}, split {hf_split}"
        found = []
        if "video" in inputs.dataset.column_names:
            found.append(self._video_vectors(inputs.dataset, where, kwargs.get("show_progress_bar", True)))
        if "text" in inputs.dataset.column_names:
            found.append(self._text_vectors(list(inputs.dataset["text"]), where))
        if not found:
            raise InputError(f"{where}: samples of {', '.join(inputs.dataset.column_names)}, but no video and no text")
        return np.sum(found, axis=0, dtype=np.float32)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines `(n, m)` of each of n vectors with each of m."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines `(n,)` of each vector with the one of the same place."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)

    def _text_vectors(self, texts: Sequence[str], where: str) -> NDArray[np.float32]:
        if self.spec.kind != "embedding":
            raise InputError(f"{where}: texts lie in the space of embeddings, not of {self.spec.kind}; take that kind")
        return self.encoder.embed_text(texts).float().cpu().numpy()

    def _video_vectors(self, dataset: Dataset, where: str, show_bar: bool) -> NDArray[np.float32]:
        from datasets import Video

        feature = dataset.features["video"]
        if not isinstance(feature, Video):
            raise InputError(f"{where}: column 'video' is {feature}, not the files of a datasets.Video")
        files = dataset.select_columns("video").cast_column("video", Video(decode=False))
        vectors: list[NDArray[np.float32]] = []
        with Show(not show_bar).bar("videos") as bar:
            for first in range(0, len(files), _AT_ONCE):
                batch = files[first : first + _AT_ONCE]["video"]
                with tempfile.TemporaryDirectory(prefix="prismhub-") as folder:
                    clips = [
                        Clip(_file_of(file, Path(folder) / str(number), f"{where}, sample {first + number}"))
                        for number, file in enumerate(batch)
                    ]
                    vectors += self._clip_vectors(clips, f"{where}, sample", first)
                bar.update(len(vectors), len(files))
        return np.stack(vectors) if vectors else np.zeros((0, self.mteb_model_meta.embed_dim), np.float32)

    def _clip_vectors(self, clips: Sequence[Clip], where: str, first: int) -> list[NDArray[np.float32]]:
        from benchmarks.encoding import encode_missing
        from core_encoder.features.failures import Failure

        reading = self._settings.reading
        encode_missing(self.encoder, list(dict.fromkeys(clips)), [self.spec], reading_of(reading), SILENT)
        vectors = []
        for number, found in enumerate(clip_source(self.encoder, self.spec, reading).records(clips), start=first):
            if isinstance(found, Failure):
                raise InputError(f"{where} {number} cannot be read: {found.reason}; leave it out of the data set")
            vectors.append(np.mean([record.values.float().numpy() for record in found], axis=0))
        return vectors


def _file_of(file: dict[str, Any], place: Path, where: str) -> str:
    """The path of a video that a data set names or holds; its bytes are written to `place`."""
    path, content = file.get("path"), file.get("bytes")
    if content is not None:
        place = place.with_suffix(PurePosixPath(path or "").suffix or ".mp4")
        place.write_bytes(content)
        return str(place)
    if path is None or not Path(path).is_file():
        raise InputError(f"{where}: no file {path}, and the data set does not hold its bytes")
    return str(path)
