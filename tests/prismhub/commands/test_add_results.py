"""`prismhub adapters add-results`: what `evaluate` wrote goes into the registered adapter, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from prismhub.cli import run


def test_an_evaluation_goes_into_the_card(
    trained: Path, splits: Path, tmp_path: Path, says: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    result, folder = tmp_path / "result.json", trained / "adapters" / "x" / "v1"
    assert run(["evaluate", "--data", str(splits), "--adapter", "x", "--split", "val", "--out", str(result)]) == 0
    record = json.loads(result.read_text())
    assert record["adapter_sha256"] == json.loads((folder / "adapter_config.json").read_text())["weights_sha256"]
    capsys.readouterr()
    hub = ["--dataset-id", "someone/pets", "--source-url", "https://example.org"]
    assert run(["adapters", "add-results", "x", str(result), *hub]) == 0
    assert capsys.readouterr().out.strip() == f"{folder}: holds 1 results"
    card = ModelCard.load(folder / "README.md")
    values = {one.metric_type: one.metric_value for one in card.data.eval_results if one.dataset_split == "val"}
    assert values == {name: score["value"] for name, score in record["scores"].items()} and card.data.model_name == "x"
    assert (folder / ".eval_results" / "prismhub.yaml").exists()
    assert run(["adapters", "show", "x"]) == 0 and "On other data, and judged again" in capsys.readouterr().out
    assert run(["evaluate", "--data", str(splits), "--adapter", "x", "--out", str(tmp_path / "again.json")]) == 0

    record["adapter_sha256"] = "00"
    result.write_text(json.dumps(record))
    assert "whose weights are not those of this adapter" in says(2, "adapters", "add-results", "x", str(result))
    assert "none.json" in says(2, "adapters", "add-results", "x", str(tmp_path / "none.json"))
    assert "is pulled first: prismhub adapters pull" in says(2, "adapters", "add-results", "me/x", str(result))
