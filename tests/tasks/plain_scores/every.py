"""What each benchmark's cell must have scored: a function of its data's folder and the lines of its predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.tasks.plain_scores import by_words, classified, localized, told
from tests.tasks.plain_scores.measures import Line

PLAIN_SCORES: Mapping[str, Callable[[Path, Sequence[Line]], dict[str, float]]] = {
    "kinetics400": classified.kinetics400,
    "moments-in-time": classified.moments_in_time,
    "ssv2": classified.ssv2,
    "diving48": classified.diving48,
    "charades": classified.charades,
    "activitynet": localized.activitynet,
    "ava": localized.ava,
    "ava-kinetics": localized.ava_kinetics,
    "msrvtt-t2v": by_words.retrieval("t2v", by_words.msrvtt_1k),
    "msrvtt-v2t": by_words.retrieval("v2t", by_words.msrvtt_1k),
    "vatex-t2v": by_words.retrieval("t2v", by_words.vatex_half),
    "vatex-v2t": by_words.retrieval("v2t", by_words.vatex_half),
    "activitynet-t2v": by_words.retrieval("t2v", by_words.activitynet_paragraphs),
    "activitynet-v2t": by_words.retrieval("v2t", by_words.activitynet_paragraphs),
    "kinetics400-zs": classified.kinetics400,
    "kinetics600-zs": by_words.kinetics600,
    "ssv2-temporal": by_words.videocon("temporal"),
    "ssv2-events": by_words.videocon("events"),
    "nextqa-atp-hard": by_words.nextqa_atp_hard,
    "charades-zs": by_words.charades_zs,
    "charades-sta-mc": by_words.charades_sta_mc,
    "msrvtt-cap": told.captions(told.msrvtt_captions),
    "vatex-cap": told.captions(told.vatex_captions),
    "youcook2-cap": told.captions(told.youcook2_captions),
    "msrvtt-qa": told.video_qa("MSRVTT-QA", "video"),
    "msvd-qa": told.video_qa("MSVD-QA", "vid"),
    "nextqa-oe": told.nextqa_oe,
    "fly-vs-fly": classified.fly_vs_fly,
    "calms21": classified.calms21,
    "crim13-side": classified.crim13,
    "crim13-top": classified.crim13,
    "kabr": classified.kabr,
    "chimpact": localized.chimpact,
}
