"""`prismhub demo`: the whole job on real video files, from nothing to a saved adapter and an archive, on one page.

The videos are of a synthetic world in which looking matters: eight motions that no single frame gives away, shown by
objects among others, and in the test split by objects that neither pretraining nor training showed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from core_encoder.errors import InputError
from prismhub.demo_comparison import Question
from prismhub.progress import Show
from prismhub.settings import TrainSettings

if TYPE_CHECKING:
    from adapters.predictions import ClassScores
    from adapters.scores import Score
    from benchmarks.cell import Trained
    from prismhub.demo_archive import Searched
    from prismhub.pages.report import Comparison, Curve, Metric, ReportData, Share, ShownSearch, ShownVideo
    from tasks.families.classification import ClassificationTask

Thing = TypeVar("Thing")
EPOCHS = 24
GRID = ("lr=5e-4,2e-3", "positions=false,true")
QUESTIONS = (
    Question("which motion", "label", ("something {}", "it is {}"), GRID),
    Question("which shape", "shape", ("a {}", "look at this {}")),
)
ADAPTER, SECOND_ADAPTER = "demo", f"demo-{QUESTIONS[1].column}"
SHOWN_RIGHT, SHOWN_WRONG = 4, 2
# Steps, as the page lists their seconds.
WRITE = "write the videos"
FIRST = f"encode and train: {QUESTIONS[0].name}"
SECOND = f"train again on cached features: {QUESTIONS[1].name}"
RANDOM = "random weights: encode, train both"
COLOURS = "colour histograms: read, train both"
WORDS = "zero-shot: nothing trained"
ASK = "load by name and predict a new video"
ARCHIVE = "an archive: index the test videos, search by words"


@dataclass(frozen=True)
class Demo:
    """Where the demo left its page and picture, the trainings it made, what they are compared with, and its archive."""

    page: Path
    picture: Path
    first: Trained
    second: Trained
    comparison: Comparison
    new_video: ClassScores
    searched: Searched


def check_out(out: Path) -> None:
    """Refuse a place that no folder can be.

    Raises:
        InputError: it is a file.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; --out wants a folder")


class Stopwatch:
    """Seconds of each named step, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def demo(
    out: Path,
    seed: int = 0,
    show: Show | None = None,
    clips_per_class: Mapping[str, int] | None = None,
    epochs: int = EPOCHS,
) -> Demo:
    """Write labelled H.264 videos, encode them once, train two adapters on the same features, and judge what they see.

    Beside them stand the same architecture with random weights, colour histograms, and the encoder's own answers by
    words. The same again finds all of it done.

    Args:
        out: folder for the videos, `index.html` and `result.png`. Features and adapters go to PRISMHUB_HOME.
        seed: of the videos, the trainings and the random weights.
        clips_per_class: of the splits train, val and test; by default `DEMO_CLIPS`.

    Raises:
        InputError: `out` is a file, or the disk is full.
    """
    check_out(out)
    from adapters.registry import load_adapter
    from core_encoder.config import config_from_dict
    from pretrain.world.synthetic_world import DEMO_CLIPS
    from prismhub.commands.train import train
    from prismhub.demo_archive import search_by_words
    from prismhub.demo_comparison import colour_histogram_scores, random_weights_scores, zero_shot_scores
    from prismhub.pages.report import write_report
    from prismhub.pages.report_picture import report_picture

    show = show or Show(quiet=False)
    watch = Stopwatch()
    videos = out / f"motions-{seed}"
    with watch.step(WRITE):
        written = _write_videos(videos, clips_per_class or DEMO_CLIPS, seed, show)
    show.note(f"1. {written} H.264 videos of a small synthetic world in {videos}")
    common = {"data": videos, "encoder": "nano", "epochs": epochs, "seed": seed}
    motion, other = QUESTIONS
    show.note(
        f"2. {motion.name}? Encode each video once, train 4 settings of map_classifier side by side on the features"
    )
    with watch.step(FIRST):
        first = train(config_from_dict(TrainSettings, {"name": ADAPTER, "grid": motion.grid, **common}), show)
    show.note(f"3. another question of the same videos: {other.name}? Nothing is decoded or encoded again")
    with watch.step(SECOND):
        asked = {"name": SECOND_ADAPTER, "label_column": other.column, **common}
        second = train(config_from_dict(TrainSettings, asked), show)
    trained = (first, second)
    show.note(
        f"4. is nano worth it? The same with random weights (seed {seed}), and with colour histograms, no encoder"
    )
    with watch.step(RANDOM):
        random_weights = random_weights_scores(QUESTIONS, trained, seed, show)
    with watch.step(COLOURS):
        colours = colour_histogram_scores(trained, show)
    show.note("5. what nano says without any training, by words alone")
    with watch.step(WORDS):
        words = zero_shot_scores(QUESTIONS, trained, seed, show)
    show.note(f"6. load {first.ref!r} by name and ask it about a new video")
    with watch.step(ASK):
        new_video, truth = _new_video(out, seed)
        answer = cast("ClassScores", load_adapter(ADAPTER).predict(new_video)[0])
    show.note(f"   {new_video}: {answer.label} ({answer.score:.2f}); it shows {truth}")
    show.note("7. an archive of the test videos, with what the two adapters say of them, searched by words")
    with watch.step(ARCHIVE):
        searched = search_by_words(videos, out / f"archive-{seed}", [one.ref for one in trained], show)
    show.note(f"   {searched.text!r}: {searched.verdict()}")
    comparison = _comparison(trained, random_weights, colours, words, seed)
    data = _report_data(first, second, comparison, watch, _examples(first), searched)
    page = write_report(out / "index.html", data)
    picture = report_picture(out / "result.png", data)
    return Demo(page, picture, first, second, comparison, answer, searched)


def _write_videos(folder: Path, clips_per_class: Mapping[str, int], seed: int, show: Show) -> int:
    """Write the videos unless a run before did; `metadata.jsonl` is written last."""
    from pretrain.world.synthetic_world import DEMO_CLASSES, write_dataset

    wanted = len(DEMO_CLASSES) * sum(clips_per_class.values())
    listed = folder / "metadata.jsonl"
    if not listed.exists() or len(listed.read_text(encoding="utf-8").splitlines()) != wanted:
        with show.bar("writing videos") as bar:
            write_dataset(folder, clips_per_class=clips_per_class, seed=seed, progress=bar.update)
    return wanted


def _new_video(out: Path, seed: int) -> tuple[Path, str]:
    """A video that is in no split, and what it shows."""
    from pretrain.world.synthetic_world import DEMO_CLASSES, write_dataset

    shown = DEMO_CLASSES[0]
    folder = out / f"new-{seed}"
    written = write_dataset(folder, classes=[shown], clips_per_class={"new": 1}, seed=seed + 1_000_003)
    return folder / written[0].path, written[0].caption


def _comparison(
    trained: Sequence[Trained],
    random_weights: Sequence[Score],
    colours: Sequence[Score],
    words: Sequence[Score],
    seed: int,
) -> Comparison:
    from prismhub.pages.report import Comparison, Contender

    first = trained[0]
    sizes = {split: len(samples) for split, samples in first.task.splits.items()}
    nano = [one.result.scores[one.result.main_metric] for one in trained]
    return Comparison(
        questions=[question.name for question in QUESTIONS],
        chances=[1 / len(one.result.label_names) for one in trained],
        trained=[
            Contender("nano", "pretrained", _shares(nano)),
            Contender("random weights", f"not pretrained, seed {seed}", _shares(random_weights)),
            Contender("colour histogram", "no encoder", _shares(colours)),
        ],
        untrained=[Contender("nano", "zero-shot, by words alone", _shares(words))],
        about=f"nano is compared with its own architecture before pretraining and with no encoder at all. The heads "
        f"learned from the same {sizes['train']} videos and all are judged on the same {sizes['test']}, which show "
        "objects that neither pretraining nor training showed. A bar is the share named right, the thin line in it the "
        "95 % interval, the upright line what guessing gives; clearly above means that the intervals do not touch.",
    )


def _shares(scores: Sequence[Score]) -> list[Share]:
    from prismhub.pages.report import Share

    shares = []
    for score in scores:
        assert score.low is not None and score.high is not None  # classification computes intervals
        shares.append(Share(score.value, score.low, score.high))
    return shares


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
    chosen = [*evenly(list(right.values()), SHOWN_RIGHT), *evenly(list(wrong.values()), SHOWN_WRONG)]
    return [
        ShownVideo(
            name=prediction.sample_id,
            frames=read_clip(samples[prediction.sample_id].clip, ClipPlan(8)),
            truth=samples[prediction.sample_id].labels[0],
            scores=prediction.top(3),
        )
        for prediction in chosen
    ]


def evenly(things: Sequence[Thing], count: int) -> list[Thing]:
    """At most `count` of some things, evenly chosen."""
    step = max(len(things) / count, 1)
    return [things[int(place * step)] for place in range(min(count, len(things)))]


def _report_data(
    first: Trained,
    second: Trained,
    comparison: Comparison,
    watch: Stopwatch,
    examples: Sequence[ShownVideo],
    searched: Searched,
) -> ReportData:
    from prismhub.pages.report import Confusion, CurvePanel, ReportData, Timing

    spec = first.adapter.info.features
    assert spec is not None
    details = {
        WRITE: f"{sum(len(samples) for samples in first.task.splits.values())} files",
        FIRST: f"{first.extraction.n_encoded} clips encoded"
        + (f" at {first.extraction.clips_per_s:.0f} clips/s" if first.extraction.n_encoded else " (all were cached)"),
        SECOND: f"{second.frames_decoded} frames decoded",
        RANDOM: "encoded under their own fingerprint",
        COLOURS: "every video read once",
        WORDS: "test videos embedded once",
    }
    confusion = cast("ClassificationTask", first.task).confusion(first.predictions, first.result.split)
    named = ", ".join(f"{one.name} {100 * one.shares[0].value:.1f} %" for one in comparison.trained)
    return ReportData(
        title="prismhub demo",
        headline=f"{QUESTIONS[0].name.capitalize()}? {named}, guessing {100 * comparison.chances[0]:.1f} %",
        summary=f"The share of {first.result.n_evaluated} unseen videos named right. Here "
        f"{comparison.verdict(0)}. The frozen encoder looked at every video once; on its stored features "
        f"{len(first.training.settings)} settings of a small attention head were trained side by side, and the best by "
        f"validation is judged. The same features answered a second question, {QUESTIONS[1].name}, with "
        f"{100 * comparison.trained[0].shares[1].value:.1f} % right (guessing: {100 * comparison.chances[1]:.1f} %).",
        metrics=[*_metrics(first), *_metrics(second, f"{QUESTIONS[1].column}: ", ("top1",))],
        comparison=comparison,
        confusion=Confusion(first.result.label_names, confusion.tolist()),
        examples=examples,
        search=_shown_search(searched),
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
        commands=_commands(first, searched.archive),
    )


def _commands(first: Trained, archive: Path) -> list[str]:
    """What to type to get the numbers of nano again, and an answer about another video."""
    config = first.result.config
    motion, other = QUESTIONS
    train = (
        f"prismhub train --data {config['data']} --adapter map_classifier --encoder nano --epochs {config['epochs']}"
    )
    labels = ",".join(first.result.label_names)
    return [
        "make demo",
        f"{train} --name {ADAPTER} --grid {' '.join(motion.grid)}",
        f"{train} --name {SECOND_ADAPTER} --label-column {other.column}",
        f'prismhub zero-shot VIDEO --labels "{labels}" --template "{motion.templates[0]}"',
        f"prismhub predict VIDEO --adapter {ADAPTER}",
        f"prismhub search {archive} 'a text'",
        f"prismhub serve --archive {archive} --adapter {ADAPTER}",
    ]


def _shown_search(searched: Searched) -> ShownSearch:
    from prismhub.demo_archive import SHOWN
    from prismhub.pages.contact_sheet import scene_cards
    from prismhub.pages.report import ShownSearch

    best = searched.found[:SHOWN]
    cards = scene_cards(best)
    for card, one in zip(cards, best, strict=True):
        card["truth"] = searched.shows[one.video]
    about = (
        f"The {len(searched.shows)} test videos lie in an archive, with the encoder's vector of each and what both "
        f"adapters say of it. Here {searched.verdict()}. Looks are compared by the vector of the text, words "
        "looked for in what the adapters say."
    )
    return ShownSearch(searched.text, about, cards)


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
