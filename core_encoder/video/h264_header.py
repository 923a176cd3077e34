"""What the header of an H.264 stream tells before a frame is decoded: whether frames may be interlaced later on."""

from __future__ import annotations

_SEQUENCE_PARAMETERS = 7
_WITH_CHROMA_FORMAT = (44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244)


def may_interlace(extradata: bytes | None) -> bool:
    """Whether the header of an H.264 stream allows interlaced frames; True where there is none to tell.

    The first frame says nothing of the others: broadcasts mix both.
    """
    try:
        parameters = _sequence_parameters(extradata or b"")
        return parameters is None or not _frames_only(_Bits(parameters))
    except IndexError:  # cut off
        return True


def _sequence_parameters(extradata: bytes) -> bytes | None:
    if extradata[:1] == b"\x01":  # as MP4 and Matroska keep it: six bytes, then a length of two
        units = [extradata[8 : 8 + int.from_bytes(extradata[6:8], "big")]]
    else:
        units = extradata.split(b"\0\0\1")
    found = next((unit for unit in units if unit and unit[0] & 31 == _SEQUENCE_PARAMETERS), None)
    return found and found.replace(b"\0\0\3", b"\0\0")


class _Bits:
    """Reads numbers from the bits of a unit, first past its type."""

    def __init__(self, unit: bytes) -> None:
        self._unit = unit
        self._at = 8

    def take(self, count: int = 1) -> int:
        value = 0
        for place in range(self._at, self._at + count):
            value = value << 1 | self._unit[place // 8] >> 7 - place % 8 & 1
        self._at += count
        return value

    def number(self) -> int:
        """An Exp-Golomb code, without its sign."""
        zeros = 0
        while not self.take():
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def _frames_only(bits: _Bits) -> bool:
    """`frame_mbs_only_flag` (ISO/IEC 14496-10, 7.3.2.1.1): all that comes before it must be read."""
    profile = bits.take(8)
    bits.take(16)
    bits.number()
    if profile in _WITH_CHROMA_FORMAT:
        chroma = bits.number()
        bits.take(1 if chroma == 3 else 0)
        bits.number()
        bits.number()
        bits.take()
        if bits.take():
            for size in [16] * 6 + [64] * (6 if chroma == 3 else 2):
                if bits.take():
                    _skip_scaling_list(bits, size)
    bits.number()
    order = bits.number()
    if order == 0:
        bits.number()
    elif order == 1:
        bits.take()
        bits.number()
        bits.number()
        for _ in range(bits.number()):
            bits.number()
    bits.number()
    bits.take()
    bits.number()
    bits.number()
    return bool(bits.take())


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            code = bits.number()
            following = (last + (-(code // 2) if code % 2 == 0 else (code + 1) // 2)) % 256
        last = following or last
