"""`prismhub zero-shot`: the scores that plain code gives, and whatever can be asked for wrongly."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch

import prismhub
from core_encoder import Clip, ClipPlan, InputError, load_encoder, read_clip, save_encoder
from core_encoder.encoder import Encoder
from core_encoder.preprocessing import to_video_tensor
from pretrain.world.synthetic_world import write_dataset
from prismhub.cli import run
from tests.core_encoder.checkpoint_files import clip_model, save, vision_model
from tests.core_encoder.models.test_openai_clip import write_tokenizer
from tests.prismhub.small_data import one_object_class, read_json

LABELS = ["red circle", "blue star", "green square"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two red circles and two blue stars; read only."""
    folder = tmp_path_factory.mktemp("world") / "objects"
    shown = [one_object_class(name, "approaching") for name in ("red circle", "blue star")]
    write_dataset(folder, shown, {"test": 2}, size=64, num_frames=10)
    return folder


def plain_scores(encoder: Encoder, path: Path, labels: list[str], templates: list[str]) -> list[float]:
    """One view of a video, without any code of zero-shot."""
    frames = to_video_tensor(read_clip(Clip(str(path)), ClipPlan(encoder.num_frames), encoder.preprocessing))
    video = encoder.embed_video(frames[None])[0]
    cosines = []
    for label in labels:
        texts = [encoder.embed_text([template.replace("{}", label)])[0] for template in templates]
        mean = torch.stack(texts).mean(0)
        cosines.append(float(video @ (mean / mean.norm())))
    return (torch.tensor(cosines) / 0.01).softmax(0).tolist()


def test_json_tables_and_python_agree_with_plain_code(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nano, paths = load_encoder("nano"), sorted(world.rglob("*.mp4"))
    asked = ["zero-shot", str(world), "--labels", ",".join(LABELS), "--feature-dtype", "fp32"]
    rows = read_json(capsys, *asked, "--all-scores", "--top", "2")
    assert [row["video"] for row in rows] == [str(path) for path in paths]
    for row, path in zip(rows, paths, strict=True):
        expected = plain_scores(nano, path, LABELS, ["a video of {}"])
        assert list(row["scores"].values()) == pytest.approx(expected, abs=1e-3) and list(row["scores"]) == LABELS
        assert row["label"] == path.parent.name.rpartition("-")[0].replace("-", " ")
        assert row["score"] == max(row["scores"].values()) and len(row["top"]) == 2
    done = prismhub.zero_shot(videos=world, labels=LABELS, feature_dtype="fp32")
    assert done.about == {"templates": "given", "templates_sha256": sha256(b"a video of {}\n").hexdigest()}
    assert [one.describe(2, True) | done.about for one in done.predictions] == [
        {"id" if name == "video" else name: value for name, value in row.items()} for row in rows
    ]
    assert run([*asked, "--top", "3"]) == 0
    shown = capsys.readouterr().out
    assert shown.split()[:3] == ["video", "label", "score"] and all(shown.count(label) >= 2 for label in LABELS)


def test_labels_and_templates_from_files(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels, templates = tmp_path / "labels.txt", tmp_path / "templates.txt"
    labels.write_text("\ufeff# things\nred circle\n\n  blue star, large \n", encoding="utf-8")
    templates.write_text("a video of {}\n# another\nthis is {}, is it?\n", encoding="utf-8")
    video = min(world.rglob("*.mp4"))
    [row] = read_json(
        capsys, "zero-shot", str(video), "--labels", str(labels), "--templates", str(templates), "--all-scores"
    )
    given = (["red circle", "blue star, large"], ["a video of {}", "this is {}, is it?"])
    expected = plain_scores(load_encoder("nano"), video, *given)
    assert list(row["scores"].values()) == pytest.approx(expected, abs=0.02) and list(row["scores"]) == given[0]
    [answer] = prismhub.zero_shot(videos=video, labels=given[0], templates=given[1]).predictions
    assert answer.scores.tolist() == pytest.approx(list(row["scores"].values()), abs=1e-6)
    [answer] = prismhub.zero_shot(videos=[video], labels=str(labels), template="this is {}, is it?").predictions
    assert answer.scores.tolist() == pytest.approx(
        plain_scores(load_encoder("nano"), video, given[0], given[1][1:]), abs=0.02
    )


def test_clip_and_a_folder(world: Path, tmp_path: Path) -> None:
    clip = save(clip_model(), tmp_path / "clip")
    write_tokenizer(clip)
    own = save_encoder(load_encoder("nano"), tmp_path / "mine")
    video = min(world.rglob("*.mp4"))
    for folder in (clip, own):
        [answer] = prismhub.zero_shot(
            videos=[video], labels=["a dog", "dog do"], encoder=str(folder), feature_dtype="fp32"
        ).predictions
        expected = plain_scores(load_encoder(folder), video, ["a dog", "dog do"], ["a video of {}"])
        assert answer.scores.tolist() == pytest.approx(expected, abs=1e-3)


def test_stored_features_are_used_and_views_averaged(world: Path) -> None:
    options = {"videos": [str(world)], "views": 2}
    prismhub.encode(kind=["embedding"], **options)
    stored = prismhub.zero_shot(labels=LABELS, **options).predictions
    fresh = prismhub.zero_shot(labels=LABELS, store="elsewhere", **options).predictions
    for one, other in zip(stored, fresh, strict=True):
        torch.testing.assert_close(one.scores, other.scores, atol=1e-3, rtol=0)


def test_arrays_equal_their_files(world: Path) -> None:
    path = min(world.rglob("*.mp4"))
    frames = read_clip(Clip(str(path)), ClipPlan(10))  # all of them, at full size
    [expected] = prismhub.zero_shot(videos=path, labels=LABELS).predictions
    floats = torch.from_numpy(np.moveaxis(frames, -1, 1)[None] / 255)
    for given in (frames, [frames], floats):
        [answer] = prismhub.zero_shot(videos=given, labels=LABELS).predictions
        assert answer.sample_id == "0"
        torch.testing.assert_close(answer.scores, expected.scores, atol=1e-3, rtol=0)
    with pytest.raises(InputError, match="paths or arrays, not both"):
        prismhub.zero_shot(videos=[frames, path], labels=LABELS)
    with pytest.raises(InputError, match="'running,jumping' is the only label, and no file .*: give a list"):
        prismhub.zero_shot(videos=path, labels="running,jumping")
    with pytest.raises(InputError, match="a path, a Clip or an array, not int"):
        prismhub.zero_shot(videos=[3], labels=LABELS)


def test_unreadable_videos_are_listed(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    asked = ["zero-shot", str(tmp_path / "bad.mp4"), str(world), "--labels", "red circle,blue star"]
    rows = read_json(capsys, *asked, code=3)
    assert len(rows) == 5 and rows[4]["video"].endswith("bad.mp4") and rows[4]["error"]
    assert run(asked) == 3
    assert "bad.mp4: not read: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "option 'labels' is missing: Names of the classes"),
        (["--labels", "running"], "'running' is the only label, and no file of this name is here"),
        (["--labels", "none.txt"], "'none.txt' is the only label, and no file of this name is here"),
        (["--labels", "run,walk,run"], "label 'run' comes twice"),
        (["--labels", "run,,walk"], "labels 'run', '', 'walk': one of them is empty"),
        (["--labels", "run,one.txt"], "'one.txt' is a file; give a file of labels alone"),
        (["--labels", "none.empty"], "none.empty: no label: name at least two"),
        (["--labels", "one.txt"], "one.txt: 'run' is the only label: name"),
        (["--labels", "twice.txt"], "twice.txt: label 'run' comes twice"),
        (["--labels", "latin.txt"], "latin.txt: cannot be read (not a UTF-8 text file)"),
        (["--labels", "a,b", "--template", "a video"], "template 'a video' has no {} where the label stands"),
        (["--labels", "a,b", "--templates", "no.txt"], "'no.txt' has no {} where the label stands, nor is there a"),
        (["--labels", "a,b", "--templates", "one.txt"], "one.txt: template 'run' has no {} where the label stands"),
        (["--labels", "a,b", "--templates", "none.empty"], "none.empty: no template"),
        (["--labels", "a,b", "--template", "{}", "--templates", "one.txt"], "give template or templates, not both"),
        (["--labels", "a,b", "--layers", "1"], "layers mean nothing here"),
        (["--labels", "a,b", "--encoder", "nanno"], "did you mean 'nano'?"),
        (["--labels", "a,b", "--encoder", "google/videoprism-base-f16r288"], "these have one: nano, google/videoprism"),
        (["--labels", "a,b", "--top", "0"], "top must be at least 1"),
    ],
)
def test_what_is_asked_wrongly(
    says: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    (tmp_path / "one.txt").write_text("run\n")
    (tmp_path / "twice.txt").write_text("run\nwalk\n run\n")
    (tmp_path / "none.empty").write_text("# nothing\n\n")
    (tmp_path / "latin.txt").write_bytes("gêne\n".encode("latin-1"))
    (tmp_path / "a.mp4").write_bytes(b"no video")
    monkeypatch.chdir(tmp_path)
    assert message in says(2, "zero-shot", "a.mp4", *options)


def test_an_encoder_that_turns_out_to_know_no_words(
    says: Callable[..., str], world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(vision_model(), tmp_path / "silent")
    asked = ["zero-shot", str(world), "--labels", "a,b", "--encoder", str(folder)]
    assert "silent' has no text tower, so it knows no words; these have one: nano," in says(2, *asked)
    monkeypatch.setattr("prismhub.text_spaces.check_text_tower", lambda source: None)  # as of a Hub id
    assert "encoder 'silent' has no text tower" in says(2, *asked)
    nothing = save(clip_model(), tmp_path / "clip")
    assert "came without a tokenizer" in says(2, *asked[:-1], str(nothing))


def test_broken_config_names_the_file(says: Callable[..., str], world: Path, tmp_path: Path) -> None:
    (tmp_path / "enc").mkdir()
    (tmp_path / "enc" / "config.json").write_text(json.dumps({})[:-1])
    line = says(2, "zero-shot", str(world), "--labels", "a,b", "--encoder", str(tmp_path / "enc"))
    assert "config.json: not valid JSON" in line
