"""Floor 4: the results of adapters on tasks, and the speed measurements under `benchmarks/speed/`."""
