"""`prismhub predict`: what a saved adapter says of new videos."""

from __future__ import annotations

from prismhub.answers import Predicted, gather_answers
from prismhub.clips import find_inputs, sample_names
from prismhub.features import feature_source
from prismhub.progress import SILENT, Show
from prismhub.saved import adapter_encoder, recorded_spec
from prismhub.settings import PredictSettings


def predict(settings: PredictSettings, show: Show = SILENT) -> Predicted:
    """Answer for new videos; those that cannot be read are returned as failures.

    Raises:
        InputError: no such adapter or video, or the encoder is not the one the adapter was trained on.
    """
    from adapters.registry import describe_adapter, load_adapter

    videos = find_inputs(settings.videos)
    info = describe_adapter(settings.saved.adapter)
    spec = recorded_spec(info, settings.saved, show)

    from adapters.predicting import predict_clips
    from adapters.predictions import Truth

    adapter = load_adapter(settings.saved.adapter)
    encoder = adapter_encoder(adapter, settings.saved, spec)
    source = feature_source(encoder, spec, settings.reading, videos)
    known = [Truth(name) for name in sample_names(videos)]
    answers = predict_clips(adapter, videos, known, source, settings.reading.clips_per_batch)
    return gather_answers(answers, len(videos), show)
