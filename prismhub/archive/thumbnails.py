"""The picture that shows a scene: a small JPEG of a frame from its middle."""

from __future__ import annotations

import io

from core_encoder.video.frames import DecodedFrame

LONGEST_PIXELS, QUALITY = 320, 80


def thumbnail(frame: DecodedFrame) -> bytes:
    """A JPEG of the frame, its longer side at most 320 pixels."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(frame.small(LONGEST_PIXELS)).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
