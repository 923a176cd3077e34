"""The errors a caller must tell apart; everything else is a plain ValueError, KeyError or RuntimeError."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave is wrong; the message is one line that says what, where and what to do.

    The command line prints it without a traceback and exits with code 2.
    """


def one_line(path: str) -> str:
    """A path as a message shows it: file names may hold line breaks, and bytes that are no UTF-8."""
    path = path.encode("utf-8", "backslashreplace").decode("utf-8")
    return path.replace("\n", "\\n").replace("\r", "\\r")


class UnreadableVideo(InputError):
    """One video file cannot be decoded; long jobs record it and go on with the next."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = " ".join(reason.split())
        super().__init__(f"{one_line(path)}: {self.reason}")

    def __reduce__(self) -> tuple[type[UnreadableVideo], tuple[str, str]]:
        return type(self), (self.path, self.reason)


class EncoderMismatch(InputError):
    """Features or an adapter belong to another encoder than the one in hand."""
