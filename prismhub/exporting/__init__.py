"""Models that leave PyTorch: what is traced, how it is written and checked, and the folder that carries it."""
