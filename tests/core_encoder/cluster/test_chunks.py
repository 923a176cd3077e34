"""Chunks of clips: together as they lie in files, and blamed only when alone."""

from __future__ import annotations

from core_encoder.clip_plan import Clip
from core_encoder.cluster.chunks import Chunk, Chunks


def taken(chunks: Chunks) -> list[Chunk]:
    return [chunks.take() for _ in range(len(chunks))]


def test_every_clip_is_in_one_chunk_and_files_stay_together() -> None:
    clips = [Clip(f"{name}.mp4", float(start)) for name in "abcde" for start in range(3)]
    found = taken(Chunks(clips[::-1], 4))
    assert sorted((clip for chunk in found for clip in chunk.clips), key=clips.index) == clips
    assert all(len(chunk.clips) <= 4 and len({clip.path for clip in chunk.clips}) == 1 for chunk in found)
    assert [len(chunk.clips) for chunk in taken(Chunks([Clip("a.mp4", float(i)) for i in range(9)], 4))] == [4, 4, 1]
    assert [len(chunk.clips) for chunk in taken(Chunks([Clip(f"{i}.mp4") for i in range(9)], 4))] == [4, 4, 1]


def test_suspects_are_tried_alone_and_one_that_kills_three_times_is_given_up() -> None:
    clips = [Clip(f"{i}.mp4") for i in range(3)]
    chunks = Chunks(clips, 8)
    assert chunks.suspect(chunks.take().clips) is None
    alone = taken(chunks)
    assert [chunk.clips for chunk in alone] == [(clip,) for clip in clips] and all(chunk.alone for chunk in alone)
    assert chunks.suspect(clips[1:2]) is None
    assert chunks.suspect(clips) is None, "in company nobody is blamed"
    assert chunks.suspect(clips[1:2]) is None
    assert chunks.suspect(clips[1:2]) == clips[1]
    assert chunks.suspect(clips[2:]) is None


def test_what_was_lost_comes_again_in_chunks_of_the_same_size() -> None:
    clips = [Clip(f"{i}.mp4") for i in range(5)]
    chunks = Chunks([], 2)
    chunks.again(clips)
    chunks.again([])
    found = taken(chunks)
    assert {clip for chunk in found for clip in chunk.clips} == set(clips) and len(found) == 3
    assert not any(chunk.alone for chunk in found)
