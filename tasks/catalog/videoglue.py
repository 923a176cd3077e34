"""VideoGLUE: eight benchmarks with trained heads (Yuan et al. 2023, arXiv 2307.03166; VideoPrism, table 2)."""

from __future__ import annotations

from functools import partial

from core_encoder.clip_plan import ClipPlan
from tasks.benchmark import Benchmark
from tasks.catalog.published import published_scores
from tasks.families.classification import ClassificationTask
from tasks.families.spatiotemporal import SpatiotemporalTask
from tasks.families.temporal_localization import TemporalLocalizationTask
from tasks.readers.activitynet import activitynet_classes, read_activitynet_subset
from tasks.readers.charades import charades_classes, read_charades
from tasks.readers.diving48 import diving48_classes, read_diving48
from tasks.readers.kinetics import kinetics_classes, read_kinetics
from tasks.readers.moments_in_time import moments_in_time_classes, read_moments_in_time
from tasks.readers.official_ava import ava_classes, read_ava_kinetics_split, read_ava_split
from tasks.readers.something_something import read_something_something, something_something_classes

KINETICS400 = Benchmark(
    name="kinetics400",
    suite="videoglue",
    family=ClassificationTask,
    reader=partial(read_kinetics, classes_of="train"),
    splits={"train": "train", "test": "val"},
    classes=kinetics_classes,
    metric="top1",
    metrics=("top5",),
    protocol="classification-v1",
    plan=ClipPlan(16, "stride", stride=4, views=4),
    licence="CC BY 4.0 (annotations)",
    citation="Kay et al., The Kinetics Human Action Video Dataset, arXiv 1705.06950",
    annotations="train.csv and validate.csv of kinetics400.tar.gz, github.com/cvdfoundation/kinetics-dataset",
    videos="<youtube_id>_<start>_<end>.mp4 (seconds, six digits), github.com/cvdfoundation/kinetics-dataset",
    sizes={"train": 235_693, "test": 19_165},
    unverified=(
        "the header of the CSV files is that of the copies in ActivityNet's repository; the alphabetical order of the "
        "classes is common knowledge",
        "one central crop of four clips is judged, not three crops of each",
    ),
    published=published_scores("kinetics400"),
)

MOMENTS_IN_TIME = Benchmark(
    name="moments-in-time",
    suite="videoglue",
    family=ClassificationTask,
    reader=read_moments_in_time,
    splits={"train": "training", "test": "validation"},
    classes=moments_in_time_classes,
    metric="top1",
    metrics=("top5",),
    protocol="classification-v1",
    plan=ClipPlan(16, "stride", stride=4, views=4),
    licence="Moments in Time licence: non-commercial research and education",
    citation="Monfort et al., Moments in Time Dataset, arXiv 1801.03150",
    annotations="Moments_in_Time_Raw (version 1, 339 classes), moments.csail.mit.edu",
    videos="training/<class>/<name>.mp4 and validation/<class>/<name>.mp4 of the same archive",
    sizes={"train": 791_246, "test": 33_898},
    unverified=(
        "the columns of the CSV files are common knowledge",
        "VideoGLUE's table counts 33,898 videos of validation, its configuration 33,900",
        "one central crop of four clips is judged, not three crops of each",
    ),
    published=published_scores("moments-in-time"),
)

SSV2 = Benchmark(
    name="ssv2",
    suite="videoglue",
    family=ClassificationTask,
    reader=read_something_something,
    splits={"train": "train", "test": "validation"},
    classes=something_something_classes,
    metric="top1",
    metrics=("top5",),
    protocol="classification-v1",
    plan=ClipPlan(16),
    licence="Something-Something licence: research only",
    citation="Goyal et al., The Something Something Video Database, arXiv 1706.04261",
    annotations="something-something-v2-{labels,train,validation}.json, qualcomm.com/developer/software",
    videos="<id>.webm of the same download",
    sizes={"train": 168_913, "test": 24_777},
    unverified=(
        "the fields of the JSON files are common knowledge",
        "one central crop is judged, not three",
    ),
    published=published_scores("ssv2"),
)

DIVING48 = Benchmark(
    name="diving48",
    suite="videoglue",
    family=ClassificationTask,
    reader=read_diving48,
    splits={"train": "train", "test": "test"},
    classes=diving48_classes,
    metric="top1",
    metrics=("top5", "mean_class_accuracy"),
    protocol="classification-v1",
    plan=ClipPlan(16, "stride", stride=4, views=4),
    licence="none stated",
    citation="Li, Li and Vasconcelos, RESOUND, ECCV 2018; annotations of version 2",
    annotations="Diving48_V2_{train,test}.json and Diving48_vocab.json, svcl.ucsd.edu/projects/resound",
    videos="<vid_name>.mp4 of Diving48_rgb.tar.gz, svcl.ucsd.edu/projects/resound",
    sizes={"train": 15_027, "test": 1_970},
    unverified=(
        "the fields of the JSON files are common knowledge",
        "one central crop of four clips is judged, not three crops of each",
    ),
    published=published_scores("diving48"),
)

CHARADES = Benchmark(
    name="charades",
    suite="videoglue",
    family=ClassificationTask,
    reader=read_charades,
    splits={"train": "train", "test": "test"},
    classes=charades_classes,
    metric="map",
    protocol="classification-v1, videos with an action",
    plan=ClipPlan(16, "fps", fps=6, views=4),
    options={"multi_label": True},
    licence="Charades licence: non-commercial",
    citation="Sigurdsson et al., Hollywood in Homes, arXiv 1604.01753",
    annotations=(
        "Charades_v1_train.csv, Charades_v1_test.csv and Charades_v1_classes.txt of Charades.zip, "
        "prior.allenai.org/projects/charades"
    ),
    videos="<id>.mp4 of Charades_v1_480.zip or Charades_v1.zip, prior.allenai.org/projects/charades",
    sizes={"train": 7_811, "test": 1_814},
    unverified=(
        "VideoGLUE's code judges by an interpolated area under 200 points, the official mAP is taken here",
        "how VideoGLUE cuts the videos into its examples is unknown: a video is one sample of four clips here",
        "the counts are those of VideoGLUE's table, which fit videos with an action; of 7,985 and 1,863 in the files",
        "the columns of the CSV files are common knowledge",
        "a class of which no video is judged is left out of the mean, which would officially be none; with all videos "
        "every class has some",
    ),
    published=published_scores("charades"),
)

ACTIVITYNET = Benchmark(
    name="activitynet",
    suite="videoglue",
    family=TemporalLocalizationTask,
    reader=read_activitynet_subset,
    splits={"train": "training", "test": "validation"},
    classes=activitynet_classes,
    metric="map",
    metrics=("map@0.5", "map@0.75", "map@0.95", "ar@100", "auc"),
    protocol="temporal-localization-v1",
    plan=ClipPlan(16, "dense", fps=15, window_stride=16),
    head="temporal_localizer",
    options={"strict_times": False},
    licence="ActivityNet terms: research",
    citation="Heilbron et al., ActivityNet, CVPR 2015 (version 1.3)",
    annotations="activity_net.v1-3.min.json, activity-net.org",
    videos="v_<id>.mp4, by request from activity-net.org",
    sizes={"train": 10_002, "test": 4_926},
    unverified=(
        "VideoGLUE counts 4,926 videos of validation in its table and 4,985 in its text",
        "whether an external classifier of whole videos took part in the published scores is unknown: none does here",
        "no video is blocked, and no segment that is there twice is removed",
    ),
    published=published_scores("activitynet"),
)

AVA = Benchmark(
    name="ava",
    suite="videoglue",
    family=SpatiotemporalTask,
    reader=read_ava_split,
    splits={"train": "train", "test": "val"},
    classes=ava_classes,
    metric="frame_map",
    protocol="ava-frame-map-v1, boxes: SlowFast's detector at 0.8",
    plan=ClipPlan(16),
    head="spatiotemporal_localizer",
    licence="CC BY 4.0 (annotations)",
    citation="Gu et al., AVA, arXiv 1705.08421 (version 2.2)",
    annotations=(
        "research.google.com/ava (ava_v2.2.zip); ava_val_predicted_boxes.csv with SlowFast, "
        "github.com/facebookresearch/SlowFast, slowfast/datasets/DATASET.md"
    ),
    videos="<video_id>.mp4, whole or cut from second 900, github.com/cvdfoundation/ava-dataset",
    sizes={"train": 210_634, "test": 57_371},
    unverified=(
        "published scores may come of VideoGLUE's evaluator, which skips moments; the official rules are followed here",
        "training asks about the true boxes; VideoGLUE adds detected ones with a score of 0.9 or more",
    ),
    published=published_scores("ava"),
)

AVA_KINETICS = Benchmark(
    name="ava-kinetics",
    suite="videoglue",
    family=SpatiotemporalTask,
    reader=read_ava_kinetics_split,
    splits={"train": "train", "test": "val"},
    classes=ava_classes,
    metric="frame_map",
    protocol="ava-frame-map-v1, boxes: ground truth",
    plan=ClipPlan(16),
    head="spatiotemporal_localizer",
    licence="CC BY 4.0 (annotations)",
    citation="Li et al., The AVA-Kinetics Localized Human Actions Video Dataset, arXiv 2005.00214",
    annotations="ava_kinetics_v1_0.tar.gz and the label map of ava_v2.2.zip, research.google.com/ava",
    videos="those of ava, and <youtube_id>_<start>_<end>.mp4 of kinetics700, github.com/cvdfoundation",
    sizes={"train": 354_201, "test": 91_919},
    unverified=(
        "published scores ask about boxes of a CenterNet that nobody gives out; the true boxes are asked about here, "
        "which is easier: the scores cannot be compared",
        "VideoGLUE counts 354,201 moments of training in its table and 353,201 in its configuration",
        "that AVA and the Kinetics part are judged together is common knowledge",
    ),
    published=published_scores("ava-kinetics"),
)

BENCHMARKS = (KINETICS400, MOMENTS_IN_TIME, SSV2, DIVING48, CHARADES, ACTIVITYNET, AVA, AVA_KINETICS)
