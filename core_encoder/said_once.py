"""Warnings that are given once a process, however many parts of it come upon the same."""

from __future__ import annotations

import logging

_said: set[str] = set()


def warn_once(log: logging.Logger, what: str, example: str) -> None:
    """Warn of `what`, with the first example of it, unless that was said before."""
    if what not in _said:
        _said.add(what)
        log.warning("%s %s", what, example)
