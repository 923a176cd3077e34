"""How much a search finds: recall@10 of words alone, vectors alone and both, on an archive whose truth is known.

    python -m benchmarks.speed.archive_recall --json recall.json

Scenes are drawn by the synthetic world and embedded by `nano`; their captions are as good as those of the web (under
half are right, see `pretrain.world.captions`), a fifth of their labels is wrong, people speak of something else in
them, and files have names. Four kinds of queries ask for what a scene looks like, how it moves, what is said, what the
file is called. Recall is the share of the ten first places (or of all relevant scenes, where there are fewer) that are
relevant.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.timing import Report, Timings, arguments
from core_encoder.config import config_from_dict
from core_encoder.errors import InputError
from prismhub.archive.query_settings import QuerySettings
from prismhub.archive.scene_index import FolderIndex
from prismhub.archive.scenes import ArchivedVideo, ArchiveRecord, Cue, Finding, Scene
from prismhub.archive.searching import ArchiveSearch

SCENES_A_VIDEO = 6
WRONG_LABELS = 0.2
MODES = ("text", "vector", "hybrid")
_SPOKEN = """
harbour bakery orchestra passport volcano lantern senator blanket cinnamon telescope parliament umbrella carpenter
vaccine monsoon ballet furnace tractor library chess glacier jaguar velvet saxophone quarry zeppelin compass
marathon origami pepper rabbit tunnel helmet auction diamond kettle leopard mustard needle opera pigeon quilt ribbon
saddle turbine walnut yacht anchor barrel castle dragon engine feather garden hammer island jacket kitchen ladder
magnet
"""
_SENTENCES = (
    "and then we talked about the {}",
    "nobody had seen the {} before",
    "my sister told me of a {}",
    "the {} was the best part of it",
)
_FILLERS = ("well I do not know", "that is what they said", "let us go on", "it was a long day", "")
_PLACES = """
lisbon oslo cairo denver kyoto naples quito riga seoul tunis ulm vienna warsaw york zagreb accra bergen cusco dakar
essen fargo ghent hanoi izmir jena krakow leeds malmo nantes omsk perth rouen sofia turin utrecht varna wuhan xian
"""
_MOTION_WORDS = ("something {}", "a thing that is {}", "{}", "a video of something {}")


@dataclass(frozen=True)
class Query:
    """A text, its kind, and the scenes (by number) that are right."""

    kind: str
    text: str
    relevant: frozenset[int]


@dataclass(frozen=True)
class Drawn:
    """What a scene shows, and its unit vector (E,)."""

    object_name: str
    motion: str
    vector: NDArray[np.float32]


def draw_scenes(count: int, seed: int) -> list[Drawn]:
    """Clips of the synthetic world as `nano` sees them."""
    from core_encoder import load_encoder
    from core_encoder.clip_plan import Clip, ClipPlan, VideoFacts
    from core_encoder.preprocessing import to_video_tensor
    from pretrain.world.synthetic_world import SyntheticWorld

    encoder = load_encoder("nano")
    world = SyntheticWorld(seed, "test")
    facts = VideoFacts.constant_rate(world.num_frames, 16.0)
    shown = list(ClipPlan(encoder.num_frames).views_of(facts, Clip("drawn"))[0].frame_indices)
    scenes = []
    for number in range(count):
        clip = world.clip(number)
        frames = np.stack([encoder.preprocessing.apply(clip.frames[i]) for i in shown])
        vector = encoder.embed_video(to_video_tensor(frames)[None])[0].numpy()
        scenes.append(Drawn(clip.object_name, clip.motion, vector))
    return scenes


def make_archive(folder: Path, drawn: Sequence[Drawn], seed: int) -> tuple[list[Query], list[tuple[str, float]]]:
    """Write an archive of these scenes; the queries, and video and start of every scene."""
    from core_encoder import load_encoder
    from core_encoder.clip_plan import ClipPlan
    from core_encoder.extraction import spec_for
    from pretrain.world.captions import noisy_caption
    from pretrain.world.motions import MOTIONS
    from pretrain.world.world_objects import with_article

    encoder = load_encoder("nano")
    features = spec_for(encoder, ClipPlan(encoder.num_frames), kind="embedding").describe()
    width = encoder.embedding_dim or 0
    record = ArchiveRecord("nano", encoder.fingerprint, "nano", features, "encoder", width)
    rng, spoken_words, place_names = np.random.default_rng(seed), _SPOKEN.split(), _PLACES.split()
    looks: dict[str, set[int]] = {}
    moves: dict[str, set[int]] = {}
    spoken: dict[str, set[int]] = {}
    names: dict[str, set[int]] = {}
    videos, places = [], []
    for first in range(0, len(drawn), SCENES_A_VIDEO):
        place, year = place_names[int(rng.integers(len(place_names)))], 1990 + int(rng.integers(30))
        path = f"{place}_{year}/tape_{first // SCENES_A_VIDEO:04}.mp4"
        scenes = []
        for offset, one in enumerate(drawn[first : first + SCENES_A_VIDEO]):
            number = first + offset
            looks.setdefault(one.object_name, set()).add(number)
            moves.setdefault(one.motion, set()).add(number)
            names.setdefault(f"{place} {year}", set()).add(number)
            caption, _ = noisy_caption(one.object_name, one.motion, rng)
            wrong = rng.random() < WRONG_LABELS
            label = str(rng.choice([m for m in MOTIONS if m != one.motion])) if wrong else one.motion
            speech = _FILLERS[int(rng.integers(len(_FILLERS)))]
            if rng.random() < 0.3:
                word = spoken_words[int(rng.integers(len(spoken_words)))]
                spoken.setdefault(word, set()).add(number)
                speech = f"{speech} {_SENTENCES[int(rng.integers(len(_SENTENCES)))].format(word)}"
            start_s = 2.0 * offset
            findings = (Finding("my-labels", label, float(rng.uniform(0.4, 1))), Finding("my-captions", text=caption))
            cues = (Cue(start_s, start_s + 2, speech),) if speech else ()
            scenes.append(Scene(start_s, start_s + 2, one.vector, findings, cues))
            places.append((path, start_s))
        about = (2.0 * len(scenes), 64, 64, 16.0, f"{year}-01-01T00:00:00")
        videos.append(ArchivedVideo("/videos", path, {"video": str(first)}, *about, tuple(scenes)))
    with FolderIndex.create(folder, record) as index:
        index.upsert(videos)
        index.optimize()
    asked = [Query("looks", with_article(name), frozenset(found)) for name, found in looks.items()]
    asked += [
        Query("motion", words.format(motion), frozenset(found))
        for motion, found in moves.items()
        for words in _MOTION_WORDS
    ]
    asked += [Query("speech word", word, frozenset(found)) for word, found in spoken.items()]
    asked += [Query("file name", name, frozenset(found)) for name, found in names.items()]
    return asked, places


def recalls(
    archive: ArchiveSearch, queries: Sequence[Query], places: Sequence[tuple[str, float]], mode: Any
) -> NDArray[np.float64]:
    """Recall@10 (Q,) of the queries; none where the search refuses words that its text tower does not know."""
    numbers = {place: number for number, place in enumerate(places)}
    found = []
    for query in queries:
        asked = {"archive": archive.index.folder, "text": query.text, "mode": mode, "all": True, "anyway": True}
        settings = config_from_dict(QuerySettings, asked)
        try:
            answers = list(archive.find(settings))
        except InputError:
            answers = []
        hits = [numbers[one.video.removeprefix("/videos/"), one.start_s] for one in answers]
        found.append(len(query.relevant.intersection(hits)) / min(10, len(query.relevant)))
    return np.array(found)


def interval(values: NDArray[np.float64], seed: int = 0, draws: int = 2000) -> tuple[float, float, float]:
    """The mean, and its 95 % bootstrap interval over queries."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(draws, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(values.mean()), float(low), float(high)


def measure(folder: Path, drawn: Sequence[Drawn], seed: int, say: Callable[[str], None]) -> Report:
    """Ask every query in every mode."""
    queries, places = make_archive(folder / "archive", drawn, seed)
    report = Report("search: recall@10", Timings({}), {"scenes": len(drawn), "queries": len(queries), "seed": seed})
    with ArchiveSearch(folder / "archive") as archive:
        by_mode = {mode: recalls(archive, queries, places, mode) for mode in MODES}
    kinds = np.array([query.kind for query in queries])
    for kind in dict.fromkeys(kinds):
        mine = {mode: values[kinds == kind] for mode, values in by_mode.items()}
        for mode, values in mine.items():
            mean, low, high = interval(values, seed)
            say(f"{kind:12} {mode:7} {mean:.3f} [{low:.3f}, {high:.3f}] over {len(values)} queries")
            report.note(f"{kind}: {mode}", mean)
        best = max(("text", "vector"), key=lambda mode: mine[mode].mean())
        mean, low, high = interval(mine["hybrid"] - mine[best], seed)
        say(f"{kind:12} hybrid less {best}: {mean:+.3f} [{low:+.3f}, {high:+.3f}]")
        report.at_least(f"{kind}: hybrid less {best}, the better of the two", mean, 0)
        report.note(f"{kind}: its 95 % interval, from", low)
        report.note(f"{kind}: its 95 % interval, to", high)
    return report


def main() -> None:
    parser: argparse.ArgumentParser = arguments(__doc__ or "", rounds=1)
    parser.add_argument("--scenes", type=int, default=2400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    drawn = draw_scenes(options.scenes, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), drawn, options.seed, print).publish(options.json)


if __name__ == "__main__":
    main()
