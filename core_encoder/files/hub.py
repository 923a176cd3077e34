"""The Hugging Face Hub: download what is needed of a repository, nothing else, and work from the cache offline."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from core_encoder.errors import InputError
from core_encoder.files.storage import offline
from core_encoder.files.urls import without_secrets

HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[^@\s]+))?")
_BESIDE_THE_WEIGHTS = ["*.json", "*.txt", "*.model"]
_IN_SUBFOLDERS = ["*/*"]  # other formats and sizes of the same model


def said(error: BaseException) -> str:
    """What a library that asks the Hub says is wrong, on one line and without secrets."""
    return without_secrets(" ".join(f"{type(error).__name__}: {error}".split())).rstrip(".")


def named_elsewhere(source: str) -> str:
    """What another machine may call a source: a name or Hub id as it is, of a path of this machine its last part."""
    path = Path(source).expanduser()
    here = path.is_absolute() or (path.exists() and HUB_ID.fullmatch(source) is None)
    return path.name if here else source


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
    folder = _with_weights(name, repo, revision, "*.safetensors", local_files_only)
    if any(folder.glob("*.safetensors")) and (folder / "config.json").is_file():
        return folder
    arrays = sorted(_with_weights(name, repo, revision, "*.npz", local_files_only).glob("*.npz"))
    if len(arrays) == 1:
        return arrays[0]
    reason = f"{len(arrays)} .npz files" if arrays else "neither safetensors with a config.json nor an .npz file"
    raise InputError(f"{name}: the repository holds {reason}; download the file you mean and give its path")


def _with_weights(name: str, repo: str, revision: str | None, weights: str, local_files_only: bool) -> Path:
    """The folder in the cache with the weights that match a pattern, if there are any, and the small files."""
    patterns = [*_BESIDE_THE_WEIGHTS, weights]
    instead = "a local folder or .npz file"
    return snapshot(name, repo, revision, patterns, instead, ignored=_IN_SUBFOLDERS, local_files_only=local_files_only)


def snapshot(
    what: str,
    repo: str,
    revision: str | None,
    patterns: Sequence[str],
    instead: str,
    *,
    ignored: Sequence[str] = (),
    local_files_only: bool = False,
) -> Path:
    """The folder in the cache with the files of a repository that match `patterns` and none of `ignored`.

    `what` begins each message, `instead` is what may be given without network.

    Raises:
        InputError: unknown, gated, not reachable and not cached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    local = local_files_only or offline()
    try:
        with hub_problems(what, revision):
            folder = snapshot_download(
                repo,
                revision=revision,
                allow_patterns=list(patterns),
                ignore_patterns=list(ignored) or None,
                local_files_only=local,
            )
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        state = "downloads are switched off" if local else "the Hub cannot be reached"
        raise InputError(f"{what}: not in the local cache, and {state}: connect once, or give {instead}") from error
    return Path(folder)


@contextmanager
def hub_problems(what: str, revision: str | None, failed: str = "the download failed") -> Iterator[None]:
    """What `huggingface_hub` raises as one line that begins with `what`; not what it says where it may not connect."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        HTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except (LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise
    except GatedRepoError as error:
        reason = "access is gated: accept its terms on the Hub and set HF_TOKEN"
        raise InputError(f"{what}: {reason}") from error
    except RevisionNotFoundError as error:
        raise InputError(f"{what}: the repository has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise InputError(f"{what}: no such repository on the Hub, or a private one (then set HF_TOKEN)") from error
    except HFValidationError as error:
        raise InputError(f"{what!r} is not a Hub id: {' '.join(str(error).split())}") from error
    except (HTTPError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{what}: {failed} ({reason})") from error
