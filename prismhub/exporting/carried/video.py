"""The frames of a video as the model sees them, by `preprocessing.json`: chosen by their times, resized, cut.

A video has one view, or several where the model averages over views or looks at windows. Needs PyAV, NumPy and Pillow.
"""

import json
import math
import sys
from pathlib import Path

import av
import numpy as np
from PIL import Image

HOW = json.loads((Path(__file__).parent / "preprocessing.json").read_text(encoding="utf-8"))


def views(path):
    """Every view of a video: pixels uint8 (T, S, S, 3), which frames are real (T,), start and end in seconds."""
    times, end = shown_at(path)
    waiting = chosen_frames(times, end)
    wanted, held = {index for frames, *_ in waiting for index in frames}, {}
    for index, frame in enumerate(pictures(path)):
        if index in wanted:
            held[index] = squared(frame.to_image().rotate(frame.rotation, expand=True))
        while waiting and waiting[0][0][-1] <= index:
            frames, real, start_s, end_s = waiting.pop(0)
            yield np.stack([held[one] for one in frames]), np.arange(len(frames)) < real, (start_s, end_s)
            held = {one: held[one] for one in held if waiting and one >= waiting[0][0][0]}


def inputs(path):
    """What the graph takes: all views as one batch, and which frames are real, where the model can leave some out."""
    pixels, masks, _ = zip(*views(path), strict=True)
    return {"frames": np.stack(pixels)} | ({"frame_mask": np.stack(masks)} if HOW["frame_mask"] else {})


def pictures(path):
    try:
        with av.open(str(path)) as container:
            yield from container.decode(video=0)
    except (av.FFmpegError, IndexError) as error:  # IndexError: nothing to see in it
        sys.exit(f"{path}: cannot be decoded: {getattr(error, 'strerror', None) or error}")


def shown_at(path):
    """When each frame appears, in seconds from the first, and when the last one is gone."""
    found = [(frame.time, float((frame.duration or 0) * frame.time_base)) for frame in pictures(path)]
    if not found:
        sys.exit(f"{path}: has no frames")
    times = np.array([time for time, _ in found])
    times = times - times[0]
    last_s = found[-1][1] or (float(np.median(np.diff(times))) if len(times) > 1 else 0.04)
    return times, float(times[-1]) + last_s


def chosen_frames(times, end):
    """Of each view its frames (where they are too few, the last one again), how many are real, start and end."""
    count, many, kind = HOW["num_frames"], HOW.get("views", 1), HOW["sampling"]
    nearly = min(0.5e-3, 0.1 * end / len(times))  # containers round times

    def at(moments):
        return np.clip(np.searchsorted(times, moments + nearly, side="right") - 1, 0, len(times) - 1)

    def offsets(room, slots, step):
        if kind == "dense":
            hop = HOW["window_stride"]
            return [w * hop * step for w in range(1 + max(math.ceil((slots - count) / hop), 0))]
        if many == 1:
            return [room // 2 if isinstance(room, int) else room / 2]
        return [room * v / (many - 1) for v in range(many)]

    found = []
    if kind == "uniform":
        for v in range(many):
            frames = np.arange(len(times))
            if len(times) >= count:
                frames = at((np.arange(count) + (v + 0.5) / many) * end / count)
            found.append((frames, 0.0, end))
    elif HOW.get("stride"):
        stride = HOW["stride"]
        room = max(len(times) - (count - 1) * stride - 1, 0)
        for offset in offsets(room, math.ceil(len(times) / stride), stride):
            frames = np.arange(round(offset), len(times), stride)[:count]
            after = frames[-1] + stride
            found.append((frames, float(times[frames[0]]), float(times[after]) if after < len(times) else end))
    else:
        slot = 1 / HOW["fps"]
        slots = max(math.ceil(end / slot - 0.5 - 1e-9), 1)
        for offset in offsets(max(end - count * slot, 0.0), slots, slot):
            centres = offset + (np.arange(count) + 0.5) * slot
            real = max(int((centres < end - 1e-9 * slot).sum()), 1)
            found.append((at(centres[:real]), offset, min(offset + real * slot, end)))
    return [([*frames, *[frames[-1]] * (count - len(frames))], len(frames), *span) for frames, *span in found]


def squared(image):
    """A picture as the square that the model sees."""
    side, filter = HOW["image_size"], Image.Resampling[HOW["interpolation"].upper()]
    width, height = image.size
    if HOW["geometry"] == "resize":
        return np.asarray(image.resize((side, side), filter))
    short, scaled = min(width, height), HOW.get("short_side", side)
    image = image.resize((scaled * width // short, scaled * height // short), filter)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))


def seen_boxes(boxes, path):
    """Boxes (Q, 4) of the picture (left, top, right, bottom, fractions) in the square that the model sees."""
    boxes = np.asarray(boxes, np.float64)
    if HOW["geometry"] == "resize":
        return boxes
    first = next(pictures(path))
    width, height = first.to_image().rotate(first.rotation, expand=True).size
    side, short, scaled = HOW["image_size"], min(width, height), HOW.get("short_side", HOW["image_size"])
    size = np.array([scaled * width // short, scaled * height // short])
    corner = (size - side) // 2
    return np.clip((boxes * np.tile(size, 2) - np.tile(corner, 2)) / side, 0, 1)
