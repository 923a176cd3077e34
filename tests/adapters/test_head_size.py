"""Options that ask for a head far larger than its files: refused before memory is taken for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from adapters.card import CONFIG_FILE
from adapters.head_size import HeadSize, of_other_files
from adapters.registry import load_adapter
from core_encoder.errors import InputError
from tests.adapters.every_kind import ROWS

FAR_MORE = "describe a head of far more weights than the [0-9,]+ that its files hold"


def tampered(folder: Path, kind: str, **options: Any) -> Path:
    """A saved adapter of a kind, in whose configuration some options of the head are others."""
    next(row for row in ROWS if row.name == kind).build().save_pretrained(folder)
    load_adapter(folder)
    about = json.loads((folder / CONFIG_FILE).read_text())
    about["config"] |= options
    (folder / CONFIG_FILE).write_text(json.dumps(about))
    return folder


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("map_classifier", {"hidden": 10**7}),
        ("map_classifier", {"mlp_ratio": 1e12}),
        ("map_classifier", {"mlp_ratio": 1e40}),
        ("spatiotemporal_localizer", {"hidden": 12 * 10**6, "heads": 12}),
        ("temporal_localizer", {"hidden": 2**22}),
        ("temporal_localizer", {"levels": 10**9}),
        ("temporal_localizer", {"reach": 10**12}),
        ("lit_text", {"hidden": 10**7, "heads": 4}),
        ("lit_text", {"width": 10**9}),
        ("llm_decoder", {"queries": 10**9}),
    ],
)
def test_options_beyond_the_files_are_refused(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=FAR_MORE):
        load_adapter(tampered(tmp_path / "saved", kind, **options))


@pytest.mark.slow
def test_a_huge_head_takes_no_memory(tmp_path: Path) -> None:
    saved = tampered(tmp_path / "saved", "map_classifier", hidden=10**7)
    script = f"""
import resource
from adapters.registry import load_adapter
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load_adapter({str(saved)!r})
except ValueError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    kib, _, said = done.stdout.partition(" ")
    assert "far more weights" in said and int(kib) < 300_000, done.stdout


def test_what_is_of_other_files_or_without_memory_is_not_counted() -> None:
    huge = 1 << 29
    with HeadSize(held=10, tensors=1, where="x"):
        with of_other_files():
            assert torch.empty(huge).numel() == huge  # never touched, so it takes no memory
        with torch.device("meta"):
            assert torch.zeros(huge, huge).is_meta
        assert len(torch.randn(3, generator=torch.Generator().manual_seed(0))) == 3
        with pytest.raises(InputError, match="^x: its options describe a head of far more weights than the 10 that"):
            torch.randn(huge)
    assert torch.empty(huge).numel() == huge
