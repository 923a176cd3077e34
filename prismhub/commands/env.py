"""`prismhub env`: what a bug report needs to say of this machine: versions, devices, folders."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from prismhub.printing import cell_text, print_json
from prismhub.settings import ShowSettings


def environment() -> dict[str, Any]:
    """Versions and settings by name."""
    import torch

    from benchmarks.results import Provenance
    from core_encoder.files.storage import offline, prismhub_home
    from core_encoder.video.decoders import decoder_id

    found = asdict(Provenance.collect(decoder=decoder_id()))
    versions = found.pop("versions")
    return (
        {name: found[name] for name in ("prismhub", "commit", "platform", "decoder")}
        | versions
        | {
            "cpu threads": torch.get_num_threads(),
            "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            "home": str(prismhub_home()),
            "offline": offline(),
        }
    )


def print_env(settings: ShowSettings) -> None:
    """Print versions and settings, for bug reports.

    Example: prismhub env
    """
    kept = environment()
    if settings.json:
        print_json(kept)
        return
    for name, value in kept.items():
        print(f"{name}: {cell_text(value)}")
