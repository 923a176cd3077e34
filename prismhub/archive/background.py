"""When nothing in an archive matches a text: what unrelated texts reach in it, measured on the archive itself.

How near a text and a scene are says little by itself: each space has its own scale, and some scenes are near to every
text. So the cosine of a text and a scene is compared with those of a few hundred unrelated texts and the same scene, as
a distance from their mean in standard deviations. The best of all scenes is the score of a text in the archive. A text
matches where it scores above what nearly all unrelated texts score there; how much that is, is taken from the lower
half of their scores, for some of them may really be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError
from prismhub.archive.folder_reader import FolderReader
from prismhub.archive.scene_index import FolderIndex
from prismhub.archive.vectors import Floats
from prismhub.progress import Show

_FILE = Path(__file__).parent / "background.txt"
FALSE_ALARMS = 0.01  # share of unrelated texts that are said to match, were their scores normally distributed


@dataclass(frozen=True, eq=False)
class Background:
    """Unit vectors (B, E) of unrelated texts, and the best score of each in the first `rows` of a file of vectors."""

    texts: Floats
    best: Floats
    file: int = 0
    rows: int = 0

    @classmethod
    def of(
        cls,
        index: FolderReader,
        embed: Callable[[Sequence[str]], Floats],
        show: Show,
    ) -> Background:
        """That of an archive: as kept in it, else made with its text tower."""
        kept = index.background()
        if kept is not None and kept[0].shape[1] == index.record.width:
            return cls(*kept)
        texts = background_texts()
        show.note(f"embedding {len(texts)} unrelated texts, once, to tell what matches nothing")
        vectors = embed(texts)
        return cls(vectors, np.full(len(vectors), -np.inf, np.float32))

    def up_to_date(self, index: FolderReader) -> Background:
        """With the scenes that came since; those that are gone count on until the archive is compacted."""
        search = index.vector_search()
        if (self.file, self.rows) == (search.file.number, search.file.rows):
            return self
        first = self.rows if self.file == search.file.number else 0
        best = self.best.copy() if first else np.full(len(self.texts), -np.inf, np.float32)

        def visit(_: int, cosines: Floats) -> None:
            np.maximum(best, standardized(cosines, cosines).max(0), out=best)

        search.over_rows(self.texts, visit, first)
        return replace(self, best=best, file=search.file.number, rows=search.file.rows)

    def keep(self, folder: Path) -> None:
        """Write it to the archive in `folder`, unless that cannot be written to now: the next search does it then."""
        try:
            with FolderIndex.open(folder, wait=False) as index:
                index.keep_background(self.texts, self.best, self.file, self.rows)
        except InputError:
            pass

    def matches(self, query: Floats, scenes: Floats) -> NDArray[np.bool_]:
        """Which of the scenes (n, E) are nearer to a text (E,) than unrelated texts are to any scene."""
        return self.scores(query, scenes) > self.least

    def scores(self, query: Floats, scenes: Floats) -> Floats:
        """How far above unrelated texts the text (E,) is for each of the scenes (n, E), in standard deviations."""
        return standardized((scenes @ query)[:, None], scenes @ self.texts.T)[:, 0]

    @property
    def least(self) -> float:
        """The score above which a text matches."""
        return threshold(self.best)


def background_texts() -> list[str]:
    """The unrelated texts that come with the package."""
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def standardized(cosines: Floats, unrelated: Floats) -> Floats:
    """Cosines (n, Q) of scenes and texts, by mean and standard deviation of those (n, B) of unrelated texts."""
    mean, deviation = unrelated.mean(1, keepdims=True), unrelated.std(1, keepdims=True)
    return (cosines - mean) / np.maximum(deviation, 1e-6)


def threshold(best: Floats) -> float:
    """What `FALSE_ALARMS` of unrelated texts score or more, by their lower half: its spread, carried on upwards."""
    low, middle = np.quantile(best, [0.1, 0.5])
    normal = NormalDist()
    return float(middle + (middle - low) * normal.inv_cdf(1 - FALSE_ALARMS) / -normal.inv_cdf(0.1))
