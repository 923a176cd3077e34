"""Files that were made to harm: they claim huge pictures, hold a million frames, or name other files."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.videos import moving_square


def write_claims(path: Path, side: int = 30_000) -> Path:
    """A small MJPEG file whose pictures say in their own headers that they are `side` x `side` pixels."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mjpeg", rate=16)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuvj420p"
        for frame in moving_square(4, 64, 64):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    content = path.read_bytes()
    size = b"\x00\x11\x08" + (64).to_bytes(2, "big") * 2  # of the marker SOF0: length, bits, height, width
    assert content.count(size) == 4
    path.write_bytes(content.replace(size, b"\x00\x11\x08" + side.to_bytes(2, "big") * 2))
    return path


def write_claims_in_header(path: Path, side: int = 30_000) -> Path:
    """An H.264 file whose stream says that its pictures are `side` x `side` pixels, in the bits of its own header."""
    sps = bytes.fromhex("67") + _bits(
        [(66, 8), (0, 8), (62, 8)],  # profile, constraints, level 6.2
        [0, 0, 2, 0, 0, 1, 0],  # id, frame numbers, order of pictures: none, one reference, no gaps
        side,
    )
    pps = bytes.fromhex("68ce3880")
    with av.open(str(path), "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=16)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for frame in moving_square(4, 64, 64):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
        before = stream.codec_context.extradata
    assert before is not None
    content = path.read_bytes()
    at = content.index(b"avcC") - 4
    length = int.from_bytes(content[at : at + 4], "big")
    record = content[at + 8 : at + 14] + len(sps).to_bytes(2, "big") + sps + b"\x01" + len(pps).to_bytes(2, "big") + pps
    box = (len(record) + 8).to_bytes(4, "big") + b"avcC" + record
    grown = content[:at] + box + content[at + length :]
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):  # the boxes around it grow with it
        place = grown.index(name, grown.index(b"moov")) - 4
        size = int.from_bytes(grown[place : place + 4], "big") + len(box) - length
        grown = grown[:place] + size.to_bytes(4, "big") + grown[place + 4 :]
    place = grown.index(b"avc1", grown.index(b"moov")) + 4 + 24
    path.write_bytes(grown[:place] + side.to_bytes(2, "big") * 2 + grown[place + 4 :])
    return path


def _bits(fixed: list[tuple[int, int]], golomb: list[int], side: int) -> bytes:
    """Fields of fixed width, then Exp-Golomb codes, as a sequence header has them."""
    text = "".join(f"{value:0{width}b}" for value, width in fixed)
    code = lambda value: f"{value + 1:0{2 * (value + 1).bit_length() - 1}b}"  # noqa: E731
    identity, frame_num, order, references = golomb[0], golomb[1], golomb[2], golomb[5]
    text += code(identity) + code(frame_num) + code(order) + code(references) + "0"
    text += code(side // 16 - 1) * 2 + "1" + "1" + "0" + "0" + "1"  # size, frames only, direct, no crop, no VUI, stop
    text += "0" * (-len(text) % 8)
    return bytes(int(text[place : place + 8], 2) for place in range(0, len(text), 8))


def write_million(path: Path, count: int = 1_000_000) -> Path:
    """A video of `count` pictures of 1 x 1 pixel, 100 thousand a second."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("png", rate=100_000)
        stream.width = stream.height = 1
        stream.pix_fmt = "gray"
        frame = av.VideoFrame.from_ndarray(np.zeros((1, 1), np.uint8), format="gray")
        frame.pts = 0
        content = b"".join(map(bytes, [*stream.encode(frame), *stream.encode()]))
        for number in range(count):
            one = av.Packet(content)
            one.stream, one.pts, one.dts, one.duration = stream, number, number, 1
            one.time_base, one.is_keyframe = Fraction(1, 100_000), True
            file.mux(one)
    return path


def playlists(folder: Path, url: str, secret: Path) -> dict[str, Path]:
    """Files under names of videos that lead to an address or to another file."""
    hls, end = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n", "\n#EXT-X-ENDLIST\n"
    dash = f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>{url}/</BaseURL></Period></MPD>'
    sdp = ("v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=x", "c=IN IP4 127.0.0.1", "t=0 0", "m=video 5004 RTP/AVP 96")
    texts = {
        "hls of an address": f"{hls}#EXTINF:2,\n{url}/x.ts{end}",
        "hls of a file": f"{hls}#EXTINF:2,\n{secret}{end}",
        "hls of a protocol": f"{hls}#EXTINF:2,\nconcat:{secret}|{secret}{end}",
        "hls with a key": f'{hls}#EXT-X-KEY:METHOD=AES-128,URI="{url}/key"\n#EXTINF:2,\n{secret}{end}',
        "concat of a file": f"ffconcat version 1.0\nfile '{secret}'\n",
        "concat of an address": f"ffconcat version 1.0\nfile {url}/x.mp4\n",
        "dash": f'<?xml version="1.0"?>\n{dash}\n',
        "sdp": "\n".join([*sdp, f"a=control:{url}", ""]),
    }
    written = {}
    for number, (name, text) in enumerate(texts.items()):
        for suffix in ("mp4", "m3u8"):
            path = folder / f"{number}.{suffix}"
            path.write_text(text)
            written[f"{name} as {suffix}"] = path
    return written
