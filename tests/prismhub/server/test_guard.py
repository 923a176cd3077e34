"""Who may ask: host names, pages and keys."""

from __future__ import annotations

import hmac

import pytest

from prismhub.server import guard as guard_module
from prismhub.server.guard import Guard
from prismhub.server.refusal import Refused

OPEN = Guard(None, "127.0.0.1", ["prism.lan"])
KEYED = Guard("sesame ü", "127.0.0.1")


def status(guard: Guard, path: str = "/v1/predict", method: str = "POST", **headers: str) -> int:
    given = {"host": "127.0.0.1:8000"} | {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        guard.check(method, path, given)
    except Refused as refused:
        return refused.status
    return 200


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "192.168.0.7", "prism.lan:8000"]
)
def test_names_of_this_server_pass(host: str) -> None:
    assert status(OPEN, host=host) == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil@127.0.0.1",
        "127.0.0.1/evil",
        "prism.lan@evil.example",
    ],
)
def test_a_page_that_binds_its_own_name_to_our_address_is_refused(host: str) -> None:
    assert status(OPEN, host=host) == 421


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "http://127.0.0.1:8000.evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"sec_fetch_site": "none"}, 200),
        ({"sec_fetch_site": "cross-site"}, 403),
        ({"sec_fetch_site": "same-site"}, 403),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}, 403),
    ],
)
def test_foreign_pages_are_refused(headers: dict[str, str], expected: int) -> None:
    assert status(OPEN, **headers) == expected


def test_a_link_to_the_first_page_may_be_followed_from_anywhere() -> None:
    followed = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}
    assert status(OPEN, "/", "GET", **followed) == 200
    assert status(OPEN, "/v1/adapters", "GET", **followed) == 403
    assert status(OPEN, "/", "GET", sec_fetch_site="cross-site", sec_fetch_mode="no-cors") == 403


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 401),
        ({"authorization": "Bearer sesame"}, 401),
        ({"authorization": "Bearer sesame ü "}, 200),
        ({"authorization": "bearer sesame ü"}, 200),
        ({"authorization": "Basic sesame ü"}, 401),
        ({"x_api_key": "sesame ü"}, 200),
        ({"x_api_key": ""}, 401),
    ],
)
def test_a_key_is_needed_for_everything_but_health(headers: dict[str, str], expected: int) -> None:
    assert status(KEYED, **headers) == expected
    assert status(KEYED, "/openapi.json", "GET", **headers) == expected
    assert status(KEYED, "/healthz", "GET", **headers) == 200
    assert status(KEYED, "/healthz/", "GET", **headers) == expected


def test_keys_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    original = hmac.compare_digest

    def compare(given: bytes, right: bytes) -> bool:
        compared.append((given, right))
        return original(given, right)

    monkeypatch.setattr(guard_module.hmac, "compare_digest", compare)
    assert status(KEYED, x_api_key="s") == 401 and status(KEYED, x_api_key="sesame ü") == 200
    assert compared == [(b"s", "sesame ü".encode()), ("sesame ü".encode(), "sesame ü".encode())]
