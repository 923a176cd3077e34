"""Fly-vs-Fly's files of MATLAB: what either fly does in each frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from core_encoder.errors import InputError
from tasks.readers.dataset_folder import DatasetFolder
from tasks.readers.fly_vs_fly import read_fly_vs_fly
from tasks.registry import find_benchmark
from tests.tasks.miniatures import fly_vs_fly


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return fly_vs_fly.write(tmp_path)


def test_the_official_files_are_read_as_they_are(folder: Path) -> None:
    task = find_benchmark("fly-vs-fly").open(folder)
    assert len(task.label_names) == 6
    labels = {sample.id: sample.labels for sample in task.samples("test")}
    fight, court = "test/Aggression/movie1/movie1@", "test/Courtship/movie1/movie1@"
    assert (labels[f"{fight}0"], labels[f"{fight}6"]) == (("wing_threat",), ())  # charge is no class
    assert labels[f"{fight}8"] == labels[f"{fight}13"] == ("lunging",)
    assert labels[f"{fight}17"] == labels[f"{fight}23"] == ("tussling",)  # of the first fly, of the second
    assert labels[f"{fight}24"] == () and labels[f"{fight}25"] == ("tussling",)
    assert f"{fight}30" in labels and f"{fight}31" not in labels  # no position
    assert labels[f"{court}8"] == ("wing_extension", "circling")
    paths = {sample.clip.path for sample in task.samples("test")}
    assert paths == {str(folder / "test" / kind / "movie1" / "movie1.mp4") for kind in fly_vs_fly.NAMES}


def test_damage_is_named(folder: Path) -> None:
    file = folder / "train" / "Aggression" / "movie1" / "movie1_actions.mat"
    cells = fly_vs_fly.cells
    spans = [np.array([[5, 2, 0]])]
    for content, message in (
        ({"behs": cells([["lunge"]])}, r"movie1_actions.mat: there is no field 'bouts'"),
        ({"behs": cells([["lunge", "hold"]]), "bouts": cells([spans])}, r"bouts has 1 columns, behs 2 names"),
        ({"behs": cells([["lunge"]]), "bouts": cells([spans])}, r"bouts of 'lunge': \[5, 2, 0\] is no \[start, end\]"),
    ):
        savemat(file, content)
        with pytest.raises(InputError, match=message):
            read_fly_vs_fly(DatasetFolder(folder), "train")
    file.write_bytes(b"no such thing")
    with pytest.raises(InputError, match=r"movie1_actions.mat: cannot be read as a file of MATLAB"):
        read_fly_vs_fly(DatasetFolder(folder), "train")
    savemat(file.with_name("movie1_track.mat"), {"x": 1})
    fly_vs_fly.write(folder / "again")
    savemat(folder / "again" / "train" / "Aggression" / "movie1" / "movie1_track.mat", {"x": 1})
    with pytest.raises(InputError, match=r"movie1_track.mat: there are no positions trk.data"):
        read_fly_vs_fly(DatasetFolder(folder / "again"), "train")
    with pytest.raises(InputError, match=r"no \*_actions.mat lies in a folder 'val'"):
        read_fly_vs_fly(DatasetFolder(folder), "val")
