"""`prismhub bench` and `rescore` over miniatures: every cell is a file with its provenance, and nothing runs twice."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import adapters.predicting
import adapters.zero_shot
import benchmarks.matrix
import benchmarks.scoring
import benchmarks.words
import prismhub
from benchmarks.rescoring import result_files
from benchmarks.results import Result
from core_encoder.encoder import Encoder, load_encoder
from core_encoder.files.storage import read_json
from core_encoder.files.storage import write_json as write
from prismhub.cli import run
from tasks.benchmark import Benchmark
from tests.prismhub.commands.matrices import bench_words, results_in, write_root
from tests.prismhub.small_data import given_splits
from tests.prismhub.small_data import read_json as json_of

NAMES = ("ssv2", "ssv2-temporal", "ava", "msrvtt-t2v", "msrvtt-v2t", "nextqa-atp-hard")


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data sets of NAMES; read only."""
    return write_root(tmp_path_factory.mktemp("root"), NAMES)


@pytest.fixture(scope="session")
def first_run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """The results of one run over NAMES, with the reports of what it encoded; read only."""
    output = tmp_path_factory.mktemp("results")
    reports = []
    real = benchmarks.matrix.encode_missing

    def encode(*given: Any) -> Any:
        reports.append(real(*given))
        return reports[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRISMHUB_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(benchmarks.matrix, "encode_missing", encode)
        assert run(bench_words(root, output, NAMES, "--quiet")) == 0
    return output, reports


@pytest.fixture
def finished(first_run: tuple[Path, list[Any]], tmp_path: Path) -> Path:
    """A copy of the results of that run."""
    return Path(shutil.copytree(first_run[0], tmp_path / "results"))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.with_suffix(".predictions.jsonl").read_text("utf-8").splitlines()]


def test_every_cell_is_a_file_with_its_provenance(first_run: tuple[Path, list[Any]], root: Path) -> None:
    output, _ = first_run
    nano = load_encoder("nano")
    assert {path.parts[-3] for path in result_files(output)} == {f"nano-{nano.fingerprint[:8]}"}
    found = results_in(output)
    assert set(found) == set(NAMES)
    for path in result_files(output):
        result = Result.read(path)
        lines = lines_of(path)
        assert result.state == "done" and result.n_evaluated == result.n_total == len(lines)
        assert result.encoder_fingerprint == nano.fingerprint and result.provenance.seed == 0
        assert (
            result.digests["ids"] == hashlib.sha256(json.dumps(sorted(one["id"] for one in lines)).encode()).hexdigest()
        )
        assert result.cost is not None and result.cost.predict_s > 0 and (result.cost.peak_memory_bytes or 0) > 1e6
        assert result.config["data_root"] == str(root) and result.config["cell"]["adapter"] == result.adapter
        assert result.suite and result.protocol and len(result.identity) == 64
    names = ["Covering something with something", "Lifting up one end of something, then letting it drop down"]
    assert found["ssv2-temporal"].label_names[:2] == names
    prompts = Path(benchmarks.words.__file__).parents[1] / "adapters" / "prompts" / "clip-kinetics-v1.txt"
    assert found["ssv2-temporal"].digests["prompts"] == hashlib.sha256(prompts.read_bytes()).hexdigest()
    assert "prompts" in found["nextqa-atp-hard"].digests and "prompts" not in found["ssv2"].digests
    ssv2 = found["ssv2"]
    (weights,) = output.glob("*/ssv2/*.adapter/adapter_model.safetensors")
    assert ssv2.adapter_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()  # no other's card takes its scores
    assert found["ssv2-temporal"].adapter_sha256 is None
    assert (ssv2.also_in_train, found["ssv2-temporal"].also_in_train) == (0, None)
    assert ssv2.cost is not None and ssv2.cost.train_s > 0 and (ssv2.cost.parameters or 0) > 1000
    hidden = [path for path in output.rglob("*") if path.name.startswith(".") or path.suffix == ".part"]
    assert not hidden


def test_scores_are_what_the_predictions_say(first_run: tuple[Path, list[Any]]) -> None:
    output, _ = first_run
    for path in result_files(output):
        result, lines = Result.read(path), lines_of(path)
        if result.task in ("ssv2", "ssv2-temporal"):
            hits = [max(one["scores"], key=one["scores"].get) == one["target"][0] for one in lines]
            assert result.scores["top1"].value == pytest.approx(np.mean(hits))
        if result.task in ("msrvtt-t2v", "msrvtt-v2t"):
            videos = np.array([one["embedding"] for one in lines])
            texts = np.array([vector for one in lines for vector in one["texts"]])
            similarities = texts @ videos.T
            assert similarities.shape == (len(lines), len(lines))  # one text a video in 1K-A
            if result.task == "msrvtt-v2t":
                similarities = similarities.T
            own = similarities.diagonal()[:, None]
            ranks = 1 + (similarities > own + 1e-9).sum(1) + ((abs(similarities - own) < 1e-9).sum(1) - 1) / 2
            assert result.scores[f"{result.task[-3:]}_r1"].value == pytest.approx(np.mean(ranks <= 1))


def test_a_video_is_encoded_once_for_all_that_share_it(first_run: tuple[Path, list[Any]], root: Path) -> None:
    """ssv2 reads tokens and ssv2-temporal embeddings of one plan; both directions of MSR-VTT read the same."""
    _, reports = first_run
    videos = {path for path in root.rglob("*") if path.suffix in (".mp4", ".webm")}
    used = Counter(path.parts[len(root.parts)] for path in videos)
    frames = load_encoder("nano").num_frames
    by_data: Counter[str] = Counter()
    for report in reports:
        assert not report.failures
        by_data["all"] += report.views_encoded
    assert sum(report.frames_decoded for report in reports) <= frames * by_data["all"]
    views_of_ava = 6  # moments, not videos
    assert by_data["all"] <= sum(used.values()) - used["ava"] + views_of_ava
    stored = {str(folder) for report in reports for folder in report.folders}
    assert len(stored) == 2  # tokens and embeddings


def test_nothing_is_run_again(finished: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in finished.rglob("*") if path.is_file()}

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("it ran again")

    for name in ("encode_missing", "score_cell", "_run_alone"):
        monkeypatch.setattr(benchmarks.matrix, name, refuse)
    assert run(bench_words(root, finished, NAMES, "--quiet")) == 0
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in finished.rglob("*") if path.is_file()}
    assert after == before


def test_only_what_is_missing_or_changed_is_run(
    finished: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(shutil.copytree(root, tmp_path / "own"))
    ran: list[str] = []
    real = benchmarks.matrix.score_cell

    def score(cell: Any, *given: Any) -> Any:
        ran.append(cell.benchmark.name)
        return real(cell, *given)

    monkeypatch.setattr(benchmarks.matrix, "score_cell", score)
    gone, half, damaged = (next(finished.rglob(f"{name}/*.json")) for name in ("msrvtt-t2v", "ssv2-temporal", "ava"))
    gone.unlink()
    half.with_suffix(".predictions.jsonl").unlink()
    damaged.write_text(damaged.read_text()[:-20])
    assert run(bench_words(own, finished, NAMES, "--quiet")) == 0
    assert sorted(ran) == ["ava", "msrvtt-t2v", "ssv2-temporal"]
    ran.clear()
    lines = next((own / "ssv2").rglob("*validation.json"))
    lines.write_text(json.dumps(_ssv2_test(own)[:-1]))  # other data is another cell
    assert run(bench_words(own, finished, NAMES, "--quiet")) == 0
    assert ran == ["ssv2"]


def test_a_training_that_was_cut_off_on_other_data_begins_anew(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, output = Path(shutil.copytree(root, tmp_path / "own")), tmp_path / "results"

    def cut_off(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(benchmarks.scoring, "answer_samples", cut_off)
        assert run(bench_words(own, output, ["ssv2"], "--quiet")) == 130
    assert list(output.rglob("*.run")) and not result_files(output)
    train = next((own / "ssv2").rglob("*v2-train.json"))
    train.write_text(json.dumps(json.loads(train.read_text())[:-1]))
    assert run(bench_words(own, output, ["ssv2"], "--quiet")) == 0
    assert results_in(output)["ssv2"].state == "done" and not list(output.rglob("*.run"))


@pytest.mark.parametrize("name", ["ssv2", "ssv2-temporal", "ava", "msrvtt-t2v"])
def test_answers_of_a_run_that_was_cut_off_are_gone_on_with(
    name: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped after an answer, it gives the others alone; what it says is what a whole run says."""
    asked: list[int] = []
    places = ((adapters.predicting, "predict_clips", 1), (adapters.zero_shot, "name_videos", 2))
    real = [(*one, getattr(*one[:2])) for one in (*places, (adapters.zero_shot, "answer_by_words", 1))]

    def counting(function: Callable[..., Any], most: int | None, place: int) -> Callable[..., Any]:
        def answers(*given: Any, **options: Any) -> Any:
            asked.append(len(given[place]))
            for number, one in enumerate(function(*given, **options)):
                if number == most:
                    raise KeyboardInterrupt
                yield one

        return answers

    for output, most in ((tmp_path / "whole", None), (tmp_path / "cut", 1), (tmp_path / "cut", None)):
        with monkeypatch.context() as patch:
            for module, function, place, answers in real:
                patch.setattr(module, function, counting(answers, most, place))
            assert run(bench_words(root, output, [name])) == (0 if most is None else 130)
    assert "1 answers are there already" in capsys.readouterr().err
    assert asked[1] == asked[0] and asked[2] == asked[0] - 1
    whole, cut = (results_in(tmp_path / one)[name] for one in ("whole", "cut"))
    assert whole.scores == cut.scores and whole.n_evaluated == cut.n_evaluated == asked[0]
    lines = [lines_of(result_files(tmp_path / one)[0]) for one in ("whole", "cut")]
    assert lines[0] == lines[1] and not list((tmp_path / "cut").rglob("*.run"))


def test_what_cannot_be_judged_here_is_said_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, output = write_root(tmp_path / "data", ["nextqa-oe"]), tmp_path / "results"
    monkeypatch.setattr("tasks.metrics.lexicon.find_wordnet", lambda parts: None)
    monkeypatch.setattr(benchmarks.matrix, "encode_missing", None)
    monkeypatch.setattr(benchmarks.matrix, "score_cell", None)
    assert run(bench_words(data, output, ["nextqa-oe"], "--quiet")) == 3
    assert results_in(output)["nextqa-oe"].reason.startswith("WordNet is not on this machine: install Debian's")
    assert run(bench_words(data, output, ["nextqa-oe"], "--quiet", "--dry-run")) == 0
    assert "nextqa-oe, nano, llm_decoder: failed: WordNet is not" in capsys.readouterr().out


def test_a_score_stays_where_its_data_is_damaged_since(
    finished: Path, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = Path(shutil.copytree(root, tmp_path / "own"))
    before = results_in(finished)["ssv2-temporal"]
    next(own.rglob("eval_ssv2_temporal.csv")).write_text("videopath,caption\n")
    assert run(bench_words(own, finished, ["ssv2-temporal"], "--quiet")) == 0
    assert results_in(finished)["ssv2-temporal"] == before
    assert "its data cannot be read" in caplog.text and "eval_ssv2_temporal.csv: line 1" in caplog.text


def test_cells_without_data_and_failed_ones_say_why(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, output = Path(shutil.copytree(root, tmp_path / "own")), tmp_path / "results"
    questions = next((own / "nextqa" / "NExT-QA").rglob("val.csv"))
    whole = questions.read_text()
    questions.write_text(whole.replace("question", "qestion", 1))
    shutil.rmtree(own / "ava")
    for video in (own / "msrvtt").rglob("*.mp4"):
        video.unlink()
    assert run(bench_words(own, output, NAMES, "--quiet")) == 3
    shown = capsys.readouterr().out
    found = results_in(output)
    assert [found[name].state for name in NAMES] == ["done", "done", "no data", "no data", "no data", "failed"]
    assert "ava: no such folder; put the files of ava there" in found["ava"].reason
    assert "none of the 3 videos of the test split is there; the first: " in found["msrvtt-t2v"].reason
    assert "val.csv" in found["nextqa-atp-hard"].reason and "question" in found["nextqa-atp-hard"].reason
    for name in ("ava", "nextqa-atp-hard"):
        assert found[name].reason in shown and not found[name].scores
    for average in ("1 of 8", "0 of 6", "1 of 7"):
        assert average in shown
    questions.write_text(whole)
    assert run(bench_words(own, output, NAMES, "--quiet")) == 0  # what has no data is no failure
    assert results_in(output)["nextqa-atp-hard"].state == "done"


def test_too_many_unreadable_videos_fail_a_cell_and_few_are_counted(root: Path, tmp_path: Path) -> None:
    own, output = Path(shutil.copytree(root, tmp_path / "own")), tmp_path / "results"
    task_videos = sorted({one["id"] for one in _ssv2_test(own)})
    broken = next((own / "ssv2").rglob(f"{task_videos[0]}.*"))
    broken.write_bytes(b"no video")
    assert run(bench_words(own, output, ["ssv2"], "--quiet")) == 3
    assert "more than max_unreadable=0.1 allows" in results_in(output)["ssv2"].reason
    assert run(bench_words(own, output, ["ssv2"], "--quiet", "--max-unreadable", "0.5")) == 0
    result = results_in(output)["ssv2"]
    assert (result.n_evaluated, result.n_total) == (len(task_videos) - 1, len(task_videos))
    assert [one.id for one in result.skipped] == [task_videos[0]] and result.skipped[0].reason


def _ssv2_test(root: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(next((root / "ssv2").rglob("*validation.json")).read_text())
    return rows


def test_seeds_and_grids_make_cells_and_a_spread(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = bench_words(root, tmp_path / "results", ["ssv2"], "--quiet", "--seeds", "2")
    assert run([*words, "--grid", "lr=1e-3,1e-2", "dropout=0,0.5"]) == 0
    files = result_files(tmp_path / "results")
    assert [Result.read(path).provenance.seed for path in files] == [0, 1]
    assert " ± " in capsys.readouterr().out
    config = read_json(files[0].with_suffix(".adapter") / "adapter_config.json")
    assert config["training"]["lr"] in (1e-3, 1e-2) and config["training"]["val_fraction"] == 0.1
    assert config["evaluations"][0]["values"]["top1"]["value"] == Result.read(files[0]).scores["top1"].value
    adapter = prismhub.load_adapter(str(files[0].with_suffix(".adapter")))
    assert adapter.info.dataset == "ssv2"


def test_the_dry_run_computes_and_keeps_nothing(
    root: Path, tmp_path: Path, private_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "results"
    words = bench_words(root, output, [*NAMES, "kinetics400"], "--dry-run", "--quiet")
    plan = {one["cell"].partition(",")[0]: one for one in json_of(capsys, *words)}
    assert plan["kinetics400"]["state"] == "no data"
    ssv2 = plan["ssv2"]
    assert (ssv2["state"], ssv2["train"], ssv2["test"], ssv2["clips"], ssv2["views"]) == ("to run", 6, 3, 9, 9)
    tokens = 9 * 8 * 36 * 128 * 2  # clips, frames, patches, width, bytes
    assert ssv2["disk_bytes"] == pytest.approx(tokens, rel=0.05) and ssv2["encode_s"] > 0 and ssv2["train_s"] > 0
    assert plan["msrvtt-v2t"]["shared"] == plan["msrvtt-t2v"]["clips"] == 3 and plan["msrvtt-v2t"]["views"] == 0
    assert not output.exists() and not list(private_home.rglob("*.safetensors"))
    assert run(words) == 0
    assert "6 of 7 cells to run" in capsys.readouterr().out


def test_rescoring_gives_the_same_and_mends_what_was_changed(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("core_encoder.encoder.load_encoder", None)  # no model is at hand
    before = results_in(finished)
    path = next(finished.rglob("ssv2/*.json"))
    record = read_json(path)
    record["scores"]["top1"]["value"] = 0.123
    record["protocol"] = "an older one"
    write(path, record)
    assert run(["rescore", str(finished), "--quiet"]) == 0
    assert "12.3" in capsys.readouterr().out
    after = results_in(finished)
    for name, result in after.items():
        rescored = result.rescored
        assert rescored is not None
        assert replace(result, rescored=None) == before[name]
    changed = after["ssv2"].rescored
    assert changed is not None and (changed.score_before, changed.protocol_before) == (0.123, "an older one")


def test_another_tie_rule_goes_to_another_folder(finished: Path, tmp_path: Path) -> None:
    path = next(finished.rglob("msrvtt-t2v/*.json"))
    lines = lines_of(path)
    for one in lines:  # all videos alike: every rank is a tie
        one["embedding"] = lines[0]["embedding"]
    text = "".join(json.dumps(one) + "\n" for one in lines)
    path.with_suffix(".predictions.jsonl").write_text(text)
    count = len(lines)
    assert run(["rescore", str(finished), "--quiet"]) == 0
    mean = results_in(finished)["msrvtt-t2v"]
    assert mean.scores["t2v_mean_rank"].value == (count + 1) / 2 and mean.scores["t2v_r1"].value == 0
    plain = path.read_bytes()
    found = prismhub.rescore(results=finished, ties="clip4clip", output=tmp_path / "other")
    assert len(found) == len(NAMES) and path.read_bytes() == plain
    other = results_in(tmp_path / "other")
    assert other["msrvtt-t2v"].protocol == "retrieval-1k-a-v1, ties: clip4clip"
    assert other["msrvtt-t2v"].scores["t2v_r1"].value == pytest.approx(1 / count)  # every place is a rank
    assert other["msrvtt-t2v"].scores["t2v_r1"].interval is None
    assert other["ssv2"].protocol == results_in(finished)["ssv2"].protocol
    assert len(list((tmp_path / "other").rglob("*.predictions.jsonl"))) == len(NAMES)


def test_rescoring_refuses_other_data(finished: Path, root: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(root, tmp_path / "own"))
    rows = _ssv2_test(own)
    next((own / "ssv2").rglob("*validation.json")).write_text(json.dumps(rows[:-1]))
    before = next(finished.rglob("ssv2/*.json")).read_bytes()
    found = {one.before.task: one for one in prismhub.rescore(results=finished, data_root=own)}
    assert found["ssv2"].after is None and "is not what was judged: run the cell again" in found["ssv2"].reason
    assert next(finished.rglob("ssv2/*.json")).read_bytes() == before
    assert found["ava"].after is not None
    assert run(["rescore", str(finished), "--data-root", str(own), "--quiet"]) == 3


def test_python_takes_the_same_options(finished: Path, root: Path) -> None:
    done = prismhub.bench(task=NAMES, encoder="nano", data_root=root, output=finished, epochs=1, accelerator="cpu")
    assert {result.task for result in done.results.values()} == set(NAMES) and not done.failed
    assert done.table()[0][:3] == ["suite", "benchmark", "metric"]


def test_what_is_wrong_is_said_at_once(root: Path, tmp_path: Path, says: Callable[..., str]) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    good = ["bench", "--task", "ssv2", "--encoder", "nano", "--data-root", str(root), "--output", str(tmp_path / "out")]
    wrong = {
        "give suite, as in --suite videoglue": ["bench", "--encoder", "nano", "--data-root", str(root)],
        "unknown suite 'videoglu'; did you mean 'videoglue'?": [*good, "--suite", "videoglu"],
        "unknown benchmark 'ssv3'": [*good, "--task", "ssv3"],
        "no encoder is called 'nanno'": [*good, "--encoder", "nanno"],
        "encoder 'nano' is named twice": [*good, "--encoder", "nano"],
        "adapter 'linea' is no kind; did you mean 'linear'?": [*good, "--adapter", "linea"],
        "shard must be i/n with i from 1 to n, as in 2/4, not '3/2'": [*good, "--shard", "3/2"],
        "seeds must be at least 1": [*good, "--seeds", "0"],
        "val_fraction is a share": [*good, "--val-fraction", "1.5"],
        "no head in this matrix has an option 'drpout'": [*good, "--head", "drpout=1"],
        "none: no such folder; put the data sets there": [*good, "--data-root", str(tmp_path / "none")],
        "empty: holds none of the folders ssv2": [*good, "--data-root", str(tmp_path / "empty")],
        "--output wants a folder": [*good, "--output", str(tmp_path / "file")],
        "no such folder; give that of the results": ["rescore", str(tmp_path / "none")],
        "holds no results of `prismhub bench`": ["rescore", str(tmp_path / "empty")],
    }
    for line, words in wrong.items():
        assert line in says(2, *words)
    assert not (tmp_path / "out").exists()


def test_a_saved_adapter_of_texts_answers_in_words(root: Path, tmp_path: Path) -> None:
    from adapters.card import AdapterInfo
    from adapters.context import Context, TargetSchema
    from adapters.kinds.lit_text import LitText
    from adapters.registry import describe_adapter, save_to_registry
    from core_encoder.extraction import spec_for

    nano = load_encoder("nano")
    spec = spec_for(nano)
    context = Context(nano.dim, TargetSchema("pairs"), spec, encoder_source="nano")
    adapter: Any = LitText.build({"tune": "projection", "width": 8}, context, seed=3)
    save_to_registry(adapter.described_as(AdapterInfo(features=spec, encoder_source="nano")), "mine")
    output = tmp_path / "results"
    names = ["ssv2", "ssv2-temporal", "msrvtt-t2v", "nextqa-atp-hard"]
    done = prismhub.bench(
        task=names, encoder="nano", adapter="mine", data_root=root, output=output, epochs=1, accelerator="cpu"
    )
    assert not done.failed and [column.adapter for column in done.columns] == ["mine"]
    found = results_in(output)
    assert [found[name].adapter for name in names] == ["map_classifier", "mine", "mine", "mine"]
    assert found["msrvtt-t2v"].adapter_sha256 == describe_adapter("mine").weights_sha256
    path = next(output.rglob("msrvtt-t2v/*.json"))
    for one in lines_of(path):
        video = next(root.rglob(f"{one['id']}.*"))
        (answer,) = adapter.predict([video], given={"captions": one["target"]}, encoder=nano)
        assert len(one["embedding"]) == 8 and np.allclose(one["embedding"], answer.values, atol=2e-3)
        assert np.allclose(one["texts"], answer.texts, atol=1e-5)
    again = prismhub.rescore(results=output)
    assert all(one.after is not None and one.after.scores == one.before.scores for one in again)


def test_an_encoder_without_words_fails_where_words_are_needed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Encoder, "has_text", property(lambda _: False))
    assert run(bench_words(root, tmp_path / "results", ["ssv2", "msrvtt-t2v", "ssv2-events"], "--quiet")) == 3
    found = results_in(tmp_path / "results")
    assert [found[name].state for name in ("ssv2", "msrvtt-t2v", "ssv2-events")] == ["done", "failed", "failed"]
    assert "'nano' has no text tower" in found["msrvtt-t2v"].reason
    assert "0 of 7" in capsys.readouterr().out


def test_a_surprise_in_one_cell_does_not_stop_the_others(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = benchmarks.matrix.score_cell

    def score(cell: Any, *given: Any) -> Any:
        if cell.benchmark.name == "ssv2":
            raise ZeroDivisionError("of a plug-in")
        return real(cell, *given)

    def read(benchmark: Benchmark, folder: Path) -> Any:
        if benchmark.name == "ava":
            raise KeyError("a column")
        return opened(benchmark, folder)

    opened = Benchmark.open
    monkeypatch.setattr(benchmarks.matrix, "score_cell", score)
    monkeypatch.setattr(Benchmark, "open", read)
    output = tmp_path / "results"
    assert run(bench_words(root, output, ["ava", "ssv2", "ssv2-temporal"], "--quiet")) == 3
    found = results_in(output)
    assert found["ssv2"].reason == "ZeroDivisionError: of a plug-in" and found["ssv2-temporal"].state == "done"
    assert found["ava"].reason == "ava cannot be read: KeyError: 'a column'"


def test_where_all_do_not_fit_together_each_cell_tries(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(benchmarks.matrix, "encode_missing", no_room)
    assert run(bench_words(root, tmp_path / "results", ["ssv2", "ssv2-temporal"], "--quiet")) == 0
    cost = results_in(tmp_path / "results")["ssv2"].cost
    assert cost is not None and cost.encoded == 9


def test_a_benchmark_in_yaml_is_run_and_judged_again_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_splits(tmp_path / "root" / "letters")
    monkeypatch.chdir(tmp_path)
    Path("letters.yaml").write_text(
        "name: letters\nfamily: classification\nmetric: top1\nsplits: {train: train, test: test}\n"
    )
    output = tmp_path / "results"
    done = prismhub.bench(
        task="letters.yaml", encoder="nano", data_root="root", output=output, epochs=1, accelerator="cpu"
    )
    (result,) = done.results.values()
    assert result.state == "done" and result.suite == "own" and result.n_total == 6
    assert done.table()[1][-1][1:3] == ["average", ""]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (again,) = prismhub.rescore(results=output)
    assert again.after is not None and again.after.scores == result.scores
