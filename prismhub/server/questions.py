"""What a client may ask, as it comes in JSON or in the fields of a form; checked before a video is looked at."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from prismhub.server.clip_limits import MOST_FRAMES_A_SECOND

_MOST_TEXTS = 1000
MOST_SCENES = 5000  # of one answer


def _listed(value: Any) -> Any:
    """A field of a form is one text: of several names, those between its commas."""
    return [word.strip() for word in value.split(",")] if isinstance(value, str) else value


def _read(value: Any) -> Any:
    """A field of a form is one text: it holds JSON."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError as error:
            raise ValueError(f"is no JSON: {error}") from error
    return value


Word = Annotated[str, Field(min_length=1, max_length=1000)]
Names = Annotated[list[Word], Field(min_length=1, max_length=_MOST_TEXTS), BeforeValidator(_listed)]
Texts = Annotated[list[Word], Field(min_length=1, max_length=_MOST_TEXTS)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Span = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Window = Annotated[float, Field(ge=1 / MOST_FRAMES_A_SECOND, allow_inf_nan=False)]  # shorter ones show no more
Fraction = Annotated[float, Field(ge=0, le=1)]


class VideoQuestion(BaseModel):
    """Which video: its path below the served root, unless it is uploaded, and which seconds of it."""

    model_config = ConfigDict(extra="forbid")
    video: Word | None = None
    start: Seconds = 0.0
    end: Span | None = None


class GivenBox(BaseModel):
    """Someone in a video at a second: left, top, right and bottom as fractions of the picture, and who it is."""

    model_config = ConfigDict(extra="forbid")
    time: Seconds
    box: tuple[Fraction, Fraction, Fraction, Fraction]
    track: Annotated[str, Field(max_length=100)] = ""


class PredictQuestion(VideoQuestion):
    """What adapters are asked; the fields mean what the options of `prismhub predict` mean."""

    adapters: Names | None = None
    window: Window | None = None
    step: Window | None = None
    question: Word | None = None
    candidates: Texts | None = None
    boxes: Annotated[list[GivenBox], Field(min_length=1, max_length=_MOST_TEXTS), BeforeValidator(_read)] | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    top: Annotated[int, Field(ge=1)] | None = None
    all_scores: bool = False


class EmbedQuestion(VideoQuestion):
    """A video, or texts; of videos one vector each, or one for every window of so many seconds."""

    text: Annotated[list[Word], Field(min_length=1, max_length=_MOST_TEXTS)] | Word | None = None
    window: Window | None = None
    step: Window | None = None


class ZeroShotQuestion(VideoQuestion):
    """Names of classes; the fields mean what the options of `prismhub zero-shot` mean, but no files are read."""

    labels: Names
    template: Word | None = None
    templates: Texts | None = None
    adapter: Word | None = None
    top: Annotated[int, Field(ge=1)] | None = None
    all_scores: bool = False


class AdapterToLoad(BaseModel):
    """An adapter of the registry of the server, and what it is to be called here."""

    model_config = ConfigDict(extra="forbid")
    adapter: Word
    name: Word | None = None


class SceneQuestion(BaseModel):
    """What is looked for in an archive; the fields mean what the options of `prismhub search` mean."""

    model_config = ConfigDict(extra="forbid")
    q: Word | None = None
    archive: Word | None = None
    top: Annotated[int, Field(ge=1, le=MOST_SCENES)] = 10
    where: Annotated[str, Field(min_length=1, max_length=10_000)] | None = None
    mode: Literal["hybrid", "vector", "text"] = "hybrid"
    all: bool = False
    anyway: bool = False


class SearchQuestion(SceneQuestion):
    """Words, a condition, or the number of a scene to look for others like it."""

    like: Annotated[int, Field(ge=0)] | None = None


class ExampleQuestion(VideoQuestion, SceneQuestion):
    """An example video, and what else scenes like it must be."""
