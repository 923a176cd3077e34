"""Every option of every command, once: these fields are the command line, the YAML keys and the Python arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from adapters.training.training_config import TrainingConfig
from adapters.tuning.tune_config import TuneConfig
from benchmarks.corpus_cost import CorpusSettings
from core_encoder.cluster.cluster_settings import ClusterSettings
from core_encoder.config import group, option
from core_encoder.errors import InputError
from core_encoder.files.remote import RemoteLimits, limit_remote
from fit.device import Accelerator
from tasks.judges import JUDGES

VideoInput = Any
"""A path; in Python also a `Clip`, or an array or tensor (see `core_encoder.array_videos`)."""


@dataclass(frozen=True)
class DataSettings:
    """Which videos, and what is known of them."""

    data: Path = option(
        help="Folder of videos (one per class, or with metadata), a CSV, JSON, JSONL or list file, tar or Parquet "
        "shards, or hf://org/name#split."
    )
    videos: Path | None = option(None, "Folder of the videos that an annotation file names (default: beside it).")
    path_column: str | None = option(None, "Column of the video's path (default: found by name).")
    label_column: str | None = option(None, "Column of the label or caption (default: found by name).")
    split_column: str | None = option(None, "Column of train, val or test (default: found by name).")
    start_column: str | None = option(None, "Column of a clip's start in seconds (default: found by name).")
    end_column: str | None = option(None, "Column of a clip's end in seconds (default: found by name).")
    label_separator: str | None = option(None, "Character between several labels in one field.")
    multi_label: bool | None = option(None, "A video may have several labels (default: if any has).")
    max_unreadable: float = option(0.1, "Stop when a larger share of the videos cannot be read; the rest is skipped.")

    def __post_init__(self) -> None:
        if not 0 <= self.max_unreadable <= 1:
            raise InputError(f"max_unreadable is a share from 0 to 1, not {self.max_unreadable}")

    @property
    def columns(self) -> dict[str, Any]:
        """The columns of a manifest that the settings name, and where its videos are."""
        names = ("path_column", "label_column", "split_column", "start_column", "end_column", "label_separator")
        return {name: getattr(self, name) for name in names} | ({"videos": self.videos} if self.videos else {})


@dataclass(frozen=True)
class BoxSettings:
    """What else is known where everyone in a video has a box; see docs/boxes.md."""

    val: Path | None = option(None, "Boxes: file of the validation split.")
    test: Path | None = option(None, "Boxes: file of the test split.")
    labels: Path | None = option(None, "Boxes: the classes that count, a label map .pbtxt or names one a line.")
    excluded: tuple[str, ...] = option((), "Boxes: files of video,timestamp that do not count.")
    detections: Path | None = option(None, "Boxes to judge on instead of those of the ground truth.")
    train_detections: Path | None = option(None, "Boxes to learn from beside those of the ground truth.")
    context: float | None = option(None, "Boxes: seconds of video to look at around a moment (default: 2).")
    every: float | None = option(None, "Boxes: only moments at least so many seconds apart (default: every one).")
    time_offset: float | None = option(None, "Boxes: second of the annotations at which the videos begin (AVA: 900).")

    def given_for(self, target_kind: str) -> dict[str, Any]:
        """The options that were given.

        Raises:
            InputError: there are some, and the adapter learns something else.
        """
        given = {one.name: value for one in fields(self) if (value := getattr(self, one.name)) not in (None, ())}
        if given and target_kind != "boxes":
            raise InputError(
                f"{next(iter(given))} means nothing for an adapter that learns {target_kind}: leave it out"
            )
        return given


@dataclass(frozen=True)
class ReadingSettings:
    """How features are read and computed on this machine; changes no value."""

    clips_per_batch: int = option(8, "Clips encoded at once; halved when memory runs out.")
    workers: int = option(2, "Decoding threads.")
    store: Path | None = option(None, "Feature store, a folder or s3://... (default: features/ in PRISMHUB_HOME).")
    local_copies: float = option(4.0, "GiB of disk for copies of remote videos, and as much for remote features.")
    remote_timeout: float = option(600.0, "Seconds that the bytes of one remote video may take to come.")

    def __post_init__(self) -> None:
        at_least_one(self, "clips_per_batch", "workers")
        if self.local_copies < 0 or self.remote_timeout <= 0:
            raise InputError(
                f"local_copies must not be negative and remote_timeout must be above 0, not {self.local_copies:g} and "
                f"{self.remote_timeout:g}"
            )

    def apply(self) -> None:
        """Hold this process to the limits of remote files."""
        limit_remote(RemoteLimits(int(self.local_copies * 2**30), self.remote_timeout))


@dataclass(frozen=True)
class EncodingSettings:
    """How videos become features."""

    encoder: str = option("nano", "Bundled name, Hub id, checkpoint folder or Flax .npz file.")
    num_frames: int | None = option(None, "Frames per view (default: the encoder's).")
    sampling: Literal["uniform", "fps", "stride", "dense"] = option("uniform", "How frames are chosen.")
    fps: float | None = option(None, "Frames per second, with --sampling fps or dense.")
    stride: int | None = option(None, "Every n-th source frame, with --sampling stride or dense.")
    window_stride: int | None = option(None, "Sampled frames between two dense windows.")
    views: int = option(1, "Temporal views of a clip; scores are averaged over them.")
    geometry: Literal["resize", "center_crop"] | None = option(
        None, "resize: the whole frame; center_crop: its middle square (default: the encoder's)."
    )
    layers: tuple[int, ...] = option((), "Outputs of these encoder layers instead of the last (MLAP).")
    feature_dtype: Literal["fp32", "fp16", "bf16", "int8"] = option("fp16", "Precision of stored features.")
    decoder: Literal["auto", "decord", "pyav"] = option("auto", "Video decoder; part of the cache key.")
    encoder_dtype: Literal["fp32", "bf16", "fp16"] = option("fp32", "Precision the encoder runs in.")

    def __post_init__(self) -> None:
        at_least_one(self, "num_frames", "views")


@dataclass(frozen=True)
class OutputSettings:
    """What a command shows."""

    quiet: bool = option(False, "No progress and no notes, only the result.")
    json: bool = option(False, "The result as JSON on stdout.")


@dataclass(frozen=True, kw_only=True)
class EncodeSettings:
    """Options of `prismhub encode`."""

    videos: tuple[str, ...] = option(help="Videos, folders of videos, or manifests.", positional=True)
    encoding: EncodingSettings = group()
    kind: tuple[Literal["tokens", "frames", "clip", "embedding"], ...] = option(
        ("tokens",), "What to keep of each view; several, as in tokens,embedding, in one pass."
    )
    accelerator: Accelerator = option("auto", "auto, cpu, gpu or mps.")
    reading: ReadingSettings = group()
    cluster: ClusterSettings = group()
    failures: Path | None = option(None, "List of unreadable videos (default: failures.jsonl in the store).")
    dry_run: bool = option(False, "Only say how large the features will be.")
    corpus: CorpusSettings = group()
    output: OutputSettings = group()

    def __post_init__(self) -> None:
        if self.corpus.corpus_clips is not None and not self.dry_run:
            raise InputError("corpus_clips is reckoned by a dry run: give dry_run with it")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Options of `prismhub train`."""

    dataset: DataSettings = group()
    boxes: BoxSettings = group()
    adapter: str = option("map_classifier", "Kind of adapter.")
    name: str | None = option(None, "Name in the registry (default: the data's name with the kind).")
    val_fraction: float = option(0.15, "Share of the training videos kept for validation where the data names none.")
    test_fraction: float = option(0.15, "Share kept for the test where the data names no split at all.")
    encoding: EncodingSettings = group()
    reading: ReadingSettings = group()
    cluster: ClusterSettings = group()
    head: tuple[str, ...] = option((), "Options of the head, as key=value ...")
    text_tower: str | None = option(None, "Short for --head text_tower=...: encoder name, folder or Hub id.")
    llm: str | None = option(None, "Short for --head llm=...: smollm2, a folder or a Hub id of a language model.")
    tune_text: str | None = option(None, "Short for --head tune=...: what of a language part trains.")
    loss: str | None = option(None, "Short for --head loss=...")
    grid: tuple[str, ...] = option((), "Settings trained side by side, as key=value,value ...; the best is kept.")
    training: TrainingConfig = group()
    tuning: TuneConfig = group()
    seeds: int = option(1, "Train so many times with seeds from --seed on; gives mean and standard deviation.")
    metric: str | None = option(None, "Validation metric (default: the main one of the data's task).")
    blind: bool = option(False, "Captions and answers: train and judge a twin beside it that sees no video.")
    near_duplicates: float | None = option(
        None, "Count judged clips that nearly equal one of train: whose features have a cosine of at least, say, 0.95."
    )
    run: Path | None = option(None, "Folder of the run (default: runs/ in PRISMHUB_HOME).")
    restart: bool = option(False, "Train anew instead of going on.")
    output: OutputSettings = group()

    def __post_init__(self) -> None:
        at_least_one(self, "seeds")
        if self.near_duplicates is not None and not 0 < self.near_duplicates <= 1:
            raise InputError(f"near_duplicates is a cosine above 0 and up to 1, not {self.near_duplicates:g}")

    @property
    def head_options(self) -> dict[str, str]:
        """The options of the head that have a name of their own here."""
        given = {"text_tower": self.text_tower, "llm": self.llm, "tune": self.tune_text, "loss": self.loss}
        return {name: value for name, value in given.items() if value is not None}


@dataclass(frozen=True)
class PartsSettings:
    """Where the parts lie that saved adapters name and do not hold."""

    text_tower: str | None = option(None, "Where an adapter's text tower lies (default: where it was in training).")
    llm: str | None = option(None, "Where an adapter's language model lies (default: where it was in training).")


@dataclass(frozen=True, kw_only=True)
class RunningSettings(PartsSettings):
    """Where the encoder of saved adapters lies, and how it runs."""

    encoder: str | None = option(None, "Where the adapter's encoder lies (default: where it was in training).")
    accelerator: Accelerator = option("auto", "auto, cpu, gpu or mps.")
    encoder_dtype: Literal["fp32", "bf16", "fp16"] | None = option(
        None, "Precision the encoder runs in (default: as in training)."
    )


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """Options of `prismhub evaluate`."""

    adapter: str = option(help="Adapter: registry name[@version], folder or Hub id.")
    running: RunningSettings = group()
    dataset: DataSettings = group()
    boxes: BoxSettings = group()
    split: Literal["test", "val", "train", "all"] | None = option(None, "Split (default: test, val, or all there is).")
    classifier: str | None = option(None, "Adapter that names what a class-agnostic localizer finds.")
    reading: ReadingSettings = group()
    cluster: ClusterSettings = group()
    seed: int = option(0, "Seed of the bootstrap.")
    out: Path | None = option(None, "Where to write the result (default: results/ in PRISMHUB_HOME).")
    output: OutputSettings = group()


@dataclass(frozen=True, kw_only=True)
class PredictSettings:
    """Options of `prismhub predict`."""

    videos: tuple[VideoInput, ...] = option(help="Videos, folders of videos, or manifests.", positional=True)
    adapter: tuple[str, ...] = option(
        help="Adapter: registry name[@version], folder or Hub id; several answer from one encoding.", alone=True
    )
    running: RunningSettings = group()
    reading: ReadingSettings = group()
    window: float | None = option(
        None, "Answer for every so many seconds (default: where a video is much longer than those of the training)."
    )
    step: float | None = option(None, "Seconds from one window to the next (default: half a window).")
    question: str | None = option(None, "Question to answer, for adapters of texts (default: they describe the video).")
    candidates: Path | None = option(
        None, "File with one text a line to choose from, for adapters of videos and texts."
    )
    vtt: Path | None = option(None, "Folder for the answers of windows as WebVTT, one file a video.")
    boxes: Path | None = option(None, "Boxes or tracks to ask about: AVA CSV, COCO-style JSON, MOT text or a folder.")
    context: float | None = option(None, "Boxes: seconds of video around a moment (default: as in training).")
    every: float | None = option(None, "Boxes: only moments at least so many seconds apart (default: every one).")
    time_offset: float | None = option(None, "Boxes: second of their times at which the videos begin (AVA: 900).")
    format: str | None = option(
        None, "Write segments as activitynet, boris, csv or vtt; boxes as ava, tracks as segments; to stdout or --out."
    )
    out: Path | None = option(None, "File for --format (default: stdout); a folder for vtt, and of several adapters.")
    html: Path | None = option(None, "File for a page of all answers with their pictures, which needs nothing else.")
    timeline: Path | None = option(None, "Folder for a picture of each video's segments, as SVG.")
    threshold: float | None = option(None, "Segments of at least this score are the answer (default: the adapter's).")
    classifier: str | None = option(None, "Adapter that names what a class-agnostic localizer finds.")
    top: int | None = option(None, "So many best answers of each video (default: what the adapter finds right).")
    all_scores: bool = option(False, "Every score, not only the best.")
    output: OutputSettings = group()

    def __post_init__(self) -> None:
        at_least_one(self, "top")


@dataclass(frozen=True, kw_only=True)
class TextSpaceSettings:
    """What puts videos and texts into one space: a saved adapter, else an encoder that knows words."""

    adapter: str | None = option(
        None, "Saved adapter of videos and texts that compares them (default: the encoder itself does)."
    )
    text_tower: str | None = option(None, "Where the adapter's text tower lies (default: where it was in training).")
    encoding: EncodingSettings = group()
    accelerator: Accelerator = option("auto", "auto, cpu, gpu or mps.")
    reading: ReadingSettings = group()

    def __post_init__(self) -> None:
        if self.encoding.layers:
            raise InputError("layers mean nothing here: videos and texts meet in the encoder's own embedding")
        if self.adapter is not None:
            refuse_given(self.encoding, "the adapter chooses the frames by itself", but=("encoder", "encoder_dtype"))


@dataclass(frozen=True, kw_only=True)
class ZeroShotSettings(TextSpaceSettings):
    """Options of `prismhub zero-shot`."""

    videos: tuple[VideoInput, ...] = option(help="Videos, folders of videos, or manifests.", positional=True)
    labels: tuple[str, ...] = option(help="Names of the classes, as in running,jumping, or a file with one a line.")
    template: str | None = option(None, "Text for a label, which stands at {} (default: a video of {}).")
    templates: tuple[str, ...] = option(
        (), "File with one template a line, or clip-kinetics-v1, clip-imagenet-v1; a class is the mean of its texts."
    )
    top: int | None = option(None, "So many best answers of each video (default: the best).")
    all_scores: bool = option(False, "Every score, not only the best.")
    output: OutputSettings = group()

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "top")
        if self.template is not None and self.templates:
            raise InputError("give template or templates, not both")


@dataclass(frozen=True, kw_only=True)
class RankSettings(TextSpaceSettings):
    """Options of `prismhub rank`."""

    videos: tuple[VideoInput, ...] = option(help="Videos, folders of videos, or manifests.", positional=True)
    text: tuple[str, ...] = option(help="What to look for, in words; several are ranked apart.", alone=True)
    top: int | None = option(10, "So many best videos of each text.")
    output: OutputSettings = group()

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least_one(self, "top")


@dataclass(frozen=True, kw_only=True)
class EmbedSettings:
    """Options of `prismhub embed`."""

    videos: tuple[VideoInput, ...] = option(help="Videos, folders of videos, or manifests.", positional=True)
    out: Path | None = option(None, "File to write: .npz, .parquet or .safetensors; with --format a folder.")
    format: Literal["opentad"] | None = option(
        None, "Write a folder that OpenTAD reads instead: dense windows, a .npy file a video."
    )
    kind: Literal["embedding", "clip", "frames", "tokens"] | None = option(
        None, "What to take of each view (default: embedding where the encoder makes one, else clip)."
    )
    window: float | None = option(None, "Windows of so many seconds, each a row (default: one row a video).")
    step: float | None = option(None, "Seconds from one window to the next (default: half a window).")
    encoding: EncodingSettings = group()
    accelerator: Accelerator = option("auto", "auto, cpu, gpu or mps.")
    reading: ReadingSettings = group()
    cluster: ClusterSettings = group()
    output: OutputSettings = group()

    def __post_init__(self) -> None:
        if self.step is not None and self.window is None:
            raise InputError("step needs window: it is the time from one window to the next")
        if self.format is not None and self.kind == "tokens":
            raise InputError(
                f"format {self.format} holds a vector a row: kind is embedding, clip or frames, not tokens"
            )
        if self.format is not None and self.encoding.layers:
            raise InputError(f"format {self.format} holds a vector a row: leave layers out")
        if self.format is not None and self.encoding.sampling not in ("uniform", "dense"):
            raise InputError(f"format {self.format} is of dense windows: leave sampling out, or take dense")
        own = ("sampling", "fps", "stride", "window_stride", "views")
        default = EncodingSettings()
        for name in own if self.window is not None else ():
            if getattr(self.encoding, name) != getattr(default, name):
                raise InputError(f"window chooses the frames by itself: leave {name} out")


@dataclass(frozen=True, kw_only=True)
class PretrainSettings:
    """Options of `prismhub pretrain`."""

    recipe: Path = option(help="YAML file of the recipe.", positional=True)
    stage: str | None = option(None, "Only stage 1 or 2 (or one part by its name).")
    out: Path | None = option(None, "Folder of the run (default: pretrain/NAME in PRISMHUB_HOME).")
    set: tuple[str, ...] = option((), "Override keys of the recipe, as in stage1.steps=100.")
    accelerator: str | None = option(None, "auto, cpu or gpu.")
    devices: str | None = option(None, "Processes, one per GPU or per CPU core; or auto.")
    workers: int | None = option(None, "Processes that read clips, for each training process.")
    restart: bool = option(False, "Begin anew instead of going on.")
    dry_run: bool = option(False, "Only say how large and how long it is.")
    gpus: int | None = option(None, "GPUs that a dry run reckons with (default: the recipe's).")
    output: OutputSettings = group()


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """Options of `prismhub demo`."""

    out: Path = option(Path("demo"), "Folder for the videos, the run and the report.")
    seed: int = option(0, "Seed of the videos and of the training.")
    all: bool = option(False, "Train an adapter of every kind, and judge each beside its baselines.")
    llm: str | None = option(None, "With --all: another language model than SmolLM2, a folder or a Hub id.")
    output: OutputSettings = group()

    def __post_init__(self) -> None:
        if self.llm is not None and not self.all:
            raise InputError("llm means nothing without all: the plain demo has no language model")


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """Options of `prismhub score`."""

    task: str = option(help=f"What is judged: {', '.join(JUDGES)}.")
    truth: Path = option(help="What is right, in the format of the task's official evaluator.")
    predictions: Path = option(help="What a program said, in the format of the same evaluator.")
    output: OutputSettings = group()
    subset: str | None = option(None, "activitynet: which videos count (default: validation).")
    tokens: Literal["ptb", "whitespace"] | None = option(None, "captions: what a word is (default: ptb).")
    ties: Literal["mean", "clip4clip"] | None = option(None, "retrieval: how equal similarities rank (default: mean).")
    references: Path | None = option(None, "nextqa-oe: second right answers, add_reference_answer_test.json.")
    excluded: Path | None = option(None, "ava, chimpact: file of video,timestamp that do not count.")
    labels: Path | None = option(None, "ava, chimpact: the classes that count (default: AVA's 60, ChimpACT's 23).")

    @property
    def options(self) -> dict[str, Any]:
        """The options of single tasks, None where they are not given."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in _OF_EVERY_SCORE}


_OF_EVERY_SCORE = ("task", "truth", "predictions", "output")


@dataclass(frozen=True)
class ShowSettings:
    """Options of `prismhub encoders` and `prismhub env`."""

    json: bool = option(False, "The result as JSON on stdout.")


def refuse_given(settings: Any, why: str, but: Sequence[str] = ()) -> None:
    """Refuse options that are not at their default, except some.

    Raises:
        InputError: which one, and `why`.
    """
    for one in fields(settings):
        if one.name not in but and getattr(settings, one.name) != one.default:
            raise InputError(f"{why}: leave {one.name} out")


def at_least_one(settings: Any, *names: str) -> None:
    """Refuse options below 1, by name.

    Raises:
        InputError: which one, and its value.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, not {value}")
