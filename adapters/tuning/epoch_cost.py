"""What an epoch costs when the encoder trains: measured on a few clips before it begins."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from adapters.adapter import Adapter
from adapters.tuning.frame_examples import FrameExamples
from adapters.tuning.tuned_adapter import TunedAdapter, Tuning

FEW = 8  # clips


@dataclass(frozen=True)
class EpochCost:
    """Seconds for one clip: decoding and augmenting it on all threads, training on it, judging it."""

    num_train: int
    num_val: int
    decode_s: float
    step_s: float
    judge_s: float
    beside: bool  # whether clips are decoded while the device trains, not on the cores that train

    @property
    def clips(self) -> int:
        """Clips that an epoch decodes."""
        return self.num_train + self.num_val

    @property
    def epoch_s(self) -> float:
        """Seconds of an epoch."""
        decoding, training = self.clips * self.decode_s, self.num_train * self.step_s + self.num_val * self.judge_s
        return max(decoding, training) if self.beside else decoding + training

    def __str__(self) -> str:
        return (
            f"every epoch decodes and encodes {self.clips:,} clips anew, about {duration_text(self.epoch_s)} "
            f"({1000 * self.decode_s:.3g} ms a clip to decode, {1000 * self.step_s:.3g} ms to train on it)"
        )


def epoch_cost(
    heads: Sequence[Adapter],
    tuning: Tuning,
    train_set: FrameExamples,
    num_val: int,
    device: torch.device,
    precision: str,
) -> EpochCost:
    """Decode and train on a few clips, and forget it; `heads` are those that will train side by side.

    Raises:
        InputError: the encoder cannot be tuned, or a video can no longer be read.
    """
    count = min(FEW, len(train_set))
    seen = train_set.of_epoch(0, 0)
    spread = [place * len(train_set) // count for place in range(count)]
    seen.read_batch(spread[:1])  # what is opened for the first time takes longer
    started = time.perf_counter()
    batch = seen.read_batch(spread).to(device)
    decode_s = (time.perf_counter() - started) / count
    adapter = TunedAdapter.around(heads[0], tuning, seed=0).to(device)
    step_s = judge_s = 0.0
    for _ in range(2):  # the second time counts
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            adapter.train().loss(batch).value.backward()
        _wait(device)
        step_s = (time.perf_counter() - started) / count
        started = time.perf_counter()
        adapter.eval().answer(batch)
        _wait(device)
        judge_s = (time.perf_counter() - started) / count
    several = len(heads)
    return EpochCost(
        len(train_set), num_val, decode_s, step_s * several, judge_s * several, beside=device.type != "cpu"
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def duration_text(seconds: float) -> str:
    """A rough length of time: `8.5 s`, `95 s`, `12 min`, `3.1 h`."""
    if seconds < 120:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
