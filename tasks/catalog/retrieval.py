"""Zero-shot retrieval: find the video of a text and the text of a video (VideoPrism, arXiv 2402.13217)."""

from __future__ import annotations

from typing import Any

from core_encoder.clip_plan import ClipPlan
from tasks.benchmark import Benchmark
from tasks.catalog.published import published_scores
from tasks.families.retrieval import RetrievalTask
from tasks.readers.activitynet_captions import read_paragraphs
from tasks.readers.msr_vtt_splits import read_msr_vtt_1k
from tasks.readers.vatex import read_vatex

_RANKS = ("r1", "r5", "r10", "median_rank", "mean_rank")


def _in_direction(way: str, data_set: str, **known: Any) -> Benchmark:
    """One direction of a data set; both have the same videos, texts and answers."""
    name = f"{data_set}-{way}"
    return Benchmark(
        name=name,
        suite="retrieval",
        family=RetrievalTask,
        metric=f"{way}_r1",
        metrics=tuple(f"{way}_{what}" for what in _RANKS),
        plan=ClipPlan(16),
        head="",
        folder=data_set,
        published=published_scores(name),
        **known,
    )


_MSRVTT: dict[str, Any] = {
    "reader": read_msr_vtt_1k,
    "splits": {"test": "1k-a"},
    "protocol": "retrieval-1k-a-v1",
    "licence": "none stated; research",
    "citation": "Xu et al., MSR-VTT, CVPR 2016; split 1K-A: Yu et al., JSFusion, ECCV 2018",
    "annotations": "MSRVTT_JSFUSION_test.csv of msrvtt_data.zip, github.com/ArrowLuo/CLIP4Clip; or MSR_VTT.json, "
    "val_list_jsfusion.txt and jsfusion_val_caption_idx.pkl of MSRVTT.zip, github.com/m-bain/frozen-in-time",
    "videos": "video<number>.mp4, MSRVTT.zip of github.com/m-bain/frozen-in-time",
    "sizes": {"test": 1_000},
    "unverified": (
        "the pickled choice of captions was not seen: by the code that reads and writes it, it is a dictionary of "
        "video ids and numbers from 0; it is read without being run",
    ),
}
_VATEX: dict[str, Any] = {
    "reader": read_vatex,
    "splits": {"test": "validation_half", "validation": "validation", "public_test": "public_test"},
    "protocol": "retrieval-hgr-1500-v1",
    "licence": "CC BY 4.0 (annotations)",
    "citation": "Wang et al., VATEX, ICCV 2019, arXiv 1904.03493; halves of its validation videos: Chen et al., HGR, "
    "CVPR 2020",
    "annotations": "vatex_validation_v1.0.json, eric-xw.github.io/vatex-website; test_list.txt, the 1,500 ids of HGR's "
    "test half one a line, github.com/danieljf24/hybrid_space",
    "videos": "<videoID>.mp4, films of YouTube cut to the seconds in their id",
    "sizes": {"test": 1_500, "validation": 3_000, "public_test": 6_000},
    "unverified": (
        "the paper does not say which videos it searched: the 1,500 of HGR's test half are taken, as in the work it is "
        "compared with; all validation videos and the public test set can be read as splits of their own",
        "HGR's list was not seen: one id a line is expected in test_list.txt or vatex_test_list.txt",
        "that any of the ten captions of a video counts from video to text is inferred from the published scores",
        "R@5 from video to text ranks captions, as UMT and Frozen in Time do; CLIP4Clip ranks videos, which is higher",
    ),
}
_ACTIVITYNET: dict[str, Any] = {
    "reader": read_paragraphs,
    "splits": {"test": "val_1", "val_2": "val_2"},
    "protocol": "retrieval-paragraphs-v1",
    "licence": "none stated; research",
    "citation": "Krishna et al., Dense-Captioning Events in Videos, ICCV 2017, arXiv 1705.00754",
    "annotations": "val_1.json of captions.zip, cs.stanford.edu/people/ranjaykrishna/densevid",
    "videos": "v_<id>.mp4, activity-net.org",
    "sizes": {"test": 4_917},
    "unverified": (
        "the paper does not name the split: val_1 is taken, as is usual; the sentences of a video are one text",
        "a text tower reads no more of a paragraph than its context holds",
    ),
}

BENCHMARKS = tuple(
    _in_direction(way, data_set, **known)
    for data_set, known in (("msrvtt", _MSRVTT), ("vatex", _VATEX), ("activitynet", _ACTIVITYNET))
    for way in ("t2v", "v2t")
)
