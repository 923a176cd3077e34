"""Retrieval between videos and texts, judged by a matrix of similarities. No torch.

    truth         .npz with `owner` (L,): text i belongs to video owner[i]; without it text i belongs to video i
    predictions   .npz with `sim` (L, V): how well each text fits each video

Text to video, every text is a query; video to text, any text of a video is right. The rules between equals:

    mean        a rank is 1 plus the rivals above plus half of those that are equal; video to text ranks among the
                texts of other videos, as UMT and Frozen in Time do
    clip4clip   `metrics.py` of CLIP4Clip: every place that is equal counts as a rank; video to text ranks among
                videos; with several texts a video MedR of text to video is the lower of two middles, as in torch
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from tasks.judges.judgement import Judgement
from tasks.metrics.retrieval import DIRECTIONS, RECALLS, clip4clip_ranks, clip4clip_statistic, similarity_ranks

PROTOCOLS = {"mean": "retrieval-mean-ties-v1", "clip4clip": "retrieval-clip4clip-v1"}


def judge_retrieval(truth: Path, predictions: Path, ties: Literal["mean", "clip4clip"] = "mean") -> Judgement:
    """`t2v_R@1`, `t2v_R@5`, `t2v_R@10` in percent, `t2v_MedR`, `t2v_MeanR` from 1, and the same of `v2t_`.

    Raises:
        InputError: one line with file, array, row and the fix.
    """
    if ties not in PROTOCOLS:
        raise InputError(f"ties cannot be {ties!r}{nearest(str(ties), PROTOCOLS)}")
    arrays = _arrays(predictions)
    if "sim" not in arrays:
        raise InputError(f"{predictions}: has no array 'sim' of (texts, videos){nearest('sim', arrays)}")
    similarities = arrays["sim"]
    if similarities.ndim != 2 or not similarities.size or similarities.dtype.kind not in "fiu":
        shape = f"{similarities.shape} {similarities.dtype}"
        raise InputError(f"{predictions}: sim must be numbers of shape (texts, videos), not {shape}")
    broken = np.argwhere(~np.isfinite(similarities))
    if len(broken):
        text, video = broken[0].tolist()
        raise InputError(f"{predictions}: sim[{text}, {video}] is {similarities[text, video]}; give finite numbers")
    owners = _owners(truth, predictions, *similarities.shape)
    if ties == "mean":
        ranks = similarity_ranks(similarities, owners)
        found: Any = {"t2v": ranks.t2v, "v2t": ranks.v2t}
    else:
        found = clip4clip_ranks(similarities, owners)
    metrics: dict[str, float | None] = {}
    several = ties == "clip4clip" and len(owners) > similarities.shape[1]
    for way in DIRECTIONS:
        ranks_of = found[way]
        metrics |= {f"{way}_R@{k}": float(100 * np.mean(ranks_of <= k)) for k in RECALLS}
        metrics[f"{way}_MedR"] = clip4clip_statistic(f"{way}_median_rank", found, several)
        metrics[f"{way}_MeanR"] = float(np.mean(ranks_of))
    return Judgement("retrieval", PROTOCOLS[ties], len(owners), metrics)


def _owners(truth: Path, predictions: Path, num_texts: int, num_videos: int) -> NDArray[np.int64]:
    """The video of each text `(L,)`."""
    owners = _arrays(truth).get("owner")
    if owners is None:
        if num_texts != num_videos:
            raise InputError(
                f"{truth}: has no array 'owner', so every video has one text; "
                f"but sim of {predictions} is of {num_texts} texts and {num_videos} videos"
            )
        return np.arange(num_texts)
    if owners.ndim != 1 or owners.dtype.kind not in "iu":
        raise InputError(f"{truth}: owner must be whole numbers of shape (texts,), not {owners.shape} {owners.dtype}")
    if len(owners) != num_texts:
        raise InputError(f"{truth}: owner is of {len(owners)} texts, but sim of {predictions} of {num_texts}")
    outside = np.flatnonzero((owners < 0) | (owners >= num_videos))
    if len(outside):
        raise InputError(
            f"{truth}: owner[{outside[0]}] is {owners[outside[0]]}, but the videos of {predictions} "
            f"are 0 to {num_videos - 1}"
        )
    without = np.setdiff1d(np.arange(num_videos), owners)
    if len(without):
        raise InputError(
            f"{truth}: {len(without)} of {num_videos} videos have no text, the first is video {without[0]}: "
            f"give each one, or leave its column out of {predictions}"
        )
    return owners.astype(np.int64)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an `.npz` file, of which nothing is unpickled."""
    try:
        file = np.load(path, allow_pickle=False)
        if isinstance(file, np.ndarray):
            raise InputError(f"{path}: holds one array without a name; write it with np.savez(path, sim=...)")
        with file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: is no .npz file of plain numbers; write it with np.savez") from error
