"""Animal behaviour: six benchmarks with trained heads (VideoPrism, table 7)."""

from __future__ import annotations

from functools import partial

from core_encoder.clip_plan import ClipPlan
from tasks.benchmark import Benchmark
from tasks.catalog.published import published_scores
from tasks.families.classification import ClassificationTask
from tasks.families.spatiotemporal import SpatiotemporalTask
from tasks.readers.calms21 import BEHAVIOURS as MOUSE_BEHAVIOURS
from tasks.readers.calms21 import read_calms21
from tasks.readers.chimpact import BEHAVIOURS as CHIMPANZEE_BEHAVIOURS
from tasks.readers.chimpact import read_chimpact
from tasks.readers.crim13 import crim13_classes, read_crim13
from tasks.readers.fly_vs_fly import BEHAVIOURS as FLY_BEHAVIOURS
from tasks.readers.fly_vs_fly import read_fly_vs_fly
from tasks.readers.kabr import kabr_classes, read_kabr

FLY_VS_FLY = Benchmark(
    name="fly-vs-fly",
    suite="science",
    family=ClassificationTask,
    reader=read_fly_vs_fly,
    splits={"train": "train", "test": "test"},
    classes=FLY_BEHAVIOURS,
    metric="map",
    protocol="classification-v1, behaviours of interest, own division of the movies",
    plan=ClipPlan(16, "stride", stride=1),
    options={"multi_label": True},
    licence="CC BY 4.0",
    citation="Eyjolfsdottir et al., Detecting Social Actions of Fruit Flies, ECCV 2014",
    annotations="movieN_actions.mat (and movieN_track.mat), data.caltech.edu/records/zrznw-w7386",
    videos="movieN.mp4 beside its annotations, made of the recordings of the same record",
    sizes={"train": 1_067_008},
    unverified=(
        "which movies are for training and which are judged could not be found: put them in folders train and test",
        "the names of behaviours in the files and that frames are counted from 1 are common knowledge",
        "frames without the position of a fly are left out where movieN_track.mat is there; how the authors tell them "
        "is not known",
    ),
    published=published_scores("fly-vs-fly"),
)

CALMS21 = Benchmark(
    name="calms21",
    suite="science",
    family=ClassificationTask,
    reader=read_calms21,
    splits={"train": "train", "test": "test"},
    classes=MOUSE_BEHAVIOURS,
    metric="map",
    protocol="classification-v1, behaviours of interest",
    plan=ClipPlan(16, "stride", stride=1),
    options={"multi_label": True},
    licence="CC BY 4.0",
    citation="Sun et al., The Multi-Agent Behavior Dataset, arXiv 2104.02710 (task 1)",
    annotations="calms21_task1_{train,test}.json, data.caltech.edu/records/s0vdx-0k302",
    videos="<video>.mp4 of task1_videos_mp4, data.caltech.edu/records/s0vdx-0k302",
    sizes={"train": 430_592, "test": 262_107},
    unverified=(
        "the three behaviours are learned apart from each other, other being none of them; whether the published "
        "heads learned four exclusive classes is not known",
        "of 16 frames the ninth is taken for the middle one",
    ),
    published=published_scores("calms21"),
)


def _crim13(view: str) -> Benchmark:
    return Benchmark(
        name=f"crim13-{view}",
        suite="science",
        family=ClassificationTask,
        reader=partial(read_crim13, view=view),
        splits={"train": "train", "test": "test"},
        classes=crim13_classes,
        metric="map",
        protocol="classification-v1, behaviours of interest, 16 frames side by side, own division of the videos",
        plan=ClipPlan(16, "stride", stride=1),
        options={"multi_label": True},
        folder="crim13",
        licence="CC BY 4.0",
        citation="Burgos-Artizzu et al., Social Behavior Recognition in Continuous Video, CVPR 2012",
        annotations="the annotation texts of data.caltech.edu/records/4emt5-b0t10, in folders train and test",
        videos=f"<text>_{view}.mp4, made of the recordings (.seq) of the same record",
        unverified=(
            "which videos are for training and which are judged (104 and 133 by common knowledge) could not be found: "
            "put texts and videos in folders train and test",
            "which frames the published scores are of is not known: clips of 16 frames are laid side by side here",
            "that only the class other is left out, and the form of the texts, are common knowledge",
        ),
        published=published_scores(f"crim13-{view}"),
    )


CRIM13_SIDE, CRIM13_TOP = _crim13("side"), _crim13("top")

KABR = Benchmark(
    name="kabr",
    suite="science",
    family=ClassificationTask,
    reader=read_kabr,
    splits={"train": "train", "test": "val"},
    classes=kabr_classes,
    metric="mean_class_accuracy",
    metrics=("top1",),
    protocol="classification-v1, clips of 80 frames side by side, eight classes",
    plan=ClipPlan(16, "stride", stride=5),
    licence="CC0 1.0",
    citation="Kholiavchenko et al., KABR: In-Situ Dataset for Kenyan Animal Behavior Recognition, WACV 2024",
    annotations="annotation/{train,val}.csv and annotation/classes.json of huggingface.co/datasets/imageomics/KABR",
    videos="<original_vido_id>.mp4, joined from its pictures: ffmpeg -framerate 30 -i ZG0001.1/%d.jpg ZG0001.1.mp4",
    unverified=(
        "whether the class Occluded counts in the published mean is not known: it does here",
        "how the published scores cut the videos is not known: clips of 16 frames, five apart, are laid side by side "
        "here, each with the behaviour in its middle",
    ),
    published=published_scores("kabr"),
)

CHIMPACT = Benchmark(
    name="chimpact",
    suite="science",
    family=SpatiotemporalTask,
    reader=read_chimpact,
    splits={"train": "train", "val": "val", "test": "test"},
    classes=CHIMPANZEE_BEHAVIOURS,
    metric="frame_map",
    protocol="chimpact-frame-map-v1, boxes: ground truth",
    plan=ClipPlan(16),
    head="spatiotemporal_localizer",
    options={"most_rows": None},
    licence="CC BY 4.0",
    citation="Ma et al., ChimpACT, arXiv 2310.16447",
    annotations="{train,val,test}_action.csv, by tools/create_ava_dataset.py of github.com/ShirleyMaxx/ChimpACT",
    videos="<clip>.mp4 of videos_full in the release, github.com/ShirleyMaxx/ChimpACT",
    unverified=(
        "that the frames are counted from 0 is taken from the tool that writes the CSV",
        "the authors leave classes out that nothing is detected of; here every class with ground truth counts",
        "the authors drop scores of 0.002 or less; here all count",
    ),
    published=published_scores("chimpact"),
)

BENCHMARKS = (FLY_VS_FLY, CALMS21, CRIM13_SIDE, CRIM13_TOP, KABR, CHIMPACT)
