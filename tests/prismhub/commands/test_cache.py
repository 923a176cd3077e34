"""`prismhub cache convert`, and the line that leads to it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from core_encoder.features.feature_store import FeatureStore
from prismhub.cli import run
from tests import ROOT
from tests.core_encoder.features.stores import SPEC
from tests.core_encoder.features.test_old_store import records, spoil, write_old_store


def test_what_became_of_the_records_is_said(private_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = private_home / "features"
    assert run(["cache", "convert"]) == 0
    assert capsys.readouterr().out == f"{root}: no features of an older version\n"
    clip = replace(SPEC, kind="clip")
    shards = [records(SPEC, range(3)), records(SPEC, range(3, 5), num_real=1), records(SPEC, range(5, 6))]
    folder = write_old_store(root, SPEC, shards)
    spoil(folder / "shard-2.safetensors", next(map(str, shards[2])))
    (folder / "shard-3.safetensors").write_bytes(b"")
    other = write_old_store(root, clip, [records(clip, range(1))])
    assert run(["cache", "convert"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{other.name} -> {clip.folder_name}: 2 records converted"
    assert lines[1] == f"{folder.name} -> {SPEC.folder_name}: 7 records converted"
    assert lines[2] == "  4 of clips with padding left out: they are encoded anew"
    assert lines[3] == "  1 corrupt ones left out: they are encoded anew"
    assert lines[4].startswith("  broken shard shard-3.safetensors left out") and len(lines) == 5
    assert run(["cache", "convert", "--remove"]) == 0
    assert "  7 were there already" in capsys.readouterr().out
    assert {path.name for path in root.iterdir()} == {SPEC.folder_name, clip.folder_name}
    assert len(FeatureStore(root, SPEC)) == 7


def test_the_command_that_is_named_converts(tmp_path: Path) -> None:
    root = tmp_path / "my features"
    folder = write_old_store(root, SPEC, [records(SPEC, range(3))])
    program = [sys.executable, "-m", "prismhub.cli"]
    listed = subprocess.run(
        [*program, "cache", "list", "--json", "--store", str(root)], cwd=ROOT, capture_output=True, text=True
    )
    assert listed.returncode == 0 and json.loads(listed.stdout) == []
    [line] = listed.stderr.splitlines()
    command = shlex.split(line.rpartition(": ")[2])
    assert line.startswith(str(folder)) and command[0] == "prismhub"
    assert run(command[1:]) == 0
    again = subprocess.run(
        [*program, "cache", "list", "--json", "--store", str(root)], cwd=ROOT, capture_output=True, text=True
    )
    assert again.stderr == "" and [row["records"] for row in json.loads(again.stdout)] == [6]
