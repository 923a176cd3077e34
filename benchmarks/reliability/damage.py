"""Ways to damage a video file, byte by byte; each is a function of a generator and of two whole MP4 files."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

INDEX = tuple(b"moov trak mdia minf stbl stsd avc1 avcC mvhd tkhd mdhd hdlr stts stsc stsz stco stss ftyp mdat".split())
Damage = Callable[[random.Random, bytes, bytes], bytes]


def truncated(rng: random.Random, whole: bytes, other: bytes) -> bytes:
    """The file ends anywhere."""
    return whole[: rng.randrange(len(whole))]


def bits_flipped(rng: random.Random, whole: bytes, other: bytes) -> bytes:
    """Some bits anywhere are others."""
    return _flipped(rng, whole, range(len(whole)), rng.choice((1, 10, 200)))


def headers_flipped(rng: random.Random, whole: bytes, other: bytes) -> bytes:
    """Some bits of the headers are others: sizes, tables, the parameters of the stream."""
    places = [place for begin, end in _boxes(whole) for place in range(begin, min(end, begin + 64))]
    index = whole.find(b"moov")
    return _flipped(rng, whole, [*places, *range(max(index, 0), len(whole))], rng.choice((1, 3, 30)))


def spliced(rng: random.Random, whole: bytes, other: bytes) -> bytes:
    """It begins as one file and ends as another."""
    return whole[: rng.randrange(len(whole))] + other[rng.randrange(len(other)) :]


def index_of_another(rng: random.Random, whole: bytes, other: bytes) -> bytes:
    """The pictures of one file, the index of another."""
    index = [other[begin:end] for begin, end in _boxes(other) if other[begin + 4 : begin + 8] == b"moov"]
    return b"".join(
        index[0] if whole[begin + 4 : begin + 8] == b"moov" and index else whole[begin:end]
        for begin, end in _boxes(whole)
    )


def stream_swapped(rng: random.Random, whole: bytes, other: bytes) -> bytes:
    """The stream says that it is of another codec or another kind."""
    swaps = {b"avc1": (b"hvc1", b"mp4v", b"av01", b"jpeg", b"mp4a", b"\0\0\0\0"), b"vide": (b"soun", b"subt", b"xxxx")}
    old = rng.choice(list(swaps))
    return whole.replace(old, rng.choice(swaps[old]))


def part_removed(rng: random.Random, whole: bytes, other: bytes) -> bytes:
    """A part of the index is not there: the stream, its tables, or all of it."""
    return whole.replace(rng.choice(INDEX), b"free", 1)


def zeroed(rng: random.Random, whole: bytes, other: bytes) -> bytes:
    """Zeros instead of a piece, as after a crash of the machine; or nothing but zeros, or nothing."""
    begin, end = sorted(rng.choices(range(len(whole) + 1), k=2))
    piece = whole[:begin] + bytes(end - begin) + whole[end:]
    return rng.choices((piece, bytes(len(whole)), b""), (8, 1, 1))[0]


def shuffled(rng: random.Random, whole: bytes, other: bytes) -> bytes:
    """Pieces in another order, some twice, as of a broken download in parts."""
    size = max(1, len(whole) // 8)
    pieces = [whole[begin : begin + size] for begin in range(0, len(whole), size)]
    return b"".join(rng.choices(pieces, k=len(pieces)))


def sizes_lie(rng: random.Random, whole: bytes, other: bytes) -> bytes:
    """A box says that it is huge, or empty, or that its table has four thousand million rows."""
    name = rng.choice([name for name in INDEX if name in whole])
    place = whole.index(name)
    place = place - 4 if rng.random() < 0.5 else place + 8
    lie = rng.choice((0, 1, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, rng.randrange(1 << 32)))
    return whole[:place] + lie.to_bytes(4, "big") + whole[place + 4 :]


def no_video(rng: random.Random, whole: bytes, other: bytes) -> bytes:
    """Something else under the name of a video."""
    texts = (b"<!DOCTYPE html><html>404</html>", b"#EXTM3U\n#EXTINF:2,\n/etc/passwd\n", b'{"error": "gone"}')
    pictures = (b"\xff\xd8\xff\xe0\0\x10JFIF", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"%PDF-1.7\n", b"\x1f\x8b\x08")
    return rng.choice((*texts, *(begin + rng.randbytes(3000) for begin in pictures), rng.randbytes(5000)))


DAMAGES: dict[str, Damage] = {
    one.__name__: one
    for one in (
        truncated,
        bits_flipped,
        headers_flipped,
        spliced,
        index_of_another,
        stream_swapped,
        part_removed,
        zeroed,
        shuffled,
        sizes_lie,
        no_video,
    )
}
SUFFIXES = (".mp4", ".mp4", ".mp4", ".mp4", ".mkv", ".avi", ".ts", ".mov", ".webm")  # most are right


def _flipped(rng: random.Random, whole: bytes, places: range | list[int], count: int) -> bytes:
    changed = bytearray(whole)
    for _ in range(count):
        changed[rng.choice(places)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _boxes(whole: bytes) -> Iterator[tuple[int, int]]:
    """Begin and end of each box of the file itself."""
    begin = 0
    while begin + 8 <= len(whole):
        size = int.from_bytes(whole[begin : begin + 4], "big")
        if size < 8:
            return
        yield begin, min(begin + size, len(whole))
        begin += size
