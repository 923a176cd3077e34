"""What lies in the feature stores below a folder, record by record."""

from __future__ import annotations

import hashlib
from pathlib import Path

from core_encoder.features.feature_spec import FeatureKey
from core_encoder.features.feature_store import FeatureStore
from core_encoder.features.store_upkeep import list_stores

Stored = dict[tuple[str, FeatureKey], str]


def stored_records(root: Path) -> Stored:
    """The whole records of all stores under `root`, by store and key, a digest of its values each."""
    found: Stored = {}
    for one in list_stores(root):
        store = FeatureStore.open(one.folder)
        for key in store:
            found[one.folder.name, key] = hashlib.sha256(store.read(key).values.float().numpy().tobytes()).hexdigest()
    return found


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
