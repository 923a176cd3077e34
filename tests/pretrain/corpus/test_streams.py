"""Streams of the Hub, read from local Parquet and JSON files in the same way: offline."""

from __future__ import annotations

import json
from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from core_encoder.errors import InputError
from pretrain.corpus.batch import ClipBatch
from pretrain.corpus.corpus import Corpus
from pretrain.corpus.manifest import HubSpec, Manifest, SyntheticSpec, Tier
from tests.pretrain.corpora import write_clips, write_jsonl, write_pictures


def clips(folder: Path, count: int = 12, shards: int = 2, block: int = 4, broken: tuple[int, ...] = ()) -> Tier:
    """A stream of videos named by path, in Parquet shards."""
    paths = write_clips(folder, count, broken)
    for shard in range(shards):
        mine = range(shard, count, shards)
        rows = {"video": [paths[n].name for n in mine], "caption": [f"clip {n}" for n in mine]}
        pq.write_table(pa.table(rows), folder / f"{shard}.parquet")
    files = tuple(str(folder / f"{shard}.parquet") for shard in range(shards))
    return Tier("hub", "noisy", hub=HubSpec("parquet", data_files=files, shuffle_block=block))


def corpus_of(*tiers: Tier, **fields: Any) -> Corpus:
    settings = {"num_frames": 2, "image_size": 8, "seed": 0} | fields
    return Corpus(Manifest(tiers), **settings)


def captions(batches: list[ClipBatch]) -> list[str]:
    return [caption for batch in batches for caption in batch.captions]


def test_an_epoch_sees_every_row_once_shuffled(tmp_path: Path) -> None:
    corpus = corpus_of(clips(tmp_path))
    batches = list(corpus.batches(4, steps=9))
    epochs = [captions(batches[first : first + 3]) for first in (0, 3, 6)]
    assert all(sorted(epoch) == sorted(f"clip {n}" for n in range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert captions(list(corpus.batches(4, steps=3))) == epochs[0]
    assert batches[0].frames.shape == (4, 2, 8, 8, 3)
    assert corpus.describe()[0]["clips"] is None and len(corpus) == 0


@pytest.mark.parametrize(("world", "shards"), [(2, 2), (2, 3), (3, 3)])
def test_ranks_share_the_rows_without_overlap(tmp_path: Path, world: int, shards: int) -> None:
    corpus = corpus_of(clips(tmp_path, shards=shards))
    seen = [captions(list(corpus.batches(world * 2, steps=6 // world, rank=r, world=world))) for r in range(world)]
    assert Counter(chain.from_iterable(seen)) == Counter(f"clip {n}" for n in range(12))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 2, 5, 6])
def test_a_resume_goes_on_exactly(tmp_path: Path, workers: int, stop: int) -> None:
    tiers = (clips(tmp_path, 12, block=5), Tier("world", "clean", synthetic=SyntheticSpec(length=20)))
    whole = list(corpus_of(*tiers).batches(3, steps=11, workers=workers))
    state = json.loads(json.dumps(whole[stop - 1].stream_state))
    rest = list(corpus_of(*tiers).batches(3, first_step=stop, steps=11, workers=workers, stream_state=state))
    assert [batch.step for batch in rest] == list(range(stop, 11))
    for one, other in zip(whole[stop:], rest, strict=True):
        assert (one.tier, one.captions, one.labels) == (other.tier, other.captions, other.labels)
        assert torch.equal(one.frames, other.frames)


def test_a_resume_of_two_ranks_takes_the_list_of_their_states(tmp_path: Path) -> None:
    corpus = corpus_of(clips(tmp_path))
    whole = [list(corpus.batches(4, steps=6, rank=rank, world=2)) for rank in range(2)]
    states = json.loads(json.dumps([batches[2].stream_state for batches in whole]))
    for rank in range(2):
        rest = corpus.batches(4, first_step=3, steps=6, rank=rank, world=2, stream_state=states)
        assert captions(list(rest)) == captions(whole[rank][3:])


def test_other_numbers_of_processes_or_workers_are_refused(tmp_path: Path) -> None:
    corpus = corpus_of(clips(tmp_path))
    [batch] = corpus.batches(4, steps=1)
    for fields in ({"world": 2}, {"workers": 2}):
        with pytest.raises(InputError, match=r"left by 1 processes of 1 workers cannot go on with \d of \d"):
            next(corpus.batches(4, first_step=1, steps=2, stream_state=batch.stream_state, **fields))


def test_rows_may_hold_the_bytes_of_videos_and_images(tmp_path: Path) -> None:
    videos, pictures = write_clips(tmp_path / "v", 4), write_pictures(tmp_path / "p", 4)
    tiers = []
    for media, paths in (("video", videos), ("image", pictures)):
        rows = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
        file = tmp_path / f"{media}.parquet"
        pq.write_table(pa.table({media: rows, "caption": [path.name for path in paths]}), file)
        tiers.append(Tier(media, "noisy", media=media, hub=HubSpec("parquet", data_files=(str(file),))))
    batches = {batch.tier: batch for batch in corpus_of(*tiers).batches(4, steps=2)}
    assert batches["video"].frames.shape == (4, 2, 8, 8, 3) and batches["image"].frames.shape == (4, 1, 8, 8, 3)
    table = write_jsonl(tmp_path / "v" / "c.jsonl", [{"video": p.name, "caption": p.name} for p in videos])
    indexed = corpus_of(Tier("t", "noisy", table=table)).batch(0, 4)
    streamed = dict(zip(batches["video"].captions, batches["video"].frames, strict=True))
    for caption, frames in zip(indexed.captions, indexed.frames, strict=True):
        assert torch.equal(streamed[caption], frames)


def test_a_local_folder_of_images_is_read_as_the_hub_has_it(tmp_path: Path) -> None:
    names = [path.name for path in write_pictures(tmp_path / "train", 4)]
    write_jsonl(tmp_path / "train" / "metadata.jsonl", [{"file_name": name, "text": name} for name in names])
    tier = Tier("folder", "noisy", media="image", hub=HubSpec(str(tmp_path)))
    [batch] = corpus_of(tier).batches(4, steps=1)
    assert sorted(batch.captions) == sorted(names)
    assert batch.frames.shape == (4, 1, 8, 8, 3)


def test_columns_are_renamed_and_captions_become_text(tmp_path: Path) -> None:
    names = [path.name for path in write_clips(tmp_path, 3)]
    rows = [{"clip": name, "title": number, "label": "spin"} for number, name in enumerate(names)]
    file = write_jsonl(tmp_path / "rows.jsonl", rows)
    spec = HubSpec("json", data_files=(str(file),))
    tier = Tier("hub", "noisy", hub=spec, columns={"video": "clip", "caption": "title"})
    [batch] = corpus_of(tier).batches(3, steps=1)
    assert sorted(batch.captions) == ["0", "1", "2"]
    assert batch.labels == ({"label": "spin"},) * 3


def test_unreadable_rows_are_passed_over_and_recorded(tmp_path: Path) -> None:
    corpus = corpus_of(clips(tmp_path, 12, broken=(3, 7)))
    batches = list(corpus.batches(5, steps=2))
    assert {Path(one.path).name for batch in batches for one in batch.skipped} == {"003.mp4", "007.mp4"}
    assert len(set(captions(batches))) == 10


def test_rows_that_do_not_fit_are_passed_over_and_recorded(tmp_path: Path) -> None:
    name = write_clips(tmp_path, 1)[0].name
    rows = [{"video": name, "caption": "a", "start": start} for start in (0.0, -1.0, 0.5)]
    tier = Tier("hub", "noisy", hub=HubSpec("json", data_files=(str(write_jsonl(tmp_path / "r.jsonl", rows)),)))
    batches = list(corpus_of(tier).batches(2, steps=2))
    [first, *_] = [one for batch in batches for one in batch.skipped]
    assert "start -1.0 is not a time" in first.reason and "row" in first.path
    write_jsonl(tmp_path / "r.jsonl", [{"video": "", "caption": "a"}] * 3)
    with pytest.raises(InputError, match=r"tier 'hub': json: none of its rows fits; the last one: video is ''"):
        list(corpus_of(tier).batches(2, steps=1))


def test_rows_without_captions(tmp_path: Path) -> None:
    names = [path.name for path in write_clips(tmp_path, 4)]

    def tier(values: list[str | None]) -> Tier:
        rows = [{"video": name, "caption": value} for name, value in zip(names, values, strict=True)]
        return Tier("hub", "noisy", hub=HubSpec("json", data_files=(str(write_jsonl(tmp_path / "r.jsonl", rows)),)))

    some = tier(["a", None, "", "b"])
    assert sorted(captions(list(corpus_of(some).batches(2, steps=1)))) == ["a", "b"]
    assert sorted(captions(list(corpus_of(some, need_captions=False).batches(4, steps=1)))) == ["", "", "a", "b"]
    none = tier(["", " ", "", ""])
    with pytest.raises(InputError, match="tier 'hub' has no captions: stage 1 learns from captions"):
        next(corpus_of(none).batches(2, steps=1))


def test_more_shares_than_rows(tmp_path: Path) -> None:
    corpus = corpus_of(clips(tmp_path, 2, shards=1))
    with pytest.raises(InputError, match=r"tier 'hub': parquet: no rows for share 3 of 3; use fewer workers"):
        next(corpus.batches(3, steps=1, rank=2, world=3))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_file_is_no_end_of_an_epoch(tmp_path: Path, workers: int) -> None:
    corpus = corpus_of(clips(tmp_path, 9, shards=3, block=3))
    damaged = tmp_path / "1.parquet"
    damaged.write_bytes(b"PAR1" + b"\0" * (damaged.stat().st_size - 8) + b"PAR1")
    message = r"tier 'hub': parquet: epoch 0, block \d: cannot be read: .*; run the same command again"
    with pytest.raises(InputError, match=message) as caught:
        list(corpus.batches(3, steps=9, workers=workers))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", [HubSpec("nobody/nothing"), HubSpec("parquet", data_files=("gone.parquet",))])
def test_what_cannot_be_opened_is_said_in_one_line(spec: HubSpec) -> None:
    with pytest.raises(InputError, match=r"tier 'hub': .*: cannot be opened") as caught:
        next(corpus_of(Tier("hub", "noisy", hub=spec)).batches(2, steps=1))
    assert "\n" not in str(caught.value)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "r.jsonl", [{"vidoe": "a.mp4", "caption": "a"}])
    tier = Tier("hub", "noisy", hub=HubSpec("json", data_files=(str(file),)))
    with pytest.raises(InputError, match=r"tier 'hub': json: no column 'video'; did you mean 'vidoe'"):
        next(corpus_of(tier).batches(2, steps=1))
