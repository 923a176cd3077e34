"""A small adapter for each kind of answer beyond class scores, with data it can learn; each uses what its kind needs.

ToySegments   windows of whole clips, as many as a video has, padded by the kind's own `collate`; times in the answer
ToyBoxes      boxes given beside the video, a grid of patches that is no square, a loss weighed by boxes
ToyText       a question given beside the video, a frozen language model in nested assets, only the rest is saved
ToyPairs      a contrastive loss over the batch of all processes
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adapters.adapter import Adapter, Loss
from adapters.context import Context, TargetSchema
from adapters.features import Batch, Example, Times
from adapters.predictions import Box, Boxes, Embedding, Prediction, Segment, Segments, Text, Truth
from core_encoder.config import option
from core_encoder.files.storage import read_json, read_tensors, write_json, write_tensors

DIM, LABELS, GRID = 8, ("run", "sit"), (2, 3)
QUESTIONS, WORDS = ("which animal", "what does it do"), ("cat", "dog", "runs", "sits")
CAPTIONS = ("a cat", "a dog", "a bird", "a fish")
WINDOW_S = 2.0


@dataclass(frozen=True)
class ToyConfig:
    """Options of all of them."""

    dropout: float = option(0.0, "dropout on the features")


class ToySegments(Adapter):
    """Each window is one of the classes or background; neighbours of one class become a segment."""

    kind, Config, feature_kind, target_kind, reads_whole_clips = "toy_segments", ToyConfig, "clip", "segments", True

    def __init__(self, config: ToyConfig, context: Context) -> None:
        super().__init__(config, context)
        self.classifier = nn.Linear(context.dim, len(self.label_names) + 1)
        self.dropout = nn.Dropout(config.dropout)

    def collate(self, examples: Sequence[Example]) -> Batch:
        counts = torch.tensor([len(example.features) for example in examples])
        features = nn.utils.rnn.pad_sequence([example.features.float() for example in examples], batch_first=True)
        mask = torch.arange(features.shape[1]) < counts[:, None]  # (B, W)
        columns = zip(*((e.target, e.id, e.times) for e in examples), strict=True)
        targets, ids, times = (list(column) for column in columns)
        return Batch(features, mask, targets, ids, times=times)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.classifier(self.dropout(features.float()))  # (B, W, K + 1)

    def loss(self, batch: Batch) -> Loss:
        logits, wanted = self(batch.features), torch.full(batch.mask.shape, len(self.label_names))
        for row, (segments, times) in enumerate(zip(batch.targets, batch.times, strict=True)):
            centres = times.span.mean(-1)  # (W,)
            for one in segments:
                inside = (centres >= one.start_s) & (centres < one.end_s)
                wanted[row, : len(centres)][inside] = self.label_names.index(one.label)
        value = F.cross_entropy(logits[batch.mask], wanted.to(logits.device)[batch.mask])
        return Loss(value, float(batch.mask.sum()))

    def answer(self, batch: Batch) -> list[Prediction]:
        found: list[Prediction] = []
        for row, (name, times) in enumerate(zip(batch.ids, batch.times, strict=True)):
            scores = self(batch.features[row, batch.mask[row]]).softmax(-1).cpu()
            segments: list[Segment] = []
            for (start, end), window in zip(times.span.tolist(), scores, strict=True):
                if (label := int(window.argmax())) == len(self.label_names):
                    continue
                last = segments[-1] if segments else None
                if last and last.end_s >= start and last.label == self.label_names[label]:
                    segments[-1] = Segment(last.start_s, end, last.label, max(last.score, float(window[label])))
                else:
                    segments.append(Segment(start, end, self.label_names[label], float(window[label])))
            found.append(Segments(name, tuple(sorted(segments, key=lambda one: -one.score))))
        return found


class ToyBoxes(Adapter):
    """The mean over the patches inside a given box says what the one in it does."""

    kind, Config, feature_kind, target_kind = "toy_boxes", ToyConfig, "tokens", "boxes"

    def __init__(self, config: ToyConfig, context: Context) -> None:
        super().__init__(config, context)
        self.classifier = nn.Linear(context.dim, len(self.label_names))

    def collate(self, examples: Sequence[Example]) -> Batch:
        batch = super().collate(examples)
        batch.targets = [example.target for example in examples]  # as many rows as boxes, which differ
        return batch

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        kept = torch.ones(features.shape[:2]) if mask is None else mask.float()  # (B, T)
        kept = kept.to(features.device)[..., None, None]
        return (features.float() * kept).sum(1) / kept.sum(1)  # (B, N, D): a box stands still

    def _logits(self, batch: Batch) -> list[Tensor]:
        rows, columns = self.context.patch_grid(batch.features.shape[-2])
        y = (torch.arange(rows) + 0.5) / rows
        x = (torch.arange(columns) + 0.5) / columns
        found = []
        for patches, boxes in zip(self(batch.features, batch.mask), batch.inputs["boxes"], strict=True):
            left, top, right, bottom = boxes.cpu().unbind(-1)  # (Q,) each
            inside_x = (x >= left[:, None]) & (x < right[:, None])
            inside_y = (y >= top[:, None]) & (y < bottom[:, None])
            inside = (inside_y[:, :, None] & inside_x[:, None]).flatten(1).float().to(patches.device)  # (Q, N)
            found.append(self.classifier(inside @ patches / inside.sum(1, keepdim=True)))
        return found

    def loss(self, batch: Batch) -> Loss:
        wanted = torch.cat([target.to(self.device) for target in batch.targets])
        return Loss(F.cross_entropy(torch.cat(self._logits(batch)), wanted), len(wanted))

    def answer(self, batch: Batch) -> list[Prediction]:
        answers: list[Prediction] = []
        for name, boxes, logits in zip(batch.ids, batch.inputs["boxes"], self._logits(batch), strict=True):
            scores, labels = logits.softmax(-1).max(-1)
            answers.append(
                Boxes(
                    name,
                    tuple(
                        Box(0.0, (left, top, right, bottom), self.label_names[label], score)
                        for (left, top, right, bottom), label, score in zip(
                            boxes.tolist(), labels.tolist(), scores.tolist(), strict=True
                        )
                    ),
                )
            )
        return answers


class ToyText(Adapter):
    """A frozen table of words stands for a language model; what is learned reads the video and the question."""

    kind, Config, feature_kind, target_kind = "toy_text", ToyConfig, "frames", "text"

    def __init__(self, config: ToyConfig, context: Context) -> None:
        super().__init__(config, context)
        self.words = nn.Embedding(len(WORDS), 6)
        self.words.weight.requires_grad_(False)
        self.vocabulary = WORDS
        if context.assets is not None:
            self.vocabulary = tuple(read_json(context.assets / "tokenizer.json"))
            self.words.load_state_dict(read_tensors(context.assets / "lora" / "words.safetensors"))
        self.questions = nn.Embedding(len(QUESTIONS), 6)
        self.video = nn.Linear(context.dim, 6)
        self.both = nn.Linear(12, 6)

    def write_assets(self, folder: Path) -> None:
        write_json(folder / "tokenizer.json", list(self.vocabulary))
        (folder / "lora").mkdir()
        write_tensors(folder / "lora" / "words.safetensors", self.words.state_dict())

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        kept = features.float() if mask is None else features.float() * mask[..., None]
        count = features.shape[1] if mask is None else mask.sum(1, keepdim=True)
        return self.video(kept.sum(1) / count)  # (B, 6)

    def _logits(self, batch: Batch) -> Tensor:
        asked = torch.tensor([QUESTIONS.index(one) for one in batch.inputs["question"]], device=self.device)
        hidden = torch.cat([self(batch.features, batch.mask), self.questions(asked)], -1)
        return self.both(hidden.relu()) @ self.words.weight.T  # (B, words)

    def loss(self, batch: Batch) -> Loss:
        wanted = torch.tensor([self.vocabulary.index(word) for word in batch.targets], device=self.device)
        return Loss(F.cross_entropy(self._logits(batch), wanted), len(wanted))

    def answer(self, batch: Batch) -> list[Prediction]:
        best = self._logits(batch).log_softmax(-1).max(-1)
        rows = zip(batch.ids, best.indices.tolist(), best.values.tolist(), strict=True)
        return [Text(name, self.vocabulary[word], score) for name, word, score in rows]


class ToyPairs(Adapter):
    """Videos and texts as unit vectors of one space."""

    kind, Config, feature_kind, target_kind, even_shares = "toy_pairs", ToyConfig, "embedding", "pairs", True

    def __init__(self, config: ToyConfig, context: Context) -> None:
        super().__init__(config, context)
        self.video = nn.Linear(context.dim, 6)
        self.texts = nn.Embedding(len(CAPTIONS), 6)
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        return F.normalize(self.video(features.float()), dim=-1)  # (B, 6)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        places = torch.tensor([CAPTIONS.index(text) for text in texts], device=self.device)
        return F.normalize(self.texts(places), dim=-1)

    def loss(self, batch: Batch) -> Loss:
        own = len(batch)
        video, text = self.gather(self(batch.features)), self.gather(self.embed_texts(batch.targets))  # (B, 6)
        similar = self.scale * video @ text.T
        alike = (text @ text.T > 0.99).float()  # one caption may belong to several videos of a batch
        wanted = alike / alike.sum(1, keepdim=True)
        value = (F.cross_entropy(similar, wanted) + F.cross_entropy(similar.T, wanted)) / 2
        return Loss(value, own)

    def answer(self, batch: Batch) -> list[Prediction]:
        vectors = self(batch.features).cpu()
        return [Embedding(name, vector) for name, vector in zip(batch.ids, vectors, strict=True)]


KINDS: tuple[type[Adapter], ...] = (ToySegments, ToyBoxes, ToyText, ToyPairs)


def context_of(kind: type[Adapter]) -> Context:
    names = LABELS if issubclass(kind, ToySegments | ToyBoxes) else ()
    return Context(DIM, TargetSchema(kind.target_kind, names), grid=GRID if issubclass(kind, ToyBoxes) else None)


def data_of(kind: type[Adapter], count: int, seed: int = 0) -> list[Example]:
    """Examples that the kind can learn: directions of the features mean something, the rest is noise."""
    source = torch.Generator().manual_seed(seed)
    directions = 3 * torch.randn(4, DIM, generator=torch.Generator().manual_seed(99))
    noise = lambda *shape: 0.5 * torch.randn(*shape, generator=source)  # noqa: E731
    examples = []
    for index in range(count):
        name = f"{kind.kind}-{seed}-{index}"
        if issubclass(kind, ToySegments):
            windows = 3 + index % 4
            features, label = noise(windows, DIM), index % len(LABELS)
            features[1:3] += directions[label]
            span = torch.stack([torch.arange(windows) * WINDOW_S, (torch.arange(windows) + 1) * WINDOW_S], -1)
            times = Times(span.mean(-1, keepdim=True), span)  # (W, 1), (W, 2)
            wanted = [Segment(WINDOW_S, 3 * WINDOW_S, LABELS[label], 1.0)]
            examples.append(Example(features, None, wanted, name, times=times))
        elif issubclass(kind, ToyBoxes):
            grid, labels = noise(2, *GRID, DIM), torch.tensor([index % 2, 1 - index % 2][: 1 + index % 3 % 2])
            corners = torch.tensor([[0.0, 0.0, 1 / 3, 1.0], [2 / 3, 0.0, 1.0, 1.0]])[: len(labels)]
            for column, label in zip((0, 2), labels, strict=False):
                grid[:, :, column] += directions[label]
            examples.append(Example(grid.flatten(1, 2), None, labels, name, {"boxes": corners}))
        elif issubclass(kind, ToyText):
            animal, deed, asked = index % 2, index // 2 % 2, index // 4 % 2
            features = noise(3, DIM) + directions[animal] + directions[2 + deed]
            word = WORDS[animal] if asked == 0 else WORDS[2 + deed]
            examples.append(
                Example(features, torch.ones(3, dtype=torch.bool), word, name, {"question": QUESTIONS[asked]})
            )
        else:
            features = noise(DIM) + directions[index % len(CAPTIONS)]
            examples.append(Example(features, None, CAPTIONS[index % len(CAPTIONS)], name))
    return examples


def is_right(prediction: Prediction, known: Truth, texts: Tensor | None = None) -> bool:
    """Whether an answer is what the example says; of pairs, whether its caption is the nearest of `texts`."""
    if isinstance(prediction, Segments):
        wanted, best = known.target[0], next(iter(prediction.segments), None)
        return best is not None and replace(best, score=1.0) == wanted
    if isinstance(prediction, Boxes):
        return [box.label for box in prediction.boxes] == [LABELS[label] for label in known.target.tolist()]
    if isinstance(prediction, Text):
        return prediction.text == known.target
    assert isinstance(prediction, Embedding) and texts is not None
    return CAPTIONS[int((texts @ prediction.values).argmax())] == known.target


def as_json(prediction: Prediction) -> str:
    """Everything an answer holds."""
    return json.dumps(prediction.describe(all_scores=True))
