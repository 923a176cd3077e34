"""`prismhub demo`: the whole job on real video files, from nothing to a saved adapter, shown on one page."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from core_encoder.errors import InputError
from core_encoder.files.storage import write_text
from prismhub.progress import Show
from prismhub.settings import TrainSettings

if TYPE_CHECKING:
    from adapters.predictions import ClassScores
    from benchmarks.cell import Trained
    from prismhub.pages.report import Curve, Metric, ReportData, ShownVideo
    from tasks.families.classification import ClassificationTask

ADAPTER = "demo"
SECOND_ADAPTER = "demo-motion"
EPOCHS = 24
GRID = ("lr=5e-4,2e-3", "positions=false,true")
SHOWN_RIGHT, SHOWN_WRONG = 4, 2


@dataclass(frozen=True)
class Demo:
    """Where the demo left its page and picture, and the two trainings it made."""

    page: Path
    picture: Path
    first: Trained
    second: Trained
    new_video: ClassScores


class Stopwatch:
    """Seconds of each named step, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def demo(out: Path, seed: int = 0, show: Show | None = None) -> Demo:
    """Write labelled H.264 videos, encode them once, train two adapters on the same features, use one on a new video.

    Args:
        out: folder for the videos, `index.html` and `result.png`. Features and adapters go to PRISMHUB_HOME.

    Raises:
        InputError: `out` is a file, or the disk is full.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; --out wants a folder")
    from adapters.registry import load_adapter
    from core_encoder.config import config_from_dict
    from prismhub.commands.train import train
    from prismhub.pages.report import write_report
    from prismhub.pages.report_picture import report_picture

    show = show or Show(quiet=False)
    watch = Stopwatch()
    videos = out / f"videos-{seed}"
    with watch.step("write the videos"):
        written = _write_videos(videos, seed, show)
    show.note(f"1. {written} H.264 videos of a small synthetic world in {videos}")
    common = {"encoder": "nano", "epochs": EPOCHS, "seed": seed}
    show.note("2. encode each video once, train 4 settings of map_classifier side by side on the features")
    with watch.step("encode and train: what happens, to what"):
        asked = {"data": videos, "name": ADAPTER, "grid": GRID, **common}
        first = train(config_from_dict(TrainSettings, asked), show)
    show.note("3. another question of the same videos: which motion? Nothing is decoded or encoded again")
    with watch.step("train again on cached features: which motion"):
        asked = {"data": videos / "motion.csv", "name": SECOND_ADAPTER, **common}
        second = train(config_from_dict(TrainSettings, asked), show)
    show.note(f"4. load {first.ref!r} by name and ask it about a new video")
    with watch.step("load by name and predict a new video"):
        new_video, truth = _new_video(out, seed)
        answer = load_adapter(ADAPTER).predict(new_video)[0]
    show.note(f"   {new_video}: {answer.label} ({answer.score:.2f}); it shows {truth}")
    data = _report_data(first, second, watch, _examples(first))
    page = write_report(out / "index.html", data)
    picture = report_picture(out / "result.png", data)
    return Demo(page, picture, first, second, answer)


def _write_videos(folder: Path, seed: int, show: Show) -> int:
    """Write the videos unless a run before did; `motion.csv`, written last, asks only for the motion."""
    from pretrain.world.synthetic_world import DEMO_CLASSES, write_dataset

    question = folder / "motion.csv"
    if question.exists():
        return len(question.read_text(encoding="utf-8").splitlines()) - 1
    with show.bar("writing videos") as bar:
        videos = write_dataset(folder, seed=seed, progress=bar.update)
    motions = {one.name: one.motion for one in DEMO_CLASSES}
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    table.writerow(["path", "label", "split"])
    table.writerows([video.path, motions[video.label], video.split] for video in videos)
    write_text(question, rows.getvalue())
    return len(videos)


def _new_video(out: Path, seed: int) -> tuple[Path, str]:
    """A video that is in no split, and what it shows."""
    from pretrain.world.synthetic_world import DEMO_CLASSES, write_dataset

    shown = DEMO_CLASSES[0]
    folder = out / f"new-{seed}"
    written = write_dataset(folder, classes=[shown], clips_per_class={"new": 1}, seed=seed + 1_000_003)
    return folder / written[0].path, shown.name


def _examples(trained: Trained) -> list[ShownVideo]:
    """Some test videos the adapter got right and some it got wrong, of different classes."""
    from core_encoder.clip_plan import ClipPlan
    from core_encoder.video.decoders import read_clip
    from prismhub.pages.report import ShownVideo

    samples = {sample.id: sample for sample in trained.task.samples(trained.result.split)}
    right: dict[str, ClassScores] = {}
    wrong: dict[str, ClassScores] = {}
    for prediction in trained.predictions:
        truth = samples[prediction.sample_id].labels[0]
        (right if prediction.label == truth else wrong).setdefault(truth, prediction)
    chosen = [*_spread(list(right.values()), SHOWN_RIGHT), *_spread(list(wrong.values()), SHOWN_WRONG)]
    return [
        ShownVideo(
            name=prediction.sample_id,
            frames=read_clip(samples[prediction.sample_id].clip, ClipPlan(8)),
            truth=samples[prediction.sample_id].labels[0],
            scores=prediction.top(3),
        )
        for prediction in chosen
    ]


def _spread(predictions: Sequence[ClassScores], count: int) -> list[ClassScores]:
    """At most `count` of the predictions, evenly chosen."""
    step = max(len(predictions) / count, 1)
    return [predictions[int(place * step)] for place in range(min(count, len(predictions)))]


def _report_data(first: Trained, second: Trained, watch: Stopwatch, examples: Sequence[ShownVideo]) -> ReportData:
    from prismhub.pages.report import Confusion, CurvePanel, ReportData, Timing

    top1 = first.result.scores["top1"]
    classes = len(first.result.label_names)
    spec = first.adapter.info.features
    assert spec is not None
    details = {
        "write the videos": f"{sum(len(samples) for samples in first.task.splits.values())} files",
        "encode and train: what happens, to what": f"{first.extraction.n_encoded} clips encoded"
        + (f" at {first.extraction.clips_per_s:.0f} clips/s" if first.extraction.n_encoded else " (all were cached)"),
        "train again on cached features: which motion": f"{second.frames_decoded} frames decoded",
    }
    confusion = cast("ClassificationTask", first.task).confusion(first.predictions, first.result.split)
    return ReportData(
        title="prismhub demo",
        headline=f"{100 * top1.value:.0f} % of {first.result.n_evaluated} unseen videos named right, "
        f"where guessing gives {100 / classes:.1f} %",
        summary=f"A frozen encoder looked at every video once. On its stored features {len(first.training.settings)} "
        "settings of a small attention head were trained side by side; the best by validation is judged here on the "
        f"test split. The same features then answered a second question, which motion, with "
        f"{100 * second.result.scores['top1'].value:.0f} % of the test videos right "
        f"(guessing: {100 / len(second.result.label_names):.0f} %).",
        metrics=[*_metrics(first), *_metrics(second, "motion: ", ("top1",))],
        confusion=Confusion(first.result.label_names, confusion.tolist()),
        examples=examples,
        panels=[
            CurvePanel("Training loss", _curves(first, "train_loss")),
            CurvePanel("Validation top-1", _curves(first, "val_score"), percent=True),
        ],
        timings=[Timing(step, seconds, details.get(step, "")) for step, seconds in watch.seconds.items()],
        notices=[
            "The encoder 'nano' was pretrained on drawn videos of a synthetic world, the one these were drawn in: its "
            "scores say nothing about videos of the real world."
        ],
        provenance=[
            ("encoder", spec.encoder),
            ("fingerprint", spec.fingerprint[:16]),
            ("clip plan", ", ".join(f"{key} {value}" for key, value in spec.plan.describe().items())),
            ("features", f"{spec.kind}, {spec.dtype}, {spec.decoder}"),
            ("seed", str(first.result.provenance.seed)),
            ("data sha256", first.result.data_digest[:16]),
            ("prismhub", first.result.provenance.prismhub),
            *sorted(first.result.provenance.versions.items()),
        ],
        commands=[
            "make demo",
            f"prismhub train --data {first.result.config['data']} --adapter map_classifier --encoder nano "
            f"--name {ADAPTER} --epochs {EPOCHS} --grid {' '.join(GRID)}",
            f"prismhub predict VIDEO --adapter {ADAPTER}",
        ],
    )


def _metrics(trained: Trained, prefix: str = "", only: Sequence[str] = ()) -> list[Metric]:
    from prismhub.pages.report import Metric

    result = trained.result
    return [
        Metric(prefix + name, score.value, score.low, score.high, result.n_evaluated, result.n_total)
        for name, score in result.scores.items()
        if score.low is not None and score.high is not None and (not only or name in only)
    ]


def _curves(trained: Trained, quantity: str) -> list[Curve]:
    from prismhub.pages.report import Curve

    kept = trained.training.settings[0].name
    names = sorted(setting.name for setting in trained.training.settings)
    history = trained.training.history
    return [
        Curve(name, [row[quantity] for row in history if row["setting"] == name and quantity in row], name == kept)
        for name in names
    ]
