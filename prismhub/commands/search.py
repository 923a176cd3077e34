"""`prismhub search`: scenes of an archive by words, by example and by what adapters said."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from core_encoder.errors import UnreadableVideo
from core_encoder.files.storage import write_text
from prismhub.archive.query_settings import SearchSettings
from prismhub.printing import print_failures, print_json, print_table
from prismhub.progress import SILENT, Show
from prismhub.provenance import run_command

if TYPE_CHECKING:
    from prismhub.archive.found_scenes import Found

FAILED_ITEMS = 3


def search(settings: SearchSettings, show: Show = SILENT) -> Found:
    """The scenes of an archive that answer a query, the best first; also written to where the settings say.

    Raises:
        InputError: no such archive, another encoder than its own, a filter that cannot be read, or a place that cannot
            be written to.
    """
    from prismhub.archive.edit_list import Cut, edit_list
    from prismhub.archive.searching import ArchiveSearch

    with ArchiveSearch(settings.archive, settings.running, show) as archive:
        found = archive.find(settings)
        for note in found.notes:
            show.note(note)
        if settings.html is not None:
            from prismhub.pages.contact_sheet import write_contact_sheet

            write_contact_sheet(settings.html, found, str(settings.archive), run_command())
        if settings.edl is not None:
            fps = archive.index.scenes([found[0].id])[0].video.fps if len(found) else 0.0
            cuts = [Cut(one.video, one.start_s, one.end_s, one.what()) for one in found]
            write_text(settings.edl, edit_list(found.asked, cuts, fps))
    return _saved(found, settings.save) if settings.save is not None else found


def _saved(found: Found, folder: Path) -> Found:
    """Cut the found scenes out into `folder`."""
    from prismhub.archive.cut_scenes import save_scene, saved_name

    saved, failures = [], []
    for number, one in enumerate(found, start=1):
        name = saved_name(number, one.video, one.start_s, one.end_s)
        try:
            saved.append(save_scene(one.video, one.start_s, one.end_s, folder, name))
        except UnreadableVideo as error:
            failures.append(error)
    return replace(found, saved=tuple(saved), failures=tuple(failures))


def print_search(settings: SearchSettings) -> None:
    """Find scenes of an archive by words, by example, and by what adapters said.

    Example: prismhub search archive "a red circle moving left" --top 5
    """
    show = Show(settings.output.quiet)
    found = search(settings, show)
    if settings.output.json:
        print_json([one.describe() for one in found])
    elif len(found):
        _print_found(found)
    if not len(found):
        print(found.nothing + (" (--anyway shows it)" if found.nearest else ""), file=sys.stderr)
    for path in (settings.html, settings.edl):
        if path is not None:
            show.note(f"written to {path}")
    if settings.save is not None:
        show.note(f"{settings.save}: {found.describe_saved()}")
    print_failures(found.failures)
    if found.failures:
        raise typer.Exit(FAILED_ITEMS)


def _print_found(found: Found) -> None:
    from prismhub.archive.found_scenes import common_folder

    common = common_folder([one.video for one in found])
    ranked = any(one.parts for one in found)  # else they are listed
    several = len({name for one in found for name in one.parts}) > 1
    rows = []
    for number, one in enumerate(found, start=1):
        rank = [f"{one.score:.4f}"] if ranked else []
        rank += [one.shares()] if several else []
        rows.append([str(number), one.video.removeprefix(common), one.when(), *rank, one.what()])
    rank = (["score"] if ranked else []) + (["found by"] if several else [])
    print_table(["", "video", "time", *rank, "what is known of it"], rows)
    if common:
        print(f"videos in {common}")
