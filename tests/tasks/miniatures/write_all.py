"""Write the miniatures of all data sets below one folder: `python -m tests.tasks.miniatures.write_all data/`."""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.catalog import catalog_names
from tasks.registry import find_benchmark
from tests.tasks.miniatures.every import write_data_of


def write_all(root: Path) -> None:
    """Write each data set that is not there yet."""
    root.mkdir(parents=True, exist_ok=True)
    for name in catalog_names():
        write_data_of(find_benchmark(name), root)


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
