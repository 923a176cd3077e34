"""What the shipped `nano` must show on the synthetic world, each score with a 95 % interval.

    python -m benchmarks.pretraining.nano_scores --json nano_scores.json
    python -m benchmarks.pretraining.nano_scores --encoder out/encoder --stage1 out/stage1/encoder
    python -m benchmarks.pretraining.nano_scores --rows names motions

Half an hour to an hour on two cores. Shares have Wilson's interval; two encoders are compared clip by clip on the
same test clips; the interval of the speed is over rounds. Of the two probes, plain MAP and MAP with positions, the
validation split chooses. `--stage1` compares the encoder with the one it was before stage 2.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command line does; before torch

import numpy as np
import torch

import core_encoder
from benchmarks.pretraining.intervals import Interval, mean_over_seeds, share
from benchmarks.pretraining.world_probes import (
    ProbeScore,
    ProbeSettings,
    chosen,
    clip_tokens,
    draw_clips,
    draw_splits,
    one_frame_tokens,
    probe,
    probe_families,
    random_encoder,
)
from benchmarks.results import Provenance
from core_encoder.encoder import Encoder, load_encoder
from core_encoder.errors import InputError
from core_encoder.files.storage import read_json, write_json, write_text
from core_encoder.models.video_text import VideoTextModel, l2_normalize
from core_encoder.preprocessing import to_video_tensor
from pretrain.run.export import RECORD
from pretrain.world.captions import name_prompts
from pretrain.world.motions import OPPOSITE
from pretrain.world.synthetic_world import DEMO_MOTIONS
from pretrain.world.world_objects import SEEN_OBJECTS, ZERO_SHOT_OBJECTS

ZERO_SHOT_CLIPS = 2000
FEW_CLIPS = {"train": 480, "validation": 128, "test": 2000}
SIX_MOTIONS = tuple(motion for motion in DEMO_MOTIONS if OPPOSITE[motion] != motion)
MOTION_TEMPLATES = ("something {}", "it is {}")
_SECTION = "## What it shows"
_AT_ONCE = 32
ROWS = ("names", "motions", "probes", "speed")
"""What is measured: names and motions, most by words, in some minutes; against random weights and stage 1; speed."""


@dataclass(frozen=True)
class Row:
    """One line of the table: a score with its interval and, where there is one, the bound that it must keep."""

    what: str
    score: Interval
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the score keeps its bound; None without one."""
        return self._keeps(self.score.value)

    @property
    def verdict(self) -> str:
        """`met` or `MISSED`, and whether the interval leaves a doubt."""
        if self.met is None:
            return ""
        in_doubt = self._keeps(self.score.low) != self._keeps(self.score.high)
        return ("met" if self.met else "MISSED") + (", in doubt" if in_doubt else "")

    @property
    def bound(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else ""

    def _keeps(self, value: float) -> bool | None:
        if self.at_least is not None:
            return value >= self.at_least
        return value <= self.at_most if self.at_most is not None else None


@dataclass(frozen=True)
class Amounts:
    """How much is measured; the tests measure less."""

    probes: ProbeSettings = field(default_factory=ProbeSettings)
    few: ProbeSettings = field(default_factory=lambda: ProbeSettings(clips=FEW_CLIPS))
    zero_shot_clips: int = ZERO_SHOT_CLIPS
    speed_clips: int = 128
    speed_rounds: int = 9
    random_seed: int = 0


def nano_scores(
    encoder: Encoder,
    stage1: Encoder | None = None,
    amounts: Amounts | None = None,
    note: Callable[[str], None] = print,
    wanted: Collection[str] = ROWS,
) -> list[Row]:
    """The rows of the table that are `wanted` of `ROWS`; `note` is told what is being measured."""
    amounts = amounts or Amounts()
    measured: dict[str, Callable[[], list[Row]]] = {
        "names": lambda: zero_shot(encoder, amounts.zero_shot_clips),
        "motions": lambda: demo_motions(encoder, amounts),
        "probes": lambda: probe_rows(encoder, stage1, amounts, note),
        "speed": lambda: [speed(encoder, amounts.speed_clips, amounts.speed_rounds)],
    }
    rows = []
    for name in ROWS:
        if name in wanted:
            note(name)
            rows += measured[name]()
    return rows


def check_predecessor(encoder: str, stage1: Encoder) -> None:
    """Refuse a stage 1 that the encoder was not made from, where its record says which one that was.

    Raises:
        InputError: it is another one.
    """
    record = (Path(core_encoder.__file__).parent / "nano" if encoder == "nano" else Path(encoder)) / RECORD
    if record.is_file():
        made_from = read_json(record)["parts"].get("stage1", {}).get("fingerprint")
        if made_from not in (None, stage1.fingerprint):
            raise InputError(f"--stage1: encoder {encoder!r} was made from another stage 1; give that of the same run")


def zero_shot(encoder: Encoder, count: int) -> list[Row]:
    """Accuracy over the hundred names, every name an average of prompts, and of its seen and held-out part.

    Raises:
        InputError: an encoder without video embeddings or text tower.
    """
    prompts = [name_prompts(thing.name) for thing in ZERO_SHOT_OBJECTS]
    texts = encoder.embed_text([text for several in prompts for text in several])  # (100 P, E)
    names = l2_normalize(texts.unflatten(0, (len(prompts), -1)).mean(1))  # (100, E)
    clips = draw_clips("zero_shot", count, encoder.image_size, encoder.num_frames, ZERO_SHOT_OBJECTS)
    videos = torch.cat([encoder.embed_video(to_video_tensor(part)) for part in clips.frames.split(_AT_ONCE)])
    known = [thing.name for thing in ZERO_SHOT_OBJECTS]
    targets = np.array([known.index(name) for name in clips.objects])
    hits = (videos @ names.T).argmax(1).cpu().numpy() == targets  # (n,)
    seen = {thing.name for thing in SEEN_OBJECTS}
    of_seen = np.array([name in seen for name in clips.objects])
    parts = {"67 seen": hits[of_seen], "33 held out": hits[~of_seen]}
    whole = Row("zero-shot accuracy over 100 names", share(hits).scaled(100), "%", at_least=50.6)
    return [
        whole,
        *(Row(f"  of the {part}", share(found).scaled(100), "%") for part, found in parts.items() if found.size > 1),
    ]


def demo_motions(encoder: Encoder, amounts: Amounts) -> list[Row]:
    """Motions of objects that training never showed: named by words alone, and by a head that saw few clips.

    The six are the pairs of opposites among the demo's eight: only the order of the frames tells one from the other.
    """
    prompts = [template.format(motion) for motion in DEMO_MOTIONS for template in MOTION_TEMPLATES]
    names = l2_normalize(encoder.embed_text(prompts).unflatten(0, (len(DEMO_MOTIONS), -1)).mean(1))  # (8, E)
    size, frames = encoder.image_size, encoder.num_frames
    clips = draw_clips("zero_shot_motion", amounts.zero_shot_clips, size, frames, shown=DEMO_MOTIONS)
    videos = torch.cat([encoder.embed_video(to_video_tensor(part)) for part in clips.frames.split(_AT_ONCE)])
    targets = np.array([DEMO_MOTIONS.index(motion) for motion in clips.motions])
    hits = (videos @ names.T).argmax(1).cpu().numpy() == targets  # (n,)
    rows = [Row("zero-shot accuracy over the demo's eight motions", share(hits).scaled(100), "%", at_least=70)]
    for name, motions in (("six", SIX_MOTIONS), ("eight", DEMO_MOTIONS)):
        few = draw_splits(encoder, amounts.few, motions)
        features = {split: clip_tokens(encoder, some.frames) for split, some in few.items()}
        head = probe(features, few, "motion", positions=True, settings=amounts.few)
        what = f"{name} motions by a head on {amounts.few.clips['train']} clips"
        rows.append(Row(what, share(head.hits).scaled(100), "%", at_least=85))
    return rows


def probe_rows(encoder: Encoder, stage1: Encoder | None, amounts: Amounts, note: Callable[[str], None]) -> list[Row]:
    """Object and motion probes against random weights and against stage 1, and the one-frame control.

    Raises:
        InputError: an encoder of another kind than ours.
    """
    if not isinstance(encoder.model, VideoTextModel):
        raise InputError(f"encoder {encoder.name!r} is not VideoPrism-like: no random one to compare it with is known")
    settings = amounts.probes
    clips = draw_splits(encoder, settings)

    def scores(of: Encoder, labels: Sequence[str], moment: int | None = None) -> dict[str, dict[str, ProbeScore]]:
        features = {
            split: clip_tokens(of, some.frames) if moment is None else one_frame_tokens(of, some.frames, moment)
            for split, some in clips.items()
        }
        return {label: probe_families(features, clips, label, settings) for label in labels}

    note("  of the encoder")
    ours = scores(encoder, ("object", "motion"))
    note("  of random weights")
    fresh = scores(random_encoder(encoder.model.config, amounts.random_seed), ("object", "motion"))
    rows = []
    for label, bound in (("object", 10), ("motion", 7)):
        ours_best, random_best = chosen(ours[label]), chosen(fresh[label])
        rows.append(_difference(f"{label} probe above random weights", ours_best, random_best, bound))
        for name, families in (("the encoder", ours[label]), ("random weights", fresh[label])):
            rows += [_accuracy(f"  {label}, {name}, {family}", score) for family, score in families.items()]
    stills = []
    for name, moment in (("first", 0), ("middle", encoder.num_frames // 2), ("last", encoder.num_frames - 1)):
        note(f"  of the {name} frame alone")
        for family, score in scores(encoder, ("motion",), moment)["motion"].items():
            stills.append(_accuracy(f"  motion, {name} frame alone, {family}", score))
    largest = max(stills, key=lambda row: row.score.value)
    rows += [Row("motion from one frame, the best of all below", largest.score, "%", at_most=15), *stills]
    if stage1 is not None:
        note("  of stage 1")
        before = scores(stage1, ("object",))["object"]
        rows.append(_difference("object probe, stage 2 minus stage 1", chosen(ours["object"]), chosen(before), -2))
        rows += [_accuracy(f"  object, stage 1, {family}", score) for family, score in before.items()]
    return rows


def _accuracy(what: str, score: ProbeScore) -> Row:
    return Row(what, share(score.hits).scaled(100), "%")


def _difference(what: str, ours: ProbeScore, theirs: ProbeScore, at_least: float) -> Row:
    by_clip = ours.hits.astype(float) - theirs.hits.astype(float)
    return Row(what, mean_over_seeds(by_clip[None]).scaled(100), "points", at_least=at_least)


def speed(encoder: Encoder, clips: int, rounds: int) -> Row:
    """Clips a second from frames in memory: the mean over rounds."""
    video = torch.rand(8, encoder.num_frames, 3, encoder.image_size, encoder.image_size)
    batches = max(1, clips // len(video))
    encoder(video)
    rates = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(batches):
            encoder(video)
        rates.append(batches * len(video) / (time.perf_counter() - start))
    return Row(
        f"clips encoded a second, {torch.get_num_threads()} threads", mean_over_seeds([rates]), "clips/s", at_least=50
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| what | score [95 % interval] | must be | verdict |", "| --- | --- | --- | --- |"]
    for row in rows:
        what = row.what if row.bound else f"&nbsp;&nbsp;{row.what.strip()}"
        lines.append(f"| {what} | {row.score} {row.unit} | {row.bound} | {row.verdict} |")
    return "\n".join(lines)


def write_card(card: Path, rows: Sequence[Row]) -> None:
    """Let a model card claim what was measured: the table as a section, in place of an earlier one or at the end.

    Raises:
        InputError: there is no such card.
    """
    if not card.is_file():
        raise InputError(f"--card {card}: no such file; give the README.md of the encoder's folder")
    before, _, earlier = card.read_text(encoding="utf-8").partition(_SECTION)
    _, heading, after = earlier.partition("\n## ")
    about = "On the synthetic world; probes see objects that training never did (`benchmarks.pretraining.nano_scores`)."
    write_text(card, f"{before.rstrip()}\n\n{_SECTION}\n\n{about}\n\n{table(rows)}\n{heading}{after}")


def record(rows: Sequence[Row], encoder: Encoder, stage1: Encoder | None, amounts: Amounts) -> dict[str, Any]:
    """The scores and how they were made, ready for JSON."""
    return {
        "encoder": encoder.name,
        "fingerprint": encoder.fingerprint,
        "stage1_fingerprint": stage1.fingerprint if stage1 else None,
        "amounts": asdict(amounts),
        "rows": [asdict(row) | {"met": row.met, "verdict": row.verdict} for row in rows],
        "provenance": asdict(Provenance.collect(device="cpu", precision="32-true", seed=amounts.random_seed)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="What nano must show.")
    parser.add_argument("--encoder", default="nano", help="a name, a folder or a Hub id")
    parser.add_argument("--stage1", help="the encoder before stage 2: the folder stage1/encoder of its run")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, help="what to measure")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--card", type=Path, help="also write the table into this model card")
    parser.add_argument("--json", type=Path, help="also write the result to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    amounts = Amounts()
    try:
        encoder = load_encoder(options.encoder)
        stage1 = load_encoder(options.stage1) if options.stage1 else None
        if stage1:
            check_predecessor(options.encoder, stage1)
        rows = nano_scores(encoder, stage1, amounts, wanted=options.rows)
        if options.card:
            write_card(options.card, rows)
    except InputError as error:
        raise SystemExit(f"error: {error}") from error
    print(table(rows))
    if options.json:
        write_json(options.json, record(rows, encoder, stage1, amounts))


if __name__ == "__main__":
    main()
