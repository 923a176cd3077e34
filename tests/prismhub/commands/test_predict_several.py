"""`prismhub predict` with several adapters: each says what it says alone, and videos are encoded once for all."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import prismhub
from adapters.card import CONFIG_FILE
from adapters.registry import load_adapter, save_to_registry
from adapters.windows import Windows
from core_encoder.encoder import load_encoder
from core_encoder.features import feature_source, shared_source
from prismhub.cli import run
from prismhub.questions import section_names
from tests.adapters.every_kind import ROWS
from tests.prismhub.small_data import read_json
from tests.videos import moving_square, write_video

Says = Callable[..., str]
OURS = [row for row in ROWS if not row.name.startswith("toy")]
NAMES = [row.name for row in OURS]
CLIP_S = {"median": 1.0, "longest": 2.0}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two videos of two seconds, and boxes of two individuals in both."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("a", "b"):
        write_video(folder / "videos" / f"{name}.mp4", moving_square(32, 64, 64, seed=ord(name)), fps=16)
    rows = [f"{name},1,{box},,{who}\n" for name in "ab" for who, box in ((1, "0.1,0.1,0.5,0.5"), (2, "0.5,0.5,1,1"))]
    (folder / "boxes.csv").write_text("".join(rows))
    return folder


@pytest.fixture
def saved(private_home: Path) -> None:
    """An untrained adapter of every kind of ours in the registry, called like its kind."""
    nano = load_encoder("nano")
    for row in OURS:
        save_to_registry(row.on(nano, clip_s=CLIP_S), row.name)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, set[str]]]:
    """Of every encoding run from now on: how many clips it was asked for, and which kinds of features."""
    seen: list[tuple[int, set[str]]] = []
    real = shared_source.EncodingRun

    def counting(encoder: Any, clips: Any, specs: Any, **options: Any) -> Any:
        seen.append((len(clips), {spec.kind for spec in specs}))
        return real(encoder, clips, specs, **options)

    monkeypatch.setattr(shared_source, "EncodingRun", counting)
    monkeypatch.setattr(feature_source, "EncodingRun", counting)
    return seen


def asked(files: Path, names: list[str] = NAMES) -> list[str]:
    boxes = ["--boxes", str(files / "boxes.csv")] if "spatiotemporal_localizer" in names else []
    return ["predict", str(files / "videos"), *(w for name in names for w in ("--adapter", name)), *boxes, "--quiet"]


@pytest.mark.usefixtures("saved")
def test_every_kind_answers_as_it_does_alone(
    files: Path, encoded: list[tuple[int, set[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    together = read_json(capsys, *asked(files), "--top", "2")
    assert list(together) == NAMES
    kinds = sorted((count, tuple(sorted(kinds))) for count, kinds in encoded)
    assert kinds == [
        (1, ("clip",)),
        (1, ("clip",)),  # windows of each whole video
        (2, ("clip", "tokens")),  # the classifiers and the space of texts, of both videos
        (2, ("tokens",)),  # the moments of the boxes
    ]
    for name in NAMES:
        alone = read_json(capsys, *asked(files, [name]), "--top", "2")
        assert _near(together[name], alone), name


def _near(ours: Any, theirs: Any) -> bool:
    """Equal but for what another batch changes in the last places."""
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(_near(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(_near, ours, theirs))
    return ours == pytest.approx(theirs, abs=1e-3) if isinstance(ours, float) else ours == theirs


@pytest.mark.usefixtures("saved")
def test_the_table_has_a_section_an_adapter(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(asked(files, ["linear", "lit_text"])) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    first, second = lines.index("linear (linear)"), lines.index("lit_text (lit_text)")
    assert first < second and lines[first + 1].split() == ["video", "label", "score"]
    assert lines[second + 1].split() == ["video", "embedding"]
    assert run(asked(files, ["linear"])) == 0
    assert "linear (linear)" not in capsys.readouterr().out, "one adapter has no heading"


@pytest.mark.usefixtures("saved")
def test_each_writes_files_of_its_own(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["linear", "temporal_localizer"]
    out, pictures, subtitles = tmp_path / "out", tmp_path / "pictures", tmp_path / "subtitles"
    places = ("--format", "csv", "--out", str(out), "--timeline", str(pictures), "--vtt", str(subtitles))
    said = read_json(capsys, *asked(files, names), *places, "--threshold", "0.01")
    assert said["temporal_localizer"] == {"files": [str(out / "temporal_localizer.csv")]}
    assert (out / "temporal_localizer.csv").read_text().startswith("video,start,end,label")
    assert "windows" in said["linear"][0], "subtitles need windows"
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert written == [
        "out/temporal_localizer.csv",
        "pictures/temporal_localizer/a.svg",
        "pictures/temporal_localizer/b.svg",
        *(f"subtitles/{name}/{video}.vtt" for name in names for video in "ab"),
    ]


@pytest.mark.usefixtures("saved")
def test_long_videos_are_asked_in_the_windows_of_each(
    tmp_path: Path, encoded: list[tuple[int, set[str]]], capsys: pytest.CaptureFixture[str]
) -> None:
    nano = load_encoder("nano")
    longer = {"median": 2.0, "longest": 60.0}
    save_to_registry(OURS[1].on(nano, clip_s=longer), "patient")
    long = write_video(tmp_path / "long.mp4", moving_square(160, 64, 64), fps=16)
    names = ["linear", "map_classifier", "patient", "temporal_localizer"]
    line = ["predict", str(long), *(word for name in names for word in ("--adapter", name)), "--json"]
    assert run(line) == 0
    shown = capsys.readouterr()
    said = json.loads(shown.out)
    assert "note: linear, map_classifier: 1 of 1 videos are much longer" in shown.err
    starts = [one["start"] for one in said["linear"][0]["windows"]]
    assert starts == [0.5 * place for place in range(19)]
    assert [one["start"] for one in said["map_classifier"][0]["windows"]] == starts
    assert "label" in said["patient"][0] and "segments" in said["temporal_localizer"][0]
    assert len(encoded) == 3, "the windows of two, the whole of one, the vectors of one"
    by_window = prismhub.predict(videos=str(long), adapter=names, window=2.0)
    assert all(isinstance(by_window[name].predictions[0], Windows) for name in names[:3])
    assert not isinstance(by_window["temporal_localizer"].predictions[0], Windows)


@pytest.mark.usefixtures("saved")
def test_folders_versions_and_arrays(files: Path, tmp_path: Path) -> None:
    folder = load_adapter("linear").save_pretrained(tmp_path / "mine")
    video = files / "videos" / "a.mp4"
    found = prismhub.predict(videos=video, adapter=["linear@v1", str(folder)])
    assert list(found) == ["linear@v1", "mine"]
    one, other = (done.predictions[0] for done in found.values())
    assert one.scores.tolist() == other.scores.tolist()
    alone = prismhub.predict(videos=video, adapter="linear").predictions[0]
    assert alone.scores.tolist() == pytest.approx(one.scores.tolist(), abs=1e-6)
    frames = moving_square(12, 64, 64)
    in_memory = prismhub.predict(videos=frames, adapter=["linear", "map_classifier"])
    assert [done.predictions[0].sample_id for done in in_memory.values()] == ["0", "0"]


def test_sections_are_called_like_the_references() -> None:
    refs = ["a", "a@v2", "runs/a", "org/name@refs/pr/1", "runs/b/a/"]
    assert section_names(refs) == ["a", "a@v2", "a-2", "name@refs-pr-1", "a-3"]


@pytest.mark.usefixtures("saved")
def test_a_foreign_adapter_is_refused_by_its_name_before_work_starts(files: Path, tmp_path: Path, says: Says) -> None:
    foreign = load_adapter("linear")
    assert foreign.info.features is not None
    about = foreign.info.features
    foreign.info = replace(foreign.info, features=replace(about, fingerprint="0" * 64, encoder="other"))
    save_to_registry(foreign, "theirs")
    foreign.info = replace(foreign.info, features=replace(about, precision="bf16"))
    save_to_registry(foreign, "halved")
    weights = next(path for path in foreign_files("map_classifier"))
    weights.unlink()  # whoever loaded it would fail by that
    line = says(2, *asked(files, ["map_classifier", "theirs"]))
    assert "adapter 'theirs' was trained on features of encoder 'other' (000000000000)" in line
    assert "adapter 'map_classifier' on those of 'nano'" in line and "ask them apart" in line
    line = says(2, *asked(files, ["map_classifier", "halved"]))
    assert "'halved' was trained on features in bf16" in line and "--encoder-dtype" in line


def foreign_files(name: str) -> list[Path]:
    from adapters.registry import find_adapter

    folder = find_adapter(name)
    assert (folder / CONFIG_FILE).exists()
    return sorted(folder.glob("*.safetensors"))


@pytest.mark.usefixtures("saved")
def test_what_is_asked_wrongly(files: Path, tmp_path: Path, says: Says) -> None:
    two = asked(files, ["linear", "temporal_localizer"])
    assert "adapter 'linear' is named twice" in says(2, *asked(files, ["linear", "linear"]))
    assert "no adapter named 'linea'; did you mean 'linear'" in says(2, *asked(files, ["lit_text", "linea"]))
    assert "format needs out where several adapters are asked" in says(2, *two, "--format", "csv")
    assert "answers of linear or temporal_localizer cannot be written as 'ava'" in says(2, *two, "--format", "ava")
    (tmp_path / "file").touch()
    assert "wants a folder" in says(2, *two, "--format", "csv", "--out", str(tmp_path / "file"))
    assert "context means nothing for an adapter that answers with classes" in says(2, *two, "--context", "2")
    assert "candidates are for adapters of texts" in says(2, *two, "--candidates", str(tmp_path / "file"))
    both = ("predict", str(files / "videos"), "--adapter", "linear", "--adapter", "spatiotemporal_localizer")
    assert "give the boxes with --boxes FILE" in says(2, *both)


@pytest.mark.usefixtures("saved")
def test_a_broken_video_is_listed_in_every_section_and_said_once(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    line = asked(files, ["linear", "map_classifier", "temporal_localizer"])
    line.insert(2, str(broken))
    said = read_json(capsys, *line, code=3)
    assert [[list(one)[1] for one in section] for section in said.values()] == [
        ["label", "label", "error"],
        ["label", "label", "error"],
        ["segments", "segments", "error"],
    ]
    assert run(line) == 3
    assert capsys.readouterr().err.count("broken.mp4: not read") == 1
