"""`prismhub index`: folders of videos into an archive of scenes, which is searched by words and by example."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core_encoder.errors import InputError
from prismhub.archive.index_settings import IndexSettings, SceneSettings
from prismhub.progress import SILENT, Show

if TYPE_CHECKING:
    from core_encoder.features.failures import Failure
    from prismhub.archive.scene_cuts import SceneCuts
    from prismhub.archive.scenes import ArchiveRecord

__all__ = ["IndexSettings", "Indexed", "index", "print_index"]


@dataclass(frozen=True)
class Indexed:
    """What `index` did, in numbers of videos, and what the archive holds now."""

    archive: Path
    videos: int
    scenes: int
    added: int
    changed: int
    unchanged: int
    removed: int
    answered: int  # unchanged ones that an adapter was asked about
    seconds: float  # of the videos that were cut
    failures: tuple[Failure, ...]

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {"archive": str(self.archive)}

    def __str__(self) -> str:
        did = {name: getattr(self, name) for name in ("added", "changed", "removed", "answered", "unchanged")}
        said = ", ".join(f"{count} {name}" for name, count in did.items() if count)
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"{self.archive}: {self.videos} videos, {self.scenes} scenes ({said or 'nothing new'}{failed})"


def index(settings: IndexSettings, show: Show = SILENT) -> Indexed:
    """Bring an archive up to date with folders of videos; those that cannot be read are listed.

    Raises:
        InputError: no such folder, adapter or encoder, cuts that make no sense, another archive's encoder, the disk is
            full, or another run is at work on the archive.
    """
    from prismhub.archive.video_folders import find_archived

    settings.cluster.check()
    out = settings.out.expanduser()
    known = _known(out)
    found = find_archived(settings.videos, () if known is None else known.roots)
    cuts = _cuts(settings.cuts, known)
    cuts.check()
    from prismhub.archive.ingest import Ingestion, IngestProgress, locked_for_writing
    from prismhub.archive.scene_answers import open_answers
    from prismhub.archive.scene_index import FolderIndex
    from prismhub.features import default_store

    answers = open_answers(settings, known, show)
    if not answers.space:
        name = answers.encoder.name if known is None else known.encoder
        show.note(
            f"note: encoder {name!r} has no text tower: words are searched in speech, captions, labels and names, not "
            "in pictures; an adapter of kind lit_text would do that"
        )
    record = answers.record(known, found.roots, cuts.describe())
    with locked_for_writing(out):
        if _known(out) != known:
            raise InputError(
                f"{out}: another prismhub index changed this archive meanwhile; run the same command again"
            )
        with (
            FolderIndex.create(out, record) if known is None else FolderIndex.open(out) as archive,
            show.bar("indexing", in_seconds=True) as bar,
        ):

            def progress(told: IngestProgress) -> None:
                from benchmarks.encoding import pace_text

                note = f"{pace_text(told.times_real_time, told.left_s)}, {told.videos}/{told.total_videos} videos"
                bar.update(told.done_s, told.total_s, note + (f", {told.failed} failed" if told.failed else ""))

            store = settings.reading.store or default_store()
            make_scenes = None
            if settings.cluster.on_ray:
                from prismhub.archive.scenes_on_cluster import ClusterScenes

                make_scenes = partial(
                    ClusterScenes, settings=settings, known=known, cuts=cuts, store=store, tell=show.note
                )
            run = Ingestion(out, archive, answers, cuts, store, settings.reading, progress, make_scenes)
            done = run.run(found, record)
            count, scenes = len(archive.made_of()), len(archive)
    if done.unlisted:
        show.note(f"note: of {done.unlisted} videos no scene is listed in {settings.cuts.scenes}: they were left out")
    return Indexed(
        archive=out,
        videos=count,
        scenes=scenes,
        added=done.added,
        changed=done.changed,
        unchanged=done.unchanged,
        removed=done.removed,
        answered=done.answered,
        seconds=done.video_s,
        failures=tuple(done.failures),
    )


def print_index(settings: IndexSettings) -> None:
    """Cut videos into scenes, encode them once, and keep them in an archive that is searched by words and by example.

    The same command again touches only what is new, changed or gone.

    Example: prismhub index my_videos/ --encoder nano --adapter my-labels --out archive
    """
    import typer

    from prismhub.printing import print_json

    done = index(settings, Show(settings.output.quiet))
    if settings.output.json:
        print_json(done.describe())
    else:
        print(done)  # what could not be read was said when it was met
    if done.failures:
        raise typer.Exit(3)


def _known(out: Path) -> ArchiveRecord | None:
    """What the archive in a folder records; None where there is none yet, none was finished, or it holds no scene."""
    from prismhub.archive.schema import DATABASE, UnfinishedArchive

    if not (out / DATABASE).exists():
        if out.is_file():
            raise InputError(f"{out}: is a file; an archive is a folder")
        return None
    from prismhub.archive.folder_reader import FolderReader

    try:
        with FolderReader.open(out) as archive:
            return archive.record if len(archive) else None
    except UnfinishedArchive:
        return None


def _cuts(given: SceneSettings, known: ArchiveRecord | None) -> SceneCuts:
    """How videos are cut: as given, and for the rest as before.

    Raises:
        InputError: the archive's scenes come of a list, which is not given.
    """
    from prismhub.archive.scene_cuts import SceneCuts, read_spans

    if given.scenes is not None:
        return SceneCuts(spans=read_spans(given.scenes))
    if given.window is not None:
        return SceneCuts(window_s=given.window)
    lengths = {"threshold": given.threshold, "min_scene_s": given.min_scene, "max_scene_s": given.max_scene}
    own: dict[str, Any] = {name: value for name, value in lengths.items() if value is not None}
    before = {} if known is None else known.cuts
    if before.get("by") == "list" and not own:
        raise InputError("the scenes of this archive come of a list: give it with --scenes, or say how to cut instead")
    return replace(SceneCuts.from_record(before if before.get("by") == "shots" or not own else {}), **own)
