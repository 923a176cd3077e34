"""`prismhub adapters list|show|rm|push|pull`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from prismhub.printing import print_json, print_table

app = typer.Typer(help="Saved adapters: the local registry and the Hub.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="As JSON on stdout.")]
Pattern = Annotated[str, typer.Argument(help="Names to list; * and ? match.")]
Ref = Annotated[str, typer.Argument(help="Registry name[@version], folder, or Hub id[@revision].")]


@app.command("list")
def adapters_list(pattern: Pattern = "*", as_json: AsJson = False) -> None:
    """List the adapters in the registry.

    Example: prismhub adapters list 'birds-*'
    """
    from adapters.registry import list_adapters

    rows = list_adapters(pattern)
    if as_json:
        print_json([asdict(row) | {"path": str(row.path), "ref": row.ref} for row in rows])
        return
    header = ["adapter", "kind", "encoder", "task", "classes", "metric", "created"]
    table = [[r.ref, r.kind, r.encoder, r.task, str(r.num_classes), r.metric, r.created] for r in rows]
    print_table(header, table)


@app.command("show")
def adapters_show(ref: Ref, as_json: AsJson = False) -> None:
    """Show the model card of an adapter, or its configuration with --json.

    Example: prismhub adapters show my-adapter
    """
    from adapters.card import model_card
    from adapters.registry import describe_adapter

    info = describe_adapter(ref)
    if as_json:
        print_json(info.to_json())
    else:
        print(model_card(info, ref))


@app.command("rm")
def adapters_rm(ref: Annotated[str, typer.Argument(help="name@version, or name for all its versions.")]) -> None:
    """Remove a version of an adapter, or all of them.

    Example: prismhub adapters rm my-adapter@v1
    """
    from adapters.registry import remove_adapter

    for path in remove_adapter(ref):
        print(f"removed {path}")


@app.command("push")
def adapters_push(
    ref: Ref,
    repo: Annotated[str, typer.Argument(help="Hub id: owner/name.")],
    private: Annotated[bool, typer.Option(help="Make a new repository private.")] = False,
) -> None:
    """Publish an adapter on the Hub.

    Example: prismhub adapters push my-adapter me/my-adapter --private
    """
    from adapters.registry import load_adapter

    print(load_adapter(ref).push_to_hub(repo, private=private))


@app.command("pull")
def adapters_pull(
    ref: Ref, name: Annotated[str | None, typer.Option(help="Name in the registry (default: its own).")] = None
) -> None:
    """Copy an adapter from the Hub or a folder into the registry.

    Example: prismhub adapters pull me/my-adapter
    """
    from adapters.registry import pull

    print(f"saved as {pull(ref, name).ref}")
