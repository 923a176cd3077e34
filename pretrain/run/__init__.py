"""How a recipe runs and what it costs: processes, loop, checkpoints, probes, export, dry run."""
