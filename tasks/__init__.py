"""Floor 3: what the benchmarks are. A task offers samples and judges predictions; it never sees a model."""
