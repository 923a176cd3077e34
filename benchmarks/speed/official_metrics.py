"""The metrics of ActivityNet and of AVA at the size of their splits, against the same rules as plain Python loops.

    python -m benchmarks.speed.official_metrics --json official_metrics.json

5,000 videos with 100 proposals each, and 60,000 key frames with ten boxes, each with three actions: the files are
written in the official formats and judged as `prismhub score` does, in a process of its own each, which reports seconds
and the most memory that it held. `metric` is the time without reading the files; the loops are timed on a share of the
videos or frames (`--share`), since their time grows with the number of these, and judge exactly what the metric judges
there; the values must agree. Seconds are CPU time of one process with one thread, so that other work does not count.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.timing import Report, Timings, arguments
from tasks.judges.boxes import evaluator_order
from tasks.metrics.frame_map import MOST_ROWS, BoxTable, box_average_precisions
from tasks.metrics.temporal_detection import TIOUS, SegmentTable, detection_average_precisions

CLASSES, PROPOSALS, BOXES, ACTIONS = 200, 100, 10, 3
AVA_IDS = (1, *range(3, 16), 17, 20, 22, 24, *range(26, 31))
_JUDGE = """
import json, sys, time
from benchmarks.cost import peak_memory_bytes
from tasks.judges import judge
started = time.process_time()
metrics = judge(*sys.argv[1:4]).metrics
seconds = time.process_time() - started
print(json.dumps([seconds, peak_memory_bytes()[0] / 1e9, metrics]))
"""


def segments(videos: int, seed: int = 0) -> tuple[SegmentTable, SegmentTable]:
    """Proposals, half of them near the truth, and two true segments a video on average."""
    rng = np.random.default_rng(seed)
    known = np.repeat(np.arange(videos), rng.integers(1, 4, videos))
    labels = rng.integers(0, CLASSES, videos)[known]  # a video has one class, as nearly all of ActivityNet do
    starts = 100 * rng.random(len(known))
    truth = SegmentTable(
        known, labels, np.stack([starts, starts + 5 + 60 * rng.random(len(known))], 1), np.ones(len(known))
    )
    found = np.repeat(np.arange(videos), PROPOSALS)
    like = np.searchsorted(known, found) + rng.integers(0, 3, len(found)) % np.bincount(known)[found]
    near = rng.random(len(found)) < 0.5
    spans = np.where(near[:, None], truth.spans[like] + 3 * rng.standard_normal((len(found), 2)), 0)
    begin = 150 * rng.random(len(found))
    spans = np.where(
        near[:, None], np.sort(spans, axis=1), np.stack([begin, begin + 1 + 50 * rng.random(len(found))], 1)
    )
    said = np.where(rng.random(len(found)) < 0.8, truth.labels[like], rng.integers(0, CLASSES, len(found)))
    return truth, SegmentTable(found, said, spans, rng.random(len(found)))


def boxes(frames: int, seed: int = 0) -> tuple[BoxTable, BoxTable]:
    """Ten individuals a frame with two actions each, and as many boxes, a little moved, with three scored actions."""
    rng = np.random.default_rng(seed)
    corner = 0.7 * rng.random((frames * BOXES, 2))
    corners = np.concatenate([corner, corner + 0.05 + 0.25 * rng.random(corner.shape)], 1).round(3)
    moved = (corners + 0.02 * rng.standard_normal(corners.shape)).round(3)
    frame = np.repeat(np.arange(frames), BOXES)

    def table(where: NDArray[np.float64], actions: int, seed: int) -> BoxTable:
        draw = np.random.default_rng(seed)
        first = (len(AVA_IDS) * draw.random(len(frame)) ** 3).astype(np.int64)  # few actions are frequent
        labels = (first[:, None] + np.arange(actions)) % len(AVA_IDS)
        rows = np.repeat(np.arange(len(frame)), actions)
        return BoxTable(frame[rows], labels.ravel(), where[rows], draw.random(len(rows)))

    return table(corners, 2, seed + 1), table(moved, ACTIONS, seed + 2)


def loop_over_segments(truth: SegmentTable, found: SegmentTable) -> NDArray[np.float64]:
    """ActivityNet's evaluator prediction by prediction and threshold by threshold, without NumPy inside the loops."""
    wanted: dict[tuple[int, int], list[tuple[float, float]]] = defaultdict(list)
    for video, label, span in zip(truth.videos.tolist(), truth.labels.tolist(), truth.spans.tolist(), strict=True):
        wanted[label, video].append((span[0], span[1]))
    rows: dict[int, list[tuple[float, int, list[float]]]] = defaultdict(list)
    columns = (found.labels.tolist(), found.scores.tolist(), found.videos.tolist(), found.spans.tolist())
    for label, score, video, span in zip(*columns, strict=True):
        rows[label].append((score, video, span))
    totals: dict[int, int] = defaultdict(int)
    for (label, _), several in wanted.items():
        totals[label] += len(several)
    values = np.full((CLASSES, len(TIOUS)), np.nan)
    for label, total in totals.items():
        mine = sorted(rows[label], key=lambda row: -row[0])
        for place, tiou in enumerate(TIOUS):
            taken: set[tuple[int, int]] = set()
            hits = []
            for _, video, (start, end) in mine:
                best, which = tiou, None
                for number, (left, right) in enumerate(wanted.get((label, video), ())):
                    shared = max(0.0, min(end, right) - max(start, left))
                    value = shared / ((right - left) + (end - start) - shared)
                    if value >= best and (video, number) not in taken:
                        best, which = value, (video, number)
                hits.append(which is not None)
                if which is not None:
                    taken.add(which)
            values[label, place] = loop_average_precision(hits, total)
    return values


def loop_over_boxes(truth: BoxTable, found: BoxTable) -> NDArray[np.float64]:
    """AVA's evaluator frame by frame, action by action and box by box, without NumPy inside the loops."""
    people: dict[tuple[int, int], list[list[float]]] = defaultdict(list)
    counts = [0] * len(AVA_IDS)
    for frame, label, corners in zip(truth.frames.tolist(), truth.labels.tolist(), truth.corners.tolist(), strict=True):
        people[frame, label].append(corners)
        counts[label] += 1
    said: dict[int, list[tuple[float, int, list[float]]]] = defaultdict(list)
    columns = (found.frames.tolist(), found.scores.tolist(), found.labels.tolist(), found.corners.tolist())
    for frame, score, label, corners in zip(*columns, strict=True):
        said[frame].append((score, label, corners))
    ranked: list[list[tuple[float, bool]]] = [[] for _ in AVA_IDS]
    for frame, entries in said.items():
        taken: set[tuple[int, int]] = set()
        for score, label, box in sorted(entries, key=lambda entry: -entry[0])[:MOST_ROWS]:
            best, which = -1.0, -1
            for number, other in enumerate(people.get((frame, label), ())):
                width = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
                height = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
                areas = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1])
                value = width * height / (areas - width * height)
                if value > best:
                    best, which = value, number
            right = best >= 0.5 and (label, which) not in taken
            if right:
                taken.add((label, which))
            ranked[label].append((score, right))
    values = [
        loop_average_precision([right for _, right in sorted(one, key=lambda pair: -pair[0])], total)
        for one, total in zip(ranked, counts, strict=True)
    ]
    return np.array(values)


def loop_average_precision(hits: list[bool], total: int) -> float:
    """The area under the interpolated curve, from the last point to the first."""
    points, right = [], 0
    for number, hit in enumerate(hits, start=1):
        right += hit
        points.append((right / total, right / number) if total else (0.0, 0.0))
    area, best = 0.0, 0.0
    for (recall, precision), (before, _) in zip(reversed(points), [*reversed(points[:-1]), (0.0, 0.0)], strict=True):
        best = max(best, precision)
        area += (recall - before) * best
    return area


def judge_boxes(truth: BoxTable, found: BoxTable) -> NDArray[np.float64]:
    """What the judge of AVA computes once both files are read."""
    counts = np.bincount(truth.labels, minlength=len(AVA_IDS))
    return box_average_precisions(found[evaluator_order(found, MOST_ROWS)], truth[evaluator_order(truth)], counts)


def write_activitynet(folder: Path, truth: SegmentTable, found: SegmentTable) -> tuple[str, str]:
    database: dict[str, Any] = {}
    for video, label, span in zip(truth.videos.tolist(), truth.labels.tolist(), truth.spans.tolist(), strict=True):
        entry = database.setdefault(f"v{video}", {"subset": "validation", "annotations": []})
        entry["annotations"].append({"segment": span, "label": f"c{label}"})
    known = {one["label"] for entry in database.values() for one in entry["annotations"]}
    results: dict[str, Any] = defaultdict(list)
    columns = (found.videos.tolist(), found.labels.tolist(), found.spans.tolist(), found.scores.tolist())
    for video, label, span, score in zip(*columns, strict=True):
        if f"c{label}" in known:  # the official evaluator refuses others
            results[f"v{video}"].append({"label": f"c{label}", "score": score, "segment": span})
    for name, content in {"truth.json": {"database": database}, "said.json": {"results": results}}.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return str(folder / "truth.json"), str(folder / "said.json")


def write_ava(folder: Path, truth: BoxTable, found: BoxTable) -> tuple[str, str]:
    for name, table, last in (("truth.csv", truth, "person"), ("said.csv", found, "score")):
        with (folder / name).open("w", encoding="utf-8") as file:
            columns = (table.frames.tolist(), table.labels.tolist(), table.corners.tolist(), table.scores.tolist())
            for row, (frame, label, corners, score) in enumerate(zip(*columns, strict=True)):
                box = ",".join(f"{edge:.3f}" for edge in corners)
                what = row // 2 % BOXES if last == "person" else score
                file.write(f"v{frame // 897},{902 + frame % 897:04},{box},{AVA_IDS[label]},{what}\n")
    return str(folder / "truth.csv"), str(folder / "said.csv")


def cpu_seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    done = run()
    return time.process_time() - started, done


def main() -> None:
    parser = arguments("The official metrics of ActivityNet and AVA, vectorised against loops.", rounds=3)
    parser.add_argument("--videos", type=int, default=5000, help="of 100 proposals each")
    parser.add_argument("--frames", type=int, default=60_000, help="of ten boxes each")
    parser.add_argument("--share", type=float, default=0.1, help="of videos and frames that the loops judge")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = defaultdict(list)
    held: dict[str, float] = {}
    differences: dict[str, float] = {}
    work: dict[str, Any] = {
        "ActivityNet": (
            segments,
            options.videos,
            lambda t, f: detection_average_precisions(f, t, CLASSES),
            loop_over_segments,
        ),
        "AVA": (boxes, options.frames, judge_boxes, loop_over_boxes),
    }
    for name, (make, size, metric, loop) in work.items():
        with tempfile.TemporaryDirectory() as folder:
            write = write_activitynet if name == "ActivityNet" else write_ava
            files = write(Path(folder), *make(size))
            words = [sys.executable, "-c", _JUDGE, name.lower(), *files]
            for _ in range(options.rounds):
                done = subprocess.run(words, stdout=subprocess.PIPE, check=True)
                taken, gigabytes, _ = json.loads(done.stdout)
                seconds[f"{name}: files judged"].append(taken)
                held[name] = max(held.get(name, 0), gigabytes)
        part = make(max(1, int(options.share * size)))
        for _ in range(options.rounds):
            fast, values = cpu_seconds(partial(metric, *part))
            slow, expected = cpu_seconds(partial(loop, *part))
            seconds[f"{name}: metric, share"].append(fast)
            seconds[f"{name}: loops, share"].append(slow)
        known = ~np.isnan(values)
        differences[name] = float(np.abs(values[known] - expected[known]).max())
    settings = {"videos": options.videos, "frames": options.frames, "share": options.share, "rounds": options.rounds}
    report = Report("official metrics", Timings({name: tuple(all_) for name, all_ in seconds.items()}), settings)
    for name in work:
        report.at_most(f"{name}: seconds to judge the files", report.timings.median_s(f"{name}: files judged"), 60)
        report.at_most(f"{name}: gigabytes of memory for it", held[name], 2)
        ratio = report.timings.ratio(f"{name}: loops, share", f"{name}: metric, share")
        report.at_least(f"{name}: times faster than loops", ratio, 5)
        report.at_most(f"{name}: largest difference to the loops", differences[name], 1e-6)
    report.publish(options.json)


if __name__ == "__main__":
    main()
