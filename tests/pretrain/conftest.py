"""What the tests of pretraining share: one tiny run that is finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from pretrain.training import pretrain
from tests.pretrain.tiny_runs import contrast


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of one step, with `encoder/` and `tokenizer.json`; to be copied."""
    folder = tmp_path_factory.mktemp("finished run")
    pretrain(contrast(folder, steps=1), folder / "out")
    return folder / "out"
