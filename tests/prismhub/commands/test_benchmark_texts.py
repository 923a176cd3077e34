"""MSR-VTT's and NExT-QA's own files from the command line: what is trained and evaluated on them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pretrain.world.captioned_videos import write_captioned_videos
from tests.language_models import tiny_llm
from tests.prismhub.small_data import FAST, read_json

COUNTS = {"train": 6, "val": 2, "test": 3}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos with the files of both; read only."""
    return write_captioned_videos(tmp_path_factory.mktemp("texts"), COUNTS, size=48, num_frames=8).parent


def test_msr_vtt_teaches_retrieval_and_captions(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ("train", "--data", str(world / "MSR_VTT.json"), "--videos", str(world / "videos"), *FAST, "--epochs", "1")
    done = read_json(capsys, *data, "--adapter", "lit_text", "--tune-text", "projection")["result"]
    assert (done["protocol"], done["split"], done["n_total"]) == ("retrieval-v1", "test", COUNTS["test"])
    head = ("--llm", str(tiny_llm(tmp_path / "llm")), "--head", "max_new_tokens=4")
    done = read_json(capsys, *data, "--adapter", "llm_decoder", *head)["result"]
    assert (done["main_metric"], done["n_total"]) == ("cider", COUNTS["test"])


def test_next_qa_is_answered_by_one_of_five(
    world: Path, tmp_path: Path, private_home: Path, capsys: pytest.CaptureFixture[str], says: Callable[..., str]
) -> None:
    head = ("--llm", str(tiny_llm(tmp_path / "llm")), "--head", "max_new_tokens=4")
    videos = ("--videos", str(world / "videos"))
    train = ("train", "--data", str(world / "nextqa"), *FAST, "--adapter", "llm_decoder", *head, "--epochs", "1")
    assert "none of its 9 videos exists" in says(2, *train)
    done = read_json(capsys, *train, *videos, "--name", "answers")["result"]
    assert (done["main_metric"], done["split"], done["n_total"]) == ("accuracy", "test", 3 * COUNTS["test"])
    data = ("evaluate", "--data", str(world / "nextqa" / "val.csv"), *videos, "--adapter", "answers", "--quiet")
    assert read_json(capsys, *data)["n_total"] == 3 * COUNTS["val"]
    file = next((private_home / "results").glob("val-*.predictions.jsonl"))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    with (world / "nextqa" / "val.csv").open(newline="") as lines:
        options = {f"{one['video']}_{one['qid']}": [one[f"a{k}"] for k in range(5)] for one in csv.DictReader(lines)}
    assert {row["id"] for row in rows} == options.keys()
    assert all({row["answer"], *row["target"]} <= set(options[row["id"]]) for row in rows)
