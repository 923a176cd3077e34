"""Metrics keyed by sample, and their intervals."""
