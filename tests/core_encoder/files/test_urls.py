"""Addresses: what of them may be shown, and that what opens them stays with them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from core_encoder.clip_plan import Clip
from core_encoder.errors import InputError
from core_encoder.files.urls import Url, as_location, without_secrets

SIGNED = "https://user:pw@host:8080/a/b.mp4?X-Amz-Signature=SECRET&X-Amz-Expires=60"


@pytest.mark.parametrize(
    "given, shown",
    [
        (SIGNED, "https://host:8080/a/b.mp4"),
        ("https://acc.blob/a.mp4?sv=1&sig=SECRET&se=2", "https://acc.blob/a.mp4"),
        ("s3://bucket/a b#1?.mp4", "s3://bucket/a b#1?.mp4"),
        ("S3://bucket/a.mp4", "s3://bucket/a.mp4"),
        ("hf://datasets/org/name@main/a.mp4", "hf://datasets/org/name@main/a.mp4"),
    ],
)
def test_what_is_shown_of_an_address(given: str, shown: str) -> None:
    url = Url(given)
    assert url == shown
    assert url.whole.lower() == given.lower()
    assert Url(shown) == url


def test_what_a_query_names_tells_addresses_apart_and_is_not_shown() -> None:
    first, second = Url("https://host/v?id=1&token=SECRET"), Url("https://host/v?id=2&token=SECRET")
    assert first != second
    assert "SECRET" not in first and "token" not in first
    assert Url("https://host/v?id=1&Signature=a&Expires=1") == Url("https://host/v?Signature=b&Expires=2&id=1")
    assert Url("https://host/v?author=a") != Url("https://host/v?author=b")


def test_an_address_keeps_what_opens_it_in_clips_and_in_other_processes() -> None:
    clip = pickle.loads(pickle.dumps(Clip(SIGNED)))  # noqa: S301
    assert isinstance(clip.path, Url) and clip.path.whole == SIGNED
    assert clip == Clip("https://host:8080/a/b.mp4")
    assert "SECRET" not in json.dumps(clip.path) + repr(clip) + f"{clip.path}"


def test_parts_of_addresses() -> None:
    url = Url("s3://bucket/some/folder/")
    assert url / "a.mp4" == "s3://bucket/some/folder/a.mp4"
    assert (url / "a.mp4").parent == "s3://bucket/some/folder"
    assert (url / "a.mp4").name == "a.mp4" and (url / "a.mp4").suffix == ".mp4" and (url / "a.mp4").stem == "a"
    assert Url(SIGNED).name == "b.mp4" and Url(SIGNED).host == "host:8080"
    assert Url("hf://datasets/org/name@r/a.mp4").host == "hf://datasets/org/name@r"


def test_places_are_here_or_elsewhere() -> None:
    assert as_location(Path("s3://bucket/a")) == Url("s3://bucket/a")  # pathlib has made one slash of two
    assert as_location("folder/a.mp4") == Path("folder/a.mp4")
    assert as_location("C:/a.mp4") == Path("C:/a.mp4")
    assert as_location("/s3://a") == Path("/s3://a")


def test_command_lines_are_recorded_without_secrets() -> None:
    line = f"prismhub encode {SIGNED} s3://key:pw@bucket/a.mp4 --store folder"
    assert without_secrets(line) == "prismhub encode https://host:8080/a/b.mp4 s3://bucket/a.mp4 --store folder"


@pytest.mark.parametrize("given", ["ftp://host/a.mp4", "S3A://bucket/features", Path("file:///a.mp4")])
def test_other_kinds_of_addresses_are_no_folders_of_this_machine(given: str | Path) -> None:
    with pytest.raises(InputError, match=r"^(ftp|S3A|file):// is no address that is opened here"):
        as_location(given)
