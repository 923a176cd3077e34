"""Training on frozen features: one loop for all kinds, a grid of settings on one pass."""
