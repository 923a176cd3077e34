"""The judge of similarities against plain loops and CLIP4Clip's evaluator, which has its own rule between equals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from core_encoder.errors import InputError
from tasks.judges import judge


def compute_metrics(x: np.ndarray) -> dict[str, float]:
    """CLIP4Clip's, of queries (rows) whose own column is the diagonal."""
    places = np.where(np.sort(-x, axis=1) - np.diag(-x)[:, None] == 0)[1]
    recalls = {f"R@{k}": float(np.sum(places < k)) * 100 / len(places) for k in (1, 5, 10)}
    return recalls | {"MedR": float(np.median(places) + 1), "MeanR": float(np.mean(places) + 1)}


def several_texts(sim: np.ndarray, owners: np.ndarray) -> dict[str, float]:
    """CLIP4Clip's for several texts a video: padding with -inf, a double sort, and the best text of each video."""
    videos = sim.shape[1]
    most = np.bincount(owners).max()
    padded = np.full((videos, most, videos), -np.inf)
    for video in range(videos):
        padded[video, : (owners == video).sum()] = sim[owners == video]
    stacked = torch.tensor(padded).permute(1, 0, 2)
    first = torch.argsort(stacked, dim=-1, descending=True)
    ranks = torch.flatten(torch.diagonal(torch.argsort(first, dim=-1), dim1=1, dim2=2))
    own = torch.flatten(torch.diagonal(torch.tensor(padded), dim1=0, dim2=2))
    ranks = ranks[~torch.isinf(own)] + 1
    found = {f"t2v_R@{k}": float((ranks <= k).sum() * 100 / len(ranks)) for k in (1, 5, 10)}
    found |= {"t2v_MedR": float(torch.median(ranks)), "t2v_MeanR": float(ranks.double().mean())}
    return found | {f"v2t_{name}": value for name, value in compute_metrics(padded.max(1).T).items()}


def plain_ranks(sim: np.ndarray, owners: np.ndarray) -> dict[str, list[float]]:
    """Mean places among the videos, and of the best own text among it and the texts of all other videos."""

    def mean_place(rivals: list[float], own: float) -> float:
        return 1 + sum(one > own for one in rivals) + sum(one == own for one in rivals) / 2

    texts, videos = sim.shape
    t2v = [mean_place([sim[i, v] for v in range(videos) if v != owners[i]], sim[i, owners[i]]) for i in range(texts)]
    v2t = []
    for v in range(videos):
        own = max(sim[i, v] for i in range(texts) if owners[i] == v)
        v2t.append(mean_place([sim[i, v] for i in range(texts) if owners[i] != v], own))
    return {"t2v": t2v, "v2t": v2t}


def judged(folder: Path, sim: Any, owners: Any = None, **options: Any) -> Any:
    np.savez(folder / "truth.npz", **({} if owners is None else {"owner": owners}))
    np.savez(folder / "sim.npz", sim=sim)
    return judge("retrieval", folder / "truth.npz", folder / "sim.npz", **options)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), videos=st.integers(1, 12), extra=st.integers(0, 14), tied=st.booleans())
def test_mean_ties_are_those_of_plain_loops(
    tmp_path_factory: pytest.TempPathFactory, seed: int, videos: int, extra: int, tied: bool
) -> None:
    rng = np.random.default_rng(seed)
    owners = rng.permutation(np.concatenate([np.arange(videos), rng.integers(videos, size=extra)]))
    sim = rng.integers(0, 4, (len(owners), videos)) / 4 if tied else rng.normal(size=(len(owners), videos))
    found = judged(tmp_path_factory.mktemp("files"), sim.astype(np.float32), owners)
    for way, ranks in plain_ranks(sim.astype(np.float32), owners).items():
        for k in (1, 5, 10):
            assert found.metrics[f"{way}_R@{k}"] == pytest.approx(100 * np.mean([one <= k for one in ranks]))
        assert found.metrics[f"{way}_MedR"] == np.median(ranks)
        assert found.metrics[f"{way}_MeanR"] == pytest.approx(np.mean(ranks))
    assert found.n == len(owners)


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), videos=st.integers(1, 30), tied=st.booleans())
def test_clip4clip_is_its_evaluator(
    tmp_path_factory: pytest.TempPathFactory, seed: int, videos: int, tied: bool
) -> None:
    rng = np.random.default_rng(seed)
    sim = rng.integers(0, 4, (videos, videos)) / 4 if tied else rng.normal(size=(videos, videos))
    found = judged(tmp_path_factory.mktemp("files"), sim, ties="clip4clip")
    wanted = {f"t2v_{name}": value for name, value in compute_metrics(sim).items()}
    wanted |= {f"v2t_{name}": value for name, value in compute_metrics(sim.T).items()}
    assert found.metrics == pytest.approx(wanted, abs=1e-9)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), videos=st.integers(2, 12), extra=st.integers(1, 14))
def test_clip4clip_with_several_texts_a_video(
    tmp_path_factory: pytest.TempPathFactory, seed: int, videos: int, extra: int
) -> None:
    rng = np.random.default_rng(seed)
    owners = np.sort(np.concatenate([np.arange(videos), rng.integers(videos, size=extra)]))
    sim = rng.normal(size=(len(owners), videos))
    shuffled = rng.permutation(len(owners))
    found = judged(tmp_path_factory.mktemp("files"), sim[shuffled], owners[shuffled], ties="clip4clip")
    assert found.metrics == pytest.approx(several_texts(sim, owners), abs=1e-5)


def test_a_constant_matrix_is_at_chance_by_one_rule_and_not_by_the_other(tmp_path: Path) -> None:
    sim = np.zeros((200, 200), np.float32)
    assert judged(tmp_path, sim).metrics["t2v_R@1"] == 0.0
    assert judged(tmp_path, sim).metrics["v2t_MedR"] == 100.5
    found = judged(tmp_path, sim, ties="clip4clip")  # 40,000 ranks, 200 of them the first
    assert found.metrics["t2v_R@1"] == found.metrics["v2t_R@1"] == 0.5
    assert (found.protocol, found.per_class) == ("retrieval-clip4clip-v1", {})


@pytest.mark.parametrize(
    ("sim", "owners", "says"),
    [
        (np.zeros((3, 2)), None, "but sim of"),
        (np.zeros((3, 2)), [0, 1], "owner is of 2 texts"),
        (np.zeros((3, 2)), [0, 1, 2], "owner[2] is 2, but the videos of"),
        (np.zeros((3, 2)), [0, 0, 0], "1 of 2 videos have no text, the first is video 1"),
        (np.zeros((3, 2)), [0.0, 1.0, 1.0], "owner must be whole numbers of shape (texts,)"),
        (np.array([[0.0, np.nan], [0, 1]]), None, "sim[0, 1] is nan; give finite numbers"),
        (np.zeros(3), None, "sim must be numbers of shape (texts, videos), not (3,)"),
        (np.array([["a"]]), None, "sim must be numbers"),
    ],
)
def test_what_cannot_be_ranked_is_named(tmp_path: Path, sim: Any, owners: Any, says: str) -> None:
    with pytest.raises(InputError) as error:
        judged(tmp_path, sim, None if owners is None else np.array(owners))
    assert says in str(error.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    judged(tmp_path, np.zeros((2, 2)))
    (tmp_path / "no.npz").write_bytes(b"PK and nothing more")
    np.save(tmp_path / "one.npy", np.zeros(3))
    np.savez(tmp_path / "pickled.npz", sim=np.array([{}], dtype=object))
    np.savez(tmp_path / "other.npz", simm=np.zeros(3))
    for name, says in {
        "no.npz": "is no .npz file of plain numbers",
        "one.npy": "holds one array without a name; write it with np.savez",
        "pickled.npz": "is no .npz file of plain numbers",
        "other.npz": "has no array 'sim' of (texts, videos); did you mean 'simm'?",
        "none.npz": "No such file",
    }.items():
        with pytest.raises(InputError, match=name) as error:
            judge("retrieval", tmp_path / "truth.npz", tmp_path / name)
        assert says in str(error.value)
    with pytest.raises(InputError, match="ties cannot be 'clip'; did you mean 'clip4clip'?"):
        judge("retrieval", tmp_path / "truth.npz", tmp_path / "sim.npz", ties="clip")
