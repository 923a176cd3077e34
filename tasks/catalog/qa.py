"""Questions about videos, answered by a language model that sees them through a frozen encoder (VideoPrism)."""

from __future__ import annotations

from typing import Any

from core_encoder.clip_plan import ClipPlan
from tasks.benchmark import Benchmark
from tasks.catalog.published import published_scores
from tasks.families.language import LanguageTask
from tasks.readers.video_qa import frequent_answers, read_msrvtt_qa, read_msvd_qa

_SHARED: dict[str, Any] = {
    "suite": "qa",
    "family": LanguageTask,
    "splits": {"train": "train", "val": "val", "test": "test"},
    "classes": frequent_answers,
    "metric": "accuracy",
    "protocol": "qa-two-shot-closed-250-v1",
    "plan": ClipPlan(16),
    "head": "llm_decoder",
    "licence": "none stated; research",
}
_UNVERIFIED = (
    "the closed vocabulary is the 250 most frequent answers of one word of train and val; the paper counts tokens of "
    "its own language model",
    "the published scores are zero-shot: their decoder learned from other videos, with PaLM-2 as language model, and "
    "took nothing of this data set but the two examples and the vocabulary",
    "answers are compared in lower case, without a full stop at the end",
)

MSRVTT_QA = Benchmark(
    name="msrvtt-qa",
    reader=read_msrvtt_qa,
    options={"examples": (("who is talking to his family?", "man"), ("what is a woman doing?", "talk"))},
    folder="msrvtt",
    citation="Xu et al., Video Question Answering via Gradually Refined Attention, ACM MM 2017",
    annotations="train_qa.json, val_qa.json and test_qa.json of MSRVTT-QA, "
    "github.com/xudejing/video-question-answering",
    videos="video<number>.mp4, MSRVTT.zip of github.com/m-bain/frozen-in-time",
    sizes={"train": 158_581, "val": 12_278, "test": 72_821},
    unverified=_UNVERIFIED,
    published=published_scores("msrvtt-qa"),
    **_SHARED,
)

MSVD_QA = Benchmark(
    name="msvd-qa",
    reader=read_msvd_qa,
    options={
        "examples": (("who is using a wrench on a pipe fitting?", "man"), ("who breaks an egg into a bowl?", "woman"))
    },
    folder="msvd",
    citation="Xu et al., Video Question Answering via Gradually Refined Attention, ACM MM 2017; videos: Chen and "
    "Dolan, Collecting Highly Parallel Data for Paraphrase Evaluation, ACL 2011",
    annotations="train_qa.json, val_qa.json, test_qa.json and youtube_mapping.txt of MSVD-QA, "
    "github.com/xudejing/video-question-answering",
    videos="<clip>.avi as youtube_mapping.txt calls them, YouTubeClips.tar of MSVD",
    sizes={"train": 30_933, "val": 6_415, "test": 13_157},
    unverified=_UNVERIFIED,
    published=published_scores("msvd-qa"),
    **_SHARED,
)

BENCHMARKS = (MSRVTT_QA, MSVD_QA)
