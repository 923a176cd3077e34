"""Which encoders know words, before they are loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from core_encoder.errors import InputError
from core_encoder.files.storage import write_json
from core_encoder.models.known_encoders import check_text_tower
from tests.core_encoder.checkpoint_files import clip_model, save, video_model, video_text_model, vision_model


def test_names_without_a_text_tower_are_answered_with_those_that_have_one() -> None:
    for name in ("google/videoprism-base-f16r288", "google/videoprism-large-f8r288@main"):
        with pytest.raises(InputError, match="has no text tower.*: nano, google/videoprism-lvt-base-f16r288, .*clip"):
            check_text_tower(name)
    for name in ("nano", "openai/clip-vit-large-patch14", "google/videoprism-lvt-base-f16r288@main", "some/other"):
        check_text_tower(name)
    with pytest.raises(InputError, match="did you mean 'nano'"):
        check_text_tower("nanno")


@pytest.mark.parametrize("model", [vision_model, video_model])
def test_folders_of_video_alone(model: type, tmp_path: Path) -> None:
    save(model(), tmp_path / "mine")
    with pytest.raises(InputError, match="mine' has no text tower"):
        check_text_tower(tmp_path / "mine")


@pytest.mark.parametrize("model", [video_text_model, clip_model])
def test_folders_with_words(model: type, tmp_path: Path) -> None:
    check_text_tower(save(model(), tmp_path / "mine"))


def test_what_the_config_does_not_say_is_left_to_loading(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    check_text_tower(tmp_path / "empty")
    write_json(tmp_path / "odd" / "config.json", ["odd"])
    check_text_tower(tmp_path / "odd")
    (tmp_path / "base.npz").touch()
    check_text_tower(tmp_path / "base.npz")
