"""Encoders on the Hugging Face Hub: download what an encoder needs, nothing else, and work from the cache offline."""

from __future__ import annotations

import re
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.storage import offline

HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[^@\s]+))?")
_SMALL_FILES = ["*.json", "*.txt", "*.model"]


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
    if not (local_files_only or offline()):
        _fetch(name, repo, revision)
    folder = _cached(name, repo, revision)
    if any(folder.glob("*.safetensors")) and (folder / "config.json").is_file():
        return folder
    arrays = sorted(folder.glob("*.npz"))
    if len(arrays) == 1:
        return arrays[0]
    reason = f"{len(arrays)} .npz files" if arrays else "neither safetensors with a config.json nor an .npz file"
    raise InputError(f"{name}: the repository holds {reason}; download the file you mean and give its path")


def _fetch(name: str, repo: str, revision: str | None) -> None:
    """Bring the needed files into the cache; an unreachable Hub is left for the cache to decide."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        files = HfApi().list_repo_files(repo, revision=revision)
        here = [file for file in files if "/" not in file]
        safe = "config.json" in here and any(file.endswith(".safetensors") for file in here)
        weights = ["*.safetensors"] if safe else ["*.npz"]
        nested = ["*/*"]  # other formats and sizes often lie in subfolders
        snapshot_download(repo, revision=revision, allow_patterns=_SMALL_FILES + weights, ignore_patterns=nested)
    except GatedRepoError as error:
        raise InputError(f"{name}: access is gated: accept its terms on the Hub and set HF_TOKEN") from error
    except RevisionNotFoundError as error:
        raise InputError(f"{name}: the repository has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise InputError(f"{name}: no such repository on the Hub, or a private one (then set HF_TOKEN)") from error
    except HFValidationError as error:
        raise InputError(f"{name!r} is not a Hub id: {' '.join(str(error).split())}") from error
    except (HTTPError, HfHubHTTPError, OSError) as error:
        try:
            _cached(name, repo, revision)
        except InputError:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"{name}: not in the local cache, and the Hub cannot be reached ({reason})") from error


def _cached(name: str, repo: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except HFValidationError as error:
        raise InputError(f"{name!r} is not a Hub id: {' '.join(str(error).split())}") from error
    except LocalEntryNotFoundError as error:
        raise InputError(
            f"{name}: not in the local cache and downloads are off: connect once without the offline setting, "
            "or give a local folder or .npz file"
        ) from error
