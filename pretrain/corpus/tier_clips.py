"""The clips of one tier that can be drawn, as an endless stream with random access."""

from __future__ import annotations

from core_encoder.errors import InputError
from pretrain.corpus.clip_order import keyed, permuted
from pretrain.corpus.manifest import Tier
from pretrain.corpus.sources import Source, open_source


class TierClips:
    """The clips of a tier; with `need_captions` those that have one.

    Raises:
        InputError: a table or shard that does not fit, or no clip has a caption where they are needed.
    """

    def __init__(self, tier: Tier, need_captions: bool, seed: int) -> None:
        self.name = tier.name
        self.source: Source = open_source(tier)
        self.seed = seed
        self._together = tier.together
        self.only_captioned = need_captions and self.source.captioned is not None
        captioned = self.source.captioned
        self._size = len(captioned) if self.only_captioned and captioned is not None else len(self.source)
        self.without_caption = len(self.source) - self._size
        if not self._size:
            raise InputError(
                f"tier {tier.name!r} has no captions: stage 1 learns from captions; use it in stage 2 only or drop it"
            )

    def __len__(self) -> int:
        return self._size

    def at(self, number: int, attempt: int) -> int:
        """The clip at `number` of the stream, or at `attempt` > 0 another in its place, as a number of the source."""
        epoch, place = divmod(number, self._size)
        if attempt:
            place = keyed(self.seed, self.name, number, attempt) % self._size
        else:
            place = self._permuted(place, keyed(self.seed, self.name, epoch))
        captioned = self.source.captioned
        return int(captioned[place]) if self.only_captioned and captioned is not None else place

    def _permuted(self, place: int, key: int) -> int:
        """The clip at `place` of an epoch, which visits each once; those that come together stay in a row."""
        groups = self._size // self._together
        if place >= groups * self._together:  # the odd ones out come last
            return place
        group, within = divmod(place, self._together)
        return permuted(group, groups, key) * self._together + within
