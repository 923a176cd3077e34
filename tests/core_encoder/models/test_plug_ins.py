"""Encoders of other packages: listed without being imported, loaded by name and by the `model_type` of a folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from core_encoder.encoder import Encoder, load_encoder, save_encoder
from core_encoder.errors import InputError
from core_encoder.models.known_encoders import check_text_tower, encoder_path, encoders
from core_encoder.text_encoder import load_text_encoder

GOOD = """
from core_encoder import Encoder, Preprocessing
from tests.core_encoder.test_contract import Plain

def load(folder):
    return Encoder(Plain(), "from a folder" if folder else "by name", Preprocessing(16))
"""


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`plug(name, code)` installs a package of one module `third_party` with an encoder of that name."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def install(name: str, code: str) -> None:
        about = tmp_path / "site" / "third_party-0.1.0.dist-info"
        about.mkdir(parents=True, exist_ok=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 0.1.0\n")
        (about / "entry_points.txt").write_text(f"[prismhub.encoders]\n{name} = third_party:load\n")
        (tmp_path / "site" / "third_party.py").write_text(code)
        monkeypatch.delitem(sys.modules, "third_party", raising=False)

    return install


def test_it_is_listed_and_loaded(plug: Any, tmp_path: Path) -> None:
    plug("third", GOOD)
    info = {info.name: info for info in encoders()}["third"]
    assert (info.kind, info.parameters, info.text, info.bundled) == ("of package 'third-party'", None, None, False)
    assert encoder_path("third") is None and "third_party" not in sys.modules
    assert isinstance(load_encoder("third"), Encoder) and load_encoder("third").name == "by name"
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "third"}))
    assert load_encoder(folder).name == "from a folder"
    check_text_tower("third")  # whether it has one shows when it is loaded
    with pytest.raises(InputError, match="has no text tower"):
        load_text_encoder("third")
    with pytest.raises(InputError, match="no encoder is called 'thrid'.*did you mean 'third'"):
        load_encoder("thrid")
    with pytest.raises(InputError, match="encoder 'by name' cannot be saved: its Plain has no `write`"):
        save_encoder(load_encoder("third"), tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


def test_a_name_of_ours_is_not_taken(plug: Any) -> None:
    plug("nano", "raise SystemExit('imported')\n")
    assert load_encoder("nano").num_frames == 8
    assert [info.name for info in encoders()].count("nano") == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import nothing_of_this_name\n", "cannot be loaded: No module named 'nothing_of_this_name'"),
        ("def load(folder):\n    raise RuntimeError('two\\nlines')\n", "cannot be loaded: two"),
        ("def load(folder):\n    return 'encoder'\n", "it returned a str, no Encoder"),
        ("load = None\n", "cannot be loaded: 'NoneType' object is not callable"),
        ("from core_encoder import InputError\ndef load(folder):\n    raise InputError('no weights')\n", "no weights"),
    ],
)
def test_one_that_fails_says_so_in_one_line(plug: Any, code: str, message: str) -> None:
    plug("third", code)
    with pytest.raises(InputError) as caught:
        load_encoder("third")
    assert message in str(caught.value) and "\n" not in str(caught.value)
