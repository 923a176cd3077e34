"""The command line. Exit codes: 0 done; 1 failure; 2 wrong input; 3 finished with failed items; 130 Ctrl-C."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.exceptions import Abort, TyperException

from core_encoder.errors import InputError
from prismhub.options import command_signature, gather_lists
from prismhub.settings import EncodeSettings, EvaluateSettings, PredictSettings, TrainSettings

if TYPE_CHECKING:
    from core_encoder.store_upkeep import VerifyReport

FAILED_ITEMS = 3
app = typer.Typer(
    help="Encode videos once with a frozen encoder, then ask many questions of them through cheap adapters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
adapters_app = typer.Typer(help="Saved adapters: the local registry and the Hub.", no_args_is_help=True)
cache_app = typer.Typer(help="The feature store.", no_args_is_help=True)
app.add_typer(adapters_app, name="adapters")
app.add_typer(cache_app, name="cache")

AsJson = Annotated[bool, typer.Option("--json", help="As JSON on stdout.")]
Pattern = Annotated[str, typer.Argument(help="Names to list; * and ? match.")]
Ref = Annotated[str, typer.Argument(help="Registry name[@version], folder, or Hub id[@revision].")]
StoreRoot = Annotated[str | None, typer.Option("--store", help="Feature store (default: features/ in PRISMHUB_HOME).")]


def main() -> None:
    """The entry point: one line and an exit code for everything that can go wrong."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    _quiet_libraries()
    try:
        return int(app(gather_lists(arguments), prog_name="prismhub", standalone_mode=False) or 0)
    except typer.Exit as error:
        return error.exit_code
    except InputError as error:
        return _fail(str(error), 2)
    except TyperException as error:  # an unknown command or option
        if not error.format_message():  # a group without a command has shown its help
            return 2
        context = getattr(error, "ctx", None)
        where = f" (see {context.command_path} --help)" if context else ""
        return _fail(error.format_message() + where, 2)
    except (KeyboardInterrupt, Abort):
        return _fail("stopped; what was finished is kept, the same command goes on from there", 130)
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("PRISMHUB_DEBUG"):
            raise
        reason = " ".join(str(error).split()) or "no reason given"
        return _fail(f"{type(error).__name__}: {reason} (PRISMHUB_DEBUG=1 shows where)", 1)


def _encode(settings: EncodeSettings) -> None:
    """Encode videos once into the feature store; unreadable ones are listed, not fatal.

    Example: prismhub encode my_videos/ --encoder nano
    """
    from prismhub.encode_job import encode
    from prismhub.progress import Show

    done = encode(settings, Show(settings.quiet))
    if done.report is None:
        if settings.json:
            _print_json({"views": done.estimate.num_views, "bytes": done.estimate.total_bytes})
        return
    report = done.report
    if settings.json:
        _print_json(
            {
                "store": str(report.folder),
                "clips": report.n_clips,
                "cached": report.n_cached,
                "encoded": report.n_encoded,
                "failed": [asdict(failure) for failure in report.failures],
                "clips_per_s": report.clips_per_s,
                "bottleneck": report.bottleneck,
            }
        )
    else:
        print(report.folder)
    _exit_for(report.failures)


def _train(settings: TrainSettings) -> None:
    """Train an adapter on labelled videos, evaluate it, and save it under a name.

    Example: prismhub train --data my_videos/ --adapter map_classifier --encoder nano --name my-adapter
    """
    from prismhub.progress import Show
    from prismhub.train_job import train

    done = train(settings, Show(settings.quiet))
    if settings.json:
        _print_json(
            {
                "adapter": done.ref,
                "folder": str(done.folder),
                "run": str(done.run),
                "result": asdict(done.result),
                "settings": [asdict(setting) for setting in done.training.settings],
                "seed_scores": done.seed_scores,
                "frames_decoded": done.frames_decoded,
            }
        )
    else:
        if len(done.training.settings) > 1:
            rows = [
                [one.name, _number(one.score), str(one.best_epoch + 1), one.stopped or "-"]
                for one in done.training.settings
            ]
            _print_table(["setting", "validation score", "best epoch", "stopped"], rows)
        if len(done.seed_scores) > 1:
            import statistics

            mean, deviation = statistics.mean(done.seed_scores), statistics.stdev(done.seed_scores)
            print(f"validation over {len(done.seed_scores)} seeds: mean {mean:.4f}, standard deviation {deviation:.4f}")
        _print_results([done.result])
        print(f"saved as {done.ref} in {done.folder}")
        print(f"use it:  prismhub predict VIDEO --adapter {done.ref.partition('@')[0]}")
    _exit_for(done.failures)


def _evaluate(settings: EvaluateSettings) -> None:
    """Evaluate a saved adapter on labelled videos.

    Example: prismhub evaluate --data my_videos/ --adapter my-adapter
    """
    from prismhub.evaluate_job import evaluate
    from prismhub.progress import Show

    done = evaluate(settings, Show(settings.quiet))
    if settings.json:
        _print_json(asdict(done.result))
    else:
        _print_results([done.result])
        print(f"written to {done.path}")
    _exit_for(done.failures)


def _predict(settings: PredictSettings) -> None:
    """Ask a saved adapter about new videos.

    Example: prismhub predict new.mp4 more_videos/ --adapter my-adapter --json
    """
    from prismhub.predict_job import predict
    from prismhub.progress import Show

    done = predict(settings, Show(settings.quiet))
    if settings.json:
        rows: list[dict[str, Any]] = []
        for prediction in done.predictions:
            record = prediction.describe(settings.all_scores)
            row = {"video": record.pop("id")} | record
            if settings.top > 1:
                row["top"] = [{"label": label, "score": score} for label, score in prediction.top(settings.top)]
            rows.append(row)
        rows += [{"video": failure.path, "error": failure.reason} for failure in done.failures]
        _print_json(rows)
    else:
        table = []
        for prediction in done.predictions:
            for place, (label, score) in enumerate(prediction.top(settings.top)):
                table.append(["" if place else prediction.sample_id, label, f"{score:.3f}"])
        _print_table(["video", "label", "score"], table)
        for failure in done.failures:
            print(f"{failure.path}: not read: {failure.reason}", file=sys.stderr)
    _exit_for(done.failures)


app.command("encode")(command_signature(EncodeSettings, _encode, positional="videos"))
app.command("train")(command_signature(TrainSettings, _train))
app.command("evaluate")(command_signature(EvaluateSettings, _evaluate))
app.command("predict")(command_signature(PredictSettings, _predict, positional="videos"))


@app.command("demo")
def demo_command(
    out: Annotated[str, typer.Option(help="Folder for the videos, the run and the report.")] = "demo",
    seed: Annotated[int, typer.Option(help="Seed of the videos and of the training.")] = 0,
) -> None:
    """Write labelled videos, train an adapter on them, evaluate it, use it, and show it all on one HTML page.

    Example: prismhub demo --out demo
    """
    from prismhub.demo import demo

    done = demo(Path(out), seed)
    _print_results([done.first.result, done.second.result])
    print(f"the page: {done.page.resolve().as_uri()}")
    print("next:  prismhub train --data my_videos/ --adapter map_classifier --encoder nano --name my-adapter")


@app.command("encoders")
def encoders_command(as_json: AsJson = False) -> None:
    """List the encoders known by name.

    Example: prismhub encoders
    """
    from core_encoder.encoder import encoders

    known = encoders()
    if as_json:
        _print_json([asdict(info) for info in known])
        return
    header = [name.replace("_", " ") for name in asdict(known[0])]
    _print_table(header, [[_cell(value) for value in asdict(info).values()] for info in known])


@app.command("env")
def env_command(as_json: AsJson = False) -> None:
    """Print versions and settings, for bug reports.

    Example: prismhub env
    """
    import torch

    from benchmarks.results import Provenance
    from core_encoder.storage import offline, prismhub_home
    from core_encoder.video import decoder_id

    found = asdict(Provenance.collect(decoder=decoder_id()))
    versions = found.pop("versions")
    kept = {name: found[name] for name in ("prismhub", "commit", "platform", "decoder")} | versions
    kept |= {
        "cpu threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "home": str(prismhub_home()),
        "offline": offline(),
    }
    if as_json:
        _print_json(kept)
        return
    for name, value in kept.items():
        print(f"{name}: {_cell(value)}")


@adapters_app.command("list")
def adapters_list(pattern: Pattern = "*", as_json: AsJson = False) -> None:
    """List the adapters in the registry.

    Example: prismhub adapters list 'birds-*'
    """
    from adapters.registry import list_adapters

    rows = list_adapters(pattern)
    if as_json:
        _print_json([asdict(row) | {"path": str(row.path), "ref": row.ref} for row in rows])
        return
    header = ["adapter", "kind", "encoder", "task", "classes", "metric", "created"]
    table = [[r.ref, r.kind, r.encoder, r.task, str(r.num_classes), r.metric, r.created] for r in rows]
    _print_table(header, table)


@adapters_app.command("show")
def adapters_show(ref: Ref, as_json: AsJson = False) -> None:
    """Show the model card of an adapter, or its configuration with --json.

    Example: prismhub adapters show my-adapter
    """
    from adapters.card import model_card
    from adapters.registry import describe_adapter

    info = describe_adapter(ref)
    if as_json:
        _print_json(info.to_json())
    else:
        print(model_card(info, ref))


@adapters_app.command("rm")
def adapters_rm(ref: Annotated[str, typer.Argument(help="name@version, or name for all its versions.")]) -> None:
    """Remove a version of an adapter, or all of them.

    Example: prismhub adapters rm my-adapter@v1
    """
    from adapters.registry import remove_adapter

    for path in remove_adapter(ref):
        print(f"removed {path}")


@adapters_app.command("push")
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


@adapters_app.command("pull")
def adapters_pull(
    ref: Ref, name: Annotated[str | None, typer.Option(help="Name in the registry (default: its own).")] = None
) -> None:
    """Copy an adapter from the Hub or a folder into the registry.

    Example: prismhub adapters pull me/my-adapter
    """
    from adapters.registry import pull

    print(f"saved as {pull(ref, name).ref}")


@cache_app.command("list")
def cache_list(store: StoreRoot = None, as_json: AsJson = False) -> None:
    """List the stored features: encoder, kind, clips, size.

    Example: prismhub cache list
    """
    from core_encoder.storage import readable_bytes
    from core_encoder.store_upkeep import list_stores

    found = list_stores(_store_root(store))
    if as_json:
        _print_json(
            [
                {"folder": str(one.folder), "spec": one.spec.describe(), "clips": one.num_clips}
                | {"records": one.num_records, "bytes": one.num_bytes, "broken_shards": one.num_broken}
                for one in found
            ]
        )
        return
    header = ["folder", "encoder", "kind", "dtype", "clips", "records", "size", "broken shards"]
    rows = [
        [
            one.folder.name,
            one.spec.encoder,
            one.spec.kind,
            one.spec.dtype,
            str(one.num_clips),
            str(one.num_records),
            readable_bytes(one.num_bytes),
            str(one.num_broken),
        ]
        for one in found
    ]
    _print_table(header, rows)


@cache_app.command("verify")
def cache_verify(
    videos: Annotated[list[str] | None, typer.Argument(help="Videos or folders to encode again and compare.")] = None,
    store: StoreRoot = None,
    encoder: Annotated[str | None, typer.Option(help="Encoder of the features, for the comparison.")] = None,
    sample: Annotated[int, typer.Option(help="So many clips are compared.")] = 8,
) -> None:
    """Check every stored record; with videos, encode a few again and print the differences.

    Example: prismhub cache verify my_videos/ --encoder nano
    """
    from core_encoder.store_upkeep import list_stores, verify_store
    from prismhub.encode_job import find_clips, open_encoder

    if bool(videos) != bool(encoder):
        raise InputError("comparing needs both: videos, and --encoder NAME")
    model = open_encoder(encoder) if encoder else None
    paths = [clip.path for clip in find_clips(videos)] if videos else []
    sound = True
    for info in list_stores(_store_root(store)):
        if model is not None and info.spec.fingerprint != model.fingerprint:
            continue
        report = verify_store(info.folder, model, paths, sample)
        sound = sound and report.ok
        _print_verified(report)
    if not sound:
        raise typer.Exit(1)


@cache_app.command("prune")
def cache_prune(
    store: StoreRoot = None,
    older_than_days: Annotated[float | None, typer.Option(help="Remove stores not written to for so long.")] = None,
    encoder: Annotated[str | None, typer.Option(help="Remove the stores of this encoder (its name).")] = None,
    everything: Annotated[bool, typer.Option(help="Remove all stores that the other options choose.")] = False,
    check_bytes: Annotated[bool, typer.Option(help="Read every byte and remove corrupt shards too.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only say what would go.")] = False,
) -> None:
    """Remove broken shards and leftovers of killed runs; with options, whole stores.

    Example: prismhub cache prune --older-than-days 90 --dry-run
    """
    from core_encoder.storage import readable_bytes
    from core_encoder.store_upkeep import prune_stores

    report = prune_stores(
        _store_root(store),
        older_than_days=older_than_days,
        encoder=encoder,
        everything=everything,
        check_bytes=check_bytes,
        dry_run=dry_run,
    )
    done = "would remove" if report.dry_run else "removed"
    print(f"{done} {len(report.removed)} files, {readable_bytes(report.num_bytes)}")


def _print_verified(report: VerifyReport) -> None:
    counts = f"{report.num_clips} clips, {report.num_records} records in {report.num_shards} shards"
    print(f"{report.folder}: {'sound' if report.ok else 'NOT SOUND'}: {counts}")
    for path, reason in report.broken_shards.items():
        print(f"  broken shard {path.name}: {reason}")
    for path, key in report.corrupt_records:
        print(f"  corrupt record {key} in {path.name}")
    if report.incomplete_clips:
        print(f"  {report.incomplete_clips} clips are incomplete: the next encoding finishes them")
    for pair in report.compared:
        state = "agrees" if pair.agrees else "DIFFERS"
        print(f"  {pair.file_name}: {state}, largest difference {pair.max_difference:.2e} of {pair.tolerance:.2e}")
    for name, reason in report.not_compared.items():
        print(f"  {name}: not compared: {reason}")


def _store_root(given: str | None) -> Path:
    from prismhub.encode_job import default_store

    return Path(given).expanduser() if given else default_store()


def _print_results(results: Sequence[Any]) -> None:
    from benchmarks.results import table_rows

    header, rows = table_rows(results)
    _print_table(header, rows)


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(_escaped(cell) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(table)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and value >= 1_000_000:
        return f"{value / 1e6:.1f} M"
    if isinstance(value, list | tuple):
        return ", ".join(str(one) for one in value) or "-"
    return "-" if value is None else str(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _exit_for(failures: Sequence[Any]) -> None:
    if failures:
        raise typer.Exit(FAILED_ITEMS)


def _fail(message: str, code: int) -> int:
    print(f"prismhub: {message}", file=sys.stderr)
    return code


def _quiet_libraries() -> None:
    """Warnings of our own go to stderr, one line each; those of libraries are for developers."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    if not os.environ.get("PRISMHUB_DEBUG"):
        warnings.simplefilter("ignore")
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        for name in (
            "lightning",
            "lightning.fabric",
            "lightning.pytorch",
            "transformers",
            "huggingface_hub",
            "tensorboard",
        ):
            logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
