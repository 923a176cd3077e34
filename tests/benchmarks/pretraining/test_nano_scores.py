"""The table of what nano must show: its rows, its verdicts, and zero-shot accuracy against a count by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.pretraining.intervals import Interval
from benchmarks.pretraining.nano_scores import (
    Amounts,
    Row,
    check_predecessor,
    main,
    nano_scores,
    record,
    table,
    write_card,
    zero_shot,
)
from benchmarks.pretraining.world_probes import draw_clips, random_encoder
from core_encoder.encoder import Encoder, save_encoder
from core_encoder.errors import InputError
from core_encoder.files.storage import write_json
from core_encoder.models.model_configs import TextConfig, VideoHeadConfig, VideoTextConfig, ViViTConfig
from core_encoder.models.text_tower import TextTokenizer
from core_encoder.preprocessing import to_video_tensor
from pretrain.run.export import RECORD
from pretrain.stages.tokenizer import train_tokenizer
from pretrain.world.captions import name_prompts
from pretrain.world.world_objects import SEEN_OBJECTS, ZERO_SHOT_OBJECTS
from tests.benchmarks.pretraining.tiny import PROBES

VISION = ViViTConfig(16, 2, 32, spatial_layers=1, temporal_layers=1, patch_size=8, image_size=16, num_frames=4)
AMOUNTS = Amounts(PROBES, PROBES, zero_shot_clips=110, speed_clips=8, speed_rounds=2)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    config = VideoTextConfig(VISION, VideoHeadConfig(0, 32), TextConfig(300, 16, 2, 32, layers=1, max_length=16))
    made = random_encoder(config, seed=3)
    texts = [text for thing in SEEN_OBJECTS for text in name_prompts(thing.name)]
    file = train_tokenizer(texts, 300, tmp_path_factory.mktemp("tokenizer") / "tokenizer.json")
    return Encoder(made.model, "tiny", made.preprocessing, TextTokenizer(file, 300, 16))


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((50, 48, 52), "met"),
        ((46, 44, 48), "met, in doubt"),
        ((44, 42, 46), "MISSED, in doubt"),
        ((40, 38, 42), "MISSED"),
    ],
)
def test_verdicts_tell_whether_the_interval_leaves_a_doubt(interval: tuple[float, ...], verdict: str) -> None:
    assert Row("x", Interval(*interval), "%", at_least=45).verdict == verdict
    mirrored = Interval(-interval[0], -interval[2], -interval[1])
    assert Row("x", mirrored, "%", at_most=-45).verdict == verdict
    assert Row("x", mirrored, "%").verdict == "" and Row("x", mirrored, "%").met is None


def test_zero_shot_counts_the_nearest_name(encoder: Encoder) -> None:
    rows = zero_shot(encoder, 110)
    clips = draw_clips("zero_shot", 110, 16, 4, ZERO_SHOT_OBJECTS)
    videos = encoder.embed_video(to_video_tensor(clips.frames))
    means = {thing.name: encoder.embed_text(name_prompts(thing.name)).mean(0) for thing in ZERO_SHOT_OBJECTS}
    hits = []
    for video, name in zip(videos, clips.objects, strict=True):
        nearest = max(means, key=lambda other: float(torch.cosine_similarity(means[other], video, dim=0)))
        hits.append(nearest == name)
    seen = np.isin(clips.objects, [thing.name for thing in SEEN_OBJECTS])
    wanted = [np.mean(hits), np.mean(np.array(hits)[seen]), np.mean(np.array(hits)[~seen])]
    assert [row.score.value for row in rows] == pytest.approx([100 * value for value in wanted])
    assert seen.sum() == 67 + 10 and [row.bound for row in rows] == [">= 50.6", "", ""]


def test_only_the_rows_that_are_wanted_are_measured(encoder: Encoder) -> None:
    notes: list[str] = []
    rows = nano_scores(encoder, amounts=AMOUNTS, note=notes.append, wanted=("speed", "names"))
    whats = [row.what for row in rows]
    assert notes == ["names", "speed"] and whats[0].startswith("zero-shot accuracy over 100 names")
    assert "clips encoded a second" in whats[-1] and not any("motion" in what for what in whats)


def test_the_table_has_every_target(encoder: Encoder) -> None:
    notes: list[str] = []
    rows = nano_scores(encoder, random_encoder(encoder.model.config, 5), AMOUNTS, notes.append)
    bounds = {row.what: row.bound for row in rows if row.bound}
    assert bounds == {
        "zero-shot accuracy over 100 names": ">= 50.6",
        "zero-shot accuracy over the demo's eight motions": ">= 70",
        "six motions by a head on 24 clips": ">= 85",
        "eight motions by a head on 24 clips": ">= 85",
        "object probe above random weights": ">= 10",
        "motion probe above random weights": ">= 7",
        "motion from one frame, the best of all below": "<= 15",
        "object probe, stage 2 minus stage 1": ">= -2",
        f"clips encoded a second, {torch.get_num_threads()} threads": ">= 50",
    }
    stills = [row.score.value for row in rows if "frame alone" in row.what]
    assert len(stills) == 6 and max(stills) == next(row.score.value for row in rows if row.bound == "<= 15")
    assert all(row.score.low <= row.score.value <= row.score.high for row in rows) and notes
    text = table(rows)
    assert len(text.splitlines()) == len(rows) + 2 and "verdict" in text
    assert json.loads(json.dumps(record(rows, encoder, None, AMOUNTS)))["rows"][0]["verdict"] in text


def test_stage_2_is_compared_with_its_own_stage_1(tmp_path: Path) -> None:
    stage1, other = (random_encoder(VideoTextConfig(VISION), seed) for seed in (0, 1))
    check_predecessor(str(tmp_path), other)  # nothing is known of how that was made
    write_json(tmp_path / RECORD, {"parts": {"stage1": {"fingerprint": stage1.fingerprint}}})
    check_predecessor(str(tmp_path), stage1)
    with pytest.raises(InputError, match="made from another stage 1"):
        check_predecessor(str(tmp_path), other)


def test_the_card_claims_what_was_measured_last(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    with pytest.raises(InputError, match="no such file"):
        write_card(card, [])
    later = "## What stage 2 adds\n\nNothing.\n"
    card.write_text(f"---\nlicense: x\n---\n\n# nano\n\nFingerprint: `ab`\n\n## What it shows\n\n5.0\n\n{later}")
    for value in (10.0, 20.0):
        write_card(card, [Row("zero-shot", Interval(value, value - 1, value + 1), "%", at_least=15)])
    text = card.read_text()
    assert text.startswith("---\nlicense: x\n---\n\n# nano\n\nFingerprint: `ab`\n\n## What it shows\n")
    assert text.count("## What it shows") == 1 and "10.0" not in text and "5.0" not in text
    assert text.endswith(f" met |\n\n{later}")
    assert "| zero-shot | 20.0 [19.0, 21.0] % | >= 15 | met |" in text


def test_the_command_names_what_an_encoder_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_encoder(random_encoder(VideoTextConfig(VISION), 0), tmp_path / "encoder")
    monkeypatch.setattr("sys.argv", ["nano_scores", "--encoder", str(tmp_path / "encoder"), "--threads", "1"])
    with pytest.raises(SystemExit, match="error: .*text tower"):
        main()


def test_another_kind_of_encoder_is_refused(encoder: Encoder) -> None:
    other = Encoder(torch.nn.Identity(), "clip", encoder.preprocessing)
    from benchmarks.pretraining.nano_scores import probe_rows

    with pytest.raises(InputError, match="not VideoPrism-like"):
        probe_rows(other, None, AMOUNTS, lambda _: None)
