"""`prismhub predict` and `prismhub.predict`: one video or several, files, clips and arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import prismhub
from core_encoder import Clip, ClipPlan, InputError, read_clip


@pytest.mark.usefixtures("trained")
def test_arrays_clips_and_single_paths_are_answered_like_their_files(splits: Path) -> None:
    paths = sorted((splits / "test").rglob("*.mp4"))[:3]
    expected = prismhub.predict(videos=[str(path) for path in paths], adapter="x").predictions
    frames = [read_clip(Clip(str(path)), ClipPlan(12)) for path in paths]  # all of them, at full size
    floats = torch.from_numpy(np.moveaxis(np.stack(frames), -1, 2) / 255)
    for given in (frames, np.stack(frames), floats, paths, [Clip(str(path)) for path in paths]):
        answers = prismhub.predict(videos=given, adapter="x").predictions
        names = [str(path) for path in paths] if given is paths or isinstance(given[0], Clip) else ["0", "1", "2"]
        assert [one.sample_id for one in answers] == names
        for one, other in zip(answers, expected, strict=True):
            torch.testing.assert_close(one.scores, other.scores, atol=2e-3, rtol=0)
    [alone] = prismhub.predict(paths[0], adapter="x").predictions  # as on the command line, before the options
    assert alone.sample_id == str(paths[0])
    [alone] = prismhub.predict(videos=frames[0], adapter="x").predictions
    assert alone.sample_id == "0"
    with pytest.raises(InputError, match=r"array 0: a video in memory is uint8 \(T, H, W, 3\)"):
        prismhub.predict(videos=frames[0][0], adapter="x")
    with pytest.raises(InputError, match="window, step and vtt count seconds, which an array does not know"):
        prismhub.predict(videos=frames, adapter="x", window=1)
    for wrong, says in ((None, "option 'videos' is missing"), ([3], "a path, a Clip or an array, not int")):
        with pytest.raises(InputError, match=says):
            prismhub.predict(videos=wrong, adapter="x")
    assert prismhub.encode(videos=paths[0]).report.n_clips == 1
