"""mteb runs its own task classes on our encoders, and finds what plain code finds; skipped where mteb is absent."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import prismhub
from core_encoder import Clip, ClipPlan, InputError, load_encoder, read_clip
from core_encoder.encoder import Encoder
from core_encoder.preprocessing import to_video_tensor
from prismhub.mteb_bridge import MtebModel
from tests.core_encoder.checkpoint_files import save, vision_model
from tests.videos import write_video

needs_mteb = pytest.mark.skipif(
    importlib.util.find_spec("mteb") is None, reason="mteb is not installed: pip install 'prismhub[mteb]'"
)
NAMES = ("red", "blue")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[str, int]]]:
    """Paths and labels, by split: noise that is mostly red or mostly blue, the classes in turns."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    found: dict[str, list[tuple[str, int]]] = {}
    for split, count in (("train", 8), ("test", 6)):
        for number in range(count):
            frames = rng.integers(0, 90, (10, 64, 64, 3), dtype=np.uint8)
            frames[..., 2 * (number % 2)] += 150
            path = write_video(folder / f"{split} {number}.mp4", frames)
            found.setdefault(split, []).append((str(path), number % 2))
    return found


def local_task(name: str, files: dict[str, list[tuple[str, int]]], as_bytes: bool = False) -> Any:
    """One of mteb's own tasks, over files of this machine instead of a data set of the Hub."""
    import mteb
    from datasets import ClassLabel, Dataset, DatasetDict, Features, Video

    features = Features({"video": Video(), "label": ClassLabel(names=list(NAMES))})
    splits = {}
    for split, rows in files.items():
        videos: list[Any] = [path for path, _ in rows]
        if as_bytes:
            videos = [{"path": "in the repository.mp4", "bytes": Path(path).read_bytes()} for path in videos]
        columns = {"video": videos, "label": [label for _, label in rows]}
        splits[split] = Dataset.from_dict(columns, features=features)
    task = mteb.get_task(name)
    task.dataset, task.data_loaded = DatasetDict(splits), True
    return task


def evaluate(model: Any, task: Any) -> dict[str, Any]:
    """The scores that mteb finds."""
    import mteb

    return mteb.evaluate(model, task, cache=None, show_progress_bar=False).task_results[0].scores["test"][0]


class PlainModel:
    """Each video decoded and encoded alone, and nothing kept: what the bridge must equal."""

    def __init__(self, meta: Any, encoder: Encoder) -> None:
        self.mteb_model_meta, self.encoder = meta, encoder

    def encode(self, inputs: Any, **about: Any) -> np.ndarray:
        if "text" in inputs.dataset.column_names:
            return self.encoder.embed_text(inputs.dataset["text"][:]).numpy()
        from datasets import Video

        rows = []
        for file in inputs.dataset.cast_column("video", Video(decode=False))["video"]:
            frames = read_clip(Clip(file["path"]), ClipPlan(8), self.encoder.preprocessing)
            rows.append(self.encoder.embed_video(to_video_tensor(frames)[None])[0].numpy())
        return np.stack(rows)

    def similarity(self, a: Any, b: Any) -> Any:
        return torch.as_tensor(a) @ torch.as_tensor(b).T

    def similarity_pairwise(self, a: Any, b: Any) -> Any:
        return (torch.as_tensor(a) * torch.as_tensor(b)).sum(1)


@needs_mteb
def test_a_classification_task_of_mteb(files: dict[str, list[tuple[str, int]]]) -> None:
    import mteb

    model = prismhub.mteb_model(encoder="nano", feature_dtype="fp32")
    assert isinstance(model, mteb.EncoderProtocol)
    scores = evaluate(model, local_task("HMDB51Classification", files))
    plain = evaluate(PlainModel(model.mteb_model_meta, load_encoder("nano")), local_task("HMDB51Classification", files))
    assert scores["accuracy"] == plain["accuracy"] == 1.0, "the classes are red and blue"
    for name in ("f1", "precision", "recall", "accuracy"):
        assert scores[name] == pytest.approx(plain[name], abs=1e-6)


@needs_mteb
def test_a_zero_shot_task_of_mteb(files: dict[str, list[tuple[str, int]]], tmp_path: Path) -> None:
    import json

    import mteb

    task = local_task("HMDB51ZeroShot", {"test": files["test"]})
    model = prismhub.mteb_model(encoder="nano")
    mteb.evaluate(model, task, cache=None, show_progress_bar=False, prediction_folder=tmp_path)
    (saved,) = tmp_path.glob("*.json")
    found = np.array(json.loads(saved.read_text())["default"]["test"])
    encoder = load_encoder("nano")
    texts = encoder.embed_text([f"a video of {name}" for name in NAMES])
    videos = [read_clip(Clip(path), ClipPlan(8), encoder.preprocessing) for path, _ in files["test"]]
    cosines = torch.cat([encoder.embed_video(to_video_tensor(video)[None]) for video in videos]) @ texts.T
    np.testing.assert_allclose(found, cosines.numpy(), atol=2e-3)


@needs_mteb
def test_a_retrieval_task_of_mteb(files: dict[str, list[tuple[str, int]]]) -> None:
    import mteb
    from datasets import Dataset, Features, Value, Video

    ids = [str(number) for number in range(len(files["test"]))]
    columns = {"id": ids, "video": [path for path, _ in files["test"]]}
    corpus = Dataset.from_dict(columns, features=Features({"id": Value("string"), "video": Video()}))
    queries = Dataset.from_dict({"id": ids, "text": [f"video {name} of {NAMES[int(name) % 2]} noise" for name in ids]})

    def task() -> Any:
        made = mteb.get_task("DiDeMoT2VRetrieval")
        split = {"corpus": corpus, "queries": queries, "relevant_docs": {name: {name: 1} for name in ids}}
        made.dataset = {"default": {"test": {**split, "top_ranked": None}}}
        made.data_loaded = True
        return made

    model = prismhub.mteb_model(encoder="nano", feature_dtype="fp32")
    scores = evaluate(model, task())
    plain = evaluate(PlainModel(model.mteb_model_meta, load_encoder("nano")), task())
    for name in ("ndcg_at_10", "recall_at_1", "recall_at_3"):
        assert scores[name] == pytest.approx(plain[name], abs=1e-6)


@needs_mteb
def test_what_is_cached_is_not_encoded_again(
    files: dict[str, list[tuple[str, int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = prismhub.mteb_model(encoder="nano")
    first = evaluate(model, local_task("HMDB51Classification", files))

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(Encoder, "forward", never)
    for as_bytes in (False, True):  # the same bytes are the same videos, wherever they lie
        again = prismhub.mteb_model(encoder="nano")
        assert evaluate(again, local_task("HMDB51Classification", files, as_bytes))["accuracy"] == first["accuracy"]


@needs_mteb
def test_what_mteb_records(tmp_path: Path) -> None:
    nano = load_encoder("nano")
    meta = prismhub.mteb_model(encoder="nano").mteb_model_meta
    assert (meta.name, meta.revision) == ("prismhub/nano", nano.fingerprint[:12])
    assert (meta.embed_dim, meta.modalities, meta.n_parameters) == (128, ["video", "text"], nano.num_parameters)
    assert meta == prismhub.mteb_model(encoder="nano").mteb_model_meta and meta.experiment_kwargs is None
    others = [{"views": 2}, {"kind": "clip"}, {"encoder_dtype": "bf16"}, {"feature_dtype": "fp32"}]
    names = {prismhub.mteb_model(encoder="nano", **one).mteb_model_meta.experiment_name for one in others}
    assert len(names) == 4 and None not in names, "what is made otherwise is another experiment"
    silent = prismhub.mteb_model(encoder=str(save(vision_model(), tmp_path / "silent")))
    assert silent.spec.kind == "clip" and silent.mteb_model_meta.modalities == ["video"]


class Loader:
    """As much of a data loader as is asked for."""

    def __init__(self, **columns: Any) -> None:
        from datasets import Dataset

        self.dataset = Dataset.from_dict(columns)

    def files(self) -> Loader:
        from datasets import Video

        self.dataset = self.dataset.cast_column("video", Video())
        return self


class Task:
    name = "Some"


def encode(model: MtebModel, loader: Loader) -> np.ndarray:
    return model.encode(loader, task_metadata=Task, hf_split="test", hf_subset="default", show_progress_bar=False)


@pytest.fixture
def without_mteb(monkeypatch: pytest.MonkeyPatch) -> None:
    """mteb counts as installed; nothing here calls it."""
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: real("json" if name == "mteb" else name))


def test_vectors_are_those_of_plain_code(files: dict[str, list[tuple[str, int]]], without_mteb: None) -> None:
    model, nano = prismhub.mteb_model(encoder="nano", feature_dtype="fp32", views=2), load_encoder("nano")
    paths = [path for path, _ in files["test"]]
    paths.append(paths[0])
    plan = ClipPlan(8, views=2)
    expected = np.stack(
        [
            torch.stack(
                [
                    nano.embed_video(to_video_tensor(read_clip(Clip(path), plan, nano.preprocessing, view=view))[None])
                    for view in (0, 1)
                ]
            ).mean((0, 1))
            for path in paths
        ]
    )
    np.testing.assert_allclose(encode(model, Loader(video=paths).files()), expected, atol=2e-5)
    texts = [f"text {number}" for number in range(len(paths))]
    both = encode(model, Loader(video=paths, text=texts).files())
    np.testing.assert_allclose(both, expected + nano.embed_text(texts).numpy(), atol=2e-5)


def test_what_cannot_be_encoded_is_said(tmp_path: Path, without_mteb: None) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    model = prismhub.mteb_model(encoder="nano")
    for loader, message in (
        (
            Loader(video=[str(tmp_path / "bad.mp4")]).files(),
            r"mteb task Some, split test, sample 0 cannot be read: text",
        ),
        (Loader(video=["gone.mp4"]).files(), r"sample 0: no file gone.mp4, and the data set does not hold its bytes"),
        (Loader(video=["a.mp4"]), r"column 'video' is Value\('string'\), not the files of a datasets.Video"),
        (Loader(audio=["a.wav"]), r"samples of audio, but no video and no text"),
    ):
        with pytest.raises(InputError, match=message):
            encode(model, loader)
    tokens = prismhub.mteb_model(encoder="nano", kind="clip")
    with pytest.raises(InputError, match="texts lie in the space of embeddings, not of clip"):
        encode(tokens, Loader(text=["a"]))
    with pytest.raises(InputError, match="mteb takes a vector a video: leave layers out"):
        prismhub.mteb_model(encoder="nano", layers=[1])


def test_without_mteb_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"mteb is not installed: pip install 'prismhub\[mteb\]'"):
        prismhub.mteb_model(encoder="nano")
