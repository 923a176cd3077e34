"""The record of a run: one JSON line per record, cut back where a resumed run starts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core_encoder.errors import InputError
from fit.run_log import METRICS_FILE, RunLog


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS_FILE).read_text(encoding="utf-8").splitlines()]


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    names = events.Tags()["scalars"]
    return {name: [(event.step, round(event.value, 6)) for event in events.Scalars(name)] for name in names}


def test_records_are_lines_and_curves(tmp_path: Path) -> None:
    with RunLog(tmp_path, 0) as log:
        log.add(1, {"loss": 2.5, "lr": 0.1}, tier="clean")
        assert records(tmp_path) == [{"step": 1, "tier": "clean", "loss": 2.5, "lr": 0.1}]  # at once, not at the end
        log.add(2, {"loss": 1.5}, tier="noisy")
        log.add(2, {"recall": 0.25})
        log.add(3, {"loss": 0.5}, epoch=7)
    assert [line["step"] for line in records(tmp_path)] == [1, 2, 2, 3]
    assert records(tmp_path)[3] == {"step": 3, "epoch": 7, "loss": 0.5}
    shown = curves(tmp_path)
    assert shown["loss/clean"] == [(1, 2.5)] and shown["loss/noisy"] == [(2, 1.5)]
    assert shown["recall"] == [(2, 0.25)] and shown["loss"] == [(3, 0.5)]


def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    with RunLog(tmp_path, 0) as log:
        for step in range(1, 6):
            log.add(step, {"loss": float(step)})
    with (tmp_path / METRICS_FILE).open("a") as file:
        file.write('{"step": 6, "lo')  # killed in the middle of a line
    with RunLog(tmp_path, 3) as log:
        assert [line["step"] for line in records(tmp_path)] == [1, 2, 3]
        log.add(4, {"loss": 40.0})
    assert records(tmp_path)[-1] == {"step": 4, "loss": 40.0}
    assert [line["step"] for line in records(tmp_path)] == [1, 2, 3, 4]
    assert curves(tmp_path)["loss"] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)]


def test_a_run_that_begins_anew_starts_an_empty_record(tmp_path: Path) -> None:
    for _ in range(2):
        with RunLog(tmp_path / "run", 0) as log:
            log.add(1, {"loss": 1.0})
    assert len(records(tmp_path / "run")) == 1


def test_lines_that_are_no_records_are_dropped(tmp_path: Path) -> None:
    (tmp_path / METRICS_FILE).write_text('{"step": 1, "loss": 1.0}\n\x00\x00\x00\n{"loss": 2.0}\n[]\n{"step": 2}\n')
    with RunLog(tmp_path, 5) as log:
        log.add(6, {"loss": 0.5})
    assert [line["step"] for line in records(tmp_path)] == [1, 2, 6]


FULL = Path("/dev/full")
needs_a_full_device = pytest.mark.skipif(not FULL.exists(), reason="no device here that is always full")


def full_disk(log: RunLog, what: str) -> None:
    """Let the log's own file, or TensorBoard's, be one that takes nothing any more."""
    if what == "lines":
        log._file.close()
        log._file = FULL.open("a", encoding="utf-8", buffering=1)
    else:
        (events,) = Path(log._curves.get_logdir()).iterdir()
        log._curves.flush()  # its thread may still be at the first record
        aside = events.with_name("full")
        aside.symlink_to(FULL)
        aside.replace(events)


@needs_a_full_device
@pytest.mark.parametrize("what", ["lines", "curves"])
def test_a_full_disk_is_one_line(tmp_path: Path, what: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"metrics.jsonl: the disk is full") as caught, RunLog(tmp_path, 0) as log:
        full_disk(log, what)
        log.add(1, {"loss": 1.0})
    assert "\n" not in str(caught.value)
    assert log._file.closed
    assert capfd.readouterr() == ("", "")


@needs_a_full_device
@pytest.mark.parametrize("what", ["lines", "curves"])
def test_a_disk_full_at_the_end_is_one_line_too(tmp_path: Path, what: str) -> None:
    with pytest.raises(InputError, match=r"metrics.jsonl: the disk is full"), RunLog(tmp_path, 0) as log:
        full_disk(log, what)
        with pytest.raises(InputError):
            log.add(1, {"loss": 1.0})
    assert log._file.closed


@needs_a_full_device
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_closing_does_not_hide_what_went_wrong_before(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error, match="first"), RunLog(tmp_path, 0) as log:
        full_disk(log, "lines")
        with pytest.raises(InputError):
            log.add(1, {"loss": 1.0})
        raise error("first")
