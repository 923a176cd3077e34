"""The face of the hub: one frozen video encoder, many cheap adapters.

    import prismhub

    trained = prismhub.train(data="my_videos/", adapter="map_classifier", encoder="nano", name="my-adapter")
    adapter = prismhub.load_adapter("my-adapter")
    print(adapter.predict(["new.mp4"])[0].top(5))

Every name here is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapters import ClassScores, Gate, Hub, list_adapters, load_adapter, register_adapter
    from core_encoder import Clip, ClipPlan, InputError, encoders, load_encoder, save_encoder
    from prismhub.client import connect

_HOME = {
    "Clip": "core_encoder",
    "ClipPlan": "core_encoder",
    "InputError": "core_encoder",
    "encoders": "core_encoder",
    "load_encoder": "core_encoder",
    "save_encoder": "core_encoder",
    "ClassScores": "adapters",
    "Gate": "adapters",
    "Hub": "adapters",
    "list_adapters": "adapters",
    "load_adapter": "adapters",
    "register_adapter": "adapters",
    "connect": "prismhub.client",
}
_JOBS = {
    "encode": "EncodeSettings",
    "train": "TrainSettings",
    "evaluate": "EvaluateSettings",
    "predict": "PredictSettings",
    "zero_shot": "ZeroShotSettings",
    "rank": "RankSettings",
    "embed": "EmbedSettings",
    "index": "IndexSettings",
    "search": "SearchSettings",
    "label": "LabelSettings",
    "export": "ExportSettings",
    "score": "ScoreSettings",
    "bench": "BenchSettings",
    "rescore": "RescoreSettings",
    "report": "ReportSettings",
}
_MODULES = {"rescore": "bench"}  # of commands that share one
__all__ = [
    "load_encoder",
    "save_encoder",
    "encoders",
    "Clip",
    "ClipPlan",
    "list_adapters",
    "load_adapter",
    "register_adapter",
    "ClassScores",
    "Hub",
    "Gate",
    "encode",
    "train",
    "evaluate",
    "predict",
    "zero_shot",
    "rank",
    "embed",
    "index",
    "search",
    "label",
    "export",
    "score",
    "mteb_model",
    "connect",
    "bench",
    "rescore",
    "report",
    "InputError",
]


def encode(videos: Any = None, **options: Any) -> Any:
    """Encode videos into the feature store; options are those of `prismhub encode`."""
    return _run("encode", _with_videos(videos, options))


def train(**options: Any) -> Any:
    """Train, evaluate and save an adapter; options are those of `prismhub train`. Returns a `Trained`."""
    return _run("train", options)


def evaluate(**options: Any) -> Any:
    """Evaluate a saved adapter; options are those of `prismhub evaluate`. Returns an `Evaluated`."""
    return _run("evaluate", options)


def predict(videos: Any = None, **options: Any) -> Any:
    """Ask saved adapters about videos; options are those of `prismhub predict`. Returns a `Predicted`.

    With a list as `adapter`, all of them answer from one encoding: one `Predicted` each, by the adapter's name.
    `videos` may be paths, `Clip`s, or arrays and tensors: uint8 `(T, H, W, 3)`, or float `(B, T, 3, H, W)` in [0, 1].
    """
    found = _run("predict", _with_videos(videos, options))
    return next(iter(found.values())) if isinstance(options.get("adapter"), str) else found


def zero_shot(videos: Any = None, **options: Any) -> Any:
    """Name the class of videos without training; options are those of `prismhub zero-shot`. Returns a `Predicted`.

    `labels` is a list, or the path of a file; `template` a text with `{}`, `templates` a list of them, or a file.
    `videos` as in `predict`.
    """
    alone = {name: [options[name]] for name in ("labels", "templates") if isinstance(options.get(name), str)}
    return _run("zero_shot", _with_videos(videos, options | alone))


def rank(videos: Any = None, **options: Any) -> Any:
    """The videos that fit a text best; options are those of `prismhub rank`. Returns `Ranked`, a ranking a text.

    `text` is one or a list; `videos` as in `predict`.
    """
    return _run("rank", _with_videos(videos, options))


def embed(videos: Any = None, **options: Any) -> Any:
    """Features of videos as arrays; options are those of `prismhub embed`. Returns `Embeddings`; `videos` as above.

    Without `out` nothing is written but the store; `Embeddings.save` writes a file later. With `format="opentad"` the
    folder `out` is written, and an `OpenTadFolder` returned.
    """
    return _run("embed", _with_videos(videos, options))


def index(videos: Any, **options: Any) -> Any:
    """Bring an archive up to date with folders of videos; options are those of `prismhub index`. Returns `Indexed`."""
    return _run("index", _with_videos(videos, options))


def search(archive: Any, text: str | None = None, **options: Any) -> Any:
    """Find scenes of an archive; options are those of `prismhub search`. Returns a `Found` of `FoundScene`s."""
    return _run("search", {"archive": archive} | ({} if text is None else {"text": text}) | options)


def label(archive: Any, text: str | None = None, **options: Any) -> Any:
    """Write scenes of an archive to a manifest for `train`; options are those of `prismhub label`. Returns `Found`."""
    return _run("label", {"archive": archive} | ({} if text is None else {"text": text}) | options)


def export(archive: Any, **options: Any) -> Any:
    """Write an archive to a Parquet file; options are those of `prismhub export`. Returns how many scenes."""
    return _run("export", {"archive": archive} | options)


def score(**options: Any) -> Any:
    """Judge a file of predictions as the official evaluators do; options are those of `prismhub score`.

    Returns a `tasks.judges.judgement.Judgement`.
    """
    return _run("score", options)


def mteb_model(**options: Any) -> Any:
    """A frozen encoder as a model for `mteb.evaluate`, on cached features; options are those of `MtebSettings`.

    Returns a `prismhub.mteb_bridge.MtebModel`; mteb must be installed.
    """
    from core_encoder.config import config_from_dict
    from prismhub.mteb_bridge import MtebModel, MtebSettings

    return MtebModel(config_from_dict(MtebSettings, options, "prismhub.mteb_model"))


def bench(**options: Any) -> Any:
    """Run the matrix of encoders, benchmarks and adapters; options are those of `prismhub bench`.

    Returns a `prismhub.commands.bench.Benched`; with `dry_run=True` a list of `benchmarks.forecast.Forecast`.
    """
    return _run("bench", options)


def rescore(**options: Any) -> Any:
    """Judge kept predictions again; options are those of `prismhub rescore`. Returns a list of `Rejudged`."""
    return _run("rescore", options)


def report(**options: Any) -> Any:
    """What a folder of results says, beside published numbers; options are those of `prismhub report`.

    Returns a `prismhub.commands.report.Reported`, which is table, Markdown, CSV and JSON.
    """
    return _run("report", options)


def _with_videos(videos: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a job with the videos that it is about, where any were given."""
    from prismhub.clips import listed_videos

    return options if videos is None else options | {"videos": listed_videos(videos)}


def _run(job: str, options: dict[str, Any]) -> Any:
    from core_encoder.config import config_from_dict
    from prismhub.options import apply_limits

    module = importlib.import_module(f"prismhub.commands.{_MODULES.get(job, job)}")
    function = getattr(module, job)
    settings = config_from_dict(getattr(module, _JOBS[job]), options, f"prismhub.{job}")
    apply_limits(settings)
    return function(settings)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
