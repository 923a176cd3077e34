"""Scenes as a server tells them: those of a search, and all that is known of one. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prismhub.archive.found_scenes import Found, FoundScene
from prismhub.archive.scenes import Cue, Finding


@dataclass(frozen=True, repr=False)
class ServedScene(FoundScene):
    """A scene of an archive of a server; `video` is a path below the folder that was indexed there.

    `thumbnail_url` (None where it has no picture) and `stream_url` are addresses on the server, which open without the
    key for as long as the server runs.
    """

    archive: str = ""
    thumbnail_url: str | None = None
    stream_url: str = ""


@dataclass(frozen=True, repr=False)
class SceneDetails(ServedScene):
    """All that is known of a scene; `duration_s`, `width`, `height` and `recorded` are those of its video.

    `neighbours` are all scenes of the video in order, each by its number, start and end in seconds. `findings` say
    which adapter found what, and `speech` holds every line with its times.
    """

    duration_s: float = 0.0
    width: int = 0
    height: int = 0
    recorded: str = ""
    neighbours: tuple[tuple[int, float, float], ...] = ()


def found_scenes(answer: Mapping[str, Any], url: str) -> Found:
    """The answer to a search, of the server at `url`."""
    scenes, nearest = (
        tuple(ServedScene(**_common(one, answer["archive"], url), **_said(one)) for one in answer[name])
        for name in ("scenes", "nearest")
    )
    return Found(answer["asked"], scenes, nearest, tuple(answer["notes"]))


def scene_details(answer: Mapping[str, Any], archive: str, url: str) -> SceneDetails:
    """The answer to a question about one scene."""
    return SceneDetails(
        **_common(answer, archive, url),
        findings=tuple(
            Finding(one["adapter"], one["label"], one["score"], one["text"], one["start"], one["end"])
            for one in answer["findings"]
        ),
        speech=tuple(Cue(one["start"], one["end"], one["text"]) for one in answer["cues"]),
        duration_s=answer["duration"],
        width=answer["width"],
        height=answer["height"],
        recorded=answer["recorded"],
        neighbours=tuple((one["id"], one["start"], one["end"]) for one in answer["neighbours"]),
    )


def _common(one: Mapping[str, Any], archive: str, url: str) -> dict[str, Any]:
    return {
        "id": one["id"],
        "video": one["video"],
        "start_s": one["start"],
        "end_s": one["end"],
        "score": one["score"],
        "parts": one["parts"],
        "scenes": one["scenes"],
        "archive": archive,
        "thumbnail_url": None if one["thumbnail"] is None else url + one["thumbnail"],
        "stream_url": url + one["stream"],
    }


def _said(one: Mapping[str, Any]) -> dict[str, Any]:
    """Labels, caption and speech, of which a search does not tell who said them and when."""
    findings = [Finding("", said["label"], said["score"]) for said in one["labels"]]
    if one["caption"]:
        findings.append(Finding("", text=one["caption"]))
    speech = (Cue(one["start"], one["end"], one["speech"]),) if one["speech"] else ()
    return {"findings": tuple(findings), "speech": speech}
