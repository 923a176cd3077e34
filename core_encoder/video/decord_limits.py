"""What decord cannot do, told from what PyAV knows of a file once its packets are read: decord is never tried for it.

decord 0.6.0 carries a libav of 2018 and numbers frames by counting packets. What PyAV can encode was compared, codec by
codec and container by container. Where decord fails, or gives other frames, PyAV is taken by `auto`:

    AV1 and what came later       no decoder
    no frame count, no duration   not opened: what browsers record, and streams written to a pipe
    edit lists; containers other  frames are misnumbered
    than MP4, Matroska and AVI
    AVI, open GOPs                frames are misnumbered after a seek
    several video streams         it may take another one
    mirrored, or turned by the    not made upright; an old tag `rotate` turns what should not be
    header of Matroska
    interlaced, odd heights,      colours are spread over the pixels another way; a colour matrix that PyAV
    more than 8 bits              does not know is taken for BT.601

What no header tells stays: a picture size that changes midway is scaled to the first one, and interlaced frames under a
second H.264 header that the first one does not announce.
"""

from __future__ import annotations

from core_encoder.video.stream_facts import Picture, StreamFacts

_LACKING = ("av1", "vvc")
_CODECS = ("h264", "hevc", "mpeg4", "vp8", "vp9")  # whose frames were found equal after seeks, too
_PIXELS = ("yuv420p", "yuvj420p")
_COLOR_MATRICES = (0, 1, 2, 4, 5, 6, 7, 9)  # those that PyAV converts; decord takes any other for BT.601


def decord_trouble(stream: StreamFacts, picture: Picture, num_unseen: int) -> str | None:
    """Why decord cannot give the frames of a file, to be read after its name; None where it can be tried.

    `num_unseen` packets are decoded and never shown.
    """
    matroska = "matroska" in stream.formats
    if stream.codec in _LACKING:
        return f"has no decoder for {stream.codec.upper()}"
    if num_unseen:
        return "misnumbers frames in files with an edit list"
    if not {"mp4", "matroska", "avi"} & set(stream.formats):
        return f"misnumbers frames in {stream.formats[0]} files"
    if stream.num_frames < 1:
        return "opens no file that states neither how many frames it has nor how long it is"
    if stream.num_streams > 1:
        return f"may take another of the {stream.num_streams} video streams"
    if picture.is_mirrored:
        return "does not mirror pictures as the file asks"
    if matroska and (picture.quarter_turns or stream.has_rotate_tag):
        return "turns pictures another way in Matroska and WebM files"
    return None


def decord_is_exact(stream: StreamFacts, picture: Picture) -> bool:
    """Whether decord, where it can be tried, gives the pixels that PyAV gives.

    A turned picture may be one by a message in the H.264 stream, of which decord knows nothing.
    """
    coded_alike = stream.codec in _CODECS and stream.pixel_format in _PIXELS and picture.color_matrix in _COLOR_MATRICES
    interlaced = picture.is_interlaced or stream.may_interlace
    return coded_alike and not (interlaced or picture.quarter_turns or picture.height % 2)
