"""`prismhub corpus stats|filter|dedup` on real files, with a small random video-text encoder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from core_encoder.errors import InputError
from pretrain.corpus.manifest import Manifest
from pretrain.curation.corpus_filter import Limits
from pretrain.curation.corpus_measures import TierMeasures, open_tier
from pretrain.world.synthetic_world import SyntheticWorld, write_video
from prismhub.cli import run
from tests import ROOT, videos
from tests.core_encoder.checkpoint_files import clip_model, save
from tests.core_encoder.models.test_openai_clip import write_tokenizer
from tests.pretrain.corpora import write_tar

QUIET = ("--quiet", "--accelerator", "cpu")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A CLIP of random weights with a tokenizer: a video-text encoder in miniature."""
    folder = save(clip_model(), tmp_path_factory.mktemp("encoders") / "clip")
    write_tokenizer(folder)
    return str(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean tier of three clips and a noisy one of seven, with one of each kind of trouble; read only."""
    folder = tmp_path_factory.mktemp("corpus")
    world = SyntheticWorld(seed=1, size=48, num_frames=16)
    clips = [world.clip(number).frames for number in range(5)]
    for number in range(3):
        write_video(folder / "clean" / f"{number}.mp4", clips[number], fps=8)
    noisy = folder / "noisy"
    write_video(noisy / "new.mp4", clips[3], fps=8)
    write_video(noisy / "static.mp4", clips[4][:1].repeat(16, axis=0), fps=8)
    shutil.copy(folder / "clean" / "0.mp4", noisy / "copy.mp4")
    videos.write_video(noisy / "again.mp4", clips[1], fps=8, crf=30, bframes=2)
    (noisy / "broken.mp4").write_bytes((noisy / "new.mp4").read_bytes()[:900])
    (folder / "clean.csv").write_text(
        "video,caption\nclean/0.mp4,a red circle moving\nclean/1.mp4,a dog\nclean/2.mp4,the blue star spins around\n"
    )
    rows: list[dict[str, Any]] = [
        {"video": "noisy/new.mp4", "caption": "dog"},
        {"video": "noisy/static.mp4", "caption": "subscribe to my channel for more"},
        {"video": "noisy/copy.mp4", "caption": "a copy of something"},
        {"video": "noisy/again.mp4", "caption": "encoded once more"},
        {"video": "noisy/broken.mp4", "caption": "half of a file"},
        {"video": "noisy/new.mp4", "start": 0.5, "end": 1.5, "caption": "a part of it"},
        {"video": "noisy/new.mp4", "start": 1.0, "caption": ""},
    ]
    (folder / "noisy.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tiers: list[dict[str, Any]] = [
        {"name": "web", "quality": "noisy", "weight": 3, "table": "noisy.jsonl", "caption_source": "ASR"},
        {"name": "curated", "quality": "clean", "weight": 1, "table": "clean.csv"},
    ]
    (folder / "corpus.yaml").write_text(yaml.safe_dump({"tiers": tiers}))
    return folder


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`says(code, *arguments)` runs a command, checks its exit code, and returns its stdout, or its error line."""

    def check(code: int, *arguments: str) -> str:
        capsys.readouterr()
        assert run(["corpus", *arguments]) == code, capsys.readouterr().err
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return shown.err if code in (1, 2) else shown.out

    return check


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_stats(says: Callable[..., str], made: Path, encoder: str, tmp_path: Path) -> None:
    manifest, out = str(made / "corpus.yaml"), tmp_path / "stats"
    shown = json.loads(says(3, "stats", manifest, "--encoder", encoder, "--out", str(out), "--json", *QUIET))
    web, curated = shown["tiers"]
    assert (web["tier"], web["quality"], web["caption_source"]) == ("web", "noisy", "ASR")
    assert (web["clips"], web["measured"], web["captioned"]) == (7, 7, 6)
    assert (curated["clips"], curated["unreadable"]) == (3, [])
    [broken] = web["unreadable"]
    assert (broken["row"], Path(broken["video"]).name) == (4, "broken.mp4")
    assert broken["reason"]
    assert lines_of(out / "unreadable.jsonl") == web["unreadable"]
    assert curated["duration_s"]["mean"] == pytest.approx(2.0)
    assert curated["hours"] == pytest.approx(6 / 3600)
    assert web["duration_s"]["count"] == 6
    assert web["hours"] == pytest.approx((4 * 2.0 + 1.0 + 1.0) / 3600 * 7 / 7)
    assert curated["words"]["mean"] == pytest.approx((4 + 2 + 5) / 3)
    assert web["motion"]["min"] < 0.001 < curated["motion"]["min"]
    assert (web["grounding"]["count"], curated["grounding"]["count"]) == (5, 3)
    page = (out / "index.html").read_text()
    for word in (
        "Grounding score",
        "Motion magnitude",
        "Caption length",
        "Duration",
        "broken.mp4",
        "<rect",
        "10 clips",
    ):
        assert word in page
    assert "http" not in page.replace("http-equiv", "")
    table = says(3, "stats", manifest, "--out", str(out), *QUIET)
    assert "curated" in table and "ASR" in table and "file://" in table
    assert "Grounding score" not in (out / "index.html").read_text()


@pytest.mark.slow
def test_stats_on_a_cluster(
    says: Callable[..., str], made: Path, encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(made)
    words = ("stats", "corpus.yaml", "--encoder", encoder, "--out", str(tmp_path / "out"), "--json", *QUIET)
    here = json.loads(says(3, *words, "--measures", str(tmp_path / "here")))
    there = json.loads(says(3, *words, "--measures", str(tmp_path / "there"), "--engine", "ray"))
    assert there == here
    monkeypatch.setattr("core_encoder.cluster.ray_session._begun", None)  # what is measured asks no cluster
    again = json.loads(says(3, *words, "--measures", str(tmp_path / "there"), "--engine", "ray"))
    assert again == here


def test_the_grounding_score_is_the_cosine_of_clip_and_caption(made: Path, encoder: str) -> None:
    from core_encoder import Clip, ClipPlan, load_encoder, read_clip
    from core_encoder.preprocessing import to_video_tensor

    model = load_encoder(encoder)
    [tier] = [tier for tier in Manifest.load(made / "corpus.yaml").tiers if tier.name == "curated"]
    part = TierMeasures(tier, open_tier(tier), model)
    part.take()
    for clip in part.read():
        frames = read_clip(Clip(clip.row.video), ClipPlan(model.num_frames), model.preprocessing)
        seen = model.embed_video(to_video_tensor(frames)[None])[0]
        told = model.embed_text([clip.row.caption])[0]
        assert clip.grounding == pytest.approx(float(seen @ told), abs=1e-5)
        assert clip.vector is not None
        np.testing.assert_allclose(clip.vector, seen.numpy(), atol=1e-3)


def test_a_sample_is_always_the_same(says: Callable[..., str], made: Path, tmp_path: Path) -> None:
    given = ("stats", str(made / "corpus.yaml"), "--sample", "2", "--out", str(tmp_path), "--json", *QUIET)
    first = run(["corpus", *given])
    shown = json.loads(says(first, *given))
    assert [(tier["clips"], tier["measured"]) for tier in shown["tiers"]] == [(7, 2), (3, 2)]
    assert json.loads(says(first, *given)) == shown


def test_filter(says: Callable[..., str], made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest, out = str(made / "corpus.yaml"), tmp_path / "new"
    limits = ("--min-motion", "0.003", "--min-duration", "1.2", "--min-words", "2", "--drop-unreadable")
    shown = json.loads(says(0, "filter", manifest, "--out", str(out), *limits, "--json", *QUIET))
    web, curated = shown["tiers"]
    assert (curated["kept"], curated["dropped"]) == (3, 0)
    assert web["reasons"] == {"min_words": 2, "min_motion": 1, "unreadable": 1, "min_duration": 2}
    assert (web["clips"], web["kept"], web["dropped"]) == (7, 2, 5)
    dropped = lines_of(out / "dropped.jsonl")
    assert [line["row"] for line in dropped] == [0, 1, 4, 5, 6]
    assert dropped[0]["reasons"] == [{"why": "min_words", "value": 1, "limit": 2}]
    assert dropped[3]["reasons"] == [{"why": "min_duration", "value": 1.0, "limit": 1.2}]
    assert (dropped[3]["start"], dropped[3]["end"]) == (0.5, 1.5)
    assert [one["why"] for one in dropped[4]["reasons"]] == ["min_duration", "min_words"]

    new = Manifest.load(out / "manifest.yaml")
    old = Manifest.load(manifest)
    assert [(t.name, t.quality, t.weight, t.caption_source) for t in new.tiers] == [
        (t.name, t.quality, t.weight, t.caption_source) for t in old.tiers
    ]
    kept = [open_tier(new.tiers[0]).row(number) for number in range(2)]
    assert kept == [open_tier(old.tiers[0]).row(number) for number in (2, 3)]

    monkeypatch.setattr("pretrain.curation.corpus_measures.look_at_video", None)  # all is known: nothing is read again
    assert json.loads(says(0, "stats", str(out / "manifest.yaml"), "--json", *QUIET))["tiers"][0]["measured"] == 2


def test_a_failed_run_leaves_no_manifest_of_an_earlier_one(
    says: Callable[..., str], made: Path, tmp_path: Path
) -> None:
    given, out = ("filter", str(made / "corpus.yaml"), "--out", str(tmp_path / "new")), tmp_path / "new"
    says(3, *given, "--min-words", "2", *QUIET)
    assert len(Manifest.load(out / "manifest.yaml").tiers) == 2
    assert "nothing is left" in says(2, *given, "--min-words", "9999", *QUIET)
    assert not (out / "manifest.yaml").exists()
    says(3, *given, "--min-words", "2", *QUIET)
    assert len(Manifest.load(out / "manifest.yaml").tiers) == 2


def test_filter_by_grounding(says: Callable[..., str], made: Path, encoder: str, tmp_path: Path) -> None:
    manifest, out = str(made / "corpus.yaml"), tmp_path / "new"
    [tier] = [tier for tier in Manifest.load(manifest).tiers if tier.name == "curated"]
    from core_encoder import load_encoder

    part = TierMeasures(tier, open_tier(tier), load_encoder(encoder))
    part.take()
    scores = sorted(clip.grounding or 0.0 for clip in part.read())
    limit = (scores[0] + scores[1]) / 2
    given = ("--encoder", encoder, "--min-grounding", str(limit))
    shown = json.loads(says(3, "filter", manifest, "--out", str(out), *given, "--json", *QUIET))
    assert shown["tiers"][1]["reasons"] == {"min_grounding": 1}
    rows = {line["row"] for line in lines_of(out / "dropped.jsonl") if line["tier"] == "web"}
    assert not rows & {4, 6}, "neither the unreadable clip nor the one without a caption has a score"
    assert [line["row"] for line in lines_of(out / "unreadable.jsonl")] == [4]


def test_exact_duplicates(says: Callable[..., str], made: Path, tmp_path: Path) -> None:
    out = tmp_path / "unique"
    shown = json.loads(says(3, "dedup", str(made / "corpus.yaml"), "--out", str(out), "--json", *QUIET))
    assert [(one["tier"], one["kept"], one["dropped"]) for one in shown["tiers"]] == [("web", 6, 1), ("curated", 3, 0)]
    [line] = lines_of(out / "dropped.jsonl")
    assert (line["tier"], Path(line["video"]).name) == ("web", "copy.mp4")
    of = {"tier": "curated", "row": 0}  # listed later, but clean
    assert line["reasons"] == [{"why": "duplicate", "of": of, "similarity": 1.0}]


def test_near_duplicates_and_evaluation_sets(
    says: Callable[..., str], made: Path, encoder: str, tmp_path: Path
) -> None:
    out, tests = tmp_path / "unique", tmp_path / "tests"
    tests.mkdir()
    shutil.copy(made / "clean" / "2.mp4", tests / "secret.mp4")
    world = SyntheticWorld(seed=1, size=48, num_frames=16)
    videos.write_video(tests / "reencoded.mp4", world.clip(0).frames, fps=8, crf=28)
    given = ("--encoder", encoder, "--near", "0.9999", "--against", str(tests))
    shown = json.loads(says(3, "dedup", str(made / "corpus.yaml"), "--out", str(out), *given, "--json", *QUIET))
    found = {(line["tier"], line["row"]): line["reasons"][0] for line in lines_of(out / "dropped.jsonl")}
    assert found["curated", 2]["why"] == "evaluation"
    assert Path(found["curated", 2]["of"]).name == "secret.mp4"
    assert found["curated", 0]["why"] == "near_evaluation"
    assert Path(found["curated", 0]["of"]).name == "reencoded.mp4"
    assert found["web", 3]["why"] == "near_duplicate"
    assert found["web", 3]["of"] == {"tier": "curated", "row": 1}
    assert 0.9999 <= found["web", 3]["similarity"] <= 1
    assert ("curated", 1) not in found and ("web", 1) not in found
    assert shown["tiers"][0]["clips"] == 7
    assert not list(out.glob(".*")), "vectors are cleared away"


def test_an_encoder_without_embeddings_compares_mean_tokens(
    says: Callable[..., str], made: Path, tmp_path: Path
) -> None:
    from tests.core_encoder.checkpoint_files import vision_model

    plain = str(save(vision_model(), tmp_path / "plain"))
    out = tmp_path / "unique"
    says(3, "dedup", str(made / "corpus.yaml"), "--out", str(out), "--encoder", plain, "--near", "0.9999", *QUIET)
    assert {line["row"] for line in lines_of(out / "dropped.jsonl")} >= {2}
    line = says(2, "stats", str(made / "corpus.yaml"), "--encoder", plain, *QUIET)
    assert "has no text tower" in line


def test_shards_and_images_and_synthetic_tiers(says: Callable[..., str], made: Path, tmp_path: Path) -> None:
    import tarfile

    from PIL import Image

    folder = tmp_path / "mixed"
    folder.mkdir()
    with tarfile.open(folder / "s.tar", "w") as tar:
        for number in range(2):
            (folder / "t.txt").write_text(f"clip number {number}")
            tar.add(made / "clean" / f"{number}.mp4", f"{number}.mp4")
            tar.add(folder / "t.txt", f"{number}.txt")
        tar.add(made / "clean" / "0.mp4", "twin.mp4")
    for number in range(2):
        Image.fromarray(np.full((20, 20, 3), 99, np.uint8)).save(folder / f"{number}.png")
    (folder / "pictures.csv").write_text("image,caption\n0.png,grey\n1.png,more grey\n")
    tiers: list[dict[str, Any]] = [
        {"name": "web", "quality": "noisy", "shards": "*.tar"},
        {"name": "pictures", "quality": "noisy", "media": "image", "table": "pictures.csv"},
        {"name": "world", "quality": "clean", "synthetic": {"seed": 0, "length": 4, "size": 32}},
    ]
    manifest = folder / "corpus.yaml"
    manifest.write_text(yaml.safe_dump({"tiers": tiers}))
    web, pictures, world = json.loads(says(0, "stats", str(manifest), "--json", *QUIET))["tiers"]
    assert (web["clips"], web["captioned"], web["duration_s"]["count"]) == (3, 2, 3)
    assert (pictures["hours"], pictures["duration_s"]["count"], pictures["motion"]["count"]) == (0.0, 0, 0)
    assert (world["clips"], world["duration_s"]["count"], world["motion"]["count"]) == (4, 0, 4)

    out = tmp_path / "unique"
    shown = json.loads(says(0, "dedup", str(manifest), "--out", str(out), "--json", *QUIET))
    assert [(one["dropped"], one["passed_on"]) for one in shown["tiers"]] == [(1, False), (1, False), (0, True)]
    new = Manifest.load(out / "manifest.yaml")
    assert new.tiers[2] == Manifest.load(manifest).tiers[2]
    source = open_tier(new.tiers[0])
    assert [source.row(number).caption for number in range(len(source))] == ["clip number 0", "clip number 1"]
    from core_encoder.preprocessing import Preprocessing

    assert source.read(1, 2, Preprocessing(16)).shape == (2, 16, 16, 3)

    out = tmp_path / "worded"
    shown = json.loads(
        says(
            0, "filter", str(manifest), "--out", str(out), "--min-motion", "0.001", "--min-words", "2", "--json", *QUIET
        )
    )
    assert shown["tiers"][1]["reasons"] == {"min_words": 1}, "images have no motion to be judged by"


def test_members_whose_names_are_no_utf8(says: Callable[..., str], made: Path, tmp_path: Path) -> None:
    broken, clip = (made / "noisy" / "broken.mp4").read_bytes(), (made / "clean" / "0.mp4").read_bytes()
    write_tar(tmp_path / "0.tar", [("caf\udce9.mp4", broken), ("th\udce9.mp4", clip)])
    manifest, out = tmp_path / "corpus.yaml", tmp_path / "stats"
    manifest.write_text("tiers: [{name: web, quality: noisy, shards: 0.tar}]")
    [web] = json.loads(says(3, "stats", str(manifest), "--out", str(out), "--json", *QUIET))["tiers"]
    assert [one["video"] for one in web["unreadable"]] == [f"{tmp_path}/0.tar/caf\\udce9.mp4"]
    assert "caf\\udce9.mp4" in (out / "index.html").read_text()


def test_measures_follow_their_files(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    shutil.copytree(made, folder)
    tier = next(tier for tier in Manifest.load(folder / "corpus.yaml").tiers if tier.name == "web")
    part = TierMeasures(tier, open_tier(tier))
    part.take()
    assert [clip.number for clip in part.read() if clip.reason] == [4]
    write_video(folder / "noisy" / "broken.mp4", SyntheticWorld(3, size=48, num_frames=8).clip(0).frames)
    (folder / "noisy" / "static.mp4").unlink()
    taken: list[int] = []
    look = part._look
    part._look = lambda task: taken.append(task.number) or look(task)  # type: ignore[method-assign, func-returns-value]
    part.take()
    assert sorted(taken) == [1, 4]
    assert {clip.number: clip.reason for clip in part.read() if clip.reason} == {1: "no such file"}


def test_a_torn_line_costs_one_clip(made: Path) -> None:
    tier = next(tier for tier in Manifest.load(made / "corpus.yaml").tiers if tier.name == "curated")
    part = TierMeasures(tier, open_tier(tier))
    part.take()
    before = list(part.read())
    [log] = part.folder.rglob("*.jsonl")
    log.write_bytes(log.read_bytes()[:-7])
    part.take()
    assert list(part.read()) == before
    assert len(log.read_text().splitlines()) == 4


_SLOW = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores Ctrl-C, and so would this process
from pretrain.curation import corpus_measures
look = corpus_measures.look_at_video
corpus_measures._PIXEL_CHUNK = 1
def slow(*given):
    time.sleep(1)  # seven of them are ahead when it is killed, on a busy machine too
    return look(*given)
corpus_measures.look_at_video = slow
from prismhub.cli import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGKILL", "SIGINT"])
def test_a_killed_run_goes_on(
    says: Callable[..., str], made: Path, tmp_path: Path, private_home: Path, how: str
) -> None:
    kill = signal.Signals[how]
    out, measures = tmp_path / "stats", tmp_path / "measures"
    given = ["corpus", "stats", str(made / "corpus.yaml"), "--out", str(out), "--measures", str(measures), "--json"]
    command = [sys.executable, "-c", _SLOW, *given, *QUIET, "--workers", "1"]
    whole = subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not [line for log in measures.rglob("*.jsonl") for line in log.read_text().splitlines()][2:]:
        assert time.monotonic() < deadline and whole.poll() is None
        time.sleep(0.02)
    whole.send_signal(kill)
    _, error = whole.communicate(timeout=30)
    assert whole.returncode == (-9 if kill == signal.SIGKILL else 130), error
    assert not out.exists()
    before = {log: log.read_bytes() for log in measures.rglob("*.jsonl")}
    count = sum(len(content.splitlines()) for content in before.values())
    assert 3 <= count < 10
    resumed = json.loads(says(3, *given[1:], *QUIET))
    assert all(log.read_bytes().startswith(content) for log, content in before.items())
    assert sum(len(log.read_text().splitlines()) for log in measures.rglob("*.jsonl")) == 10
    anew = json.loads(says(3, *given[1:-2], str(tmp_path / "other"), "--json", *QUIET))
    assert resumed == anew


def test_wrong_input_is_one_line(says: Callable[..., str], made: Path, tmp_path: Path) -> None:
    manifest = str(made / "corpus.yaml")
    out = ("--out", str(tmp_path / "new"))
    assert "no such manifest" in says(2, "stats", str(tmp_path / "no.yaml"), *QUIET)
    assert "no limit was given" in says(2, "filter", manifest, *out, *QUIET)
    assert "--min-grounding needs --encoder" in says(2, "filter", manifest, *out, "--min-grounding", "0.2", *QUIET)
    assert "--near needs --encoder" in says(2, "dedup", manifest, *out, "--near", "0.9", *QUIET)
    assert "is a cosine" in says(2, "dedup", manifest, *out, "--encoder", "nano", "--near", "95", *QUIET)
    assert "no such folder" in says(2, "dedup", manifest, *out, "--against", str(tmp_path / "none"), *QUIET)
    assert "the manifest lies there" in says(2, "filter", manifest, "--out", str(made), "--min-words", "1", *QUIET)
    (tmp_path / "other").mkdir()
    shutil.copy(manifest, tmp_path / "other" / "manifest.yaml")
    assert "of another origin" in says(
        2, "filter", manifest, "--out", str(tmp_path / "other"), "--min-words", "1", *QUIET
    )
    line = says(2, "filter", manifest, *out, "--min-words", "9999", *QUIET)
    assert "nothing is left" in line
    assert not (tmp_path / "new" / "manifest.yaml").exists()
    hub = tmp_path / "hub.yaml"
    hub.write_text("tiers: [{name: far, quality: noisy, hub: {path: org/videos}}]")
    for command in (("stats",), ("filter", *out, "--min-words", "1"), ("dedup", *out)):
        assert "streams from the Hub" in says(2, command[0], str(hub), *command[1:], *QUIET)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"min_words": 5, "max_words": 2}, "min_words 5 is above max_words 2"),
        ({"min_motion": -1.0}, "min_motion must be 0 or more"),
        ({"min_grounding": 2.0}, "from -1 to 1"),
        ({}, "no limit was given"),
        ({"max_words": -1}, "max_words must be 0 or more"),
    ],
)
def test_limits_that_make_no_sense(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Limits(**given)


def test_zero_is_a_limit() -> None:
    assert Limits(min_grounding=0.0).min_grounding == 0 and Limits(max_words=0).max_words == 0
