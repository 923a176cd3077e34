"""The files of the page, the cards of adapters and the report: who may have them, and what they never say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from core_encoder.config import config_from_dict
from core_encoder.errors import InputError
from prismhub.server.page_routes import FOLDER
from prismhub.server.settings import ServeSettings
from tests.prismhub.server.serving import serving

FILES = sorted(path.name for path in FOLDER.iterdir())


@pytest.mark.usefixtures("trained")
def test_the_page_needs_no_key_and_allows_nothing_from_elsewhere() -> None:
    with serving(api_key="secret") as server:
        for path in ("/", *(f"/static/{name}" for name in FILES)):
            reply = server.request("GET", path)
            assert reply.status == 200, path
            policy = reply.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';"), path
            assert "unsafe" not in policy and "http" not in policy
            again = server.request("GET", path, if_none_match=reply.headers["etag"])
            assert (again.status, again.body) == (304, b"")
        for path in ("/static/nothing.js", "/static/..%2Fapp.py", "/static/%2e%2e/app.py", "/static/"):
            assert server.request("GET", path).status == 404, path
        assert server.request("GET", "/", host="evil.example").status == 421
        assert server.request("GET", "/static/page.js", origin="http://evil.example").status == 403
        assert server.request("GET", "/static/page.js", sec_fetch_site="cross-site").status == 403
        assert server.request("GET", "/healthz").json["wants_key"] is True
        for path in ("/docs", "/v1/adapters", "/v1/adapters/x/card", "/report"):
            assert server.request("GET", path).status == 401, path
        assert server.request("GET", "/docs", authorization="Bearer secret").status == 200
    with serving() as server:
        assert server.request("GET", "/healthz").json["wants_key"] is False


def test_files_of_the_page_hold_no_address_and_no_inline_code() -> None:
    for path in FOLDER.iterdir():
        text = path.read_text(encoding="utf-8")
        addresses = set(re.findall(r"https?://[^\s\"'<>)]+", text)) - {"http://www.w3.org/2000/svg"}
        assert not addresses, path.name
        if path.suffix == ".html":
            assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|<style", text), path.name
        if path.suffix == ".js":
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", text), path.name
            assert max(map(len, text.splitlines())) <= 120, path.name
            for other in re.findall(r'from "\./(.+?)"', text):
                assert (FOLDER / other).is_file(), f"{path.name}: {other}"


def test_a_card_says_what_the_adapter_is_and_no_place_of_the_machine(trained: Path, tmp_path: Path) -> None:
    config = trained / "adapters" / "x" / "v1" / "adapter_config.json"
    info = json.loads(config.read_text())
    info["encoder_source"] = str(tmp_path / "checkpoints" / "nano")
    info["training"] = {
        "data": "C:\\people\\me\\videos",
        "from": [f"read from {Path.home()}/videos", 3],
        "videos": "AAAAAAAA",
    }
    info["license"] = "CC-BY-4.0"
    config.write_text(json.dumps(info))
    with serving(adapter=["x"], encoder="nano") as server:
        card = server.request("GET", "/v1/adapters/x/card").json
        assert card["name"] == "x" and card["kind"] == "map_classifier" and card["targets"]["label_names"] == ["b", "d"]
        assert card["features"]["encoder"] == "nano" and len(card["features"]["fingerprint"]) == 64
        assert card["license"] == "CC-BY-4.0" and card["evaluations"][0]["values"]["top1"]["low"] is not None
        assert card["encoder_source"] == "nano"
        assert card["training"] == {"data": "videos", "from": ["read from videos", 3], "videos": 1}
        assert str(tmp_path) not in json.dumps(card) and str(Path.home()) not in json.dumps(card)
        unknown = server.request("GET", "/v1/adapters/z/card")
        assert unknown.status == 404 and unknown.error.startswith("the server has no adapter 'z'")


@pytest.mark.usefixtures("trained")
def test_a_report_is_shown_apart_from_the_page(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("<!doctype html><title>results</title><script>1</script>")
    with serving(report=str(page)) as server:
        reply = server.request("GET", "/report")
        assert reply.status == 200 and b"results" in reply.body
        assert reply.headers["content-security-policy"].startswith("sandbox allow-scripts; default-src 'none'")
        assert server.client.adapters()["report"] is True
        page.unlink()
        assert server.request("GET", "/report").status == 404
    with serving() as server:
        assert server.request("GET", "/report").error == "this server has no report: start it with --report FILE.html"
        assert server.client.adapters()["report"] is False
    with pytest.raises(InputError, match=r"report .*: no such file; prismhub report RESULTS --html FILE writes one"):
        config_from_dict(ServeSettings, {"report": str(page)})
