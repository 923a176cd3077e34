"""A hub of several adapters: each answers as it does alone, a video is encoded once, gates and windows keep times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapters.adapter import Adapter
from adapters.card import AdapterInfo
from adapters.context import Context, TargetSchema
from adapters.hub import Answers, Gate, Hub
from adapters.kinds.linear import Linear
from adapters.kinds.map_classifier import MapClassifier
from adapters.kinds.temporal_localizer import TemporalLocalizer
from adapters.predictions import PROPOSAL, ClassScores, Prediction, Segment, Segments
from adapters.registry import save_to_registry
from adapters.windows import Windows
from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.encoder import Encoder, load_encoder
from core_encoder.errors import EncoderMismatch, InputError, UnreadableVideo
from core_encoder.extraction import extract, spec_for
from core_encoder.features import feature_source
from core_encoder.video.decoders import open_video
from tests.adapters.toy_kinds import ToyConfig, ToySegments, ToyText
from tests.videos import moving_square, write_video

LABELS = ("run", "sit", "jump")
EIGHT = ClipPlan(8)
DENSE = ClipPlan(8, "dense", fps=8, window_stride=8)


class Happens(ToySegments):
    """Finds the two seconds after the first, whatever the video shows."""

    kind = "happens"

    def answer(self, batch: Any) -> list[Prediction]:
        found = (Segment(1.0, 3.0, "run", 0.4), Segment(0.0, 1.0, "run", 0.2), Segment(0.0, 1.0, "sit", 0.8))
        return [Segments(name, found, threshold=0.3) for name in batch.ids]


@pytest.fixture(scope="module")
def nano() -> Encoder:
    return load_encoder("nano")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """H.264 files of four and two seconds."""
    folder = tmp_path_factory.mktemp("videos")
    return [
        str(write_video(folder / f"{seconds}.mp4", moving_square(16 * seconds, 64, 64, seed=seconds), fps=16))
        for seconds in (4, 2)
    ]


def made(kind: type[Adapter], encoder: Encoder, seed: int, plan: ClipPlan = EIGHT) -> Adapter:
    """An untrained adapter that reads features of `encoder`."""
    spec = spec_for(encoder, plan, kind=kind.feature_kind)
    segments = kind.target_kind == "segments"
    targets = TargetSchema("segments", LABELS[:2]) if segments else TargetSchema("classes", LABELS)
    adapter = kind.build(None, Context(encoder.dim, targets, spec), seed=seed)
    return adapter.described_as(AdapterInfo(features=spec, encoder_source="nano")).eval()


def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many clips were asked of every encoding run from now on."""
    from core_encoder.features import shared_source

    counted: list[int] = []
    real = shared_source.EncodingRun

    def counting(encoder: Encoder, clips: list[Clip], *args: Any, **options: Any) -> Any:
        counted.append(len(clips))
        return real(encoder, clips, *args, **options)

    monkeypatch.setattr(shared_source, "EncodingRun", counting)
    monkeypatch.setattr(feature_source, "EncodingRun", counting)
    return counted


def scores(answers: Answers, name: str) -> torch.Tensor:
    found = answers[name]
    assert isinstance(found, ClassScores)
    return found.scores


def test_every_adapter_answers_as_it_does_alone_and_videos_are_encoded_once(
    nano: Encoder, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = {
        "looks": made(MapClassifier, nano, 0),
        "again": made(MapClassifier, nano, 1),
        "mean": made(Linear, nano, 2),
    }
    alone = {name: head.predict(files, encoder=nano) for name, head in heads.items()}
    counted = passes(monkeypatch)
    hub = Hub(nano, heads)
    found = hub.predict(files)
    assert counted == [2] and hub.passes == 2, "two videos, one pass for three adapters of two kinds of features"
    for place, answers in enumerate(found):
        assert answers.sample_id == files[place] and list(answers.answers) == list(heads)
        for name in heads:
            torch.testing.assert_close(scores(answers, name), alone[name][place].scores, atol=1e-5, rtol=0)
    assert isinstance(found[0], Prediction)
    said = json.loads(json.dumps(found[0].describe()))
    assert said["id"] == files[0] and said["answers"]["mean"]["label"] == found[0]["mean"].label
    assert [row[0] for row in found[0].rows()] == list(heads)


def test_what_is_stored_is_not_encoded_again(
    nano: Encoder, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = {"looks": made(MapClassifier, nano, 0), "mean": made(Linear, nano, 2)}
    fresh = Hub(nano, heads, cache=tmp_path / "none").predict(files)
    extract(nano, [Clip(file) for file in files], spec_for(nano, ClipPlan(8), kind="tokens"), tmp_path / "store")
    counted = passes(monkeypatch)
    hub = Hub(nano, heads, cache=tmp_path / "store")
    for one, other in zip(hub.predict(files), fresh, strict=True):
        for name in heads:  # means of stored tokens are rounded once more than means of fresh ones
            torch.testing.assert_close(scores(one, name), scores(other, name), atol=1e-3, rtol=0)
    assert counted == [] and hub.passes == 0


def test_arrays_are_answered_as_files_are(nano: Encoder, files: list[str]) -> None:
    hub = Hub(nano, {"looks": made(MapClassifier, nano, 0), "mean": made(Linear, nano, 2)})
    arrays = []
    for file in files:
        with open_video(file) as video:
            arrays.append(video.read(range(video.facts.num_frames)))
    for one, other in zip(hub.predict(arrays), hub.predict(files), strict=True):
        for name in hub.adapters:
            torch.testing.assert_close(scores(one, name), scores(other, name), atol=1e-5, rtol=0)
    assert hub.predict(np.asarray(arrays[0]))[0].sample_id


def test_a_gate_asks_only_where_something_was_found(nano: Encoder, files: list[str]) -> None:
    looks = made(MapClassifier, nano, 0)
    hub = Hub(nano, {"when": made(Happens, nano, 1, DENSE), "what": looks}, gates=[Gate("run", "when", "what")])
    (found,) = hub.predict(files[0])
    what = found["what"]
    assert isinstance(what, Windows) and [(one.start_s, one.end_s) for one in what.windows] == [(1.0, 3.0)]
    alone = looks.predict(Clip(files[0], 1.0, 3.0), encoder=nano)[0]
    torch.testing.assert_close(what.windows[0].answer.scores, alone.scores, atol=1e-5, rtol=0)  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="part of Gate"):
        hub.remove("what")
    hub.remove_gate(hub.gates[0])
    assert isinstance(hub.predict(files[0])[0]["what"], ClassScores)
    hub.add_gate(Gate("run", "when", "what", least_score=0.1))
    more = hub.predict(files[0])[0]["what"]
    assert isinstance(more, Windows) and [one.start_s for one in more.windows] == [0.0, 1.0]
    hub.remove_gate(hub.gates[0])
    hub.add_gate(Gate("run", "when", "what", least_score=0.95))
    nothing = hub.predict(files[0])[0]["what"]
    assert isinstance(nothing, Windows) and not nothing.windows and nothing.columns == ("start", "end")
    assert nothing.rows() == [] and nothing.webvtt() == "WEBVTT\n"


def test_proposals_without_a_class_open_a_gate_too(nano: Encoder) -> None:
    spec = spec_for(nano, DENSE, kind="clip")
    when = TemporalLocalizer.build({"class_agnostic": True}, Context(nano.dim, TargetSchema("segments", LABELS), spec))
    hub = Hub(nano, {"when": when.described_as(AdapterInfo(features=spec)), "what": made(MapClassifier, nano, 0)})
    hub.add_gate(Gate(PROPOSAL, "when", "what"))
    with pytest.raises(InputError, match="no label 'run'"):  # it would never be found
        hub.add_gate(Gate("run", "when", "what"))


def test_windows_share_one_pass_and_whole_clips_are_asked_once(
    nano: Encoder, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = {
        "looks": made(MapClassifier, nano, 0),
        "mean": made(Linear, nano, 2),
        "when": made(Happens, nano, 1, DENSE),
    }
    counted = passes(monkeypatch)
    hub = Hub(nano, heads)
    (found,) = hub.predict(files[0], window=2.0, step=1.0)
    assert counted == [1, 1] and hub.passes == 2, "one for the windows, one for who looks at the whole"
    looks, mean = found["looks"], found["mean"]
    assert isinstance(looks, Windows) and isinstance(mean, Windows) and isinstance(found["when"], Segments)
    assert [one.start_s for one in looks.windows] == [one.start_s for one in mean.windows]
    assert looks.windows[0].start_s == 0 and looks.windows[1].start_s == pytest.approx(1.0)
    assert list(found.answers) == list(heads)


def test_adapters_come_and_go(nano: Encoder, files: list[str]) -> None:
    looks = made(MapClassifier, nano, 0)
    saved = save_to_registry(looks, "looks")
    hub = Hub("nano")
    with pytest.raises(InputError, match="no adapter to ask"):
        hub.predict(files)
    assert hub.add(saved.ref) == "looks" and hub.add(looks) == "map_classifier" and hub.add(looks) == "map_classifier-2"
    with pytest.raises(InputError, match="'looks' is here already"):
        hub.add(looks, "looks")
    asked = hub.answers(files)
    first = next(asked)
    hub.remove("looks")
    assert list(next(asked).answers) == list(first.answers), "a question that is running keeps its adapters"  # type: ignore[union-attr]
    assert list(hub.predict(files[1])[0].answers) == ["map_classifier", "map_classifier-2"]
    with pytest.raises(InputError, match="no adapter 'look'.*map"):
        hub.remove("look")
    assert "map_classifier-2" in repr(hub)


def test_what_does_not_fit_is_refused_by_name(nano: Encoder, files: list[str], tmp_path: Path) -> None:
    looks, when = made(MapClassifier, nano, 0), made(Happens, nano, 1, DENSE)
    foreign = made(MapClassifier, nano, 0)
    assert foreign.info.features is not None
    from dataclasses import replace

    foreign.info = replace(foreign.info, features=replace(foreign.info.features, fingerprint="0" * 64, encoder="other"))
    with pytest.raises(EncoderMismatch, match="adapter 'theirs' was trained on features of encoder 'other'"):
        Hub(nano, {"ours": looks, "theirs": foreign})
    unknown = MapClassifier.build(None, Context(nano.dim, TargetSchema("classes", LABELS)))
    with pytest.raises(InputError, match="'map_classifier' does not record"):
        Hub(nano, [unknown])
    hub = Hub(nano, {"when": when, "what": looks})
    for gate, said in (
        (Gate("run", "what", "when"), "one that says when"),
        (Gate("run", "when", "when"), "another adapter"),
        (Gate("fly", "when", "what"), "no label 'fly'"),
        (Gate("run", "whom", "what"), "no adapter 'whom'.*when"),
    ):
        with pytest.raises(InputError, match=said):
            hub.add_gate(gate)
    hub.add_gate(Gate("run", "when", "what"))
    with pytest.raises(InputError, match="an array does not know"):
        hub.predict(np.zeros((8, 64, 64, 3), np.uint8))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(UnreadableVideo, match=r"broken\.mp4"):
        hub.predict([files[0], broken])
    assert [type(one).__name__ for one in hub.answers([files[0], str(broken), files[1]])] == [
        "Answers",
        "Failure",
        "Answers",
    ]


def test_what_is_given_beside_the_video_reaches_the_adapter(nano: Encoder, files: list[str]) -> None:
    class Asked(ToyText):
        kind, feature_kind = "asked", "frames"

        def answer(self, batch: Any) -> list[Prediction]:
            from adapters.predictions import Text

            return [Text(name, question) for name, question in zip(batch.ids, batch.inputs["question"], strict=True)]

    spec = spec_for(nano, ClipPlan(8), kind="frames")
    asked = Asked.build(ToyConfig(), Context(nano.dim, TargetSchema("text"), spec))
    asked = asked.described_as(AdapterInfo(features=spec)).eval()
    hub = Hub(nano, [asked])
    found = hub.predict(files, given=[{"question": "who?"}, {"question": "where?"}])
    assert [one["asked"].text for one in found] == ["who?", "where?"]
    Asked.input_names = ("question",)
    with pytest.raises(InputError, match="given: no adapter reads 'qestion'; did you mean 'question'"):
        hub.predict(files, given=[{"question": "who?"}, {"qestion": "where?"}])


def test_what_an_adapter_needs_beside_the_video_is_asked_for_by_its_name_before_any_is_decoded(nano: Encoder) -> None:
    from adapters.kinds.spatiotemporal_localizer import SpatiotemporalLocalizer

    spec = spec_for(nano, ClipPlan(8), kind="tokens")
    actors = SpatiotemporalLocalizer.build(None, Context(nano.dim, TargetSchema("boxes", LABELS), spec))
    hub = Hub(nano, {"looks": made(MapClassifier, nano, 0), "actors": actors.described_as(AdapterInfo(features=spec))})
    for given in (None, {"time_s": 1.0}, [{"time_s": 1.0}]):
        with pytest.raises(InputError, match="adapter 'actors' wants 'boxes' beside each video: give it"):
            hub.predict(["no such file.mp4"], given=given)
    with pytest.raises(InputError, match="adapter 'spatiotemporal_localizer' wants 'boxes' beside each video"):
        actors.predict("no such file.mp4")
