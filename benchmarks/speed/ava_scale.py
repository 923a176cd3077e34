"""What as many boxes as AVA has cost: reading the CSV, a pass of frame mAP, and judging with its interval.

    python -m benchmarks.speed.ava_scale --json ava_scale.json

60,000 moments with ten boxes each, one to three of 80 classes a box, in 67 videos of 15 minutes: a million rows. The
answers are the true boxes, a little moved, with random scores of all classes. Seconds are of one process, of its CPU,
so that other work beside it does not count; its memory is the most that it ever held.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapters.boxes import BoxScores
from benchmarks.speed.timing import Report, Timings, arguments
from pretrain.world.synthetic_world import write_video
from tasks.families.spatiotemporal import SpatiotemporalTask
from tasks.sample import Sample

CLASSES, BOXES, MOMENTS_A_VIDEO = 80, 10, 897


def write_data(folder: Path, moments: int) -> Path:
    """`ava.csv` and its videos, one of them real and all others its links."""
    videos = -(-moments // MOMENTS_A_VIDEO)
    clips = folder / "clips"
    clips.mkdir()
    greys = np.arange(MOMENTS_A_VIDEO + 3, dtype=np.uint16).astype(np.uint8)  # one frame a second
    write_video(clips / "video-000.mp4", np.tile(greys[:, None, None, None], (1, 48, 64, 3)), fps=1)
    for video in range(1, videos):
        (clips / f"video-{video:03}.mp4").hardlink_to(clips / "video-000.mp4")
    rng = np.random.default_rng(0)
    with (folder / "ava.csv").open("w") as file:
        for moment in range(moments):
            video, second = divmod(moment, MOMENTS_A_VIDEO)
            for person in range(BOXES):
                left, top = 0.7 * rng.random(2)
                right, bottom = left + 0.3 * rng.random() + 0.001, top + 0.3 * rng.random() + 0.001
                box = f"{left:.3f},{top:.3f},{right:.3f},{bottom:.3f}"
                for label in np.unique(CLASSES * rng.random(rng.integers(1, 4)) ** 3).astype(int):  # few are frequent
                    file.write(f"video-{video:03},{second + 1:04},{box},{label + 1},{person}\n")
    return folder / "ava.csv"


def answers_to(samples: list[Sample], label_names: tuple[str, ...]) -> Iterator[BoxScores]:
    """The boxes that are asked about, a little moved, with random scores."""
    rng = np.random.default_rng(1)
    for sample in samples:
        tracks = sample.asked  # type: ignore[attr-defined]
        boxes = np.array([track.at([sample.time_s])[0] for track in tracks])  # type: ignore[attr-defined]
        boxes = (boxes + 0.02 * rng.standard_normal(boxes.shape)).tolist()
        about = (sample.time_s,) * len(tracks), ((0.0, 2.0),) * len(tracks)  # type: ignore[attr-defined]
        scores = torch.from_numpy(rng.random((len(tracks), len(label_names)), dtype=np.float32))
        yield BoxScores(sample.id, *about, tuple(map(tuple, boxes)), ("",) * len(tracks), scores, label_names, True)


def main() -> None:
    parser = arguments("Boxes as many as AVA has.", rounds=1)
    parser.add_argument("--moments", type=int, default=60_000, help="of ten boxes each")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seconds: dict[str, tuple[float, ...]] = {}
    held: dict[str, float] = {}

    def timed(name: str, run: Callable[[], Any]) -> Any:
        started = time.process_time()
        done = run()
        seconds[name] = (time.process_time() - started,)
        held[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{name}: {seconds[name][0]:.1f} s, {held[name]:.2f} GB")
        return done

    with tempfile.TemporaryDirectory() as folder:
        file = write_data(Path(folder), options.moments)
        held["before"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6

        def read() -> SpatiotemporalTask:
            samples = SpatiotemporalTask.read_samples(file, videos=Path(folder, "clips"))
            return SpatiotemporalTask.from_samples(samples, val_fraction=0.0, test_fraction=0.0)

        task = timed("read", read)
    samples = list(task.samples("train"))
    answers = timed("answers of a model", lambda: list(answers_to(samples, task.label_names)))
    metric = task.metric()

    def validate() -> float:
        metric.update(answers, task.truths(samples))
        return float(metric.compute())

    value = timed("frame mAP of a validation", validate)
    judged = timed("judge, with its interval", lambda: task.judge(answers, "train"))
    assert abs(judged.main.value - value) < 1e-9
    report = Report("ava_scale", Timings(seconds), {"moments": len(samples), "boxes": BOXES, "classes": CLASSES})
    report.at_most("reading, seconds", seconds["read"][0], 120)
    report.at_most("frame mAP of a validation, seconds", seconds["frame mAP of a validation"][0], 120)
    report.at_most("judging, seconds", seconds["judge, with its interval"][0], 300)
    report.at_most("memory after reading, GB", held["read"], 3)
    report.at_most("memory at the end, GB", held["judge, with its interval"], 6)
    report.publish(options.json)


if __name__ == "__main__":
    main()
