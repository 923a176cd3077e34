"""Answers written as files for other tools: `predict --format`, and pictures of timelines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapters.card import AdapterInfo
from core_encoder.errors import InputError
from core_encoder.files.storage import write_text
from prismhub.settings import PredictSettings

FORMATS: dict[str, tuple[str, ...]] = {
    "segments": ("activitynet", "boris", "csv", "vtt"),
    "boxes": ("ava", "segments"),
}
"""The formats in which answers can be written, by what the adapter answers."""


SUFFIXES = {"activitynet": ".json", "boris": ".tsv", "csv": ".csv", "vtt": "", "ava": ".csv", "segments": ".csv"}
"""How the files of each format end; subtitles are a folder, a file a video."""


def check_places(settings: PredictSettings) -> None:
    """Refuse to write what cannot be written, before anything is computed.

    Raises:
        InputError: a place holds something else.
    """
    if settings.out is not None:
        if settings.format == "vtt" and settings.out.is_file():
            raise InputError(f"{settings.out}: is a file; --format vtt wants a folder, a file a video")
        if settings.format != "vtt" and settings.out.is_dir():
            raise InputError(f"{settings.out}: is a folder; --format {settings.format} wants a file")
    for name in ("timeline", "vtt"):
        place = getattr(settings, name)
        if place is not None and place.exists() and not place.is_dir():
            raise InputError(f"{place}: is a file; --{name} wants a folder")


def formatted(settings: PredictSettings, info: AdapterInfo, answers: Sequence[Any]) -> dict[str, str]:
    """The answers in the asked format: text by the name of its video for subtitles, else one text under "".

    Raises:
        InputError: the subtitles of several videos and no folder to put them into.
    """
    if info.targets.kind == "boxes":
        from prismhub.box_answers import box_text

        return {"": box_text(settings, info, answers)}
    from core_encoder.video.decoders import read_facts
    from tasks.writers.segments import activitynet_text, boris_text, csv_text, video_names, vtt_text

    top, every = settings.top, settings.all_scores
    if settings.format == "activitynet":
        return {"": activitynet_text(answers, top, every or (top is None and settings.threshold is None))}
    if settings.format == "csv":
        return {"": csv_text(answers, top, every)}
    if settings.format == "boris":
        seen = {one.sample_id: read_facts(_path(one.sample_id)) for one in answers}
        facts = {name: (one.duration_s, one.fps) for name, one in seen.items()}
        return {"": boris_text(answers, facts, info.training.get("point_classes", ()), top, every)}
    if len(answers) > 1 and settings.out is None:
        raise InputError("subtitles of several videos are several files: give a folder with --out")
    names = [Path(name).stem if len(answers) == 1 else re.sub(r"[/\\:]", "-", name) for name in video_names(answers)]
    return dict(zip(names, (vtt_text(one, top, every) for one in answers), strict=True))


def write_formatted(settings: PredictSettings, texts: dict[str, str]) -> list[Path]:
    """Write what `formatted` gave to `settings.out`, each file whole or not at all."""
    assert settings.out is not None
    if settings.format == "vtt":
        return [write_text(settings.out / f"{name}.vtt", text) for name, text in texts.items()]
    return [write_text(settings.out, text) for text in texts.values()]


def write_timelines(folder: Path, answers: Sequence[Any], settings: PredictSettings) -> list[Path]:
    """One SVG a video: its segments as bars, a row a class."""
    from core_encoder.video.decoders import read_facts
    from prismhub.pages.timeline import timeline_svg
    from tasks.writers.segments import video_names

    written = []
    for name, one in zip(video_names(answers), answers, strict=True):
        shown = one.shown(settings.top, settings.all_scores)
        picture = timeline_svg(Path(one.sample_id).name, shown, read_facts(_path(one.sample_id)).duration_s)
        written.append(write_text(folder / f"{Path(name).name}.svg", picture))
    return written


def _path(sample_id: str) -> str:
    """The video of an answer: its id without the bounds of a clip."""
    path, mark, bounds = sample_id.rpartition("#")
    return (
        path
        if mark and not Path(sample_id).exists() and bounds.replace(".", "").replace("-", "").isdigit()
        else sample_id
    )
