"""`lit_text`: a text tower is taught the features of a locked video encoder, so that videos and texts share one space.

    tokens (B, T*N, D) --MAP head--> norm -> linear -> unit vector (B, E)
    texts --text tower--> (B, D') -> linear -> unit vector (B, E)

Trained by the symmetric contrastive loss on features alone: no video is decoded. Source: LiT, Zhai et al., arXiv
2111.07991; the MAP head is that of VideoPrism's evaluations.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from adapters.adapter import Adapter, Loss
from adapters.classifier import real_rows, scale_batches
from adapters.context import Context
from adapters.features import Batch, FeatureDataset, Times, targets_of, texts_of_target
from adapters.head_options import LARGEST_SCALE, LitTextConfig
from adapters.head_size import of_other_files
from adapters.kinds.map_classifier import DEFAULT_HEADS, PoolingRound, nearest_divisor
from adapters.lora import LORA_FOLDER, save_lora, with_lora
from adapters.predicting import evaluating
from adapters.predictions import ClassScores, Embedding, Prediction, mean_embedding, mean_scores
from core_encoder.errors import InputError
from core_encoder.features.feature_spec import FeatureKind
from core_encoder.files.hub import named_elsewhere
from core_encoder.files.storage import read_config_json, write_json
from core_encoder.models.text_tower import canonicalize
from core_encoder.models.video_text import l2_normalize
from core_encoder.text_encoder import TextEncoder, build_text_encoder, load_text_encoder
from fit.contrastive import belonging_of, contrastive_loss, sigmoid_loss

SIGMOID_BIAS = -10.0  # where SigLIP's begins: nearly all pairs are negatives
TEXTS_AT_ONCE = 64
MOST_KEPT_TEXTS = 200_000  # vectors of a frozen tower that are kept in memory
TOWER_FOLDER, TOWER_FILE = "text_tower", "text_tower.json"


class LitText(Adapter):
    """Videos and texts as unit vectors of one space.

    Its answer is the video's `Embedding`; with `captions` given beside the video also the vectors of these, with
    `candidates` the `ClassScores` of choosing among them.
    """

    kind: ClassVar[str] = "lit_text"
    Config: ClassVar[type] = LitTextConfig
    feature_kind: ClassVar[FeatureKind] = "tokens"
    input_names = ("candidates", "captions")
    target_kind = "pairs"
    even_shares: ClassVar[bool] = True
    warmup_fraction: ClassVar[float] = 0.03
    least_warmup_steps: ClassVar[int] = 100
    places = ("text_tower",)
    config: LitTextConfig

    def __init__(self, config: LitTextConfig, context: Context) -> None:
        super().__init__(config, context)
        dim = context.dim
        hidden = config.hidden or dim
        heads = config.heads or nearest_divisor(hidden, DEFAULT_HEADS)
        if hidden % heads:
            raise InputError(f"heads {heads} do not divide the hidden width {hidden}")
        source = config.text_tower or context.encoder_source
        self.tower, self.began_as = _open_tower(source, config, context.assets)
        width = config.width or self.tower.dim
        self.query = nn.Parameter(torch.randn(1, hidden))
        self.pooling = PoolingRound(dim, hidden, heads, config.mlp_ratio, config.positions)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.video_projection = nn.Linear(hidden, width, bias=False)
        self.text_projection = nn.Linear(self.tower.dim, width, bias=False)
        nn.init.normal_(self.video_projection.weight, std=hidden**-0.5)
        if width == self.tower.dim:
            nn.init.eye_(self.text_projection.weight)  # the space begins as the tower's own
        else:
            nn.init.normal_(self.text_projection.weight, std=self.tower.dim**-0.5)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.scale)))
        self.bias = nn.Parameter(torch.tensor(SIGMOID_BIAS)) if config.loss == "sigmoid" else None
        self._kept: dict[str, Tensor] = {}  # outputs of a tower that stays as it is
        self._most_captions = 1

    # The two sides

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Unit vectors `(B, E)` of tokens `(B, T, N, D)`."""
        if features.ndim != 4 or features.shape[-1] != self.dim:
            raise InputError(f"lit_text wants features (B, T, N, {self.dim}), not {tuple(features.shape)}")
        frames, patches = features.shape[1:3]
        token_mask = None if mask is None else mask.repeat_interleave(patches, 1)  # (B, T*N)
        x = self.pooling(self.query, features.flatten(1, 2), (frames, *self._patch_grid(patches)), token_mask)  # (B, H)
        return l2_normalize(self.video_projection(self.dropout(self.norm(x))).float())  # (B, E)

    def text_vectors(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors `(len(texts), E)`, with gradients where the text side trains."""
        outputs = self._frozen_outputs(texts) if self.config.tune == "projection" else self.tower(texts)  # (L, D')
        return l2_normalize(self.text_projection(outputs).float())  # (L, E)

    def embed_video(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Tokens `(B, T, N, D)` of the encoder -> unit vectors `(B, E)` on the CPU; `predict` takes videos."""
        with evaluating(self):
            mask = None if mask is None else mask.to(self.device)
            return self(features.to(self.device), mask).float().cpu()

    def embed_text(self, texts: Sequence[str]) -> Tensor:
        """A list of texts -> unit vectors `(len(texts), E)` on the CPU; longer ones are cut, which is said once.

        Raises:
            ValueError: `texts` is one string, or not all are strings.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError("give a list of texts")
        with evaluating(self):
            parts = [self.text_vectors(texts[i : i + TEXTS_AT_ONCE]) for i in range(0, len(texts), TEXTS_AT_ONCE)]
        return torch.cat(parts).float().cpu() if parts else torch.zeros(0, self.text_projection.out_features)

    @property
    def similarity_scale(self) -> Tensor:
        """What similarities are multiplied by before a softmax or sigmoid."""
        return self.log_scale.clamp(max=math.log(LARGEST_SCALE)).exp()

    # Learning and answering

    def calibrate(self, dataset: FeatureDataset) -> None:
        """Measure the feature scale on some evenly spread samples, and check that each has captions.

        Raises:
            InputError: a target is no text, features are not finite, or of another width.
        """
        several = [_captions(target) for target in targets_of(dataset)]
        self._most_captions = max(map(len, several))
        self.pooling.scale.measure([real_rows(batch) for batch in scale_batches(dataset, self.dim)])

    def loss(self, batch: Batch) -> Loss:
        """The contrastive loss; of several captions of a video a step draws one, validation takes the first."""
        return self._loss(self(batch.features, batch.mask), batch)

    def answer(self, batch: Batch) -> list[Prediction]:
        return self._answers(self(batch.features, batch.mask), batch)

    def answer_with_loss(self, batch: Batch) -> tuple[list[Prediction], Loss]:
        video = self(batch.features, batch.mask)
        return self._answers(video, batch), self._loss(video, batch)

    def merge(self, answers: Sequence[Prediction], times: Sequence[Times | None]) -> Prediction:
        """The mean of the views' vectors, of unit length again; of choices the mean of the probabilities."""
        if isinstance(answers[0], ClassScores):
            return mean_scores(cast("Sequence[ClassScores]", answers))
        return mean_embedding(cast("Sequence[Embedding]", answers))

    def _loss(self, video: Tensor, batch: Batch) -> Loss:
        with torch.no_grad():  # a clamped value has no gradient to come back by
            self.log_scale.clamp_(max=math.log(LARGEST_SCALE))
        several = [_captions(target) for target in batch.targets]
        drawn = [int(torch.randint(len(one), ())) if self.training else 0 for one in several]
        texts = [captions[place] for captions, place in zip(several, drawn, strict=True)]
        belonging = belonging_of(*self._numbers(texts, several), self.gather)
        text, scale = self.text_vectors(texts), self.similarity_scale
        if self.bias is not None:
            value = sigmoid_loss(video, text, scale, self.bias, belonging, self.gather)
        else:
            value = contrastive_loss(video, text, scale, belonging, self.gather)
        return Loss(value, len(batch))

    def _numbers(self, texts: Sequence[str], several: Sequence[Sequence[str]]) -> tuple[Tensor, Tensor]:
        """Numbers that stand for the texts drawn, `(B,)`, and for all captions of each video, `(B, C)`.

        Texts that differ in case and punctuation alone have one number.
        """
        count = max(self._most_captions, *map(len, several))  # the same in every process while training
        drawn = torch.tensor([_number(text) for text in texts])
        known = [[_number(one) for one in captions] for captions in several]
        rows = torch.tensor([row + row[:1] * (count - len(row)) for row in known])
        return drawn.to(self.device), rows.to(self.device)

    def _answers(self, video: Tensor, batch: Batch) -> list[Prediction]:
        vectors = video.detach().float().cpu()
        if (candidates := batch.inputs.get("candidates")) is not None:
            return self._choices(vectors, batch.ids, candidates)
        if (captions := batch.inputs.get("captions")) is None:
            return [Embedding(name, row) for name, row in zip(batch.ids, vectors, strict=True)]
        together = self._detached([text for several in captions for text in several])
        texts = together.split([len(several) for several in captions])
        return [Embedding(*row) for row in zip(batch.ids, vectors, texts, strict=True)]

    def _choices(self, video: Tensor, ids: Sequence[str], candidates: Sequence[Sequence[str]]) -> list[Prediction]:
        """Which of its candidates each video shows."""
        answers: list[Prediction] = []
        for name, row, several in zip(ids, video, candidates, strict=True):
            if not several or len(set(several)) < len(several):
                raise InputError(f"{name}: candidates must be different texts, not {list(several)[:5]}")
            logits = float(self.similarity_scale) * self._detached(list(several)) @ row  # (C,)
            answers.append(ClassScores(name, logits.softmax(-1), tuple(several)))
        return answers

    def _detached(self, texts: Sequence[str]) -> Tensor:
        """Vectors of texts `(L, E)` on the CPU, without gradients, equal texts computed once."""
        distinct = list(dict.fromkeys(texts))
        place = {text: k for k, text in enumerate(distinct)}
        return self.embed_text(distinct)[[place[text] for text in texts]]

    # The text tower

    def train(self, mode: bool = True) -> LitText:
        """A tower that does not train stays in evaluation mode."""
        super().train(mode)
        if self.config.tune == "projection":
            self.tower.eval()
        return self

    def learning_rate_share(self, name: str) -> float:
        """The whole tower learns more slowly: it starts pretrained. LoRA starts from nothing."""
        return self.config.tower_rate if self.config.tune == "tower" and name.startswith("tower.") else 1.0

    def saved_names(self) -> frozenset[str]:
        """A tower that does not train is brought by its own files, buffers included."""
        names = super().saved_names()
        if self.config.tune == "tower":
            return names
        return frozenset(name for name in names if not name.startswith("tower.") or ".lora_" in name)

    def parts_elsewhere(self) -> dict[str, str]:
        """The text tower, unless all of it trained and so lies in the folder."""
        return {} if self.config.tune == "tower" else {"text_tower": self.began_as["source"]}

    def names_in_assets(self) -> frozenset[str]:
        """LoRA lies in PEFT's own layout."""
        return frozenset(name for name in self.saved_names() if name.startswith("tower.") and ".lora_" in name)

    def write_assets(self, folder: Path) -> None:
        """Where the tower comes from; a tuned one brings its config and tokenizer, LoRA itself."""
        write_json(folder / TOWER_FILE, self.began_as)
        if self.config.tune == "tower":
            self.tower.write_files(folder / TOWER_FOLDER)
        elif self.config.tune == "lora":
            save_lora(self.tower.model, folder / LORA_FOLDER, self.began_as["source"])

    def _frozen_outputs(self, texts: Sequence[str]) -> Tensor:
        """What the tower says of texts `(L, D')`, computed once for each text."""
        if new := [text for text in dict.fromkeys(texts) if text not in self._kept]:
            if len(self._kept) + len(new) > MOST_KEPT_TEXTS:
                self._kept.clear()
                new = list(dict.fromkeys(texts))
            with torch.no_grad():
                for first in range(0, len(new), TEXTS_AT_ONCE):
                    part = new[first : first + TEXTS_AT_ONCE]
                    self._kept |= zip(part, self.tower(part).float().cpu(), strict=True)
        return torch.stack([self._kept[text] for text in texts]).to(self.device)

    def _patch_grid(self, patches: int) -> tuple[int, int]:
        """Rows and columns of patches; without positions it does not matter where they are."""
        return self.context.grid_or_row(patches) if self.config.positions else (1, patches)


def _open_tower(source: str, config: LitTextConfig, assets: Path | None) -> tuple[TextEncoder, dict[str, Any]]:
    """The tower as `config` trains it, and where it came from: fresh, or of a saved adapter's `assets`.

    Raises:
        InputError: no text tower is known, it is not at hand, or it is not the one the adapter was trained with.
    """
    known = read_config_json(assets / TOWER_FILE) if assets is not None else None
    if known is not None and config.tune == "tower":
        return build_text_encoder(assets / TOWER_FOLDER, known["source"]), known  # type: ignore[operator]
    source = source or (known or {}).get("source", "")
    if not source:
        raise InputError("lit_text needs a text tower: name an encoder, folder or Hub id with text_tower")
    try:
        with of_other_files():
            tower = load_text_encoder(source)
    except InputError as error:
        hint = "name another with text_tower" if known is None else "say where it lies now with text_tower"
        raise InputError(f"{error}; {hint}") from error
    began_as = {"source": named_elsewhere(source), "fingerprint": tower.fingerprint()}
    if known is not None and known["fingerprint"] != began_as["fingerprint"]:
        raise InputError(
            f"text tower {source!r} ({began_as['fingerprint'][:12]}) is not the one that the adapter was trained with "
            f"({known['fingerprint'][:12]})"
        )
    if config.tune != "tower":
        tower.requires_grad_(False)
    if config.tune == "lora":
        linear = [name for name, module in tower.model.named_modules() if isinstance(module, nn.Linear)]
        saved = None if assets is None else assets / LORA_FOLDER
        tower.model = with_lora(tower.model, config.lora_rank, linear, saved)
    return tower, began_as


def _captions(target: Any) -> tuple[str, ...]:
    """The captions of one video."""
    return texts_of_target(target, "a target of lit_text is a caption or several")


def _number(text: str) -> int:
    """63 bits that stand for a text."""
    digest = hashlib.blake2b(canonicalize(text).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
