"""Measuring, filtering and de-duplicating a corpus."""
