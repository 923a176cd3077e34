"""Addresses of what lies elsewhere, as they may be shown: no user, no password, no signature is in them.

    s3://bucket/a.mp4    gs://bucket/a.mp4    https://host/a.mp4    hf://datasets/org/name/a.mp4

A `Url` is text that can stand in a log, a result or a file name; what opens it, `Url.whole`, goes with it from process
to process and nowhere else.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path, PurePosixPath
from typing import TypeAlias
from urllib.parse import parse_qsl, urlencode, urlsplit

from core_encoder.errors import InputError

_URL = re.compile(r"(?P<scheme>s3|gs|gcs|https?|hf):/{1,2}(?=[^/])", re.IGNORECASE)  # `pathlib` makes one slash of two
_OTHER = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]+):/", re.IGNORECASE)  # two letters at least: C:/ is a disk
_ANYWHERE = re.compile(r"(?<![\w+.-])(?:s3|gs|gcs|https?|hf)://[^\s'\"<>]+", re.IGNORECASE)
_SIGNS = re.compile(
    r"x-(amz|goog)-.*|signature|expires|policy|key-pair-id|awsaccesskeyid|googleaccessid", re.IGNORECASE
)
_SIGNS_WITH_SIG = re.compile(r"sig|s[epvrtks]|sk\w+|spr|sip", re.IGNORECASE)  # Azure's
_WEB = ("http", "https")


class Url(str):
    """An address, shown without its secrets.

    The query of a web address may hold some: what it names is told apart by a digest, what signs it is left out, so
    that the address stays the same when it is signed anew.
    """

    whole: str

    def __new__(cls, given: str) -> Url:
        found = _URL.match(given)
        if found is None:
            raise ValueError(f"{given!r} is not an address")
        scheme = found["scheme"].lower()
        whole = f"{scheme}://{given[found.end() :]}"
        url = super().__new__(cls, _shown(whole, scheme))
        url.whole = whole
        return url

    @property
    def scheme(self) -> str:
        """`s3`, `gs`, `gcs`, `http`, `https` or `hf`."""
        return self.partition(":")[0]

    @property
    def is_web(self) -> bool:
        """Whether it names one file of a web server, which lists no folders."""
        return self.scheme in _WEB

    @property
    def host(self) -> str:
        """Whom messages name: the host of a web address, the bucket or repository of the others."""
        place = self.split("://", 1)[1].split("/")
        if self.is_web:
            return place[0]
        return f"{self.scheme}://" + "/".join(place[: 3 if self.scheme == "hf" and place[0] == "datasets" else 1])

    @property
    def path(self) -> str:
        """What follows the host, without a query."""
        return self.partition("://")[2].partition("/")[2].partition("?~")[0]

    @property
    def name(self) -> str:
        """The last part of the path."""
        return PurePosixPath(self.path).name

    @property
    def suffix(self) -> str:
        """The ending of the name, with its dot."""
        return PurePosixPath(self.path).suffix

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return PurePosixPath(self.path).stem

    @property
    def parent(self) -> Url:
        """The folder it lies in."""
        bare = self.whole.partition("?")[0] if self.is_web else self.whole
        return Url(bare.rstrip("/").rpartition("/")[0])

    def __truediv__(self, other: object) -> Url:
        return Url(f"{self.whole.rstrip('/')}/{os.fspath(other)}")  # type: ignore[call-overload]


Location: TypeAlias = Path | Url
"""A folder or file, here or elsewhere."""


def as_location(given: str | os.PathLike[str]) -> Location:
    """A path as a `Url` where it is one, else as a `Path`.

    Raises:
        InputError: an address of a kind that nothing here opens.
    """
    if isinstance(given, Url):
        return given
    text = os.fspath(given)
    if not _URL.match(text) and (other := _OTHER.match(text)):
        raise InputError(f"{other['scheme']}:// is no address that is opened here: s3, gs, https and hf are")
    return Url(text) if _URL.match(text) else Path(text)


def named(path: str) -> str:
    """The path of a clip: an address as a `Url`, any other as it is."""
    return Url(path) if not isinstance(path, Url) and _URL.match(path) else path


def without_secrets(text: str) -> str:
    """A text, such as a command line, with every address in it as it may be shown."""
    return _ANYWHERE.sub(lambda found: str(Url(found[0])), text)


def _shown(whole: str, scheme: str) -> str:
    """An address without what may be secret in it."""
    if scheme == "hf":
        return whole  # its `@` stands before a revision
    place, slash, path = whole.partition("://")[2].partition("/")
    host = place.rpartition("@")[2]
    if scheme not in _WEB:
        return f"{scheme}://{host}{slash}{path}"
    parts = urlsplit(whole)
    if re.fullmatch(r"~[0-9a-f]{8}", parts.query):  # it was shown already
        return f"{scheme}://{host}{parts.path}?{parts.query}"
    asked = parse_qsl(parts.query, keep_blank_values=True)
    by_azure = any(name.lower() == "sig" for name, _ in asked)
    kept = [
        (name, value)
        for name, value in asked
        if not (_SIGNS.fullmatch(name) or (by_azure and _SIGNS_WITH_SIG.fullmatch(name)))
    ]
    told = f"?~{hashlib.sha256(urlencode(kept).encode()).hexdigest()[:8]}" if kept else ""
    return f"{scheme}://{host}{parts.path}{told}"
