"""The space of a language model's word embeddings: where a video's vectors belong, and which words they are near.

B batch, P vectors of a video, H width of the language model, V words.

    bridge's output (B, P, H) --matched: mean and spread of the embeddings--> vectors (B, P, H) --> language model
    vectors (B, P, H) --cosine to each word, softmax--> what each says (B, P, V) --any of P--> what is said (B, V)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_WORDS = 4096  # of the training texts, the most frequent: a large vocabulary would not fit beside many vectors
SHARPNESS = 20.0  # what a cosine is multiplied by before the softmax over words
RARE = -1e-4


class EmbeddingScale(nn.Module):
    """Mean and standard deviation of every channel of a language model's embeddings, `(H,)` each.

    Embeddings share much: of SmolLM2's, the mean is four ninths of the energy. Vectors around zero are like no word.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, embeddings: Tensor, factor: float = 1.0) -> None:
        """The statistics of rows `(V, H)`, times a factor, a part of the rows at a time."""
        super().__init__()
        parts = embeddings.detach().split(8192)
        mean = torch.stack([part.double().sum(0) for part in parts]).sum(0) / len(embeddings)
        square = torch.stack([(part.double() - mean).square().sum(0) for part in parts]).sum(0) / len(embeddings)
        self.register_buffer("mean", (factor * mean).float())
        self.register_buffer("std", (factor * square.sqrt()).clamp_min(1e-6).float())

    @property
    def width(self) -> int:
        """The width H of the embeddings."""
        return len(self.mean)

    def matched(self, y: Tensor) -> Tensor:
        """Vectors `(..., H)` of any size, as embeddings have it."""
        return self.mean + self.std * F.rms_norm(y.to(self.mean.dtype), y.shape[-1:])

    def directions(self, vectors: Tensor) -> Tensor:
        """Which way from the mean embedding vectors `(..., H)` lie, of length 1."""
        return F.normalize((vectors.to(self.mean.dtype) - self.mean) / self.std, dim=-1)


class WordLoss(nn.Module):
    """Minus the log-likelihood that a video's vectors say the words of its text.

    A frozen language model passes its gradient through all its layers, most of it about what all videos share, such as
    how a caption begins: what one video shows is learned late. This loss tells the bridge at once, and without running
    the model. Each vector says one word of the training texts, by a softmax over its cosines to them times `SHARPNESS`;
    a word is said when any vector says it (a noisy or), so vectors share the words out among them. Nothing of it is
    needed, or saved, to answer.
    """

    words: Tensor

    def __init__(self, texts: Iterable[Sequence[int]], embeddings: nn.Module, scale: EmbeddingScale) -> None:
        super().__init__()
        counts = Counter(word for ids in texts for word in set(ids))
        self.places = {word: place for place, (word, _) in enumerate(counts.most_common(MOST_WORDS))}
        self._scale = (scale,)  # in a tuple: it is the bridge's
        with torch.no_grad():
            known = embeddings(torch.tensor(list(self.places), dtype=torch.long, device=scale.mean.device))
        self.register_buffer("words", scale.directions(known), persistent=False)

    def forward(self, vectors: Tensor, real: Tensor, texts: Sequence[Sequence[int]]) -> Tensor:
        """The losses `(B,)` of vectors `(B, P, H)`, `real (B, P)` among them, and texts as ids; summed over words."""
        says = (SHARPNESS * self._scale[0].directions(vectors) @ self.words.T).log_softmax(-1)  # (B, P, V)
        says = says.masked_fill(~real[..., None], -torch.inf)
        silent = torch.log1p(-says.exp().clamp(max=1 - 1e-4)).sum(1)  # (B, V): the log of that no vector says it
        rarely = silent > RARE  # here the or is a sum, whose log keeps its gradient however small it is
        said = torch.where(rarely, says.logsumexp(1), (-torch.expm1(silent.clamp(max=RARE))).log())
        wanted = torch.zeros_like(said)
        for row, ids in enumerate(texts):
            wanted[row, [self.places[word] for word in set(ids) if word in self.places]] = 1.0
        return -(said * wanted).sum(1)
