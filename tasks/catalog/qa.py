"""Questions about videos, answered by a language model that sees them through a frozen encoder (VideoPrism)."""

from __future__ import annotations

from typing import Any

from core_encoder.clip_plan import ClipPlan
from tasks.benchmark import Benchmark
from tasks.catalog.published import published_scores
from tasks.families.language import LanguageTask
from tasks.families.open_answers import PROTOCOL as NEXT_OE_PROTOCOL
from tasks.families.open_answers import OpenAnswersTask
from tasks.readers.next_oe import read_next_oe
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
_OTHER_DATA = (
    "the published scores are zero-shot: their decoder learned from other videos, with PaLM-2 as language model, and "
    "took nothing of this data set but the two examples and the vocabulary, if any"
)
_UNVERIFIED = (
    "the closed vocabulary is the 250 most frequent answers of one word of train and val; the paper counts tokens of "
    "its own language model",
    _OTHER_DATA,
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

NEXTQA_OE = Benchmark(
    name="nextqa-oe",
    suite="qa",
    family=OpenAnswersTask,
    reader=read_next_oe,
    splits={"train": "train", "val": "val", "test": "test"},
    metric="wups",
    metrics=tuple(f"wups@{kind}" for kind in ("C", "CW", "CH", "T", "TN", "TC", "D", "DB", "DC", "DL", "DO")),
    protocol=NEXT_OE_PROTOCOL,
    plan=ClipPlan(16),
    head="llm_decoder",
    folder="nextqa",
    licence="MIT (annotations)",
    citation="Xiao et al., NExT-QA, CVPR 2021, arXiv 2105.08276",
    annotations="train.csv, val.csv, test.csv and add_reference_answer_test.json, github.com/doc-doc/NExT-OE; "
    "map_vid_vidorID.json, github.com/doc-doc/NExT-QA",
    videos="<id>.mp4, or as map_vid_vidorID.json calls them; VidOR's",
    sizes={"train": 37_523, "val": 5_343, "test": 9_178},
    unverified=(
        "the paper names two-shot prompts but no examples for this data set: none are given, llm_decoder's option "
        "shots=2 takes two of the train split",
        "that the test split is meant is inferred from 'test splits'",
        _OTHER_DATA,
    ),
    published=published_scores("nextqa-oe"),
)

BENCHMARKS = (MSRVTT_QA, MSVD_QA, NEXTQA_OE)
