"""What the tests of this floor share: the bundled encoder and ten small videos."""

from __future__ import annotations

import pytest

from core_encoder.clip_plan import Clip
from core_encoder.encoder import Encoder, load_encoder
from tests.videos import moving_square, write_video


@pytest.fixture(scope="session")
def nano() -> Encoder:
    return load_encoder("nano")


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Clip]:
    """Ten whole videos, every one different."""
    folder = tmp_path_factory.mktemp("Vidéos mit Leerzeichen")
    return [Clip(str(write_video(folder / f"vidéo {i}.mp4", moving_square(24, 48, 64, seed=i)))) for i in range(10)]
