"""Where clips come from: sources with random access to rows and, by the row's number, to pixels.

Frames are uint8 `(T, H, W, 3)`, resized as they are decoded; T is 1 for images. A video's frames are the centres of T
equal segments of its span, or all of them, spread, where it has fewer. Sources are picklable and open files where they
read them, so they work in any process.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.errors import InputError, UnreadableVideo
from core_encoder.files.storage import writing_to
from core_encoder.preprocessing import Preprocessing
from core_encoder.video.decoders import open_video
from core_encoder.video.video_bytes import check_file
from pretrain.corpus.clip_index import ClipIndex
from pretrain.corpus.clip_order import keyed
from pretrain.corpus.manifest import Media, SyntheticSpec, Tier
from pretrain.corpus.rows import Row
from pretrain.world.captions import MOTION_SHARE, caption_of
from pretrain.world.motions import MOTIONS, OPPOSITE
from pretrain.world.synthetic_world import SyntheticWorld
from pretrain.world.world_objects import HELD_OUT_OBJECTS, OBJECTS, SEEN_OBJECTS, ZERO_SHOT_OBJECTS, WorldObject

_OBJECTS = {
    "all": OBJECTS,
    "seen": SEEN_OBJECTS,
    "held_out": HELD_OUT_OBJECTS,
    "zero_shot": ZERO_SHOT_OBJECTS,
}
_STILL_FRAMES = 16  # frames of the clip of which a still shows one moment
_SUFFIX = re.compile(r"\.\w{1,16}", re.ASCII)  # of a name inside a tar, which can hold anything
_ALWAYS = {"seed", "split", "size", "objects", "captions", "length"}  # in a digest; other fields where they are set
_CAPTION = 1  # sets the random numbers of a clip's caption apart from those of its scene


class Source(Protocol):
    """Clips by number, from 0 to `len(source) - 1`.

    Attributes:
        digest: identity of the clips, wherever they lie.
        captioned: numbers of the clips that have a caption, int64 `(C,)`; None when all have one.
    """

    digest: str

    @property
    def captioned(self) -> NDArray[np.int64] | None: ...

    def __len__(self) -> int: ...

    def row(self, number: int) -> Row:
        """Everything about a clip but its pixels."""
        ...

    def read(self, number: int, num_frames: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """Its frames `(T, H, W, 3)` uint8; T is `num_frames`, or 1 for an image.

        Raises:
            UnreadableVideo: missing, damaged, or the span lies outside the video.
        """
        ...


def open_source(tier: Tier) -> Source:
    """The source of a tier; tables and shards are indexed on first use.

    Raises:
        InputError: a table or a shard that does not fit, or a Hub tier, which has no random access.
    """
    if tier.synthetic:
        return SyntheticSource(tier)
    if tier.hub:
        raise InputError(f"tier {tier.name!r} streams from the Hub: its clips come in order and cannot be asked for")
    return FileSource(tier)


class FileSource:
    """The clips of a table or of tar shards."""

    def __init__(self, tier: Tier) -> None:
        self.media = tier.media
        self.index = ClipIndex.of(tier)
        self.digest = self.index.digest

    @property
    def captioned(self) -> NDArray[np.int64] | None:
        captioned = self.index.captioned
        return None if len(captioned) == len(self.index) else captioned

    def __len__(self) -> int:
        return len(self.index)

    def row(self, number: int) -> Row:
        return self.index[number]

    def read(self, number: int, num_frames: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        return read_row(self.index[number], self.media, num_frames, preprocessing)


class SyntheticSource:
    """Clips of the synthetic world, drawn when they are asked for."""

    def __init__(self, tier: Tier) -> None:
        if tier.synthetic is None:
            raise InputError(f"tier {tier.name!r} has no synthetic clips")
        self.spec: SyntheticSpec = tier.synthetic
        self.media: Media = tier.media
        self.captioned: NDArray[np.int64] | None = None
        self.quality = self.spec.captions or tier.quality
        self._together = tier.together
        plain = asdict(SyntheticSpec())
        world = {name: value for name, value in asdict(self.spec).items() if name in _ALWAYS or value != plain[name]}
        identity = [world, self.media, self.quality, *([self._together] if self._together > 1 else [])]
        self.digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    def __len__(self) -> int:
        return self.spec.length

    def row(self, number: int) -> Row:
        _, name, motion = self._shown(number)
        labels = {"object": name} if self.media == "image" else {"object": name, "motion": motion}
        rng = np.random.default_rng((self.spec.seed, zlib.crc32(self.spec.split.encode()), number, _CAPTION))
        share = MOTION_SHARE if self.spec.motion_share is None else self.spec.motion_share
        caption = caption_of(name, labels.get("motion", ""), self.quality, rng, share)
        return Row(f"synthetic:{self.spec.seed}/{self.spec.split}/{number}", caption=caption, labels=labels)

    def read(self, number: int, num_frames: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        size = self.spec.size or preprocessing.image_size
        is_image = self.media == "image"
        world = self._world(_STILL_FRAMES if is_image else max(num_frames, 2), size)
        scene, name, motion = self._shown(number)
        thing = WorldObject.parse(name)
        frames = (world.image(scene, thing) if is_image else world.clip(scene, thing, motion)).frames  # (T, S, S, 3)
        frames = frames[: 1 if is_image else num_frames]  # of one frame too the world is drawn with two
        if size == preprocessing.image_size:
            return frames
        return np.stack([preprocessing.apply(frame) for frame in frames])  # (T, H, W, 3)

    def _world(self, num_frames: int, size: int) -> SyntheticWorld:
        spec = self.spec
        return SyntheticWorld(
            spec.seed,
            spec.split,
            size,
            num_frames,
            _OBJECTS[spec.objects],
            spec.motions or MOTIONS,
            distractors=spec.distractors,
            neighbours=spec.neighbours,
            background_contrast=spec.background_contrast,
            spread=(spec.spread, spec.spread),
        )

    def _shown(self, number: int) -> tuple[int, str, str]:
        """The scene of a clip, its object and its motion; none depends on how finely it is drawn."""
        world, thing = self._world(2, 8), self._thing(number)
        if self.spec.reversals and number % 2:
            name, motion = world.shown(number - 1, self._thing(number - 1))
            if OPPOSITE[motion] != motion:
                return number - 1, name, OPPOSITE[motion]
        return number, *world.shown(number, thing)

    def _thing(self, number: int) -> WorldObject | None:
        """The one object of the clips that come together with `number`; None where each has its own."""
        if self._together == 1:
            return None
        objects = _OBJECTS[self.spec.objects]
        return objects[keyed(self.spec.seed, self.spec.split, number // self._together) % len(objects)]


def read_row(row: Row, media: Media, num_frames: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The frames `(T, H, W, 3)` of a row of a table or shard.

    Raises:
        UnreadableVideo: missing, damaged, or the span lies outside the video.
    """
    if media == "image":
        return read_image(row, preprocessing)
    if row.member is None:
        return _read_span(row.video, row, num_frames, preprocessing)
    return decode_bytes(member_bytes(row), row, num_frames, preprocessing)


def decode_bytes(content: bytes, row: Row, num_frames: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The frames `(T, H, W, 3)` of a video in memory; decoders open files, so it becomes one for a moment.

    Raises:
        UnreadableVideo: damaged, or the span lies outside the video.
        InputError: there is no room for that file.
    """
    with as_file(content, PurePosixPath(row.path).suffix) as file:
        try:
            return _read_span(str(file), row, num_frames, preprocessing)
        except UnreadableVideo as error:
            raise UnreadableVideo(row.path, error.reason) from error


def _read_span(path: str, row: Row, num_frames: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The frames of a row; where it has fewer, each is seen longer, so that no clip stands still at its end."""
    with open_video(path) as video:
        [view] = ClipPlan(num_frames).views_of(video.facts, Clip(path, row.start_s, row.end_s))
        centres = [(2 * number + 1) * view.num_real // (2 * num_frames) for number in range(num_frames)]
        return video.read([view.frame_indices[place] for place in centres], preprocessing)


@contextmanager
def as_file(content: bytes, suffix: str) -> Iterator[Path]:
    """Lend `content` as a file.

    Raises:
        InputError: there is no room for it.
    """
    try:
        place = tempfile.gettempdir()
    except FileNotFoundError as error:  # it tries to write in each of them
        raise InputError(f"{error.strerror}; free space there, or let TMPDIR name a folder with some") from error
    with ExitStack() as stack:
        with writing_to(place):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="prismhub-"))
            file = Path(folder, "clip" + (suffix if _SUFFIX.fullmatch(suffix) else ""))
            file.write_bytes(content)
        yield file


def read_image(row: Row, preprocessing: Preprocessing, content: bytes | None = None) -> NDArray[np.uint8]:
    """An image as the one frame `(1, H, W, 3)` of a clip, upright.

    Raises:
        UnreadableVideo: missing, damaged or not an image.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if content is None:
        if row.member is None:
            check_file(row.video)
            content = Path(row.video).read_bytes()
        else:
            content = member_bytes(row)
    try:
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    except UnidentifiedImageError as error:
        raise UnreadableVideo(row.path, "not an image") from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise UnreadableVideo(row.path, f"the image cannot be decoded ({error})") from error
    return preprocessing.apply(pixels)[None]  # (1, H, W, 3)


def member_bytes(row: Row) -> bytes:
    """The bytes of a row's file inside its tar.

    Raises:
        UnreadableVideo: the tar is missing, or ends within them.
    """
    member = row.member
    if member is None:
        raise ValueError(f"{row.video} is no member of a tar")
    check_file(row.video)
    with open(row.video, "rb") as file:  # noqa: PTH123 (as check_file)
        file.seek(member.offset)
        content = file.read(member.size)
    if len(content) < member.size:
        raise UnreadableVideo(row.path, "the shard ends before this member does")
    return content
