"""Which benchmarks are known: by name, registered here, in the catalog or plugged in; or declared in a YAML file."""

from __future__ import annotations

import importlib.metadata

from core_encoder.errors import InputError
from core_encoder.files.storage import nearest
from tasks.benchmark import Benchmark
from tasks.catalog import catalog_names, from_catalog

ENTRY_POINTS = "prismhub.tasks"
_registered: dict[str, Benchmark] = {}


def register_benchmark(benchmark: Benchmark) -> Benchmark:
    """Make a benchmark known under its name in this process.

    Raises:
        InputError: another one has the name.
    """
    if benchmark.name in catalog_names() or _registered.get(benchmark.name, benchmark) is not benchmark:
        raise InputError(f"benchmark {benchmark.name!r} exists already; choose another name")
    _registered[benchmark.name] = benchmark
    return benchmark


def benchmark_names() -> list[str]:
    """The names of all known benchmarks; no plug-in is imported for it."""
    plugged = importlib.metadata.entry_points(group=ENTRY_POINTS)
    return sorted({*_registered, *catalog_names(), *(point.name for point in plugged)})


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of a name, or of a YAML file; a plug-in is imported when it is the one asked for.

    Raises:
        InputError: the file declares none, no such benchmark (the nearest name is offered), or its plug-in gives none.
    """
    if name.lower().endswith((".yaml", ".yml")):
        from tasks.benchmark_file import read_benchmark_file

        return read_benchmark_file(name)
    if name in _registered:
        return _registered[name]
    if (known := from_catalog(name)) is not None:
        return known
    for point in importlib.metadata.entry_points(group=ENTRY_POINTS, name=name):
        owner = point.dist.name if point.dist else point.value
        try:
            found = point.load()
        except Exception as error:  # a plug-in may fail in any way; the others must not suffer
            raise InputError(f"benchmark {name!r} of plug-in {owner!r} cannot be imported: {error}") from error
        if not isinstance(found, Benchmark) or found.name != name:
            raise InputError(f"benchmark {name!r} of plug-in {owner!r} is no Benchmark of that name")
        return found
    raise InputError(f"unknown benchmark {name!r}{nearest(name, benchmark_names())}")
