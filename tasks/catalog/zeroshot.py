"""Zero-shot classification and multiple choice: videos are named by words, nothing is trained (VideoPrism)."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from core_encoder.clip_plan import ClipPlan
from core_encoder.files.storage import read_json
from tasks.benchmark import Benchmark
from tasks.catalog.published import published_scores
from tasks.families.multiple_choice import MultipleChoiceTask
from tasks.families.zero_shot import ZeroShotTask
from tasks.readers.charades import charades_classes, read_charades
from tasks.readers.charades_sta import read_moments
from tasks.readers.kinetics import kinetics_classes, read_kinetics
from tasks.readers.next_qa import read_atp_hard
from tasks.readers.videocon import read_videocon, videocon_classes

_SHARED: dict[str, Any] = {"suite": "zeroshot", "plan": ClipPlan(16), "head": ""}
_PROMPTS = (
    "the paper names CLIP's prompts but no list: CLIP's 28 templates for Kinetics are taken, a class is the mean of "
    "its texts' unit vectors"
)


def _unseen() -> tuple[tuple[str, ...], ...]:
    """Three draws of 160 of the 220 classes that Kinetics-600 has and Kinetics-400 has not.

    Source: tst_class_idxs.json of DeLightCMU/ElaborativeRehearsal (Chen and Huang, ICCV 2021).
    """
    sets = read_json(Path(__file__).with_name("kinetics600_unseen.json"))
    return tuple(tuple(names) for names in sets)


KINETICS400_ZS = Benchmark(
    name="kinetics400-zs",
    family=ZeroShotTask,
    reader=read_kinetics,
    splits={"test": "val"},
    classes=functools.partial(kinetics_classes, split="val"),
    metric="top1",
    metrics=("top5",),
    protocol="zero-shot-clip-kinetics-v1",
    folder="kinetics400",
    licence="CC BY 4.0 (annotations)",
    citation="Kay et al., The Kinetics Human Action Video Dataset, arXiv 1705.06950",
    annotations="validate.csv of kinetics400.tar.gz, github.com/cvdfoundation/kinetics-dataset",
    videos="<youtube_id>_<start>_<end>.mp4 (seconds, six digits), github.com/cvdfoundation/kinetics-dataset",
    unverified=(_PROMPTS,),
    published=published_scores("kinetics400-zs"),
    **_SHARED,
)

KINETICS600_ZS = Benchmark(
    name="kinetics600-zs",
    family=ZeroShotTask,
    reader=read_kinetics,
    splits={"test": "val", "official_test": "test"},
    classes=functools.partial(kinetics_classes, split="val"),
    metric="top1",
    metrics=("top5", "top1@sets", "top1@sets_sd", "top5@sets", "top5@sets_sd"),
    options={"class_sets": _unseen()},
    protocol="zero-shot-clip-kinetics-v1",
    folder="kinetics600",
    licence="CC BY 4.0 (annotations)",
    citation="Carreira et al., A Short Note about Kinetics-600, arXiv 1808.01340; class sets: Chen and Huang, "
    "Elaborative Rehearsal, ICCV 2021, arXiv 2108.02833",
    annotations="val.csv (or validate.csv) and test.csv of Kinetics-600, github.com/cvdfoundation/kinetics-dataset",
    videos="<youtube_id>_<start>_<end>.mp4 (seconds, six digits), github.com/cvdfoundation/kinetics-dataset",
    unverified=(
        "the paper compares with scores over all 600 classes and with scores over three draws of 160 classes that "
        "Kinetics-400 lacks, and does not say which its own are: top1 is over all, top1@sets the mean over the draws, "
        "top1@sets_sd its standard deviation",
        "the draws were published for the clips of the official test set, which can be read as split official_test",
        _PROMPTS,
    ),
    published=published_scores("kinetics600-zs"),
    **_SHARED,
)


def _videocon(split: str, videos: int, templates: int) -> Benchmark:
    """One of VideoCon's two lists of Something-Something."""
    return Benchmark(
        name=f"ssv2-{split}",
        family=ZeroShotTask,
        reader=read_videocon,
        splits={"test": split},
        classes=functools.partial(videocon_classes, split=split),
        metric="top1",
        metrics=("map",),
        protocol="zero-shot-videocon-v1",
        folder="ssv2",
        licence="for academic use (videos), MIT (lists)",
        citation="Bansal et al., VideoCon, CVPR 2024, arXiv 2311.10111; Goyal et al., Something-Something, ICCV 2017",
        annotations=f"datasets/eval_ssv2_{split}.csv, github.com/Hritikbansal/videocon",
        videos="<id>.webm or .avi, Something-Something V2 of Qualcomm",
        sizes={"test": videos},
        unverified=(
            f"the paper calls its score top-1 accuracy (over {templates} templates), but VideoCon, whose row it cites, "
            "reports mean average precision of finding the videos of each template: both are computed, and the "
            "published scores may belong to either",
            _PROMPTS,
        ),
        published=published_scores(f"ssv2-{split}"),
        **_SHARED,
    )


SSV2_TEMPORAL = _videocon("temporal", 216, 18)
SSV2_EVENTS = _videocon("events", 588, 49)

NEXTQA_ATP_HARD = Benchmark(
    name="nextqa-atp-hard",
    family=MultipleChoiceTask,
    reader=read_atp_hard,
    splits={"test": "val"},
    metric="accuracy",
    metrics=tuple(f"accuracy@{kind}" for kind in ("C", "CW", "CH", "T", "TN", "TC")),
    protocol="multiple-choice-question-option-v1",
    folder="nextqa",
    licence="MIT (annotations)",
    citation="Xiao et al., NExT-QA, CVPR 2021; ATP-Hard: Buch et al., Revisiting the Video in Video-Language "
    "Understanding, CVPR 2022",
    annotations="val.csv and map_vid_vidorID.json, github.com/doc-doc/NExT-QA; ATP-Hard's list of its rows comes with "
    "the package, atp-hard-ct4.txt beside it would take its place",
    videos="<id>.mp4, or as map_vid_vidorID.json calls them; VidOR's",
    sizes={"test": 2_269},
    unverified=(
        "the paper does not say how a question and an option become one text: they are joined by a space; the option "
        "alone is wording '{option}'",
        "the list of rows was rebuilt from VideoCon's copy of ATP-Hard; atp-hard-ct4.txt itself was not seen",
    ),
    published=published_scores("nextqa-atp-hard"),
    **_SHARED,
)

CHARADES_ZS = Benchmark(
    name="charades-zs",
    family=ZeroShotTask,
    reader=read_charades,
    splits={"test": "test"},
    classes=charades_classes,
    metric="map",
    options={"multi_label": True},
    protocol="zero-shot-charades-map-v1",
    folder="charades",
    licence="Charades licence: non-commercial",
    citation="Sigurdsson et al., Hollywood in Homes, ECCV 2016, arXiv 1604.01753",
    annotations="Charades_v1_test.csv and Charades_v1_classes.txt of Charades.zip, prior.allenai.org/projects/charades",
    videos="<id>.mp4, Charades_v1_480.zip of prior.allenai.org/projects/charades",
    sizes={"test": 1_814},
    unverified=(
        _PROMPTS,
        "a class ranks videos by their cosines with its text; whether the paper took a softmax over the classes first, "
        "which ranks otherwise, is not said",
        "the count is that of VideoGLUE's table, which fits the videos with an action, of 1,863 in the file",
        "a class of which no video is judged is left out of the mean, which would officially be none",
    ),
    published=published_scores("charades-zs"),
    **_SHARED,
)

CHARADES_STA_MC = Benchmark(
    name="charades-sta-mc",
    family=MultipleChoiceTask,
    reader=read_moments,
    splits={"test": "test"},
    metric="accuracy",
    metrics=("accuracy@several",),
    options={"wording": "{option}"},
    protocol="multiple-choice-moments-v1",
    folder="charades",
    licence="none stated (sentences), Charades licence: non-commercial (videos)",
    citation="Gao et al., TALL, ICCV 2017, arXiv 1705.02101",
    annotations="charades_sta_test.txt, github.com/jiyanggao/TALL",
    videos="<id>.mp4, Charades_v1_480.zip of prior.allenai.org/projects/charades",
    sizes={"test": 3_720},
    unverified=(
        "the paper does not say what becomes of videos with one sentence: they count as right in accuracy, "
        "accuracy@several is without them",
        "equal sentences of a video are one option; of two different sentences about the same seconds only the "
        "moment's own is right; an end after that of the video is cut there",
    ),
    published=published_scores("charades-sta-mc"),
    **_SHARED,
)

BENCHMARKS = (
    KINETICS400_ZS,
    KINETICS600_ZS,
    SSV2_TEMPORAL,
    SSV2_EVENTS,
    NEXTQA_ATP_HARD,
    CHARADES_ZS,
    CHARADES_STA_MC,
)
