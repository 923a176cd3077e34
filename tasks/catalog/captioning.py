"""Captioning: what a language model says of a video it sees through a frozen encoder (VideoPrism)."""

from __future__ import annotations

import functools
from typing import Any

from core_encoder.clip_plan import ClipPlan
from tasks.benchmark import Benchmark
from tasks.catalog.published import published_scores
from tasks.families.language import LanguageTask
from tasks.readers.msr_vtt_splits import read_msr_vtt
from tasks.readers.texts import texts_of
from tasks.readers.vatex import read_vatex
from tasks.readers.youcook2 import read_youcook2

_SHARED: dict[str, Any] = {
    "suite": "captioning",
    "family": LanguageTask,
    "metric": "cider",
    "metrics": ("bleu4", "rouge_l"),
    "plan": ClipPlan(16),
    "head": "llm_decoder",
    "head_options": {"max_new_tokens": 32, "beams": 1},
}
_ZERO_SHOT = (
    "the published scores are zero-shot: their decoder learned from other videos, with PaLM-2 as language model; a "
    "decoder trained on the train split has seen captions of this style"
)
_TOKENS = "which tokens the paper took is not said: those of pycocoevalcap (PTB), after which CIDEr-D is times 100"

MSRVTT_CAP = Benchmark(
    name="msrvtt-cap",
    reader=functools.partial(texts_of, read_msr_vtt),
    splits={"train": "train", "val": "val", "test": "test"},
    protocol="captions-ptb-v1",
    folder="msrvtt",
    licence="none stated; research",
    citation="Xu et al., MSR-VTT, CVPR 2016",
    annotations="MSRVTT_data.json of msrvtt_data.zip, github.com/ArrowLuo/CLIP4Clip; or MSR_VTT.json of MSRVTT.zip, "
    "github.com/m-bain/frozen-in-time; or train_val_videodatainfo.json and test_videodatainfo.json",
    videos="video<number>.mp4, MSRVTT.zip of github.com/m-bain/frozen-in-time",
    sizes={"train": 6_513, "val": 497, "test": 2_990},
    unverified=(
        "that the whole official test split is meant is inferred from 'test splits'; where the file names no splits, "
        "they go by number: videos 0 to 6512, to 7009, to 9999",
        _TOKENS,
        _ZERO_SHOT,
    ),
    published=published_scores("msrvtt-cap"),
    **_SHARED,
)

VATEX_CAP = Benchmark(
    name="vatex-cap",
    reader=functools.partial(texts_of, read_vatex),
    splits={"train": "training", "val": "validation", "test": "public_test"},
    protocol="captions-ptb-v1",
    folder="vatex",
    licence="CC BY 4.0 (annotations)",
    citation="Wang et al., VATEX, ICCV 2019, arXiv 1904.03493",
    annotations="vatex_training_v1.0.json, vatex_validation_v1.0.json and vatex_public_test_english_v1.1.json, "
    "eric-xw.github.io/vatex-website",
    videos="<videoID>.mp4, films of YouTube cut to the seconds in their id",
    sizes={"train": 25_991, "val": 3_000, "test": 6_000},
    unverified=("the paper does not name its test videos: the public test set is taken", _TOKENS, _ZERO_SHOT),
    published=published_scores("vatex-cap"),
    **_SHARED,
)

YOUCOOK2_CAP = Benchmark(
    name="youcook2-cap",
    reader=read_youcook2,
    splits={"train": "training", "test": "validation"},
    protocol="captions-segments-ptb-v1",
    folder="youcook2",
    licence="none stated; research",
    citation="Zhou et al., Towards Automatic Learning of Procedures from Web Instructional Videos, AAAI 2018",
    annotations="youcookii_annotations_trainval.json, youcook2.eecs.umich.edu/download",
    videos="<id>.mp4, of YouTube",
    unverified=(
        "the sentences of the test videos are not public: the segments of the validation videos are captioned, each by "
        "itself, from video alone",
        _TOKENS,
        _ZERO_SHOT,
    ),
    published=published_scores("youcook2-cap"),
    **_SHARED,
)

BENCHMARKS = (MSRVTT_CAP, VATEX_CAP, YOUCOOK2_CAP)
