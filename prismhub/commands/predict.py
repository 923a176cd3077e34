"""`prismhub predict`: what a saved adapter says of new videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prismhub.clips import find_clips
from prismhub.features import default_store
from prismhub.progress import SILENT, Show
from prismhub.saved import adapter_encoder, recorded_spec
from prismhub.settings import PredictSettings

if TYPE_CHECKING:
    from core_encoder.features.failures import Failure


@dataclass(frozen=True)
class Predicted:
    """The answers of `predict`, each a `Prediction`, and the videos that could not be read."""

    predictions: list[Any]
    failures: tuple[Failure, ...]


def predict(settings: PredictSettings, show: Show = SILENT) -> Predicted:
    """Answer for new videos; those that cannot be read are returned as failures.

    Raises:
        InputError: no such adapter or video, or the encoder is not the one the adapter was trained on.
    """
    from adapters.registry import describe_adapter, load_adapter

    clips = find_clips(settings.videos)
    info = describe_adapter(settings.saved.adapter)
    spec = recorded_spec(info, settings.saved, show)

    from adapters.predicting import predict_clips
    from adapters.predictions import Truth
    from core_encoder.clip_bounds import describe_overruns
    from core_encoder.features.failures import Failure
    from core_encoder.features.feature_source import FeatureSource
    from tasks.readers.annotations import bounds_text

    adapter = load_adapter(settings.saved.adapter)
    encoder = adapter_encoder(adapter, settings.saved, spec)
    reading = settings.reading
    root, size = reading.store or default_store(), reading.clips_per_batch
    source = FeatureSource(encoder, spec, root, batch_size=size, num_workers=reading.workers)
    known = [Truth(clip.path + bounds_text(clip)) for clip in clips]
    predictions: list[Any] = []
    failures: list[Failure] = []
    with show.bar("predicting") as bar:
        for done, found in enumerate(predict_clips(adapter, clips, known, source, size), start=1):
            if isinstance(found, Failure):
                failures.append(found)
            else:
                predictions.append(found)
            bar.update(done, len(clips))
    if source.overruns:
        show.note(f"note: {describe_overruns(list(source.overruns.values()), len(clips))}")
    return Predicted(predictions, tuple(failures))
