"""Families of tasks: what the benchmarks of one kind of answer share."""
