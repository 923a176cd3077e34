"""`prismhub demo --all`: an adapter of every kind on real video files, each against what it has to beat, on one page.

The videos are of the synthetic world, annotated as four benchmarks are: MSR-VTT (captions), NExT-QA (questions),
ActivityNet (events on a timeline) and AVA (boxes of two actors). The test splits show objects that no training showed.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from core_encoder.errors import InputError
from core_encoder.files.storage import read_json, write_json
from prismhub.demo import WRITE, Stopwatch, check_out
from prismhub.demo_clips import ASKS, LABEL, PAIRS, TEXT, WHEN, WHO
from prismhub.progress import Show
from prismhub.settings import TrainSettings

if TYPE_CHECKING:
    from adapters.predictions import Segments
    from adapters.scores import Score
    from benchmarks.cell import Trained
    from prismhub.pages.demo_page import Contest
    from tasks.families.spatiotemporal import SpatiotemporalTask

CAPTIONED, EVENTS, ACTORS = "captioned", "events", "actors"
DEFAULT_LLM = "smollm2"
BASELINES = "random weights: encode, train three"
CONSTANT, RANDOM, BLIND, GUESSING = "best constant answer", "random weights", "blind twin", "guessing"
Counts = Mapping[str, int]


@dataclass(frozen=True)
class DemoScale:
    """How many videos of each split are written, and how many epochs each adapter learns."""

    captioned: Counts = field(default_factory=lambda: {"train": 240, "val": 20, "test": 120})
    events: Counts = field(default_factory=lambda: {"train": 24, "val": 6, "test": 16})
    actors: Counts = field(default_factory=lambda: {"train": 100, "val": 20, "test": 40})
    epochs: Counts = field(default_factory=lambda: {LABEL: 30, PAIRS: 30, TEXT: 2, WHEN: 16, WHO: 30})


@dataclass(frozen=True)
class DemoAll:
    """Where the page and the figures are, the trainings by their adapters' names, and what each has to beat.

    `left_out` says why there is no language model, where there is none.
    """

    page: Path
    figures: Path
    trained: Mapping[str, Trained]
    contests: Sequence[Contest]
    seconds: Mapping[str, float]
    left_out: str = ""

    def describe(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "page": str(self.page),
            "contests": [one.describe() for one in self.contests],
            "left_out": self.left_out or None,
            "seconds": {step: round(seconds, 1) for step, seconds in self.seconds.items()},
        }


def demo_all(
    out: Path, seed: int = 0, show: Show | None = None, llm: str | None = None, scale: DemoScale | None = None
) -> DemoAll:
    """Write videos, train an adapter of every kind on features of `nano`, and judge each against its baselines.

    The same again finds all of it done; what was stopped goes on.

    Args:
        out: folder for the videos, `adapters.html` and `adapters.json`. Features and adapters go to PRISMHUB_HOME.
        seed: of the videos, the trainings and the random weights.
        llm: the language model; without it SmolLM2, and where that is not at hand, the demo goes on without one.

    Raises:
        InputError: `out` is a file, the language model that was asked for is not at hand, or the disk is full.
    """
    check_out(out)
    from adapters.hub import Hub
    from core_encoder.config import config_from_dict
    from prismhub.commands.train import train
    from prismhub.demo_clips import shown_clips
    from prismhub.features import open_encoder
    from prismhub.pages.demo_page import DemoPage, write_demo_page
    from prismhub.pages.report import Timing

    show, scale, watch = show or Show(quiet=False), scale or DemoScale(), Stopwatch()
    left_out = _missing_llm(llm, show)
    with watch.step(WRITE):
        folders = _write_videos(out, seed, scale, show)
    options = _options(folders, seed, scale, llm or DEFAULT_LLM)
    if left_out:
        del options[TEXT]
    trained: dict[str, Trained] = {}
    for number, (name, given) in enumerate(options.items(), start=1):
        show.note(f"{number}. {ASKS[name]}? Train {given['adapter']} as {name}")
        with watch.step(f"{ASKS[name]}: encode, train {given['adapter']}"):
            trained[name] = train(config_from_dict(TrainSettings, given), show)
    show.note(f"{len(options) + 1}. is nano worth it? The same heads on random weights (seed {seed})")
    with watch.step(BASELINES):
        constants = _constant_segments(trained[WHEN])
        contests = _contests(trained, constants, seed, show)
    with watch.step("ask a hub of all about held-out clips"):
        hub = Hub(open_encoder("nano"), {name: one.adapter for name, one in trained.items()})
        clips = shown_clips(hub, trained, constants)
    beaten = [one for one in contests if all(map(one.clearly_above, one.baselines))]
    spec = trained[LABEL].adapter.info.features
    assert spec is not None
    data = DemoPage(
        f"{len(trained)} adapters, one encoder: {len(beaten)} of {len(contests)} scores clearly above every baseline",
        contests,
        clips,
        [
            "The encoder 'nano' was pretrained on drawn videos of a synthetic world, the one these were drawn in: its "
            "scores say nothing about videos of the real world.",
            *([left_out] if left_out else []),
        ],
        [Timing(step, seconds) for step, seconds in watch.seconds.items()],
        [
            ("encoder", f"{spec.encoder} ({spec.fingerprint[:16]})"),
            ("seed", str(seed)),
            ("prismhub", trained[LABEL].result.provenance.prismhub),
            *sorted(trained[LABEL].result.provenance.versions.items()),
        ],
        ["prismhub demo --all", *map(_command, options.values())],
    )
    page = write_demo_page(out / "adapters.html", data)
    done = DemoAll(page, out / "adapters.json", trained, contests, watch.seconds, left_out)
    write_json(done.figures, done.describe())
    return done


def _missing_llm(llm: str | None, show: Show) -> str:
    """Why there is no language model; empty where there is one. It is converted here, before anything else is done.

    Raises:
        InputError: one was asked for that is not at hand.
    """
    from adapters.language.known_llms import find_llm

    try:
        find_llm(llm or DEFAULT_LLM)
    except InputError as error:
        if llm is not None:
            raise
        reason = f"no language model, so no captions and answers: {error}"
        show.note(f"note: {reason}")
        return reason
    return ""


def _write_videos(out: Path, seed: int, scale: DemoScale, show: Show) -> dict[str, Path]:
    """Write the videos of each data set unless a run before did: a note of what was written comes last."""
    from pretrain.world.actor_videos import write_actor_videos
    from pretrain.world.captioned_videos import write_captioned_videos
    from pretrain.world.event_videos import write_event_videos

    folders = {}
    captioned = partial(write_captioned_videos, questions=1)  # of each: a language model learns slowly on two cores
    writers: tuple[tuple[str, Callable[..., Path], Counts], ...] = (
        (CAPTIONED, captioned, scale.captioned),
        (EVENTS, write_event_videos, scale.events),
        (ACTORS, write_actor_videos, scale.actors),
    )
    for name, write, counts in writers:
        folder = folders[name] = out / f"{name}-{seed}"
        written = folder / "written.json"
        if not written.exists() or read_json(written) != dict(counts):
            with show.bar(f"writing {name}") as bar:
                write(folder, counts, seed=seed, progress=bar.update)
            write_json(written, dict(counts))
    count = sum(sum(counts.values()) for counts in (scale.captioned, scale.events, scale.actors))
    show.note(f"{count} H.264 videos of a small synthetic world in {out}, annotated as four benchmarks are")
    return folders


def _options(folders: Mapping[str, Path], seed: int, scale: DemoScale, llm: str) -> dict[str, dict[str, Any]]:
    """The options of `prismhub train` for every adapter, by its name."""
    captioned, events, actors = (folders[name] for name in (CAPTIONED, EVENTS, ACTORS))
    boxes = {split: actors / f"ava_{split}.csv" for split in ("val", "test")}
    options: dict[str, dict[str, Any]] = {
        LABEL: {"data": captioned / "labels.csv", "adapter": "map_classifier", "lr": 2e-3},
        PAIRS: {"data": captioned / "MSR_VTT.json", "adapter": "lit_text"},
        TEXT: {
            "data": captioned,
            "adapter": "llm_decoder",
            "llm": llm,
            "blind": True,
            "batch_size": 8,
            "lr": 2e-3,
            "head": ("queries=8", "chat=false", "max_new_tokens=16"),
        },
        WHEN: {
            "data": events / "activity_net.json",
            "adapter": "temporal_localizer",
            "lr": 2e-3,
            "head": ("reads=embedding",),
        },
        WHO: {
            "data": actors / "ava_train.csv",
            **boxes,
            "labels": actors / "labels.pbtxt",
            "videos": actors / "clips",
            "adapter": "spatiotemporal_localizer",
            "batch_size": 8,
            "head": ("dropout=0.1",),
        },
    }
    for name, given in options.items():
        given |= {"encoder": "nano", "name": name, "epochs": scale.epochs[name], "seed": seed}
    return options


def _command(options: Mapping[str, Any]) -> str:
    """What to type to train one of the adapters alone."""
    words = ["prismhub", "train"]
    for name, value in options.items():
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words += map(str, value) if isinstance(value, tuple) else [str(value)]
    return shlex.join(words)


def _contests(trained: Mapping[str, Trained], constants: Sequence[Segments], seed: int, show: Show) -> list[Contest]:
    """Every score with its baselines."""
    from adapters.scores import Score
    from benchmarks.pretraining.box_baselines import constant_answers
    from pretrain.world.captioned_videos import OPTIONS
    from prismhub.demo_comparison import random_weights, scores_on

    encoder, actors = random_weights(seed), cast("SpatiotemporalTask", trained[WHO].task)
    untrained = {name: scores_on(encoder, trained[name], show).main for name in (LABEL, WHEN, WHO)}
    constant = {
        LABEL: _constant_label(trained[LABEL]),
        WHEN: trained[WHEN].task.judge(constants, "test", seed=seed).main,
        WHO: actors.judge(constant_answers(actors, "test"), "test", seed=seed).main,
    }
    videos = trained[PAIRS].result.n_evaluated
    contests = [
        _contest(LABEL, trained, {CONSTANT: constant[LABEL], RANDOM: untrained[LABEL]}),
        _contest(PAIRS, trained, {GUESSING: Score(1 / videos)}),
    ]
    if TEXT in trained:
        blind = trained[TEXT].result.blind
        assert blind is not None
        guessing = {GUESSING: Score(1 / OPTIONS)}
        contests += [
            _contest(TEXT, trained, {BLIND: blind.scores["cider"]}, "cider", "caption"),
            _contest(TEXT, trained, {BLIND: blind.scores["accuracy"], **guessing}, "accuracy", "answer"),
        ]
    contests += [_contest(name, trained, {CONSTANT: constant[name], RANDOM: untrained[name]}) for name in (WHEN, WHO)]
    return contests


def _contest(
    name: str, trained: Mapping[str, Trained], baselines: Mapping[str, Score], metric: str = "", asks: str = ""
) -> Contest:
    from prismhub.pages.demo_page import Contest

    one, result = trained[name], trained[name].result
    metric = metric or result.main_metric
    judged = f"{len({sample.clip.path for sample in one.task.samples('test')})} test videos"
    kind = one.adapter.kind
    return Contest(one.ref, kind, asks or ASKS[name], metric, result.scores[metric], baselines, judged)


def _constant_label(trained: Trained) -> Score:
    """What saying the most frequent label of train of every test clip is worth."""
    from benchmarks.pretraining.intervals import share
    from prismhub.demo_clips import most_common

    common = most_common(trained)
    return share([common in sample.labels for sample in trained.task.samples("test")]).record()


def _constant_segments(trained: Trained) -> list[Segments]:
    """The best constant answer for every test video."""
    from benchmarks.segment_baselines import constant_answers
    from core_encoder.video.decoders import read_facts

    samples = [one for split in ("train", "test") for one in trained.task.samples(split)]
    return constant_answers(trained.task, {one.id: read_facts(one.clip.path).duration_s for one in samples})
