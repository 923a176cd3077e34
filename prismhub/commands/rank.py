"""`prismhub rank`: which of many videos fit a text best, by an encoder or adapter that knows words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from core_encoder.errors import InputError
from prismhub.clips import find_inputs, sample_names
from prismhub.progress import SILENT, Show
from prismhub.settings import RankSettings
from prismhub.text_spaces import open_text_space, video_vectors

if TYPE_CHECKING:
    from core_encoder.features.failures import Failure


@dataclass(frozen=True)
class Ranking:
    """All videos that could be read, the nearest to `text` first: `(video, cosine)`; equal ones in their order."""

    text: str
    videos: tuple[tuple[str, float], ...]

    def describe(self, top: int | None = None) -> dict[str, Any]:
        """`{"text", "videos": [{"video", "similarity"}]}`, ready for JSON."""
        shown = [{"video": video, "similarity": similarity} for video, similarity in self.videos[:top]]
        return {"text": self.text, "videos": shown}

    def rows(self, top: int | None = None) -> list[tuple[str, ...]]:
        """One line a video."""
        return [
            ("" if place else self.text, str(place + 1), video, f"{similarity:.3f}")
            for place, (video, similarity) in enumerate(self.videos[:top])
        ]


@dataclass(frozen=True)
class Ranked:
    """A ranking for each text, and the videos that could not be read."""

    rankings: tuple[Ranking, ...]
    failures: tuple[Failure, ...]


def rank(settings: RankSettings, show: Show = SILENT) -> Ranked:
    """Rank videos by the cosine between their vectors and those of texts.

    Raises:
        InputError: no text or an empty one, no such video or adapter, or it knows no words.
    """
    if not settings.text or not all(text.strip() for text in settings.text):
        raise InputError("text must say what to look for: at least one, none of them empty")
    videos = find_inputs(settings.videos)
    space = open_text_space(settings, videos, show)
    from torch import stack

    from core_encoder.features.failures import Failure

    found, names, failures = [], [], []
    with show.bar("embedding") as bar:
        vectors = video_vectors(space, videos, settings.reading.clips_per_batch)
        for name, one in zip(sample_names(videos), vectors, strict=True):
            if isinstance(one, Failure):
                failures.append(one)
            else:
                found.append(one)
                names.append(name)
            bar.update(len(found) + len(failures), len(videos))
    if not found:
        return Ranked(tuple(Ranking(text, ()) for text in settings.text), tuple(failures))
    from torch.nn.functional import normalize

    texts = normalize(space.embed_text(list(settings.text)).detach().float().cpu(), dim=-1)  # (L, E)
    cosines = texts @ stack(found).T  # (L, V)
    order = cosines.argsort(dim=1, descending=True, stable=True).tolist()
    rankings = [
        Ranking(text, tuple((names[place], float(row[place])) for place in places))
        for text, row, places in zip(settings.text, cosines, order, strict=True)
    ]
    return Ranked(tuple(rankings), tuple(failures))
