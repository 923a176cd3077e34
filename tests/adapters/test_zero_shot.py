"""Classes as vectors and scores as a softmax over cosines, against plain loops in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from adapters.predictions import ClassScores, Embedding, Truth
from adapters.zero_shot import TEMPERATURE, answer_by_words, class_scores, class_vectors, name_videos, prompts
from core_encoder.clip_plan import Clip, ClipPlan
from core_encoder.encoder import load_encoder
from core_encoder.errors import InputError
from core_encoder.extraction import spec_for
from core_encoder.features.failures import Failure
from core_encoder.features.feature_source import FeatureSource
from core_encoder.preprocessing import to_video_tensor
from core_encoder.video.decoders import read_clip

Vector = list[float]


def unit(vector: Vector) -> Vector:
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector]


def plain_class(texts: list[Vector]) -> Vector:
    """The mean of the unit vectors of a class's texts, of unit length."""
    units = [unit(text) for text in texts]
    return unit([sum(column) / len(units) for column in zip(*units, strict=True)])


def plain_scores(video: Vector, classes: list[Vector], temperature: float) -> list[float]:
    cosines = [sum(a * b for a, b in zip(unit(video), one, strict=True)) for one in classes]
    powers = [math.exp((cosine - max(cosines)) / temperature) for cosine in cosines]
    return [power / sum(powers) for power in powers]


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(
    classes=st.integers(2, 6),
    texts=st.integers(1, 4),
    width=st.integers(2, 9),
    temperature=st.sampled_from([TEMPERATURE, 0.1, 1.0]),
    seed=st.integers(0, 99),
)
def test_scores_equal_plain_loops(classes: int, texts: int, width: int, temperature: float, seed: int) -> None:
    words, videos = random(classes, texts, width, seed=seed), 7 * random(3, width, seed=seed + 1)
    vectors = class_vectors(words)
    expected = [plain_class(one) for one in words.double().tolist()]
    torch.testing.assert_close(vectors.double(), torch.tensor(expected).double(), atol=1e-5, rtol=0)
    names = [f"class {number}" for number in range(classes)]
    answers = class_scores(videos, vectors, names, ["a", "b", "c"], temperature)
    assert [one.sample_id for one in answers] == ["a", "b", "c"] and answers[0].label_names == tuple(names)
    for answer, video in zip(answers, videos.double().tolist(), strict=True):
        plain = plain_scores(video, vectors.double().tolist(), temperature)
        assert answer.scores.tolist() == pytest.approx(plain, abs=2e-4)
        assert answer.scores.sum() == pytest.approx(1, abs=1e-5)


def test_texts_of_a_class_count_alike_however_long_their_vectors() -> None:
    words = random(2, 3, 8, seed=0)
    longer = words * torch.tensor([1.0, 50.0, 0.01])[:, None]
    torch.testing.assert_close(class_vectors(longer), class_vectors(words))
    half = class_scores(random(2, 8, seed=1).half(), class_vectors(words.half()), ("x", "y"), ("a", "b"))
    assert half[0].scores.dtype == torch.float32


def test_what_does_not_go_together_is_refused() -> None:
    vectors = class_vectors(random(2, 1, 8, seed=0))
    with pytest.raises(InputError, match="width 6 but texts 8"):
        class_scores(random(1, 6, seed=1), vectors, ("x", "y"), ("a",))
    with pytest.raises(InputError, match="1 videos with 2 ids, 2 classes with 2 names"):
        class_scores(random(1, 8, seed=1), vectors, ("x", "y"), ("a", "b"))
    with pytest.raises(InputError, match="2 classes with 3 names"):
        class_scores(random(1, 8, seed=1), vectors, ("x", "y", "z"), ("a",))


def test_prompts_go_class_by_class() -> None:
    made = prompts(["run", "a {b}"], ["a video of {}", "{}, {}!"])
    assert made == ["a video of run", "run, run!", "a video of a {b}", "a {b}, a {b}!"]


def test_videos_are_named_as_by_hand(video_file: Callable[..., Path], tmp_path: Path) -> None:
    """Three views of each: decoded, embedded and scored one by one, then averaged as probabilities."""
    encoder, plan = load_encoder("nano"), ClipPlan(8, views=3)
    clips = [Clip(str(video_file(f"{i}.mp4", num_frames=30, seed=i))) for i in range(3)]
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    clips.insert(1, Clip(str(tmp_path / "bad.mp4")))
    labels, templates = ["red circle", "blue star", "green square"], ["a video of {}", "this is {}"]
    texts = [[encoder.embed_text([one.replace("{}", label)])[0] for one in templates] for label in labels]
    classes = [plain_class([text.tolist() for text in several]) for several in texts]
    vectors = class_vectors(encoder.embed_text(prompts(labels, templates)).unflatten(0, (3, 2)))
    source = FeatureSource(encoder, spec_for(encoder, plan, kind="embedding", dtype="fp32"), tmp_path / "none")
    found = list(name_videos(vectors, labels, clips, list("abcd"), source, batch_size=2))
    assert isinstance(found[1], Failure) and found[1].path == clips[1].path
    for clip, answer in zip(clips, found, strict=True):
        if isinstance(answer, Failure):
            continue
        views = []
        for view in range(3):
            frames = to_video_tensor(read_clip(clip, plan, encoder.preprocessing, view=view))
            views.append(plain_scores(encoder.embed_video(frames[None])[0].tolist(), classes, TEMPERATURE))
        expected = [sum(column) / 3 for column in zip(*views, strict=True)]
        assert answer.scores.tolist() == pytest.approx(expected, abs=1e-3)
    assert [one.sample_id for one in found if not isinstance(one, Failure)] == ["a", "c", "d"]


def test_independent_scores_are_cosines_that_other_classes_do_not_touch() -> None:
    words, videos = random(3, 2, 8, seed=0), random(4, 8, seed=1)
    vectors = class_vectors(words)
    answers = class_scores(videos, vectors, ["x", "y", "z"], list("abcd"), independent=True)
    for answer, video in zip(answers, videos.double().tolist(), strict=True):
        cosines = [sum(a * b for a, b in zip(unit(video), one, strict=True)) for one in vectors.double().tolist()]
        assert answer.multi_label and answer.scores.tolist() == pytest.approx([(1 + c) / 2 for c in cosines], abs=1e-6)
    fewer = class_scores(videos, vectors[:2], ["x", "y"], list("abcd"), independent=True)
    for one, two in zip(fewer, answers, strict=True):
        torch.testing.assert_close(one.scores, two.scores[:2], atol=1e-6, rtol=0)


def test_words_answer_as_an_adapter_of_texts_does(video_file: Callable[..., Path], tmp_path: Path) -> None:
    """Candidates are chosen from, captions bring their vectors, each against embeddings made by hand."""
    encoder, plan = load_encoder("nano"), ClipPlan(8, views=2)
    clips = [Clip(str(video_file(f"{i}.mp4", num_frames=30, seed=i))) for i in range(3)] + [Clip(str(tmp_path / "no"))]
    texts = ("red circle", "blue star", "green square")
    source = FeatureSource(encoder, spec_for(encoder, plan, kind="embedding", dtype="fp32"), tmp_path / "none")
    known = [
        Truth("a", inputs={"candidates": texts}),
        Truth("b", inputs={"captions": texts[1:]}),
        Truth("c"),
        Truth("d", inputs={"candidates": texts}),
    ]
    chosen, captioned, bare, failed = answer_by_words(encoder.embed_text, clips, known, source, batch_size=2)
    words = [unit(encoder.embed_text([text])[0].tolist()) for text in texts]

    def seen(clip: Clip, view: int) -> Vector:
        frames = to_video_tensor(read_clip(clip, plan, encoder.preprocessing, view=view))
        return unit(encoder.embed_video(frames[None])[0].tolist())

    views = [[seen(clip, view) for view in range(2)] for clip in clips[:3]]
    assert isinstance(chosen, ClassScores) and chosen.label_names == texts
    each = [plain_scores(view, words, TEMPERATURE) for view in views[0]]
    assert chosen.scores.tolist() == pytest.approx([sum(column) / 2 for column in zip(*each, strict=True)], abs=1e-3)
    assert isinstance(captioned, Embedding) and isinstance(bare, Embedding) and isinstance(failed, Failure)
    assert captioned.texts is not None and bare.texts is None
    for row, word in zip(captioned.texts.tolist(), words[1:], strict=True):
        assert row == pytest.approx(word, abs=1e-4)
    for answer, several in ((captioned, views[1]), (bare, views[2])):
        assert answer.values.tolist() == pytest.approx(plain_class(several), abs=1e-3)
