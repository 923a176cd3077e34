"""How long a search takes, by the number of scenes, beside a plain matrix product; what it finds; and its memory.

    python -m benchmarks.speed.archive_latency --scenes 10000 100000 1000000 --json latency.json

Vectors are of Base width (768) and random. `--vectors grouped` draws scenes around videos around 500 subjects, in 48
directions and a little in all others, as embeddings lie: 38 directions hold 90 % of their variance, and the distances
of neighbours tell an intrinsic dimension of 21 by TwoNN (Facco et al. 2017), 13 by maximum likelihood (Levina, Bickel
2004). Real ones lie in no more: 4 by both of `nano` on clips of the synthetic world, 7 and 12 of all-MiniLM-L6-v2 on
sentences. `--vectors spread` draws every number alone: then all directions are alike, nothing is near anything, and no
graph can find its way. Queries are drawn like scenes of videos that are not in the archive. Texts
are real: the sentences of the documentation of Python's standard library. Queries are some words of such a sentence,
with a vector drawn like those of the scenes; the time of a text tower is not in the figures. Each archive is asked by a
process of its own, which reports its memory.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.timing import Report, Timings, arguments
from core_encoder.files.storage import read_json, write_json

WIDTH, SCENES_A_VIDEO, AT_ONCE = 768, 20, 5000
GROUPS, DIRECTIONS = 500, 48
Floats = NDArray[np.float32]
Draw = Callable[[int], Floats]


def sentences() -> list[str]:
    """Those of the docstrings of Python's standard library, in the order of its files."""
    found: dict[str, None] = {}
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and (text := ast.get_docstring(node)):
                for sentence in re.split(r"(?<=[.!?])\s+", " ".join(text.split())):
                    if 4 <= len(sentence.split()) <= 30:
                        found[sentence] = None
    return list(found)


def drawing(kind: str, seed: int) -> Draw:
    """A function from a count to so many unit vectors; one after the other they are scenes of videos."""
    rng = np.random.default_rng(seed)
    if kind == "spread":
        return lambda count: _unit(rng.standard_normal((count, WIDTH), dtype=np.float32))
    fixed = np.random.default_rng(0)
    directions = fixed.standard_normal((DIRECTIONS, WIDTH), dtype=np.float32)
    subjects = fixed.standard_normal((GROUPS, DIRECTIONS), dtype=np.float32)

    def draw(count: int) -> Floats:
        videos = subjects[rng.integers(GROUPS, size=-(-count // SCENES_A_VIDEO))]
        videos = videos + 0.5 * rng.standard_normal(videos.shape, dtype=np.float32)
        scenes = np.repeat(videos, SCENES_A_VIDEO, axis=0)[:count]
        scenes = scenes + 0.3 * rng.standard_normal(scenes.shape, dtype=np.float32)
        return _unit(scenes @ directions + 0.5 * rng.standard_normal((count, WIDTH), dtype=np.float32))

    return draw


def _unit(values: Floats) -> Floats:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def write_archive(folder: Path, count: int, kind: str) -> dict[str, float]:
    """An archive of so many scenes; what it took."""
    from prismhub.archive.background import background_texts
    from prismhub.archive.scene_index import FolderIndex
    from prismhub.archive.scenes import ArchiveRecord

    record = ArchiveRecord("random", "0" * 64, "random", {}, "encoder", WIDTH)
    texts, rng, draw = sentences(), np.random.default_rng(1), drawing(kind, 1)
    started = time.perf_counter()
    with FolderIndex.create(folder, record) as index:
        for first in range(0, count, AT_ONCE):
            vectors = draw(min(AT_ONCE, count - first))
            index.upsert(list(_videos(first, vectors, texts, rng)))
        texts_apart = len(background_texts())
        index.keep_background(draw(texts_apart), np.zeros(texts_apart, np.float32), 0, 0)
        written = time.perf_counter()
        index.optimize()
        return {"seconds to write": written - started, "seconds to optimize": time.perf_counter() - written}


def _videos(first: int, vectors: Floats, texts: Sequence[str], rng: np.random.Generator) -> Iterator[Any]:
    from prismhub.archive.scenes import ArchivedVideo, Cue, Finding, Scene

    for start in range(0, len(vectors), SCENES_A_VIDEO):
        scenes = []
        for place, vector in enumerate(vectors[start : start + SCENES_A_VIDEO]):
            said, spoken = (texts[int(i)] for i in rng.integers(len(texts), size=2))
            findings = (Finding("captions", text=said), Finding("labels", f"label {int(rng.integers(100))}", 0.9))
            cues = (Cue(place * 4.0, place * 4.0 + 3, spoken),)
            scenes.append(Scene(place * 4.0, place * 4.0 + 4, vector, findings, cues))
        name = f"folder{first // 100_000}/video{first + start}.mp4"
        yield ArchivedVideo("/videos", name, {"video": name}, 80.0, 1920, 1080, 25.0, "2024-01-01", tuple(scenes))


def ask(folder: Path, kind: str, queries: int, threads: int) -> dict[str, Any]:
    """Seconds of every query in every way, recall of the approximate index, and memory; run in a fresh process."""
    import torch

    from core_encoder.config import config_from_dict
    from prismhub.archive.query_settings import QuerySettings
    from prismhub.archive.searching import ArchiveSearch
    from prismhub.archive.vectors import VectorSearch

    torch.set_num_threads(threads)
    vectors, texts, rng = drawing(kind, 2)(queries), sentences(), np.random.default_rng(2)
    asked = []
    for i in range(queries):
        words = texts[int(rng.integers(len(texts)))].split()
        start = int(rng.integers(max(len(words) - 4, 1)))
        asked.append((" ".join(words[start : start + 5]).replace('"', ""), vectors[i]))
    with ArchiveSearch(folder) as archive:
        before = memory_mb()
        archive.space = _Known(dict(asked))  # type: ignore[assignment]
        ways = {"text": {"mode": "text"}, "vector": {"mode": "vector"}, "hybrid": {}}
        ways |= {"hybrid, 1 % of scenes": {"where": "label = 'label 7'"}, "hybrid, half": {"where": "start < 40"}}
        started = time.perf_counter()
        archive.find(config_from_dict(QuerySettings, {"archive": folder, "text": asked[0][0]}))
        seconds: dict[str, list[float]] = {"the first query": [time.perf_counter() - started]}
        for name, options in ways.items():
            for text, _ in asked[:5] + asked:  # the first ones are not counted
                settings = config_from_dict(QuerySettings, {"archive": folder, "text": text, "anyway": True} | options)
                started = time.perf_counter()
                archive.find(settings)
                seconds.setdefault(name, []).append(time.perf_counter() - started)
            seconds[name] = seconds[name][-len(asked) :]
        after = memory_mb()
        search = archive.index.vector_search()
        exact = VectorSearch(search.file)
        hits = 0
        for vector in vectors[:100]:
            hits += len({*search.nearest(vector, 10)[0].tolist()} & {*exact.nearest(vector, 10)[0].tolist()})
        expansion = search._expansion
        matrix = np.empty(exact.values.shape, np.float32)
        matrix[:] = exact.values
    for vector in vectors[:25]:
        started = time.perf_counter()
        products = matrix @ vector
        np.argpartition(products, -10)[-10:]
        seconds.setdefault("plain product", []).append(time.perf_counter() - started)
    recall = hits / (10 * min(100, queries))
    return {"seconds": seconds, "recall": recall, "expansion": expansion, "before": before, "after": after}


class _Known:
    """Stands where the text tower does: the vectors of the queries are known."""

    knows_words = True

    def __init__(self, vectors: dict[str, Floats]) -> None:
        self._vectors = vectors

    def knows(self, text: str) -> bool:
        return True

    def texts(self, texts: Sequence[str]) -> Floats:
        return np.stack([self._vectors[text] for text in texts])


def memory_mb() -> dict[str, float]:
    """Memory of this process: its own (`anon`), and mapped files that happen to be in memory (`file`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.split(":")[0]: float(line.split()[1]) / 1024 for line in lines if line.startswith("Rss")}
    return {"anon": found["RssAnon"], "file": found["RssFile"]}


def main() -> None:
    parser = arguments(__doc__ or "", rounds=1)
    parser.add_argument("--scenes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--vectors", choices=("spread", "grouped"), default="grouped")
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="where archives are kept, to be asked again (default: nowhere)")
    parser.add_argument("--ask", type=Path, help="only ask the archive in this folder, and print what it took as JSON")
    options = parser.parse_args()
    if options.ask is not None:
        print(json.dumps(ask(options.ask, options.vectors, options.queries, options.threads)))
        return
    seconds: dict[str, tuple[float, ...]] = {}
    settings = {"width": WIDTH, "vectors": options.vectors, "queries": options.queries, "threads": options.threads}
    report = Report("search: latency", Timings(seconds), settings)
    for count in options.scenes:
        with tempfile.TemporaryDirectory() as scratch:
            folder = (options.folder or Path(scratch)) / f"{options.vectors}-{count}"
            written = folder.with_suffix(".json")
            if not written.exists():
                write_json(written, write_archive(folder, count, options.vectors))
            words = [sys.executable, "-m", "benchmarks.speed.archive_latency", "--ask", str(folder)]
            words += [
                "--vectors",
                options.vectors,
                "--queries",
                str(options.queries),
                "--threads",
                str(options.threads),
            ]
            found = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)
            for what, value in read_json(written).items():
                report.note(f"{count}: {what}", value)
            report.note(f"{count}: MB on disk", sum(path.stat().st_size for path in folder.iterdir()) / 1e6)
        for name, several in found["seconds"].items():
            seconds[f"{count}: {name}"] = tuple(several)
            report.note(f"{count}: {name}, p50 ms", 1000 * float(np.quantile(several, 0.5)))
            report.note(f"{count}: {name}, p99 ms", 1000 * float(np.quantile(several, 0.99)))
        report.note(f"{count}: candidates of the approximate index, 0: search is exact", found["expansion"])
        report.at_least(f"{count}: recall@10 against exact search", found["recall"], 0.95)
        report.note(f"{count}: MB of memory of its own while querying", found["after"]["anon"])
        report.note(f"{count}: of them before the first query", found["before"]["anon"])
        report.note(f"{count}: MB of mapped files in memory", found["after"]["file"])
    report.publish(options.json)


if __name__ == "__main__":
    main()
