"""`prismhub predict`: what a saved adapter says of new videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapters.predictions import ClassScores
from prismhub.commands.encode import default_store, find_clips
from prismhub.commands.evaluate import adapter_encoder, recorded_spec, required
from prismhub.progress import SILENT, Show
from prismhub.settings import PredictSettings

if TYPE_CHECKING:
    from core_encoder.features.failures import Failure


@dataclass(frozen=True)
class Predicted:
    """The answers of `predict`, and the videos that could not be read; `multi_label`: a video may have several."""

    predictions: list[ClassScores]
    failures: tuple[Failure, ...]
    multi_label: bool = False


def predict(settings: PredictSettings, show: Show = SILENT) -> Predicted:
    """Answer for new videos; those that cannot be read are returned as failures.

    Raises:
        InputError: no such adapter or video, or the encoder is not the one the adapter was trained on.
    """
    from adapters.registry import load_adapter
    from core_encoder.features.failures import Failure
    from core_encoder.features.feature_source import FeatureSource
    from tasks.readers.annotations import bounds_text

    adapter = load_adapter(required(settings.adapter, "adapter"))
    spec = recorded_spec(adapter, settings, show)
    clips = find_clips(settings.videos)
    encoder = adapter_encoder(adapter, settings, spec)
    source = FeatureSource(
        encoder,
        spec,
        settings.store or default_store(),
        batch_size=settings.clips_per_batch,
        num_workers=settings.workers,
    )
    predictions: list[ClassScores] = []
    failures: list[Failure] = []
    with show.bar("predicting") as bar:
        for first in range(0, len(clips), settings.clips_per_batch):
            several = clips[first : first + settings.clips_per_batch]
            for clip, found in zip(several, source.records(several), strict=True):
                if isinstance(found, Failure):
                    failures.append(found)
                else:
                    name = clip.path + bounds_text(clip)
                    predictions.append(ClassScores(name, adapter.predict_records(found), adapter.label_names))
            bar.update(first + len(several), len(clips))
    return Predicted(predictions, tuple(failures), bool(adapter.info.config.get("multi_label")))
