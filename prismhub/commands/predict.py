"""`prismhub predict`: what a saved adapter says of new videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prismhub.clips import find_clips
from prismhub.features import default_store
from prismhub.progress import SILENT, Show
from prismhub.saved import adapter_encoder, recorded_spec
from prismhub.settings import PredictSettings, given_or_refused

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
    from adapters.predicting import predict_clips
    from adapters.predictions import Truth
    from adapters.registry import describe_adapter, load_adapter
    from core_encoder.features.failures import Failure
    from core_encoder.features.feature_source import FeatureSource
    from tasks.readers.annotations import bounds_text

    clips = find_clips(settings.videos)
    info = describe_adapter(given_or_refused(settings.adapter, "adapter"))
    spec = recorded_spec(info, settings, show)
    adapter = load_adapter(settings.adapter)
    encoder = adapter_encoder(adapter, settings, spec)
    root = settings.store or default_store()
    source = FeatureSource(encoder, spec, root, batch_size=settings.clips_per_batch, num_workers=settings.workers)
    known = [Truth(clip.path + bounds_text(clip)) for clip in clips]
    predictions: list[Any] = []
    failures: list[Failure] = []
    with show.bar("predicting") as bar:
        for done, found in enumerate(predict_clips(adapter, clips, known, source, settings.clips_per_batch), start=1):
            if isinstance(found, Failure):
                failures.append(found)
            else:
                predictions.append(found)
            bar.update(done, len(clips))
    return Predicted(predictions, tuple(failures))
