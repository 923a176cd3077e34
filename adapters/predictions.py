"""What adapters answer, one record per video: five kinds behind one protocol. And what is known to be right."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, overload, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Truth:
    """What is known of one sample: its id, what is right, and what was given beside the video (a question, boxes)."""

    id: str
    target: Any = None  # a class index, `(K,)` zeros and ones, or whatever the task's family has
    inputs: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class Prediction(Protocol):
    """An answer about one sample; tables and JSON are made of it without knowing its kind.

    `top` asks for so many best answers, None for as many as the kind finds right; `all_scores` asks for all there is.
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """Titles of what `rows` gives."""

    @property
    def sample_id(self) -> str: ...

    def describe(self, top: int | None = None, all_scores: bool = False) -> dict[str, Any]:
        """The answer ready for JSON; its first key is `id`."""

    def rows(self, top: int | None = None, all_scores: bool = False) -> list[tuple[str, ...]]:
        """The answer as lines of a table under `columns`."""


@dataclass(frozen=True, eq=False)
class ClassScores:
    """The probability of every class for one video: `scores (K,)`, float32 on the CPU, in the order of `label_names`.

    Single-label scores sum to 1; with `multi_label` they are independent, and those of 0.5 and above are the answer.
    """

    columns: ClassVar[tuple[str, ...]] = ("label", "score")
    sample_id: str
    scores: Tensor
    label_names: tuple[str, ...]
    multi_label: bool = False

    def __post_init__(self) -> None:
        if self.scores.shape != (len(self.label_names),):
            raise ValueError(f"{len(self.label_names)} label names but scores of shape {tuple(self.scores.shape)}")

    @property
    def label(self) -> str:
        """The class with the highest score."""
        return self.label_names[int(self.scores.argmax())]

    @property
    def score(self) -> float:
        """The highest score."""
        return float(self.scores.max())

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The `k` best `(label, score)` pairs, best first; equal scores in class order."""
        order = self.scores.argsort(descending=True, stable=True)[:k].tolist()
        return [(self.label_names[i], float(self.scores[i])) for i in order]

    def above(self, threshold: float = 0.5) -> list[tuple[str, float]]:
        """The `(label, score)` pairs at or above `threshold`, best first: the answer of a multi-label adapter."""
        return [pair for pair in self.top(len(self.label_names)) if pair[1] >= threshold]

    def describe(self, top: int | None = None, all_scores: bool = False) -> dict[str, Any]:
        """`{"id", "label", "score"}`; `labels` when multi-label, `top` and the `scores` of every class on request."""
        record: dict[str, Any] = {"id": self.sample_id, "label": self.label, "score": self.score}
        if all_scores:
            record["scores"] = dict(zip(self.label_names, self.scores.tolist(), strict=True))
        if self.multi_label:
            record["labels"] = [{"label": label, "score": score} for label, score in self.above()]
        if top is not None and top > 1:
            record["top"] = [{"label": label, "score": score} for label, score in self.top(top)]
        return record

    def rows(self, top: int | None = None, all_scores: bool = False) -> list[tuple[str, ...]]:
        """One line a class: the best one, the `top` ones, all of them, or those that a multi-label adapter found."""
        shown = self.top(len(self.label_names) if all_scores else top or 1)
        if self.multi_label and not all_scores and top is None:
            shown = self.above() or shown
        return [(label, f"{score:.3f}") for label, score in shown]

    def __repr__(self) -> str:
        best = ", ".join(f"{label} {score:.3f}" for label, score in self.top(3))
        return f"ClassScores({self.sample_id!r}: {best})"


def mean_scores(answers: Sequence[ClassScores]) -> ClassScores:
    """The mean of the probabilities of several views of one video."""
    import torch

    if len(answers) == 1:
        return answers[0]
    first = answers[0]
    scores = torch.stack([answer.scores for answer in answers]).mean(0)  # (K,)
    return ClassScores(first.sample_id, scores, first.label_names, first.multi_label)


@dataclass(frozen=True)
class Segment:
    """Something that happens from `start_s` to `end_s`, in seconds of the video."""

    start_s: float
    end_s: float
    label: str
    score: float


PROPOSAL = "proposal"
"""The label of a segment that says when something happens, not what."""


@dataclass(frozen=True)
class Timeline(Sequence[Segment]):
    """What is known to happen in one video, and where anybody looked: the target of whoever learns segments.

    `annotated` are spans of seconds outside which nothing is known, None for the whole video; `classes` are those that
    were looked for, None for all.
    """

    segments: tuple[Segment, ...]
    annotated: tuple[tuple[float, float], ...] | None = None
    classes: tuple[str, ...] | None = None

    @classmethod
    def of(cls, target: Sequence[Segment]) -> Timeline:
        """A plain list of segments as a timeline of which everything is known."""
        return target if isinstance(target, cls) else cls(tuple(target))

    def without_classes(self, labels: Collection[str]) -> Timeline:
        """The same as proposals; where not all of `labels` were looked for, nothing is known between the segments."""
        plain = tuple(Segment(one.start_s, one.end_s, PROPOSAL, one.score) for one in self.segments)
        whole = self.classes is None or set(labels) <= set(self.classes)
        return Timeline(plain, self.annotated if whole else tuple((one.start_s, one.end_s) for one in plain))

    @overload
    def __getitem__(self, place: int) -> Segment: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Segment, ...]: ...

    def __getitem__(self, place: int | slice) -> Segment | tuple[Segment, ...]:
        return self.segments[place]

    def __len__(self) -> int:
        return len(self.segments)


@dataclass(frozen=True)
class Segments:
    """What happens when in one video, the surest first; those whose score reaches `threshold` are the answer.

    `classified_by` names the adapter that gave proposals their classes, where another one did.
    """

    columns: ClassVar[tuple[str, ...]] = ("start", "end", "label", "score")
    sample_id: str
    segments: tuple[Segment, ...]
    threshold: float = 0.0
    classified_by: str = ""

    def describe(self, top: int | None = None, all_scores: bool = False) -> dict[str, Any]:
        """`{"id", "segments": [{"start", "end", "label", "score"}]}`, times in seconds, and `classified_by`, if any."""
        rows = [
            {"start": one.start_s, "end": one.end_s, "label": one.label, "score": one.score}
            for one in self.shown(top, all_scores)
        ]
        named = {"classified_by": self.classified_by} if self.classified_by else {}
        return {"id": self.sample_id, "segments": rows} | named

    def rows(self, top: int | None = None, all_scores: bool = False) -> list[tuple[str, ...]]:
        """One line a segment."""
        return [
            (f"{one.start_s:.2f}", f"{one.end_s:.2f}", one.label, f"{one.score:.3f}")
            for one in self.shown(top, all_scores)
        ]

    def shown(self, top: int | None = None, all_scores: bool = False) -> tuple[Segment, ...]:
        """The segments that are the answer: all on request, the `top` ones, or those that reach the threshold."""
        if all_scores:
            return self.segments
        return self.segments[:top] if top else tuple(one for one in self.segments if one.score >= self.threshold)


@dataclass(frozen=True)
class Box:
    """Someone at `time_s`: corners `(left, top, right, bottom)` as fractions of the picture, and what they do."""

    time_s: float
    corners: tuple[float, float, float, float]
    label: str
    score: float
    track: str = ""  # which individual it is, where that is known


@dataclass(frozen=True)
class Boxes:
    """Who does what where in one video, by time and the surest first."""

    columns: ClassVar[tuple[str, ...]] = ("time", "box", "label", "score")
    sample_id: str
    boxes: tuple[Box, ...]

    def describe(self, top: int | None = None, all_scores: bool = False) -> dict[str, Any]:
        """`{"id", "boxes": [{"time", "box", "label", "score"}]}`, times in seconds, corners as fractions."""
        shown = [
            {"time": one.time_s, "box": list(one.corners), "label": one.label, "score": one.score}
            for one in self._shown(top, all_scores)
        ]
        return {"id": self.sample_id, "boxes": shown}

    def rows(self, top: int | None = None, all_scores: bool = False) -> list[tuple[str, ...]]:
        """One line a box."""
        return [
            (f"{one.time_s:.2f}", " ".join(f"{edge:.3f}" for edge in one.corners), one.label, f"{one.score:.3f}")
            for one in self._shown(top, all_scores)
        ]

    def _shown(self, top: int | None, all_scores: bool) -> tuple[Box, ...]:
        return self.boxes if all_scores or top is None else self.boxes[:top]


@dataclass(frozen=True)
class Text:
    """What is said of one video: a caption, or the answer to a `question`.

    `score` is the log-likelihood of the whole text, where the adapter knows it. `ranked` holds the texts that it was
    chosen from with theirs, the likeliest first; it is empty where the text was made freely.
    """

    sample_id: str
    text: str
    score: float | None = None
    question: str = ""
    ranked: tuple[tuple[str, float], ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """`answer` or `caption`, and the log-likelihood where it is known."""
        return (self._what,) if self.score is None else (self._what, "log-likelihood")

    @property
    def _what(self) -> str:
        return "answer" if self.question else "caption"

    def describe(self, top: int | None = None, all_scores: bool = False) -> dict[str, Any]:
        """`{"id", "caption", "log_likelihood"}`, or `question` and `answer`; on request the `candidates`."""
        record: dict[str, Any] = {"id": self.sample_id}
        if self.question:
            record["question"] = self.question
        record[self._what] = self.text
        if self.score is not None:
            record["log_likelihood"] = self.score
        if self.ranked and (all_scores or (top is not None and top > 1)):
            shown = self.ranked if all_scores else self.ranked[:top]
            record["candidates"] = [{self._what: text, "log_likelihood": score} for text, score in shown]
        return record

    def rows(self, top: int | None = None, all_scores: bool = False) -> list[tuple[str, ...]]:
        """One line, or one for each of the texts that it was chosen from."""
        shown: Sequence[tuple[str, float | None]] = [(self.text, self.score)]
        if self.ranked and (all_scores or top is not None):
            shown = self.ranked if all_scores else self.ranked[:top]
        return [(text,) if score is None else (text, f"{score:.2f}") for text, score in shown]


def likeliest_text(answers: Sequence[Text]) -> Text:
    """One text from those of several views: of texts made freely the likeliest, of candidates the likeliest on average.

    Raises:
        ValueError: some were chosen and some were not.
    """
    if not any(one.ranked for one in answers):
        return max(answers, key=lambda one: -float("inf") if one.score is None else one.score)
    several = [dict(one.ranked) for one in answers]
    if any(one.keys() != several[0].keys() for one in several):
        raise ValueError("the views of one video were given different candidates")
    mean = {text: sum(one[text] for one in several) / len(several) for text in several[0]}
    ranked = tuple(sorted(mean.items(), key=lambda pair: -pair[1]))
    return Text(answers[0].sample_id, *ranked[0], answers[0].question, ranked)


@dataclass(frozen=True, eq=False)
class Embedding:
    """Where one video lies in the space of its texts: a unit vector `values (E,)`, float32 on the CPU.

    `texts (C, E)` are the vectors of the texts that were given beside the video, None where none were.
    """

    columns: ClassVar[tuple[str, ...]] = ("embedding",)
    sample_id: str
    values: Tensor
    texts: Tensor | None = None

    def describe(self, top: int | None = None, all_scores: bool = False) -> dict[str, Any]:
        """`{"id", "embedding"}`, all E numbers; on request the `texts` given beside the video, as vectors too."""
        record: dict[str, Any] = {"id": self.sample_id, "embedding": self.values.tolist()}
        if all_scores and self.texts is not None:
            record["texts"] = self.texts.tolist()
        return record

    def rows(self, top: int | None = None, all_scores: bool = False) -> list[tuple[str, ...]]:
        """One line with the first numbers, or all of them."""
        count = len(self.values) if all_scores else min(4, len(self.values))
        shown = " ".join(f"{value:.3f}" for value in self.values[:count].tolist())
        return [(shown + (" ..." if count < len(self.values) else ""),)]


def mean_embedding(answers: Sequence[Embedding]) -> Embedding:
    """The mean of the vectors of several views of one video, of unit length again."""
    import torch

    if len(answers) == 1:
        return answers[0]
    mean = torch.stack([answer.values for answer in answers]).mean(0)  # (E,)
    return Embedding(answers[0].sample_id, torch.nn.functional.normalize(mean, dim=-1), answers[0].texts)
