"""Encoders on the Hugging Face Hub: download what an encoder needs, nothing else, and work from the cache offline."""

from __future__ import annotations

import re
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.files.storage import offline

HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[^@\s]+))?")
_BESIDE_THE_WEIGHTS = ["*.json", "*.txt", "*.model"]
_IN_SUBFOLDERS = ["*/*"]  # other formats and sizes of the same model


def download(name: str, local_files_only: bool = False) -> Path:
    """The local copy of `org/name[@revision]`: a folder in `transformers` format, or else the `.npz` of the repository.

    `HF_HOME`, `HF_TOKEN`, `HF_HUB_OFFLINE` and `PRISMHUB_OFFLINE` are honoured; without network the cache is used.

    Raises:
        InputError: unknown, gated, not reachable and not cached, or without a file of either kind.
    """
    found = HUB_ID.fullmatch(name)
    if found is None:
        raise InputError(f"{name!r} is not a Hub id: expected org/name or org/name@revision")
    repo, revision = found["repo"], found["revision"]
    local = local_files_only or offline()
    folder = _snapshot(name, repo, revision, "*.safetensors", local)
    if any(folder.glob("*.safetensors")) and (folder / "config.json").is_file():
        return folder
    arrays = sorted(_snapshot(name, repo, revision, "*.npz", local).glob("*.npz"))
    if len(arrays) == 1:
        return arrays[0]
    reason = f"{len(arrays)} .npz files" if arrays else "neither safetensors with a config.json nor an .npz file"
    raise InputError(f"{name}: the repository holds {reason}; download the file you mean and give its path")


def _snapshot(name: str, repo: str, revision: str | None, weights: str, local: bool) -> Path:
    """The folder in the cache with the weights that match a pattern, if there are any, and the small files."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = snapshot_download(
            repo,
            revision=revision,
            allow_patterns=[*_BESIDE_THE_WEIGHTS, weights],
            ignore_patterns=_IN_SUBFOLDERS,
            local_files_only=local,
        )
        return Path(folder)
    except GatedRepoError as error:
        reason = "access is gated: accept its terms on the Hub and set HF_TOKEN"
        raise InputError(f"{name}: {reason}") from error
    except RevisionNotFoundError as error:
        raise InputError(f"{name}: the repository has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise InputError(f"{name}: no such repository on the Hub, or a private one (then set HF_TOKEN)") from error
    except HFValidationError as error:
        raise InputError(f"{name!r} is not a Hub id: {' '.join(str(error).split())}") from error
    except LocalEntryNotFoundError as error:
        state = "downloads are switched off" if local else "the Hub cannot be reached"
        advice = "connect once, or give a local folder or .npz file"
        raise InputError(f"{name}: not in the local cache, and {state}: {advice}") from error
    except (HTTPError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{name}: the download failed ({reason})") from error
