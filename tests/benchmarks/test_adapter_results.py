"""Results go into the adapter's card as the Hub's own code reads them: `model-index` and `.eval_results`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from huggingface_hub.repocard_data import EvalResult, model_index_to_eval_results

from adapters import load_adapter
from adapters.card import AdapterInfo, CardText, model_card, read_info
from adapters.context import Context
from adapters.kinds.linear import Linear
from adapters.saved_adapter import copy_adapter
from adapters.scores import Score, Scores
from adapters.task_scores import EVAL_RESULTS_FILE
from benchmarks.adapter_results import record_results
from benchmarks.results import Provenance, Result
from core_encoder.clip_plan import ClipPlan
from core_encoder.errors import InputError
from core_encoder.features.feature_spec import FeatureSpec
from core_encoder.preprocessing import Preprocessing

SPEC = FeatureSpec("nano", "cd34", ClipPlan(8), Preprocessing(48), "pyav-1", kind="clip")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    adapter = Linear.build({}, Context.of_classes(4, ("ant", "bee")))
    own = Scores({"top1": Score(0.5)}, "top1", 10, 10, "test")
    card = CardText("video-classification")
    about: dict[str, Any] = {"features": SPEC, "card": card, "dataset": "pond", "evaluations": (own,)}
    adapter.info = replace(adapter.info, **about)
    return adapter.save_pretrained(tmp_path / "insects")


def write_result(folder: Path, file: str = "result.json", **changes: Any) -> Path:
    """A result of the adapter in `folder`, written beside it."""
    scores = Scores({"top5": Score(1), "top1": Score(0.814, 0.72, 0.88)}, "top1", 98, 100, "test", ("x", "y"))
    about: dict[str, Any] = {
        "task": "kinetics400",
        "split": "test",
        "protocol": "kinetics400-v1",
        "data_digest": "ab12",
        "label_names": ["ant", "bee"],
        "adapter": "insects",
        "adapter_sha256": read_info(folder).weights_sha256,
        "encoder": "nano",
        "encoder_fingerprint": "cd34",
        "provenance": replace(Provenance.collect(), created_utc="2026-11-30T10:00:00+00:00"),
    }
    return Result.of(scores, **about | changes).write(folder.parent / file)


def index_of(card: Path) -> dict[tuple[str, str, str], EvalResult]:
    """What the Hub's reader of a `model-index` finds, by data set, split and metric."""
    front = yaml.safe_load(card.read_text(encoding="utf-8").split("---\n")[1])
    name, results = model_index_to_eval_results(front["model-index"])
    assert name == "insects"
    assert ModelCard(card.read_text(encoding="utf-8")).data.eval_results == results
    return {(one.dataset_type, one.dataset_split or "", one.metric_type): one for one in results}


def test_results_are_in_the_model_index(folder: Path) -> None:
    url = "https://example.org/run"
    record_results(folder, [write_result(folder)], "insects", source_url=url)
    index = index_of(folder / "README.md")
    assert set(index) == {("pond", "test", "top1"), ("kinetics400", "test", "top1"), ("kinetics400", "test", "top5")}
    found = index["kinetics400", "test", "top1"]
    assert (found.metric_value, found.task_type, found.source_url) == (0.814, "video-classification", url)
    counts = {"n_evaluated": 98, "n_total": 100, "interval": [0.72, 0.88]}
    assert found.metric_args == {"protocol": "kinetics400-v1", **counts}
    assert index["pond", "test", "top1"].metric_value == 0.5 and index["pond", "test", "top1"].source_url is None
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "| kinetics400 | top1 | test | 0.8140 | 0.7200 to 0.8800 | 98 of 100 | kinetics400-v1 |" in text
    assert not (folder / EVAL_RESULTS_FILE).exists(), "no leaderboard was named"


def test_a_leaderboard_reads_the_main_metric(folder: Path) -> None:
    hub: dict[str, str] = {"dataset_id": "someone/kinetics", "task_id": "k400", "source_url": "https://example.org/run"}
    record_results(folder, [write_result(folder)], "insects", **hub)
    content = yaml.safe_load((folder / EVAL_RESULTS_FILE).read_text(encoding="utf-8"))
    assert content == [
        {
            "dataset": {"id": "someone/kinetics", "task_id": "k400"},
            "value": 81.4,
            "date": "2026-11-30T10:00:00+00:00",
            "source": {"url": "https://example.org/run"},
            "notes": "top1 in per cent, split test, protocol kinetics400-v1, 98 of 100, linear on frozen nano",
        }
    ]
    (entry,) = parse_eval_result_entries(content)
    assert (entry.dataset_id, entry.task_id, entry.value) == ("someone/kinetics", "k400", 81.4)
    assert index_of(folder / "README.md")["someone/kinetics", "test", "top1"].dataset_config == "k400"


def test_scores_that_are_no_fractions_stay_as_they_are(folder: Path) -> None:
    captions = Scores({"cider": Score(1.23, unit="")}, "cider", 5, 5, "test")
    result = Result.read(write_result(folder))
    replace(result, scores=dict(captions.values), main_metric="cider").write(folder.parent / "captions.json")
    record_results(folder, [folder.parent / "captions.json"], "insects", dataset_id="someone/captions")
    (entry,) = parse_eval_result_entries(yaml.safe_load((folder / EVAL_RESULTS_FILE).read_text()))
    assert entry.value == 1.23 and entry.task_id == "default" and entry.notes and entry.notes.startswith("cider, split")


def test_the_last_result_of_a_split_counts(folder: Path) -> None:
    again = write_result(folder, "again.json", task="pond", protocol="own-v1")
    record_results(folder, [write_result(folder)], "insects", dataset_id="someone/kinetics")
    record_results(folder, [again, write_result(folder)], "insects")
    index = index_of(folder / "README.md")
    assert {key[:2] for key in index} == {("pond", "test"), ("kinetics400", "test")}
    assert index["pond", "test", "top1"].metric_value == 0.814, "its own score gave way"
    assert len(read_info(folder).results) == 2 and not (folder / EVAL_RESULTS_FILE).exists()


def test_what_people_wrote_into_the_card_stays(folder: Path) -> None:
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8").replace("license: unknown", "license: mit\nlanguage: en")
    card.write_text(text.replace("## Limits\n", "## Our pond\n\nIt is deep.\n\n## Limits\n"), encoding="utf-8")
    for _ in range(2):  # a second time changes nothing more
        record_results(folder, [write_result(folder)], "insects")
        now = card.read_text(encoding="utf-8")
        assert "license: mit\nlanguage: en\n" in now and "\n\n## Our pond\n\nIt is deep.\n\n## Limits\n" in now
        assert now.count("## Results") == now.count("| kinetics400 | top1 |") == 1
    card.unlink()
    info = record_results(folder, [write_result(folder)], "insects")
    assert card.read_text(encoding="utf-8") == model_card(info, "insects")


def test_results_travel_with_the_adapter(folder: Path, tmp_path: Path) -> None:
    info = record_results(folder, [write_result(folder)], "insects", dataset_id="someone/kinetics")
    assert AdapterInfo.from_json(info.to_json()) == info == read_info(folder) and len(info.results) == 1
    copy_adapter(folder, tmp_path / "copy")
    saved = load_adapter(folder).save_pretrained(tmp_path / "saved" / "insects")
    for other in (tmp_path / "copy", saved):
        assert (other / EVAL_RESULTS_FILE).read_bytes() == (folder / EVAL_RESULTS_FILE).read_bytes()
        assert index_of(other / "README.md") == index_of(folder / "README.md")
    load_adapter(saved).save_pretrained(saved)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"adapter_sha256": "ee"}, {}, "result.json: a result of 'insects', whose weights are not those of this"),
        ({"adapter_sha256": None, "encoder_fingerprint": "ff"}, {}, "on encoder 'nano', not on that of this adapter"),
        ({"adapter_sha256": None, "label_names": ["ant"]}, {}, "whose classes are not those of this adapter"),
        ({"adapter": "insects + names"}, {}, "two adapters together"),
        ({}, {"dataset_id": "kinetics"}, "'kinetics' is no data set of the Hub, whose ids are owner/name"),
        ({}, {"source_url": "here"}, "'here' is no address"),
    ],
)
def test_foreign_results_are_refused(folder: Path, changes: Any, options: Any, message: str) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match=message):
        record_results(folder, [write_result(folder, **changes)], "insects", **options)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_one_leaderboard_at_a_time(folder: Path) -> None:
    both = [write_result(folder), write_result(folder, "b.json", task="ssv2")]
    with pytest.raises(InputError, match="one leaderboard, but the results are of kinetics400, ssv2"):
        record_results(folder, both, "insects", dataset_id="someone/kinetics")


def test_a_card_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "README.md").write_text("---\n[1, 2\n---\n# x\n")
    with pytest.raises(InputError, match=r"README.md: the front matter of the card cannot be read .*; mend or remove"):
        record_results(folder, [write_result(folder)], "insects")
    assert not read_info(folder).results
