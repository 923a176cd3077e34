"""Batches: by weight, without overlap, the same for any number of processes and workers, and after a resume."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core_encoder.errors import InputError
from pretrain.corpus.batch import ClipBatch, Skipped, UnreadableCount
from pretrain.corpus.corpus import Corpus
from pretrain.corpus.manifest import HubSpec, Manifest, SyntheticSpec, Tier
from pretrain.corpus.sources import SyntheticSource, read_row
from pretrain.corpus.tier_clips import TierClips
from tests.pretrain.corpora import clip_corpus, write_clips, write_jsonl, write_manifest, write_pictures


def world(
    name: str, length: int = 50, weight: float = 1.0, media: str = "video", together: int = 1, **fields: object
) -> Tier:
    spec = SyntheticSpec(split=name, length=length, **fields)
    return Tier(name, "clean", weight, together, media=media, synthetic=spec)


def synthetic(*tiers: Tier, **fields: object) -> Corpus:
    settings = {"num_frames": 2, "image_size": 8, "seed": 0} | fields
    return Corpus(Manifest(tiers), **settings)


def files(manifest: Path, **fields: object) -> Corpus:
    settings = {"num_frames": 4, "image_size": 16, "seed": 0} | fields
    return Corpus(Manifest.load(manifest), **settings)


def facts(batch: ClipBatch) -> tuple[object, ...]:
    labels = tuple(tuple(sorted(one.items())) for one in batch.labels)
    return batch.step, batch.tier, batch.captions, labels, batch.positions, batch.skipped


def assert_same(one: ClipBatch, other: ClipBatch) -> None:
    assert facts(one) == facts(other)
    assert torch.equal(one.frames, other.frames)


def assert_union(parts: list[ClipBatch], whole: ClipBatch) -> None:
    assert [part.tier for part in parts] == [whole.tier] * len(parts)
    assert torch.equal(torch.cat([part.frames for part in parts]), whole.frames)
    for field in ("captions", "labels", "positions", "skipped"):
        assert sum((getattr(part, field) for part in parts), ()) == getattr(whole, field)


def test_a_batch_of_real_clips(tmp_path: Path) -> None:
    corpus = files(clip_corpus(tmp_path))
    batch = corpus.batch(0, 4)
    assert batch.frames.shape == (4, 4, 16, 16, 3) and batch.frames.dtype == torch.uint8
    assert (batch.step, batch.tier, batch.positions, batch.skipped) == (0, "curated", (0, 1, 2, 3), ())
    source = corpus._tiers[0].source
    for frames, caption in zip(batch.frames, batch.captions, strict=True):
        number = int(caption.removeprefix("clip "))
        expected = read_row(source.row(number), "video", 4, corpus.preprocessing)
        assert np.array_equal(frames.numpy(), expected)


def test_an_epoch_sees_every_clip_once_in_another_order_each_time(tmp_path: Path) -> None:
    corpus = files(clip_corpus(tmp_path, 12))
    epochs = [sum((corpus.batch(step, 4).captions for step in range(first, first + 3)), ()) for first in (0, 3, 6)]
    assert all(sorted(epoch) == sorted(f"clip {n}" for n in range(12)) for epoch in epochs)
    assert len(set(epochs)) == 3
    assert files(clip_corpus(tmp_path, 12), seed=1).batch(0, 4).captions != corpus.batch(0, 4).captions


def test_tiers_alternate_by_weight_and_keep_apart() -> None:
    corpus = synthetic(world("a", weight=1), world("b", weight=3))
    steps = range(40)
    tiers = [corpus.batch(step, 4).tier for step in steps]
    assert tiers.count("a") == 10
    for step in range(6):
        batch = corpus.batch(step, 4)
        assert batch.tier == tiers[step]
    # a tier's own stream does not depend on the others
    alone = synthetic(world("b", weight=3))
    of_b = [step for step in steps if tiers[step] == "b"][:5]
    for number, step in enumerate(of_b):
        assert corpus.batch(step, 4).captions == alone.batch(number, 4).captions


@given(
    weights=st.lists(st.floats(0.1, 10), min_size=1, max_size=3),
    world_size=st.sampled_from([1, 2, 3, 4]),
    share=st.integers(1, 3),
    step=st.integers(0, 10**6),
    mixing=st.sampled_from(["alternate", "mix"]),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=25)
def test_ranks_together_make_the_batch_of_one_process(
    weights: list[float], world_size: int, share: int, step: int, mixing: str, seed: int
) -> None:
    tiers = [world(f"t{i}", 13 + i, weight) for i, weight in enumerate(weights)]
    corpus = synthetic(*tiers, mixing=mixing, seed=seed)
    size = world_size * share
    parts = [corpus.batch(step, size, rank, world_size) for rank in range(world_size)]
    assert_union(parts, corpus.batch(step, size))


@given(length=st.integers(4, 40), batch_size=st.integers(1, 4), seed=st.integers(0, 999))
@settings(deadline=None, max_examples=20)
def test_no_clip_comes_twice_in_an_epoch(length: int, batch_size: int, seed: int) -> None:
    clips = synthetic(world("a", length), seed=seed)._tiers[0]
    assert clips is not None
    for epoch in range(3):
        numbers = [clips.at(epoch * length + place, 0) for place in range(length)]
        assert sorted(numbers) == list(range(length))


@pytest.mark.parametrize("first_step", [0, 1, 5])
@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_a_resume_change_nothing(tmp_path: Path, workers: int, first_step: int) -> None:
    corpus = files(clip_corpus(tmp_path, 8, broken=[3]), max_unreadable=1.0)
    batches = list(corpus.batches(4, first_step=first_step, steps=7, workers=workers))
    assert [batch.step for batch in batches] == list(range(first_step, 7))
    for batch in batches:
        assert_same(batch, corpus.batch(batch.step, 4))
        assert batch.stream_state is None


def test_images_are_one_frame_and_are_repeated_when_mixed(tmp_path: Path) -> None:
    names = [path.name for path in write_pictures(tmp_path / "pictures", 6)]
    write_jsonl(tmp_path / "pictures" / "p.jsonl", [{"image": name, "caption": name} for name in names])
    clip_corpus(tmp_path, 6)
    text = (tmp_path / "manifest.yaml").read_text()
    text += "  - {name: pictures, quality: noisy, media: image, table: pictures/p.jsonl}\n"
    manifest = write_manifest(tmp_path / "both.yaml", text)
    corpus = files(manifest)
    batches = {batch.tier: batch for step in range(2) for batch in [corpus.batch(step, 4)]}
    assert batches["pictures"].frames.shape == (4, 1, 16, 16, 3)
    assert batches["curated"].frames.shape == (4, 4, 16, 16, 3)
    mixed = files(manifest, mixing="mix")
    batch = mixed.batch(0, 8)
    assert (batch.tier, batch.frames.shape) == ("mixed", (8, 4, 16, 16, 3))
    still = [bool((frames == frames[:1]).all()) for frames in batch.frames]
    assert still == [caption.endswith(".png") for caption in batch.captions]
    assert sum(still) == 4  # by weight
    assert synthetic(world("a", media="image"), mixing="mix").batch(0, 3).frames.shape[1] == 1


def test_a_broken_video_is_replaced_and_recorded(tmp_path: Path) -> None:
    corpus = files(clip_corpus(tmp_path, 10, broken=[2, 5]))
    batches = [corpus.batch(step, 5) for step in range(2)]
    skipped = [one for batch in batches for one in batch.skipped]
    assert {Path(one.path).name for one in skipped} == {"002.mp4", "005.mp4"}
    assert all(one.tier == "curated" and one.reason and "\n" not in one.reason for one in skipped)
    captions = [caption for batch in batches for caption in batch.captions]
    assert len(captions) == 10 and not {"clip 2", "clip 5"} & set(captions)
    parts = [corpus.batch(0, 5, rank, 5) for rank in range(5)]
    assert_union(parts, batches[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_broken_videos_stop_the_run(tmp_path: Path, workers: int) -> None:
    corpus = files(clip_corpus(tmp_path, 10, broken=range(0, 10, 2)), max_unreadable=0.1)
    seen = []
    with pytest.raises(
        InputError, match=r"^1\d of \d+ clips drawn could not be read.*max_unreadable=0.1.*\.mp4"
    ) as caught:
        seen += list(corpus.batches(5, steps=50, workers=workers))
    assert "\n" not in str(caught.value)
    assert list(files(tmp_path / "manifest.yaml", max_unreadable=1.0).batches(5, steps=4))


def test_the_share_of_unreadable_clips_is_counted_over_a_resume(tmp_path: Path) -> None:
    """7 broken of 10: too many in one start, few after 1,000 good clips; and what was skipped before counts too."""
    corpus = files(clip_corpus(tmp_path, 10, broken=range(7)), max_unreadable=0.1)
    assert list(corpus.batches(10, first_step=100, steps=101))
    for before in ({"skipped": 0}, {"skipped": 200}):
        with pytest.raises(InputError, match="clips drawn could not be read"):
            list(corpus.batches(10, first_step=100 if before["skipped"] else 0, steps=101, **before))


def test_each_clip_once_says_what_cannot_be_read(tmp_path: Path) -> None:
    """Tiers take turns until they are used up; nothing takes the place of a clip that is lost."""
    corpus = files(clip_corpus(tmp_path, 5, broken=[2]))
    drawn = list(corpus.each_once(100))
    lost = [row.caption for row, frames in drawn if isinstance(frames, Skipped)]
    assert lost == ["clip 2"] and sorted(row.caption for row, _ in drawn) == [f"clip {number}" for number in range(5)]
    assert all(frames.shape == (4, 16, 16, 3) for _, frames in drawn if not isinstance(frames, Skipped))
    assert [row.caption for row, _ in corpus.each_once(3)] == [row.caption for row, _ in drawn[:3]]
    unequal = synthetic(world("few", 2), world("many", 6))
    names = [row.video for row, _ in unequal.each_once(7)]
    assert len(set(names)) == 7 and [name.split("/")[-2] for name in names] == ["few", "many"] * 2 + ["many"] * 3


def test_a_tier_of_broken_videos_stops_at_once(tmp_path: Path) -> None:
    corpus = files(clip_corpus(tmp_path, 5, broken=range(5)), max_unreadable=1.0)
    with pytest.raises(InputError, match=r"tier 'curated': 20 clips in a row could not be read, the last one .*\.mp4"):
        corpus.batch(0, 5)


def test_unreadable_clips_are_a_share_of_those_drawn() -> None:
    def batch(clips: int, lost: int) -> ClipBatch:
        skipped = (Skipped(0, "web", "a.mp4", "damaged"),) * lost
        return ClipBatch(0, "web", torch.empty(0), ("",) * clips, ({},) * clips, tuple(range(clips)), skipped)

    count = UnreadableCount(0.05)
    count.add(batch(8, 5))  # 5 of 13, but of the first hundred only five
    count.add(batch(200, 5))
    assert (count.drawn, count.unreadable) == (218, 10)
    with pytest.raises(InputError, match=r"11 of 219 clips .*max_unreadable=0.05.* tier 'web', a.mp4: damaged"):
        count.add(batch(0, 1))
    with pytest.raises(InputError, match="1 of 9 clips"):
        UnreadableCount(0.0).add(batch(8, 1))


def captioned(folder: Path, captions: list[str | None]) -> Path:
    names = [path.name for path in write_clips(folder, len(captions))]
    rows = [{"video": name, "caption": caption} for name, caption in zip(names, captions, strict=True)]
    write_jsonl(folder / "c.jsonl", rows)
    return write_manifest(folder / "m.yaml", "tiers: [{name: web, quality: noisy, table: c.jsonl}]\n")


def test_clips_without_a_caption_are_passed_over_in_stage_1_alone(tmp_path: Path) -> None:
    manifest = captioned(tmp_path, ["a", None, "b", "", "c"])
    corpus = files(manifest)
    assert len(corpus) == 3 and corpus.without_caption == {"web": 2}
    assert sorted(corpus.batch(0, 3).captions) == ["a", "b", "c"]
    everything = files(manifest, need_captions=False)
    assert len(everything) == 5 and everything.without_caption == {}
    assert sorted(everything.batch(0, 5).captions) == ["", "", "a", "b", "c"]


def test_a_tier_without_captions_is_for_stage_2_alone(tmp_path: Path) -> None:
    manifest = captioned(tmp_path, [None, ""])
    with pytest.raises(
        InputError, match=r"tier 'web' has no captions: stage 1 learns from captions; use it in stage 2"
    ):
        files(manifest)
    assert files(manifest, need_captions=False).batch(0, 2).captions == ("", "")


def test_a_corpus_smaller_than_a_batch_is_refused_with_both_numbers() -> None:
    corpus = synthetic(world("small", 5), world("large", 50))
    for make in (lambda: corpus.batch(0, 8), lambda: next(corpus.batches(8, steps=1)), lambda: corpus.check(8)):
        with pytest.raises(InputError, match=r"tier 'small' has 5 clips, fewer than one global batch of 8"):
            make()
    mixed = synthetic(world("small", 5), world("large", 6), mixing="mix")
    mixed.check(11)
    with pytest.raises(InputError, match=r"the corpus has 11 clips, fewer than one global batch of 12"):
        mixed.check(12)
    with pytest.raises(InputError, match=r"batch of 4 clips cannot be shared by 3 processes"):
        corpus.batch(0, 4, 0, 3)


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="'alternate' or 'mix', not 'blend'"):
        synthetic(world("a"), mixing="blend")
    with pytest.raises(InputError, match="between 0 and 1, not 2"):
        synthetic(world("a"), max_unreadable=2.0)
    with pytest.raises(InputError, match="tier 'h' streams from the Hub"):
        synthetic(Tier("h", "noisy", hub=HubSpec("org/name"))).batch(0, 2)


def test_the_digest_names_the_corpus_not_its_place(tmp_path: Path) -> None:
    here, there = files(clip_corpus(tmp_path / "here", 3)), files(clip_corpus(tmp_path / "there", 3), num_frames=2)
    assert here.digest == there.digest
    assert here.digest != files(clip_corpus(tmp_path / "more", 4)).digest
    assert synthetic(world("a")).digest != synthetic(world("a", weight=2)).digest
    assert synthetic(world("a")).digest != synthetic(world("a", length=51)).digest


def test_a_corpus_can_be_sent_to_a_process(tmp_path: Path) -> None:
    corpus = files(clip_corpus(tmp_path, 4))
    copy = pickle.loads(pickle.dumps(corpus))  # noqa: S301 (what spawned workers do)
    assert_same(copy.batch(1, 2), corpus.batch(1, 2))


def test_a_corpus_describes_itself(tmp_path: Path) -> None:
    [tier] = files(clip_corpus(tmp_path, 3)).describe()
    assert tier == {
        "name": "curated",
        "quality": "clean",
        "caption_source": "manual",
        "media": "video",
        "weight": 1.0,
        "source": "table",
        "clips": 3,
    }


def test_a_curriculum_comes_first_tier_by_tier_and_shows_no_clip_twice() -> None:
    tiers = world("narrow", 40), world("wide", 60), world("all", 80)
    corpus = synthetic(*tiers, curriculum={"narrow": 3, "wide": 2}, tiers=["wide", "all"])
    batches = list(corpus.batches(4, steps=15))
    assert [batch.tier for batch in batches[:5]] == ["narrow"] * 3 + ["wide"] * 2
    assert {batch.tier for batch in batches[5:]} == {"wide", "all"}
    for tier in tiers:  # what a tier shows goes on where the curriculum left it
        alone = synthetic(tier)
        seen = [batch for batch in batches if batch.tier == tier.name]
        assert [batch.captions for batch in seen] == [alone.batch(step, 4).captions for step in range(len(seen))]
    later = list(corpus.batches(4, first_step=4, steps=7))
    assert [facts(batch) for batch in later] == [facts(batch) for batch in batches[4:7]]


def test_rehearsal_takes_every_second_batch_of_the_curriculum() -> None:
    tiers = world("narrow", 40), world("wide", 60), world("known", 50, weight=2), world("all", 80)
    options = {"curriculum": {"narrow": 7, "wide": 2}, "rehearsal": ["known", "all"], "tiers": ["wide", "known"]}
    corpus = synthetic(*tiers, **options)
    batches = list(corpus.batches(4, steps=15))
    names = [batch.tier for batch in batches]
    assert names[:9:2] == ["narrow"] * 4 + ["wide"] and set(names[1:9:2]) == {"known", "all"}
    assert names[1:9:2].count("known") in (2, 3), "by weight, to within one turn"
    assert set(names[9:]) == {"wide", "known"}
    for tier in tiers:  # no clip is shown twice or left out where a tier comes back
        alone = synthetic(tier)
        seen = [batch for batch in batches if batch.tier == tier.name]
        assert [batch.captions for batch in seen] == [alone.batch(step, 4).captions for step in range(len(seen))]
    later = list(corpus.batches(4, first_step=6, steps=9))
    assert [facts(batch) for batch in later] == [facts(batch) for batch in batches[6:9]]


def test_a_curriculum_of_a_mixing_part() -> None:
    corpus = synthetic(world("narrow", 40), world("all", 80), curriculum={"narrow": 2}, mixing="mix")
    names = [batch.tier for batch in corpus.batches(4, steps=4)]
    assert names == ["narrow", "narrow", "mixed", "mixed"]
    whole = corpus.batch(1, 4)
    assert_union([corpus.batch(1, 4, rank, 2) for rank in range(2)], whole)


@settings(max_examples=20)
@given(size=st.integers(4, 40), together=st.integers(1, 6), epoch=st.integers(0, 3))
def test_clips_that_come_together_stay_in_a_row_and_come_once(size: int, together: int, epoch: int) -> None:
    clips = TierClips(world("w", size, together=together), False, 0)
    order = [clips.at(epoch * size + place, 0) for place in range(size)]
    assert sorted(order) == list(range(size))
    for place in range(0, size - size % together, together):
        first = order[place]
        assert first % together == 0 and order[place : place + together] == list(range(first, first + together))


def test_what_comes_together_is_part_of_the_corpus(tmp_path: Path) -> None:
    """A run that goes on would see other batches; a stream from the Hub keeps its own order."""
    manifest = Manifest.load(clip_corpus(tmp_path, 12))
    fields = {"num_frames": 4, "image_size": 16, "seed": 0}
    grouped = Manifest(tuple(replace(tier, together=3) for tier in manifest.tiers))
    assert Corpus(grouped, **fields).digest != Corpus(manifest, **fields).digest
    with pytest.raises(InputError, match="together means nothing for a Hub stream"):
        Tier("h", "noisy", together=2, hub=HubSpec("org/name"))


def test_clips_of_the_world_that_come_together_show_one_object_in_many_motions() -> None:
    batch = synthetic(world("w", 64, together=8)).batch(0, 16)
    for part in (batch.labels[:8], batch.labels[8:]):
        assert len({one["object"] for one in part}) == 1
        assert len({one["motion"] for one in part}) > 2
    assert len({one["object"] for one in batch.labels}) == 2


def test_labels_of_the_synthetic_world_travel_along() -> None:
    corpus = synthetic(world("a", 20))
    batch = corpus.batch(1, 4)
    source = corpus._tiers[0]
    assert source is not None and isinstance(source.source, SyntheticSource)
    for place in range(4):
        row = source.source.row(source.at(4 + place, 0))
        assert (batch.labels[place], batch.captions[place]) == (row.labels, row.caption)


@pytest.mark.parametrize("error", [MemoryError("no room for 2 GiB"), InputError("the disk is full")])
def test_want_of_memory_or_room_is_no_unreadable_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    corpus = files(clip_corpus(tmp_path, 4))
    monkeypatch.setattr("pretrain.corpus.sources.open_video", fail)
    with pytest.raises(type(error), match=str(error)):
        corpus.batch(0, 2)
