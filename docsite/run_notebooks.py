"""Run the notebooks anew, each in a folder of its own, and keep what they showed: `make notebooks`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def run_notebook(path: Path, folder: Path) -> Any:
    """The notebook with what it shows when it runs in `folder`, from a PRISMHUB_HOME that is empty.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(path, as_version=4)
    home = {"PRISMHUB_HOME": str(folder / "home"), "PYTHONPATH": str(NOTEBOOKS.parent)}
    home["PYTHONWARNINGS"] = "ignore:IProgress not found"  # tqdm would like its bars to be widgets
    where = {"metadata": {"path": str(folder)}}
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where)
    client.execute(env=os.environ | home)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran
    return notebook


def main() -> None:
    """Run all, and write them with what they show."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(run_notebook(path, Path(folder)), path)


if __name__ == "__main__":
    main()
