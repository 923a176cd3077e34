"""Boxes beside a video: a server answers about them as `prismhub predict --boxes` does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.registry import save_to_registry
from core_encoder import load_encoder
from tests.adapters.every_kind import ROWS
from tests.prismhub.server.serving import serving
from tests.prismhub.small_data import read_json
from tests.videos import moving_square, write_video

BOXES: list[dict[str, Any]] = [
    {"time": 1.0, "box": [0.1, 0.2, 0.5, 0.7]},
    {"time": 1.0, "box": [0.5, 0.4, 0.9, 0.9], "track": "7"},
    {"time": 2.5, "box": [0.3, 0.4, 0.7, 0.8], "track": "7"},
]


@pytest.fixture
def who(trained: Path) -> None:
    """The home holds an adapter `who` that needs boxes, beside the classifier `x`."""
    (row,) = (row for row in ROWS if row.name == "spatiotemporal_localizer")
    save_to_registry(row.on(load_encoder("nano"), context_s=1.5), "who")


@pytest.mark.usefixtures("who")
def test_boxes_are_answered_as_predict_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(tmp_path / "a.mp4", moving_square(16 * 4, 64, 96))
    rows = [["a", f"{one['time']:.1f}", *map(str, one["box"]), "", *one.get("track", "")] for one in BOXES]
    (tmp_path / "boxes.csv").write_text("".join(",".join(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    printed = read_json(capsys, "predict", "a.mp4", "--adapter", "who", "--boxes", "boxes.csv", "--all-scores")
    with serving(adapter=["who", "x"], root=str(tmp_path)) as server:
        client = server.client
        (answer,) = client.predict(served="a.mp4", adapters=["who"], boxes=BOXES, all_scores=True)["who"]
        assert [one["time"] for one in answer["boxes"]] == [1.0, 1.0, 2.5] and list(answer["tracks"]) == ["7"]
        assert answer["video"] == "a.mp4"
        key = lambda one: (one["time"], one["box"])  # noqa: E731
        for mine, theirs in zip(*(sorted(one["boxes"], key=key) for one in (answer, printed[0])), strict=True):
            assert key(mine) == key(theirs) and mine.get("track") == theirs.get("track")
            scores = {one["label"]: one["score"] for one in theirs["labels"]}
            assert {one["label"]: one["score"] for one in mine["labels"]} == pytest.approx(scores, abs=1e-3)
        uploaded = client.predict("a.mp4", boxes=json.dumps(BOXES), all_scores=True)
        assert set(uploaded) == {"who", "x"} and len(uploaded["who"][0]["boxes"]) == 3
        assert set(client.predict("a.mp4")) == {"x"}, "without boxes nobody is asked who needs them"


@pytest.mark.usefixtures("who")
def test_boxes_that_are_none_are_refused_in_a_line(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", moving_square(16, 64, 96))
    with serving(adapter=["who", "x"], root=str(tmp_path)) as server:

        def error(boxes: object, adapter: str = "who", status: int = 422) -> str:
            asked = {"video": "a.mp4", "adapters": [adapter]} | ({} if boxes is None else {"boxes": boxes})
            reply = server.request("POST", "/v1/predict", asked)
            assert reply.status == status
            return reply.error

        one = {"time": 0.5, "box": [0.1, 0.1, 0.9, 0.9]}
        assert error(None) == "adapter 'who' needs boxes beside a video: give `boxes`, as docs/serve.md says"
        assert "none of the adapters says what those in boxes do" in error([one], "x")
        assert "a box at 7 s is beyond the end of the video, 1 s" in error([one | {"time": 7}])
        assert "has no area" in error([one | {"box": [0.5, 0.5, 0.5, 0.9]}])
        assert error([one | {"box": [1, 2, 300, 400]}]).startswith("boxes.0.box.1: ")
        assert error([one | {"box": [0.1, 0.2]}]).startswith("boxes.0.box")
        assert error([one | {"colour": "red"}]) == "boxes.0.colour: extra inputs are not permitted"
        assert "is no JSON" in error("[")
        assert error([]).startswith("boxes: ")
        assert "boxes at 61 moments are more than the 60" in error([one | {"time": i / 61} for i in range(61)])
