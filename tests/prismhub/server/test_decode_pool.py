"""Frames that come with the facts of a clip: the same ones, where they are few, and in one order."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from core_encoder.clip_plan import Clip
from core_encoder.encoder import Encoder, load_encoder
from core_encoder.errors import UnreadableVideo
from core_encoder.extraction import spec_for
from core_encoder.features.encoding import encoder_may_share
from core_encoder.video.opening import VideoLimits
from prismhub.server import decode_pool
from prismhub.server.decode_pool import Ahead, DecodePool, Soon
from prismhub.server.decode_process import Order
from tests.videos import moving_square, write_video


@pytest.fixture(scope="module")
def nano() -> Encoder:
    return load_encoder("nano")


@pytest.fixture(scope="module")
def pool() -> Iterator[DecodePool]:
    pool = DecodePool(1, VideoLimits(), batch_size=8)
    yield pool
    pool.close()


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[Order]:
    """The orders that were sent."""
    sent: list[Order] = []
    send = decode_pool.DecodeProcess.send
    monkeypatch.setattr(decode_pool.DecodeProcess, "send", lambda self, order: (sent.append(order), send(self, order)))
    return sent


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    return Clip(str(write_video(tmp_path / "one.mp4", moving_square(24, 64, 64))))


def soon(nano: Encoder, longest_s: float) -> tuple[Any, Soon]:
    spec = spec_for(nano, kind="frames", decoder="pyav")
    return spec, Soon(spec, encoder_may_share(nano, [spec]), longest_s)


def frames_of(ahead: Ahead) -> torch.Tensor:
    return torch.cat([part.frames for parts in ahead.parts.values() for part in parts])  # type: ignore[union-attr]


def test_few_frames_come_with_the_facts(pool: DecodePool, nano: Encoder, clip: Clip, orders: list[Order]) -> None:
    spec, wanted = soon(nano, longest_s=60)
    together, apart, until = Ahead(), Ahead(), time.monotonic() + 60
    facts = pool.facts(clip, until, wanted, together)
    assert pool.decode_ahead(clip, facts, nano, (spec,), together, until)
    assert len(orders) == 1
    assert pool.facts(clip, until).duration_s == facts.duration_s and not apart.parts
    assert pool.decode_ahead(clip, facts, nano, (spec,), apart, until)
    assert len(orders) == 3
    assert torch.equal(frames_of(together), frames_of(apart))


def test_what_may_be_asked_about_in_windows_is_not_decoded_yet(
    pool: DecodePool, nano: Encoder, clip: Clip, orders: list[Order]
) -> None:
    _, wanted = soon(nano, longest_s=0.5)
    ahead, until = Ahead(), time.monotonic() + 60
    assert pool.facts(clip, until, wanted, ahead).duration_s > 0.5
    assert not ahead.parts and len(orders) == 1


def test_a_clip_after_the_end_and_a_file_that_is_none_are_said(
    pool: DecodePool, nano: Encoder, clip: Clip, tmp_path: Path
) -> None:
    _, wanted = soon(nano, longest_s=60)
    ahead, until = Ahead(), time.monotonic() + 60
    pool.facts(Clip(clip.path, 30.0), until, wanted, ahead)  # what is asked of its frames says why there are none
    assert not ahead.parts
    (tmp_path / "none.mp4").write_bytes(b"\0" * 100)
    with pytest.raises(UnreadableVideo):
        pool.facts(Clip(str(tmp_path / "none.mp4")), until, wanted, ahead)
    assert pool.facts(clip, until).duration_s > 0.5  # the process goes on with the next order
