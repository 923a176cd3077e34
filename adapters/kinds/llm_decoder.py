"""`llm_decoder`: a frozen language model says what a video shows, and answers questions about it.

    tokens (B, T, N, D) --bridge--> vectors (B, P, H) | prompt --frozen causal language model--> caption or answer

Only the bridge trains, and LoRA on the language model where it is asked for; the loss is that of the answer's tokens,
and that of the words which the vectors should be near (`adapters.language.embedding_space`).
Source: the language adapter of VideoPrism, Zhao et al., arXiv 2402.13217.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from adapters.adapter import Adapter, Loss
from adapters.classifier import real_rows, scale_batches
from adapters.context import Context, TargetKind
from adapters.features import Batch, FeatureDataset, Times, inputs_of, targets_of, texts_of_target
from adapters.head_options import LlmDecoderConfig
from adapters.head_size import of_other_files
from adapters.kinds.map_classifier import DEFAULT_HEADS, nearest_divisor
from adapters.language.bridges import Bridge, PooledTokens, Resampler
from adapters.language.embedding_space import WordLoss
from adapters.language.known_llms import KNOWN_LLMS, find_llm
from adapters.language.language_model import LanguageModel, llm_fingerprint
from adapters.language.prompts import Prompts, QuestionAnswer
from adapters.lora import LORA_FOLDER, save_lora, with_lora
from adapters.predictions import Prediction, Text, likeliest_text
from core_encoder.errors import InputError
from core_encoder.features.feature_spec import FeatureKind
from core_encoder.files.hub import named_elsewhere
from core_encoder.files.storage import read_config_json, write_json

ABOUT = "language_model.json"
TOKENS_PER_QUERY = 16  # of a clip's tokens, by default: 4096 tokens of Base have 256 queries
FEWEST_QUERIES, MOST_QUERIES = 8, 256
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class LlmDecoder(Adapter):
    """Captions, and answers where a `question` is given beside the video.

    With `candidates` given too, the likeliest of them. Given `examples`, pairs of a question and its answer, take the
    place of those that `shots` took from the training set. One adapter may learn both.
    """

    kind: ClassVar[str] = "llm_decoder"
    Config: ClassVar[type] = LlmDecoderConfig
    feature_kind: ClassVar[FeatureKind] = "tokens"
    input_names = ("question", "candidates", "examples")
    target_kind: ClassVar[TargetKind] = "text"
    batch_size: ClassVar[int] = 16
    answers_together: ClassVar[bool] = True
    places = ("llm",)
    config: LlmDecoderConfig

    def __init__(self, config: LlmDecoderConfig, context: Context) -> None:
        super().__init__(config, context)
        self.llm, self.about = _open_llm(config, context.assets)
        self.prompts = Prompts(self.llm.tokenizer, config.chat, config.caption_prompt, config.max_new_tokens)
        self.llm.ends = tuple(dict.fromkeys([*self.llm.ends, self.prompts.end]))
        self.examples: tuple[QuestionAnswer, ...] = ()
        self.vocabulary: tuple[str, ...] = ()
        if context.assets is not None:
            self.examples = tuple((q, a) for q, a in self.about["examples"])
            self.vocabulary = tuple(self.about["vocabulary"])
        self.bridge = self._fresh_bridge(config)
        self.word_loss: WordLoss | None = None  # of the training texts, which `calibrate` knows

    def _fresh_bridge(self, config: LlmDecoderConfig) -> Bridge:
        dim, width, like = self.dim, self.llm.width, self.llm.embedding_scale
        if config.bridge == "pool":
            return PooledTokens(dim, config.cells, like)
        heads = config.heads or nearest_divisor(width, DEFAULT_HEADS)
        if width % heads:
            raise InputError(f"heads {heads} do not divide the language model's width {width}")
        queries = config.queries or _default_queries(self.context)
        return Resampler(dim, queries, heads, config.mlp_ratio, config.positions, like)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tokens `(B, T, N, D)` -> the vectors before the prompt `(B, P, H)`, and which of them are real `(B, P)`."""
        if features.ndim != 4 or features.shape[-1] != self.dim:
            raise InputError(f"llm_decoder wants features (B, T, N, {self.dim}), not {tuple(features.shape)}")
        if self.config.blind:
            features, mask = torch.zeros_like(features), None
        return self.bridge(features, mask, self.context.grid_or_row(features.shape[2]))

    def train(self, mode: bool = True) -> LlmDecoder:
        """The language model stays in evaluation mode."""
        super().train(mode)
        self.llm.eval()
        return self

    # Learning

    def calibrate(self, dataset: FeatureDataset) -> None:
        """Measure the feature scale, and take example questions and the vocabulary of answers from the training set.

        Raises:
            InputError: a target is no text, features are not finite or of another width, or questions are too few.
        """
        known = [_texts(target) for target in targets_of(dataset)]
        asked = [_question(inputs.get("question")) for inputs in inputs_of(dataset)]
        answered = [(q, answers[0]) for q, answers in zip(asked, known, strict=True) if q]
        if not answered and (self.config.shots or self.config.vocabulary):
            raise InputError("shots and vocabulary are taken from training questions, and there is none")
        self.examples = _examples(answered, self.config.shots)
        counts = Counter(answer for _, answer in answered)
        self.vocabulary = tuple(answer for answer, _ in counts.most_common(self.config.vocabulary or 0))
        if self.config.vocabulary and len(self.vocabulary) < 2:
            raise InputError(f"all training questions have the answer {self.vocabulary[0]!r}: nothing to choose from")
        self.bridge.scale.measure([real_rows(batch) for batch in scale_batches(dataset, self.dim)])
        if self.config.word_loss:
            texts = (self._words(self.prompts.answer_ids(text)) for several in known for text in several)
            self.word_loss = WordLoss(texts, self.llm.embeddings, self.bridge.like)

    def loss(self, batch: Batch) -> Loss:
        """The mean over the tokens of the answers; of several a step draws one, validation takes the first.

        In training `word_loss` of the loss of the words is added.
        """
        return self._loss(self(batch.features, batch.mask), batch)

    def _loss(self, seen: tuple[Tensor, Tensor], batch: Batch) -> Loss:
        several = [_texts(target) for target in batch.targets]
        drawn = [one[int(torch.randint(len(one), ())) if self.training else 0] for one in several]
        answers = [self.prompts.answer_ids(text) for text in drawn]
        prompts = self._prompts(batch)
        count = sum(map(len, answers))
        total = self.llm.nll(*seen, prompts, answers).sum()
        if self.training and self.word_loss is not None:
            total = total + self.config.word_loss * self.word_loss(*seen, [*map(self._words, answers)]).sum()
        return Loss(total / count, count)

    def _words(self, ids: Sequence[int]) -> list[int]:
        """The ids of a text without its end."""
        return [one for one in ids if one not in self.llm.ends]

    # Answering

    def answer(self, batch: Batch) -> list[Prediction]:
        return self._answers(self(batch.features, batch.mask), batch)

    def answer_with_loss(self, batch: Batch) -> tuple[list[Prediction], Loss]:
        seen = self(batch.features, batch.mask)
        return self._answers(seen, batch), self._loss(seen, batch)

    def merge(self, answers: Sequence[Prediction], times: Sequence[Times | None]) -> Prediction:
        """The likeliest text of the views; of candidates the likeliest on average."""
        return likeliest_text(cast("Sequence[Text]", answers))

    def _answers(self, seen: tuple[Tensor, Tensor], batch: Batch) -> list[Prediction]:
        questions = self._questions(batch)
        given = batch.inputs.get("candidates") or [None] * len(batch)
        choices = [one or (self.vocabulary if question else ()) for one, question in zip(given, questions, strict=True)]
        free = [row for row, texts in enumerate(choices) if not texts]
        made = dict(zip(free, self._generated(seen, batch, free), strict=True))
        return [self._chosen(seen, batch, row, texts) if texts else made[row] for row, texts in enumerate(choices)]

    def _generated(self, seen: tuple[Tensor, Tensor], batch: Batch, rows: Sequence[int]) -> list[Text]:
        """The texts of some rows of a batch, with their log-likelihood."""
        if not rows:
            return []
        questions, every = self._questions(batch), self._prompts(batch)
        vectors, real, prompts = seen[0][rows], seen[1][rows], [every[row] for row in rows]
        ids = self.llm.generate(vectors, real, prompts, self.config.max_new_tokens, self.config.beams)
        with torch.no_grad():
            scores = -self.llm.nll(vectors, real, prompts, ids)
        return [
            Text(batch.ids[row], self.prompts.text_of(one), score, questions[row])
            for row, one, score in zip(rows, ids, scores.tolist(), strict=True)
        ]

    def _chosen(self, seen: tuple[Tensor, Tensor], batch: Batch, row: int, candidates: Sequence[str]) -> Text:
        """The likeliest of some texts."""
        name, question, prompt = batch.ids[row], self._questions(batch)[row], self._prompts(batch)[row]
        if len(candidates) < 2 or len(set(candidates)) < len(candidates):
            raise InputError(f"{name}: candidates must be at least two different texts, not {list(candidates)[:5]}")
        ids = [self.prompts.answer_ids(text) for text in candidates]
        scores = self.llm.score(seen[0][row, None], seen[1][row, None], prompt, ids)
        ranked = tuple(sorted(zip(candidates, scores.tolist(), strict=True), key=lambda pair: -pair[1]))
        return Text(name, *ranked[0], question, ranked)

    def _questions(self, batch: Batch) -> list[str]:
        """The question of each example, "" where a caption is wanted."""
        return [_question(one) for one in batch.inputs.get("question") or [""] * len(batch)]

    def _prompts(self, batch: Batch) -> list[list[int]]:
        given = batch.inputs.get("examples") or [None] * len(batch)
        pairs = [self.examples if one is None else _pairs(one) for one in given]
        return [self.prompts.prompt_ids(*row) for row in zip(self._questions(batch), pairs, strict=True)]

    # Saving

    def saved_names(self) -> frozenset[str]:
        """Nothing of the language model but LoRA: it is brought by its own files."""
        names = super().saved_names()
        return frozenset(name for name in names if not name.startswith("llm.") or ".lora_" in name)

    def names_in_assets(self) -> frozenset[str]:
        """LoRA lies in PEFT's own layout."""
        return frozenset(name for name in self.saved_names() if name.startswith("llm."))

    def write_assets(self, folder: Path) -> None:
        """Which language model it is, what was taken from the training set, and LoRA."""
        learned = {"examples": [list(one) for one in self.examples], "vocabulary": list(self.vocabulary)}
        write_json(folder / ABOUT, self.about | learned)
        if self.config.tune == "lora":
            name = self.about["llm"]
            save_lora(self.llm.model, folder / LORA_FOLDER, KNOWN_LLMS.get(name, name))


def _open_llm(config: LlmDecoderConfig, assets: Path | None) -> tuple[LanguageModel, dict[str, Any]]:
    """The language model as `config` uses it, and what an adapter records of it.

    Raises:
        InputError: it is not at hand, or it is not the one that a saved adapter was trained with.
    """
    known = read_config_json(assets / ABOUT) if assets is not None else None
    try:
        folder = find_llm(config.llm)
        with of_other_files():
            llm = LanguageModel(folder, _DTYPES[config.llm_dtype])
    except InputError as error:
        hint = "name another with llm" if known is None else "say where it lies now with llm"
        raise InputError(f"{error}; {hint}") from error
    about: dict[str, Any] = {
        "llm": named_elsewhere(config.llm),
        "fingerprint": llm_fingerprint(folder),
        "width": llm.width,
    }
    if known is not None and known["width"] != llm.width:
        raise InputError(
            f"language model {config.llm!r} has the hidden size {llm.width}, but the adapter was trained for "
            f"{known['width']}"
        )
    if known is not None and known["fingerprint"] != about["fingerprint"]:
        raise InputError(
            f"language model {config.llm!r} ({about['fingerprint'][:12]}) is not the one that the adapter was trained "
            f"with ({known['fingerprint'][:12]})"
        )
    if config.tune == "lora":
        saved = None if assets is None else assets / LORA_FOLDER
        llm.model = with_lora(llm.model, config.lora_rank, "all-linear", saved)
    return llm, about | (known or {})


def _default_queries(context: Context) -> int:
    """A query for so many tokens of a clip; of clips that nobody described, a few."""
    if context.features is None or context.known_grid is None:
        return FEWEST_QUERIES
    rows, columns = context.known_grid
    tokens = context.features.num_steps * rows * columns
    return max(FEWEST_QUERIES, min(MOST_QUERIES, tokens // TOKENS_PER_QUERY))


def _examples(answered: Sequence[QuestionAnswer], count: int) -> tuple[QuestionAnswer, ...]:
    """A random question of each of the most common answers, the same whenever the training set is the same."""
    drawn = random.Random(0)
    common = [answer for answer, _ in Counter(answer for _, answer in answered).most_common(count)]
    return tuple((drawn.choice([q for q, a in answered if a == answer]), answer) for answer in common)


def _question(given: Any) -> str:
    """A question, "" where none is asked.

    Raises:
        InputError: it is no text.
    """
    if given is None:
        return ""
    if not isinstance(given, str):
        raise InputError(f"a question is a text, not {given!r}")
    return given.strip()


def _pairs(given: Any) -> tuple[QuestionAnswer, ...]:
    """Examples that were given beside a video.

    Raises:
        InputError: they are no pairs of texts.
    """
    if not isinstance(given, list | tuple) or not all(
        isinstance(one, list | tuple) and len(one) == 2 and all(isinstance(text, str) for text in one) for one in given
    ):
        raise InputError(f"examples are pairs of a question and its answer, not {given!r}")
    return tuple((question, answer) for question, answer in given)


def _texts(target: Any) -> tuple[str, ...]:
    """The captions or answers of one example."""
    return texts_of_target(target, "a target of llm_decoder is a text or several")
