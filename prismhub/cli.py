"""The command line. Exit codes: 0 done; 1 failure; 2 wrong input; 3 finished with failed items; 130 Ctrl-C."""

from __future__ import annotations

import io
import logging
import os
import shlex
import shutil
import signal
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from typer.exceptions import Abort, TyperException

from adapters.training.training_config import TrainingDiverged
from core_encoder.errors import InputError
from pretrain.run.progress import PretrainingStopped
from prismhub.archive.index_settings import IndexSettings
from prismhub.archive.query_settings import LabelSettings, SearchSettings
from prismhub.commands import adapters as adapters_commands
from prismhub.commands import bench as bench_commands
from prismhub.commands import cache as cache_commands
from prismhub.commands import corpus as corpus_commands
from prismhub.commands import mcp as mcp_commands
from prismhub.commands import report as report_commands
from prismhub.commands import serve as serve_commands
from prismhub.commands import tasks as tasks_commands
from prismhub.commands.env import print_env
from prismhub.commands.export import print_export
from prismhub.commands.index import print_index
from prismhub.commands.label import print_label
from prismhub.commands.search import print_search
from prismhub.exporting.export_settings import ExportSettings
from prismhub.options import command_signature, gather_lists
from prismhub.printing import (
    answer_records,
    cell_text,
    number_text,
    print_failures,
    print_json,
    print_predictions,
    print_results,
    print_table,
    spread_text,
)
from prismhub.settings import (
    DemoSettings,
    EmbedSettings,
    EncodeSettings,
    EvaluateSettings,
    PredictSettings,
    PretrainSettings,
    RankSettings,
    ScoreSettings,
    ShowSettings,
    TrainSettings,
    ZeroShotSettings,
)

FAILED_ITEMS = 3
# Their answers come at the end, and no feature is stored.
KEEP_NOTHING = ("predict", "zero-shot", "rank", "serve", "mcp", "score", "export")
app = typer.Typer(
    help="Encode videos once with a frozen encoder, then ask many questions of them through cheap adapters.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(adapters_commands.app, name="adapters")
app.add_typer(cache_commands.app, name="cache")
app.add_typer(corpus_commands.app, name="corpus")
app.add_typer(tasks_commands.app, name="tasks")


def main() -> None:
    """The entry point: one line and an exit code for everything that can go wrong."""
    for stream in (sys.stdout, sys.stderr):  # a terminal may not know every letter, nor a file's name be text
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is done: Ctrl-C could only garble how Python ends
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    # Decoding and encoding threads share the cores: a thread that spins while it waits starves the others (5x slower).
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    _quiet_libraries()
    try:
        command = typer.main.get_command(app)  # without its main(), which turns Ctrl-C and closed pipes into exit codes
        with command.make_context("prismhub", gather_lists(arguments)) as whole:
            command.invoke(whole)
        sys.stdout.flush()  # while a reader who went away can still be told from a failure
        return 0
    except typer.Exit as error:
        return error.exit_code
    except InputError as error:
        return _fail(str(error), 2)
    except (TrainingDiverged, PretrainingStopped) as error:
        return _fail(str(error), 1)
    except TyperException as error:  # an unknown command or option
        if not error.format_message():  # a group without a command has shown its help
            return 2
        context = getattr(error, "ctx", None)
        where = f" (see {context.command_path} --help)" if context else ""
        return _fail(error.format_message() + where, 2)
    except (KeyboardInterrupt, Abort):
        if arguments[:1] and arguments[0] in KEEP_NOTHING:
            return _fail("stopped; nothing was kept, the same command begins anew", 130)
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
    from prismhub.commands.encode import print_encode

    _exit_for(print_encode(settings))


def _train(settings: TrainSettings) -> None:
    """Train an adapter on labelled videos, evaluate it, and save it under a name.

    Example: prismhub train --data my_videos/ --adapter map_classifier --encoder nano --name my-adapter
    """
    from prismhub.commands.train import train
    from prismhub.progress import Show

    done = train(settings, Show(settings.output.quiet))
    if settings.output.json:
        print_json(
            {
                "adapter": done.ref,
                "folder": str(done.folder),
                "run": str(done.run),
                "result": asdict(done.result),
                "settings": [asdict(setting) for setting in done.training.settings],
                "seeds": [asdict(one) for one in done.seeds],
                "frames_decoded": done.frames_decoded,
                "failed": [asdict(failure) for failure in done.failures],
            }
        )
    else:
        if len(done.training.settings) > 1:
            rows = [
                [one.name, number_text(one.score), str(one.best_epoch + 1), one.stopped or "-"]
                for one in done.training.settings
            ]
            print_table(["setting", "validation score", "best epoch", "stopped"], rows)
        if len(done.seeds) > 1:
            print(f"over {len(done.seeds)} seeds: {spread_text([one.validation for one in done.seeds])} on validation")
            main, split = done.result.main_metric, done.result.split
            print(f"over {len(done.seeds)} seeds: {spread_text([one.judged for one in done.seeds])} {main} on {split}")
        print_results([done.result])
        print(f"saved as {done.ref} in {done.folder}")
        print(f"use it:  {_program()} predict VIDEO --adapter {done.ref.partition('@')[0]}")
    _exit_for(done.failures)


def _evaluate(settings: EvaluateSettings) -> None:
    """Evaluate a saved adapter on labelled videos.

    Example: prismhub evaluate --data my_videos/ --adapter my-adapter
    """
    from prismhub.commands.evaluate import evaluate
    from prismhub.progress import Show

    done = evaluate(settings, Show(settings.output.quiet))
    if settings.output.json:
        print_json(asdict(done.result))
    else:
        print_results([done.result])
        print(f"written to {done.path}")
    _exit_for(done.failures)


def _predict(settings: PredictSettings) -> None:
    """Ask saved adapters about new videos; several answer from one encoding.

    Example: prismhub predict new.mp4 more_videos/ --adapter my-adapter --json
    """
    from prismhub.answer_files import formatted, write_formatted
    from prismhub.commands.predict import predict
    from prismhub.progress import Show
    from prismhub.questions import read_questions

    found = predict(settings, Show(settings.output.quiet))
    questions, as_json = read_questions(settings), settings.output.json
    several = len(questions) > 1
    sections: dict[str, Any] = {}
    for question in questions:
        done, asked = found[question.name], question.settings
        if several and not as_json:
            print(f"{question.name} ({question.info.kind})")
        if asked.format is not None:
            texts = formatted(asked, question.info, done.predictions)
            lines = [f"{path}\n" for path in write_formatted(asked, texts)] if asked.out else list(texts.values())
            if several and as_json:
                sections[question.name] = {"files": [line.rstrip("\n") for line in lines]}
            else:
                print("".join(lines), end="")
        elif as_json:
            sections[question.name] = answer_records(done, asked.top, asked.all_scores)
        else:
            print_predictions(done.predictions, asked.top, asked.all_scores)
    if sections:
        print_json(sections if several else next(iter(sections.values())))
    failures = list(dict.fromkeys(failure for done in found.values() for failure in done.failures))
    if not as_json or settings.format is not None:
        print_failures(failures)
    _exit_for(failures)


def _zero_shot(settings: ZeroShotSettings) -> None:
    """Say which of some classes a video shows, without any training, by an encoder that knows words.

    Example: prismhub zero-shot new.mp4 more_videos/ --labels "running,jumping" --encoder nano
    """
    from prismhub.commands.zero_shot import zero_shot
    from prismhub.progress import Show

    done = zero_shot(settings, Show(settings.output.quiet))
    if settings.output.json:
        print_json(answer_records(done, settings.top, settings.all_scores))
    else:
        print_predictions(done.predictions, settings.top, settings.all_scores)
        print_failures(done.failures)
    _exit_for(done.failures)


def _rank(settings: RankSettings) -> None:
    """Find videos by words: those that fit a text best, by an encoder or adapter that knows words.

    Example: prismhub rank my_videos/ --text "a red circle moves left" --encoder nano
    """
    from prismhub.commands.rank import rank
    from prismhub.progress import Show

    done = rank(settings, Show(settings.output.quiet))
    failures = done.failures
    if settings.output.json:
        ranked: list[dict[str, Any]] = [one.describe(settings.top) for one in done.rankings]
        print_json({"texts": ranked, "failed": [asdict(failure) for failure in failures]})
    else:
        rows = [row for one in done.rankings for row in one.rows(settings.top)]
        print_table(["text", "rank", "video", "similarity"], rows)
        print_failures(failures)
    _exit_for(failures)


def _score(settings: ScoreSettings) -> None:
    """Judge predictions that any program made, by the rules and from the files of the official evaluators.

    Example: prismhub score --task activitynet --truth activity_net.v1-3.min.json --predictions results.json
    """
    from prismhub.commands.score import print_score

    print_score(settings)


def _embed(settings: EmbedSettings) -> None:
    """Write features of videos to one file, a row a view, or to a folder for OpenTAD: for tools of your own.

    Example: prismhub embed my_videos/ --out features.npz --encoder nano --window 2 --step 1
    """
    from prismhub.commands.embed import print_embed

    _exit_for(print_embed(settings))


def _pretrain(settings: PretrainSettings) -> None:
    """Make a video encoder from a corpus of videos and captions, by a recipe; the same command again goes on.

    Example: prismhub pretrain pretrain/recipes/nano.yaml
    """
    from prismhub.commands.pretrain import is_alone, is_first, pretrain, reckon
    from prismhub.progress import Show

    if settings.dry_run:
        scale = reckon(settings)
        if settings.output.json:
            print_json(scale.describe())
        else:
            header, *rows = scale.table()
            print_table(header, rows)
        return
    made = pretrain(settings, Show(settings.output.quiet))
    if not is_first():
        return
    if settings.output.json:
        print_json({"encoder": str(made.encoder), **made.about})
    else:
        print(f"the encoder: {made.encoder}")
        encoder = shlex.quote(str(made.encoder))
        print(f"use it:  {_program()} train --data my_videos/ --encoder {encoder} --name my-adapter")
    if made.unread:
        print(f"drawn clips that could not be read gave way to others: {', '.join(made.unread)}", file=sys.stderr)
    if made.unread and is_alone():
        raise typer.Exit(FAILED_ITEMS)


def _demo(settings: DemoSettings) -> None:
    """Write labelled videos, train adapters on them, compare the encoder with none, and show it all on one HTML page.

    Example: prismhub demo --out demo
    """
    from prismhub.commands.demo import run_demo

    run_demo(settings, _program())


def _encoders(settings: ShowSettings) -> None:
    """List the encoders known by name.

    Example: prismhub encoders
    """
    from core_encoder.models.known_encoders import encoders

    known = encoders()
    if settings.json:
        print_json([asdict(info) for info in known])
        return
    header = [name.replace("_", " ") for name in asdict(known[0])]
    print_table(header, [[cell_text(value) for value in asdict(info).values()] for info in known])


app.command("encode")(command_signature(EncodeSettings, _encode))
app.command("train")(command_signature(TrainSettings, _train))
app.command("evaluate")(command_signature(EvaluateSettings, _evaluate))
app.command("predict")(command_signature(PredictSettings, _predict))
app.command("zero-shot")(command_signature(ZeroShotSettings, _zero_shot))
app.command("rank")(command_signature(RankSettings, _rank))
app.command("embed")(command_signature(EmbedSettings, _embed))
app.command("index")(command_signature(IndexSettings, print_index))
app.command("search")(command_signature(SearchSettings, print_search))
app.command("label")(command_signature(LabelSettings, print_label))
app.command("export")(command_signature(ExportSettings, print_export))
app.command("score")(command_signature(ScoreSettings, _score))
app.command("bench")(command_signature(bench_commands.BenchSettings, bench_commands.print_bench))
app.command("rescore")(command_signature(bench_commands.RescoreSettings, bench_commands.print_rescore))
app.command("report")(command_signature(report_commands.ReportSettings, report_commands.print_report))
app.command("serve")(command_signature(serve_commands.ServeSettings, serve_commands.print_serve))
app.command("mcp")(command_signature(mcp_commands.McpSettings, mcp_commands.print_mcp))
app.command("pretrain")(command_signature(PretrainSettings, _pretrain))
app.command("demo")(command_signature(DemoSettings, _demo))
app.command("encoders")(command_signature(ShowSettings, _encoders))
app.command("env")(command_signature(ShowSettings, print_env))


def _exit_for(failures: Sequence[Any]) -> None:
    if failures:
        raise typer.Exit(FAILED_ITEMS)


def _program() -> str:
    """How this program is called here: by its path, or that of Python, where it is not on the search path."""
    called = Path(sys.argv[0])
    if not shutil.which("prismhub"):
        if called.stem == "prismhub":
            return sys.argv[0]
        if called.parts[-2:] == ("prismhub", "__main__.py"):
            return f"{shlex.quote(sys.executable)} -m prismhub"
    return "prismhub"


def _fail(message: str, code: int) -> int:
    print(f"prismhub: {message}", file=sys.stderr)
    return code


def _quiet_libraries() -> None:
    """Warnings of our own go to stderr, one line each; those of libraries are for developers."""
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setLevel(logging.WARNING)  # Lightning sets its own loggers to INFO when it is imported
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[stderr])
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
