"""Vectors for queries to an archive: of texts and of example videos, in the space of its scenes and no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core_encoder.clip_plan import Clip
from core_encoder.errors import EncoderMismatch, InputError
from prismhub.archive.scenes import ArchiveRecord
from prismhub.features import clip_source, open_encoder
from prismhub.settings import PartsSettings, ReadingSettings, RunningSettings
from prismhub.text_spaces import TextSpace, video_vectors

if TYPE_CHECKING:
    from adapters.hub import Hub
    from core_encoder.encoder import Encoder
    from core_encoder.features.feature_source import FeatureSource
    from core_encoder.features.feature_spec import FeatureSpec

ENCODER = "encoder"
"""The `space` of an archive whose vectors are of the encoder's own space of videos and texts."""
_NO_WORD = "\ue000"  # of private use: no tokenizer knows it
_LETTERS_A_TOKEN = 2.0  # or fewer: a tokenizer spells words instead of knowing them


class ArchiveSpace:
    """The encoder of an archive, and its adapter where the vectors are an adapter's, loaded when first asked."""

    def __init__(
        self, where: str | Path, record: ArchiveRecord, running: RunningSettings | None = None, hub: Hub | None = None
    ) -> None:
        """`where` names the archive in messages; `running` says where the encoder lies now, and how it runs.

        What `hub` has loaded is not loaded again: its encoder and adapters are taken where they are the archive's.
        """
        self._where = where
        self._record = record
        self._running = running or RunningSettings()
        self._hub = hub
        self._encoder: Encoder | None = None
        self._space: TextSpace | None = None
        self._tokenizer: Any = None

    @property
    def knows_words(self) -> bool:
        """Whether texts have vectors in it."""
        return bool(self._record.space)

    @property
    def features(self) -> FeatureSpec:
        """What vectors are made of."""
        from core_encoder.features.feature_spec import FeatureSpec

        return FeatureSpec.from_dict(self._record.features)

    def is_of(self, record: ArchiveRecord) -> bool:
        """Whether the vectors of an archive with this record are of this space."""
        spaces = [(one.fingerprint, one.features, one.space, one.width) for one in (self._record, record)]
        adapters = [one.adapters.get(one.space) for one in (self._record, record)]
        return spaces[0] == spaces[1] and adapters[0] == adapters[1]

    def open(self) -> Encoder:
        """The encoder; what is needed for texts and examples is loaded now.

        Raises:
            InputError: the encoder or adapter is another than the archive's, or is not at hand.
        """
        self._open()
        assert self._encoder is not None
        return self._encoder

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors (L, E) of texts.

        Raises:
            InputError: the encoder or adapter is another than the archive's, or is not at hand.
        """
        from torch.nn.functional import normalize

        return normalize(self._open().embed_text(list(texts)).detach().float().cpu(), dim=-1).numpy()

    def knows(self, text: str) -> bool:
        """Whether the text tower knows a word of the text, or only spells it; True where that cannot be told."""
        self._open()
        if self._tokenizer is None:
            return True
        strange, marks = self._ids(_NO_WORD), 2 * len(self._ids("a")) - len(self._ids("a a"))  # of begin and end
        for word in text.split():
            letters = sum(letter.isalnum() for letter in word)
            ids = self._ids(word)
            tokens = max(len(ids) - marks, 1)
            if letters and not set(ids) <= set(strange) and (tokens == 1 or letters / tokens > _LETTERS_A_TOKEN):
                return True
        return False

    def example(
        self, clip: Clip, reading: ReadingSettings | None = None, source: FeatureSource | None = None
    ) -> NDArray[np.float32]:
        """The unit vector (E,) of a clip; its features come from `source` where one is given, else from the store.

        Raises:
            InputError: it cannot be read, or as `texts`.
        """
        from core_encoder.features.failures import Failure

        space = self._open(reading)
        found = next(iter(video_vectors(space if source is None else replace(space, source=source), [clip], 1)))
        if isinstance(found, Failure):
            raise InputError(f"{clip.path}: cannot be read ({found.reason})")
        vector: NDArray[np.float32] = found.numpy()
        return vector / np.float32(max(float(np.linalg.norm(vector)), 1e-12))

    def _ids(self, text: str) -> list[int]:
        ids, mask = self._tokenizer([text])
        return ids[0][mask[0]].tolist()

    def _open(self, reading: ReadingSettings | None = None) -> TextSpace:
        if self._space is None:
            record, spec = self._record, self.features
            encoder = self._encoder = self._open_encoder(spec)
            self._tokenizer = encoder.tokenizer if record.space == ENCODER else None
            source = clip_source(encoder, spec, reading or ReadingSettings())
            if record.space in ("", ENCODER):
                self._space = TextSpace(encoder.embed_text, source)
            else:
                adapter = self._open_adapter(encoder)
                self._space = TextSpace(adapter.embed_text, source, adapter)
        return self._space

    def _open_encoder(self, spec: FeatureSpec) -> Encoder:
        record, given = self._record, self._running.encoder
        if self._hub is not None and self._hub.encoder.fingerprint == record.fingerprint:
            return self._hub.encoder
        try:
            encoder = open_encoder(given or record.source, self._running.accelerator, spec.precision)
        except InputError as error:
            if given:
                raise
            raise InputError(
                f"{self._where}: its encoder {record.encoder!r} is not at hand ({error}): say where it lies with "
                "--encoder"
            ) from error
        if encoder.fingerprint != record.fingerprint:
            raise EncoderMismatch(
                f"{self._where}: its vectors are of encoder {record.encoder!r} ({record.fingerprint[:12]}), not of "
                f"{encoder.name!r} ({encoder.fingerprint[:12]}): ask with that one, or index the videos with this one"
            )
        return encoder

    def _open_adapter(self, encoder: Encoder) -> Any:
        from adapters.registry import load_adapter

        kept = self._record.adapters[self._record.space]
        for one in self._hub.adapters.values() if self._hub is not None else ():
            if one.info.weights_sha256 == kept.fingerprint:
                return one
        parts: PartsSettings = self._running
        moved = {"text_tower": parts.text_tower} if parts.text_tower else {}
        adapter: Any = load_adapter(kept.ref, moved=moved)
        if adapter.info.weights_sha256 != kept.fingerprint:
            raise EncoderMismatch(
                f"{self._where}: its vectors are of adapter {self._record.space!r} ({kept.fingerprint[:12]}), and "
                f"{kept.ref!r} is another one now ({adapter.info.weights_sha256[:12]}): index the videos again"
            )
        adapter.use_encoder(encoder)
        return adapter
