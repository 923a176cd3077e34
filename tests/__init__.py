"""The tests, laid out as the source is."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
"""The checkout: where subprocesses of tests run, and where shipped files lie."""
