"""VideoGLUE: eight benchmarks with trained heads (Yuan et al. 2023, arXiv 2307.03166; VideoPrism, table 2)."""

from __future__ import annotations

from core_encoder.clip_plan import ClipPlan
from tasks.benchmark import Benchmark
from tasks.families.classification import ClassificationTask
from tasks.readers.kinetics import kinetics_classes, read_kinetics

KINETICS400 = Benchmark(
    name="kinetics400",
    suite="videoglue",
    family=ClassificationTask,
    reader=read_kinetics,
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
    unverified=("the header of the CSV files and the alphabetical order of the classes are common knowledge",),
)

BENCHMARKS = (KINETICS400,)
