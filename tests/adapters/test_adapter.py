"""Saving, model card, and predicting on real video files with the bundled encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from adapters.adapter import Adapter
from adapters.card import AdapterInfo, CardText, model_card
from adapters.context import Context
from adapters.features import ClipFeatures, read_batch
from adapters.kinds.linear import Linear
from adapters.kinds.map_classifier import MapClassifier
from adapters.registry import load_adapter, save_to_registry
from adapters.scores import Score, Scores
from adapters.training.candidate import as_loss
from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.encoder import Encoder, load_encoder
from core_encoder.errors import EncoderMismatch, InputError, UnreadableVideo
from core_encoder.extraction import extract, spec_for
from core_encoder.features.feature_source import FeatureSource
from core_encoder.video.decoders import open_video


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder("nano")


def trained_on(encoder: Encoder, kind: type[Adapter] = MapClassifier, views: int = 1, **config: Any) -> Adapter:
    adapter = kind.build(config, Context.of_classes(encoder.dim, ("ant", "bee", "cat")), seed=1)
    plan = ClipPlan(8, views=views)
    spec = spec_for(encoder, plan, kind=adapter.feature_kind, layers=adapter.layers, dtype="fp32")
    adapter.info = replace(adapter.info, features=spec, encoder_source="nano")
    return adapter


@pytest.mark.parametrize(("kind", "config"), [(MapClassifier, {}), (MapClassifier, {"layers": (-2, -1)}), (Linear, {})])
def test_predicting_a_video_equals_predicting_its_features(
    encoder: Encoder, video_file: Callable[..., Path], kind: type[Adapter], config: dict[str, Any]
) -> None:
    adapter = trained_on(encoder, kind, **config)
    paths = [video_file("a.mp4"), video_file("b c ü.mp4", seed=1, num_frames=5)]
    assert adapter.info.features is not None
    source = FeatureSource(encoder, adapter.info.features, paths[0].parent / "none")
    expected = []
    for path in paths:
        record = source[Clip(str(path))][0]
        expected.append(adapter.probabilities(record.values[None], record.frame_mask[None])[0])
    answers = adapter.predict(paths)
    assert [answer.sample_id for answer in answers] == [str(path) for path in paths]
    for answer, scores in zip(answers, expected, strict=True):
        torch.testing.assert_close(answer.scores, scores, atol=1e-5, rtol=1e-4)
    single = adapter.predict(str(paths[0]), encoder=encoder, ids=["first"])
    assert single[0].sample_id == "first"
    torch.testing.assert_close(single[0].scores, expected[0], atol=1e-5, rtol=1e-4)
    assert adapter.predict([]) == []


def test_views_are_averaged_as_probabilities(encoder: Encoder, video_file: Callable[..., Path]) -> None:
    adapter = trained_on(encoder, views=3)
    clip = Clip(str(video_file(num_frames=40)), 0.5, 2.0)
    assert adapter.info.features is not None
    records = FeatureSource(encoder, adapter.info.features, "none")[clip]
    each = [adapter.probabilities(record.values[None], record.frame_mask[None])[0] for record in records]
    assert len(each) == 3 and not torch.allclose(each[0], each[2])
    torch.testing.assert_close(adapter.predict(clip)[0].scores, torch.stack(each).mean(0), atol=1e-5, rtol=1e-4)


def test_a_cache_spares_decoding(encoder: Encoder, video_file: Callable[..., Path], tmp_path: Path) -> None:
    adapter = trained_on(encoder)
    path = video_file()
    first = adapter.predict(path, encoder=encoder, cache=tmp_path / "cache")
    assert list((tmp_path / "cache").rglob("shard-*.safetensors"))
    again = adapter.predict(path, encoder=encoder, cache=tmp_path / "cache")
    assert torch.equal(first[0].scores, again[0].scores)
    plain = adapter.predict(path, encoder=encoder)
    torch.testing.assert_close(plain[0].scores, first[0].scores, atol=1e-5, rtol=1e-4)


def test_loaded_by_name_on_a_new_video(encoder: Encoder, video_file: Callable[..., Path]) -> None:
    adapter = trained_on(encoder)
    save_to_registry(adapter, "insects")
    path = video_file()
    loaded = load_adapter("insects")
    assert torch.equal(loaded.predict(path)[0].scores, adapter.predict(path)[0].scores)
    assert torch.equal(load_adapter("insects", encoder=encoder).predict(path)[0].scores, loaded.predict(path)[0].scores)


def test_failures_are_clear(encoder: Encoder, video_file: Callable[..., Path], tmp_path: Path) -> None:
    adapter = trained_on(encoder)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(UnreadableVideo, match=r"empty\.mp4"):
        adapter.predict([video_file(), tmp_path / "empty.mp4"])
    spec = adapter.info.features
    assert spec is not None
    adapter.info = replace(adapter.info, features=replace(spec, fingerprint="0" * 64))
    with pytest.raises(EncoderMismatch, match="was trained on features of encoder 'nano'"):
        adapter.predict(video_file(), encoder=encoder)
    away = trained_on(encoder)
    away.info = replace(away.info, encoder_source="/gone/encoder")
    with pytest.raises(InputError, match=r"the adapter's encoder '/gone/encoder' is not at hand .*: pass encoder="):
        away.predict(video_file())
    unknown = MapClassifier.build({}, Context.of_classes(4, ("ant", "bee")))
    with pytest.raises(InputError, match="does not record which encoder"):
        unknown.predict(video_file())


def test_clip_features_are_the_same_cached_or_not(
    encoder: Encoder, video_file: Callable[..., Path], tmp_path: Path
) -> None:
    clips = [Clip(str(video_file(f"{i}.mp4", seed=i, num_frames=n))) for i, n in enumerate((24, 5, 40))]
    spec = spec_for(encoder, ClipPlan(8, views=2), dtype="fp16")
    fresh = ClipFeatures(FeatureSource(encoder, spec, tmp_path / "none"), clips, [0, 1, 2], ["a", "b", "c"])
    extract(encoder, clips, spec, tmp_path / "cache")
    source = FeatureSource(None, spec, tmp_path / "cache")
    cached = ClipFeatures(source, clips, [0, 1, 2], ["a", "b", "c"])
    assert len(cached) == 6 and cached.ids == ("a", "a", "b", "b", "c", "c")
    chosen = [5, 0, 3, 2]
    one, two = read_batch(fresh, chosen), read_batch(cached, chosen)
    torch.testing.assert_close(one.features, two.features, atol=2e-3, rtol=2e-3)
    assert one.features.dtype == torch.float16 and torch.equal(one.mask, two.mask)
    assert one.ids == two.ids == ("c", "a", "b", "b") and one.targets.tolist() == two.targets.tolist() == [2, 0, 1, 1]
    assert not one.mask[2].all() and one.mask[0].all(), "the 5-frame video is padded"
    assert source.frames_decoded == 0
    sample = cached[3]
    assert torch.equal(sample.features, two.features[2]) and torch.equal(sample.mask, two.mask[2])


def test_every_dense_window_is_a_sample(encoder: Encoder, video_file: Callable[..., Path], tmp_path: Path) -> None:
    clips = [Clip(str(video_file(f"{i}.mp4", seed=i, num_frames=n))) for i, n in enumerate((24, 8))]
    spec = spec_for(encoder, ClipPlan(8, sampling="dense", stride=1, window_stride=4))
    fresh = ClipFeatures(FeatureSource(encoder, spec, tmp_path / "none"), clips, [0, 1], ["a", "b"])
    extract(encoder, clips, spec, tmp_path / "cache")
    dataset = ClipFeatures(FeatureSource(None, spec, tmp_path / "cache"), clips, [0, 1], ["a", "b"])
    assert dataset.ids == ("a",) * 5 + ("b",) and dataset.targets.tolist() == [0] * 5 + [1]
    assert fresh.ids == dataset.ids, "windows are counted from the plan, cached or not"
    windows = read_batch(dataset, [0, 4])
    assert not torch.equal(windows.features[0], windows.features[1])


def test_saving_leaves_no_half_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = MapClassifier.build({}, Context.of_classes(4, ("ant", "bee")))
    folder = adapter.save_pretrained(tmp_path / "mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    import adapters.saved_adapter as module

    def full(*_: Any) -> Path:
        raise InputError("the disk is full")

    monkeypatch.setattr(module, "write_json", full)
    for target in (folder, tmp_path / "new"):
        with pytest.raises(InputError, match="disk is full"):
            MapClassifier.build({}, Context.of_classes(4, ("ant", "bee")), seed=9).save_pretrained(target)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_saving_replaces_an_adapter_but_nothing_else(tmp_path: Path) -> None:
    first, second = (MapClassifier.build({}, Context.of_classes(4, ("ant", "bee")), seed=seed) for seed in (0, 1))
    first.save_pretrained(tmp_path / "mine")
    second.save_pretrained(tmp_path / "mine")
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(load_adapter(tmp_path / "mine").probabilities(x), second.probabilities(x))
    (tmp_path / "mine" / "notes.txt").write_text("precious")
    with pytest.raises(InputError, match="holds something else than an adapter"):
        first.save_pretrained(tmp_path / "mine")
    assert (tmp_path / "mine" / "notes.txt").exists()


def test_the_model_card(encoder: Encoder) -> None:
    info = replace(
        trained_on(encoder).info,
        card=CardText("video-classification", "top(5)"),
        dataset="pond-life",
        seed=3,
        evaluations=(
            Scores({"top1": Score(0.81, 0.72, 0.88)}, "top1", 98, 100, "test"),
            Scores({"top1": Score(0.9)}, "top1", 0, 0, "val"),
        ),
    )
    card = model_card(info, "someone/insects")
    _, front, body = card.split("---\n", 2)
    meta = yaml.safe_load(front)
    assert meta["library_name"] == "prismhub" and meta["base_model"] == "nano" and meta["datasets"] == ["pond-life"]
    assert meta["pipeline_tag"] == "video-classification" and meta["license"] == "unknown"
    results = meta["model-index"][0]["results"]
    assert [(r["dataset"]["split"], r["metrics"][0]["value"]) for r in results] == [("test", 0.81), ("val", 0.9)]
    assert (
        "| top1 | test | 0.8100 | 0.7200 to 0.8800 | 98 of 100 |" in body and 'load_adapter("someone/insects")' in body
    )
    from huggingface_hub import ModelCard

    assert ModelCard(card).data.eval_results[0].metric_value == 0.81, "the Hub reads the model-index"


def test_info_round_trip(encoder: Encoder) -> None:
    info = replace(
        trained_on(encoder, layers=(1, 2)).info,
        evaluations=(Scores({"map": Score(0.5, 0.4, 0.6)}, "map", 9, 10, "test"),),
        training={"lr": 0.1},
        seed=4,
    )
    assert AdapterInfo.from_json(info.to_json()) == info
    assert info.to_json()["features"]["fingerprint"] == encoder.fingerprint


def test_pushing_without_token_or_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    adapter = MapClassifier.build({}, Context.of_classes(4, ("ant", "bee")))
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        adapter.push_to_hub("someone/insects")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(InputError, match="no Hugging Face token: run `hf auth login` or set HF_TOKEN"):
        adapter.push_to_hub("someone/insects")


def test_adapters_of_an_older_contract_get_a_clear_sentence() -> None:
    def build(self: Any, config: Any, dim: int, label_names: Any = ()) -> None: ...

    with pytest.raises(InputError, match=r"Old is of an older prismhub: __init__ takes \(config, context\)"):
        type("Old", (Linear,), {"kind": "old", "__init__": build})
    with pytest.raises(InputError, match=r"Old is of an older prismhub: __init__ takes \(config, context\)"):
        type("Old", (Linear,), {"kind": "old", "__init__": lambda self, config, width, names=(): None})
    with pytest.raises(InputError, match="Old is of an older prismhub: `scores` became `answer`"):
        type("Old", (Linear,), {"kind": "old", "scores": build})
    with pytest.raises(InputError, match=r"adapter 'old': `loss` must return Loss\(value, weight\), not Tensor"):
        as_loss(torch.tensor(1.0), "old")


@pytest.mark.parametrize(("kind", "config"), [(MapClassifier, {}), (MapClassifier, {"layers": (-2, -1)}), (Linear, {})])
def test_predicting_arrays_equals_predicting_the_files(
    encoder: Encoder, video_file: Callable[..., Path], kind: type[Adapter], config: dict[str, Any]
) -> None:
    adapter = trained_on(encoder, kind, views=2, **config)
    paths = [video_file("a.mp4", num_frames=30, height=80), video_file("b.mp4", num_frames=30, height=80, seed=1)]
    expected = [one.scores for one in adapter.predict(paths)]
    frames = [whole(path) for path in paths]
    floats = torch.from_numpy(np.moveaxis(np.stack(frames), -1, 2)) / 255  # (2, 30, 3, 80, 96)
    for given in (frames, [torch.from_numpy(one) for one in frames], np.stack(frames), floats, floats.double().numpy()):
        answers = adapter.predict(given)
        assert [one.sample_id for one in answers] == ["0", "1"]
        torch.testing.assert_close(
            torch.stack([one.scores for one in answers]), torch.stack(expected), atol=1e-5, rtol=0
        )
    [alone] = adapter.predict(frames[1], ids=["mine"])
    assert alone.sample_id == "mine"
    torch.testing.assert_close(alone.scores, expected[1], atol=1e-5, rtol=0)


def test_floats_of_five_axes_are_features_only_where_the_head_has_such(encoder: Encoder) -> None:
    layered = trained_on(encoder, layers=(-2, -1))
    assert layered.info.features is not None
    features = torch.rand(3, 2, 8, 36, encoder.dim)  # (B, L, T, N, D)
    assert len(layered.predict(features)) == len(layered.predict(features.numpy())) == 3
    with pytest.raises(InputError, match=r"not float32 \(3, 2, 8, 36, 128\)"):
        trained_on(encoder).predict(features)
    either = torch.rand(2, 2, 3, 36, encoder.dim)  # a video (B, T, 3, H, W) as well
    with pytest.raises(InputError, match="may be videos .* or features"):
        layered.predict(either)
    assert len(layered.predict(either, mask=torch.ones(2, 3, dtype=torch.bool))) == 2
    spec = layered.info.features
    layered.info = replace(layered.info, features=replace(spec, plan=ClipPlan(3)))
    assert len(layered.predict(either)) == 2
    wider = torch.rand(2, 2, 3, 36, 96)  # no features of this width, so a video
    torch.testing.assert_close(layered.predict(wider)[1].scores, layered.predict(wider[1:])[0].scores)


def test_arrays_that_are_neither_are_refused(encoder: Encoder, video_file: Callable[..., Path]) -> None:
    adapter, frames = trained_on(encoder), np.zeros((9, 48, 48, 3), np.uint8)
    with pytest.raises(InputError, match="not int64"):
        adapter.predict(torch.zeros(2, 8, 36, 128, dtype=torch.long))
    with pytest.raises(InputError, match="paths or arrays, not both"):
        adapter.predict([video_file(), frames])
    with pytest.raises(InputError, match="1 samples, 2 ids"):
        adapter.predict(frames, ids=["a", "b"])
    spec = adapter.info.features
    assert spec is not None
    adapter.info = replace(adapter.info, features=replace(spec, plan=ClipPlan(8, "fps", fps=4)))
    with pytest.raises(InputError, match="an array knows no seconds"):
        adapter.predict(frames)
    unknown = MapClassifier.build({}, Context.of_classes(4, ("ant", "bee")))
    with pytest.raises(InputError, match="does not record which encoder"):
        unknown.predict(frames)


def whole(path: Path) -> np.ndarray:
    """All frames of a file at full size, uint8 `(T, H, W, 3)`."""
    with open_video(path) as video:
        return video.read(range(video.facts.num_frames))
