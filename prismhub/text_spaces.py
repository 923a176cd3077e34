"""Videos and texts in one space, for commands that compare them: by an encoder that knows words, or by an adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core_encoder.array_videos import ArrayVideo
from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.models.known_encoders import check_text_tower, no_text_tower
from prismhub.clips import sample_names
from prismhub.features import check_encoding, feature_source, feature_spec, open_encoder
from prismhub.progress import Show
from prismhub.saved import adapter_encoder, moved_parts, recorded_spec
from prismhub.settings import EncodingSettings, RunningSettings, TextSpaceSettings

if TYPE_CHECKING:
    from torch import Tensor

    from core_encoder.features.array_source import ArraySource
    from core_encoder.features.failures import Failure
    from core_encoder.features.feature_source import FeatureSource

Videos = list[Clip] | list[ArrayVideo]


@dataclass(frozen=True)
class TextSpace:
    """Where texts and some videos meet: `embed_text` gives vectors `(L, E)`, `source` the features of the videos.

    `adapter` makes vectors of the features; without one they are the encoder's own embeddings.
    """

    embed_text: Callable[[Sequence[str]], Tensor]
    source: FeatureSource | ArraySource
    adapter: Any = None


def open_text_space(settings: TextSpaceSettings, videos: Videos, show: Show) -> TextSpace:
    """The space of the adapter that the settings name, else that of their encoder.

    Raises:
        InputError: it knows no words, or is not at hand.
    """
    return _of_encoder(settings, videos) if settings.adapter is None else _of_adapter(settings, videos, show)


def video_vectors(space: TextSpace, videos: Videos, batch_size: int) -> Iterator[Tensor | Failure]:
    """The unit vector `(E,)` of every video, the mean of those of its views, or why there is none."""
    from torch import stack
    from torch.nn.functional import normalize

    from adapters.predicting import predict_clips, records_of
    from adapters.predictions import Embedding, Truth
    from core_encoder.features.failures import Failure

    if space.adapter is not None:
        truths = [Truth(name) for name in sample_names(videos)]
        for answer in predict_clips(space.adapter, videos, truths, space.source, batch_size):
            if isinstance(answer, Failure):
                yield answer
            else:
                assert isinstance(answer, Embedding)
                yield answer.values
        return
    for found in records_of(space.source, videos, batch_size):
        if isinstance(found, Failure):
            yield found
        else:
            views = stack([record.values.float() for record in found])  # (V, E)
            yield normalize(normalize(views, dim=-1).mean(0), dim=-1).cpu()


def _of_encoder(settings: TextSpaceSettings, videos: Videos) -> TextSpace:
    """By the text tower that the encoder has."""
    if settings.text_tower is not None:
        raise InputError("text_tower says where that of an adapter lies: name the adapter")
    check_encoding(settings.encoding)
    check_text_tower(settings.encoding.encoder)
    encoder = open_encoder(settings.encoding.encoder, settings.accelerator, settings.encoding.encoder_dtype)
    if not encoder.has_text:
        raise no_text_tower(encoder.name)
    spec = feature_spec(encoder, settings.encoding, "embedding", ())
    return TextSpace(encoder.embed_text, feature_source(encoder, spec, settings.reading, videos))


def _of_adapter(settings: TextSpaceSettings, videos: Videos, show: Show) -> TextSpace:
    """By the space that a saved adapter puts videos and texts into."""
    from adapters.registry import describe_adapter, load_adapter

    assert settings.adapter is not None
    own, default = settings.encoding, EncodingSettings()
    info = describe_adapter(settings.adapter)
    if info.targets.kind != "pairs":
        raise InputError(
            f"adapter {settings.adapter!r} learned {info.targets.kind}, and no space of videos and texts: give one of "
            "kind lit_text"
        )
    running = RunningSettings(
        encoder=None if own.encoder == default.encoder else own.encoder,
        accelerator=settings.accelerator,
        encoder_dtype=None if own.encoder_dtype == default.encoder_dtype else own.encoder_dtype,
        text_tower=settings.text_tower,
    )
    moved = moved_parts([info], running)
    spec = recorded_spec(settings.adapter, info, running, show)
    adapter: Any = load_adapter(settings.adapter, moved=moved[0])
    if not hasattr(adapter, "embed_text"):
        raise InputError(f"adapter {settings.adapter!r} of kind {info.kind!r} embeds no texts: it has no embed_text")
    source = feature_source(adapter_encoder(adapter, running, spec), spec, settings.reading, videos)
    return TextSpace(adapter.embed_text, source, adapter)
