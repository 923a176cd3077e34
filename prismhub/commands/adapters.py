"""`prismhub adapters kinds|list|show|rm|add-results|push|pull`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from core_encoder.config import group, option
from core_encoder.errors import InputError
from prismhub.options import command_signature
from prismhub.printing import print_json, print_table
from prismhub.settings import PartsSettings

if TYPE_CHECKING:
    from adapters.adapter import Adapter

app = typer.Typer(help="Saved adapters: the local registry and the Hub.", no_args_is_help=True)


@dataclass(frozen=True)
class AdapterKindsSettings:
    """Options of `prismhub adapters kinds`."""

    kind: str | None = option(None, "One kind, with its options (default: all).", positional=True)
    json: bool = option(False, "The result as JSON on stdout.")


@dataclass(frozen=True)
class AdapterListSettings:
    """Options of `prismhub adapters list`."""

    pattern: str = option("*", "Names to list; * and ? match.", positional=True)
    json: bool = option(False, "The result as JSON on stdout.")


@dataclass(frozen=True)
class AdapterShowSettings:
    """Options of `prismhub adapters show`."""

    ref: str = option(help="Registry name[@version], folder, or Hub id[@revision].", positional=True)
    json: bool = option(False, "Its configuration as JSON on stdout.")


@dataclass(frozen=True)
class AdapterRemoveSettings:
    """Options of `prismhub adapters rm`."""

    ref: str = option(help="name@version, or name for all its versions.", positional=True)


@dataclass(frozen=True, kw_only=True)
class AdapterPushSettings:
    """Options of `prismhub adapters push`."""

    ref: str = option(help="Registry name[@version], folder, or Hub id[@revision].", positional=True)
    repo: str = option(help="Hub id: owner/name.", positional=True)
    private: bool = option(False, "Make a new repository private.")
    parts: PartsSettings = group()


@dataclass(frozen=True, kw_only=True)
class AdapterPullSettings:
    """Options of `prismhub adapters pull`."""

    ref: str = option(help="Hub id[@revision], or folder.", positional=True)
    name: str | None = option(None, "Name in the registry (default: its own).")
    parts: PartsSettings = group()


@dataclass(frozen=True, kw_only=True)
class AdapterAddResultsSettings:
    """Options of `prismhub adapters add-results`."""

    ref: str = option(help="Registry name[@version], or folder.", positional=True)
    results: tuple[Path, ...] = option(help="Results, as `evaluate` writes them.", positional=True)
    dataset_id: str = option("", "Hub id, owner/name, of the data set whose leaderboard shall list them.")
    task_id: str = option("default", "Its task there, as its eval.yaml names it.")
    source_url: str = option("", "Address where more is told of the results.")


def adapters_kinds(settings: AdapterKindsSettings) -> None:
    """List the kinds of adapters that can be trained, or the options that `--head` and `--grid` take for one.

    Example: prismhub adapters kinds map_classifier
    """
    from adapters.registry import adapter_kind, adapter_kinds

    kind = settings.kind
    about: dict[str, tuple[str, str, list[tuple[str, str, str]]]] = {}
    for name in [kind] if kind else adapter_kinds():
        try:
            about[name] = _summary(adapter_kind(name))
        except InputError as error:  # a broken plug-in must not hide the others
            if kind:
                raise
            about[name] = ("-", str(error), [])
    if settings.json:
        print_json(about)
        return
    print_table(["kind", "features", "what it is"], [[name, *summary[:2]] for name, summary in about.items()])
    if kind:
        print_table(["option", "default", "what it does"], [[*row] for row in about[kind][2]])


def adapters_list(settings: AdapterListSettings) -> None:
    """List the adapters in the registry.

    Example: prismhub adapters list 'birds-*'
    """
    from adapters.registry import list_adapters

    rows = list_adapters(settings.pattern)
    if settings.json:
        print_json([asdict(row) | {"path": str(row.path), "ref": row.ref} for row in rows])
        return
    header = ["adapter", "kind", "encoder", "task", "classes", "metric", "created"]
    table = [[r.ref, r.kind, r.encoder, r.task, str(r.num_classes), r.metric, r.created] for r in rows]
    print_table(header, table)


def _summary(kind: type[Adapter]) -> tuple[str, str, list[tuple[str, str, str]]]:
    """The features a kind reads, its first sentence, and its options with defaults and help."""
    first = (kind.__doc__ or "").strip().partition("\n\n")[0]
    options = [
        (field.name, "-" if field.default in (None, ()) else str(field.default), str(field.metadata.get("help", "")))
        for field in fields(kind.Config)
    ]
    return kind.feature_kind, " ".join(first.split()), options


def adapters_show(settings: AdapterShowSettings) -> None:
    """Show the model card of an adapter, or its configuration with --json.

    Example: prismhub adapters show my-adapter
    """
    from adapters.card import CARD_FILE, model_card, read_info
    from adapters.registry import find_adapter

    folder = find_adapter(settings.ref)
    info, card = read_info(folder), folder / CARD_FILE
    if settings.json:
        print_json(info.to_json())
    else:  # the card that lies there says more: where parts are that the folder does not hold, and what people added
        print(card.read_text(encoding="utf-8") if card.is_file() else model_card(info, settings.ref))


def adapters_rm(settings: AdapterRemoveSettings) -> None:
    """Remove a version of an adapter, or all of them.

    Example: prismhub adapters rm my-adapter@v1
    """
    from adapters.registry import remove_adapter

    for path in remove_adapter(settings.ref):
        print(f"removed {path}")


def adapters_add_results(settings: AdapterAddResultsSettings) -> None:
    """Record results in an adapter: its model card (model-index) and, for a leaderboard on the Hub, .eval_results/.

    Example: prismhub adapters add-results my-adapter result.json --dataset-id owner/benchmark
    """
    from adapters.registry import find_adapter, registry_folder
    from benchmarks.adapter_results import record_results

    if "/" in settings.ref and not Path(settings.ref).expanduser().is_dir():
        raise InputError(
            f"{settings.ref}: no such folder; an adapter on the Hub is pulled first: prismhub adapters pull"
        )
    folder = find_adapter(settings.ref)
    name = folder.parent.name if folder.parent.parent == registry_folder() else folder.name
    hub = {"dataset_id": settings.dataset_id, "task_id": settings.task_id, "source_url": settings.source_url}
    info = record_results(folder, settings.results, name, **hub)
    print(f"{folder}: holds {len(info.results)} results")


def adapters_push(settings: AdapterPushSettings) -> None:
    """Publish an adapter on the Hub.

    Example: prismhub adapters push my-adapter me/my-adapter --private
    """
    from adapters.registry import describe_adapter, load_adapter
    from prismhub.saved import moved_parts

    (moved,) = moved_parts([describe_adapter(settings.ref)], settings.parts)
    print(load_adapter(settings.ref, moved=moved).push_to_hub(settings.repo, private=settings.private))


def adapters_pull(settings: AdapterPullSettings) -> None:
    """Copy an adapter from the Hub or a folder into the registry.

    Example: prismhub adapters pull me/my-adapter
    """
    from adapters.registry import describe_adapter, pull
    from prismhub.saved import moved_parts

    (moved,) = moved_parts([describe_adapter(settings.ref)], settings.parts)
    print(f"saved as {pull(settings.ref, settings.name, moved).ref}")


app.command("kinds")(command_signature(AdapterKindsSettings, adapters_kinds))
app.command("list")(command_signature(AdapterListSettings, adapters_list))
app.command("show")(command_signature(AdapterShowSettings, adapters_show))
app.command("rm")(command_signature(AdapterRemoveSettings, adapters_rm))
app.command("add-results")(command_signature(AdapterAddResultsSettings, adapters_add_results))
app.command("push")(command_signature(AdapterPushSettings, adapters_push))
app.command("pull")(command_signature(AdapterPullSettings, adapters_pull))
