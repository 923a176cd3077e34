"""The page that lists what the server offers, made of its OpenAPI description: no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

_HEAD = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>prismhub</title>
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem }
h2 { font-size: 1.05rem; margin: 1.6rem 0 .2rem } code { font-size: .95em }
table { border-collapse: collapse; width: 100% } td { padding: .15rem .8rem .15rem 0; vertical-align: top }
</style><h1>prismhub</h1>
"""


def api_page(described: Mapping[str, Any]) -> str:
    """The routes of an OpenAPI description as HTML: method, path, what it does, and its fields."""
    parts = [_HEAD, f"<p>{escape(described['info']['description'])} ", '<a href="/openapi.json">openapi.json</a></p>']
    for path, methods in described["paths"].items():
        for method, about in methods.items():
            parts.append(
                f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(about.get('summary', ''))}</p>"
            )
            rows = [(one["name"], _type(one["schema"])) for one in about.get("parameters", ())]
            for schema in _bodies(about, described):
                rows += [(name, _type(one)) for name, one in schema.get("properties", {}).items()]
            if rows:
                cells = "".join(
                    f"<tr><td><code>{escape(name)}</code><td>{escape(kind)}" for name, kind in dict(rows).items()
                )
                parts.append(f"<table>{cells}</table>")
    return "".join(parts)


def _bodies(about: Mapping[str, Any], described: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The schemas that a body may have, forms first."""
    content = about.get("requestBody", {}).get("content", {})
    return [_resolved(one["schema"], described) for _, one in sorted(content.items(), reverse=True)]


def _resolved(schema: Mapping[str, Any], described: Mapping[str, Any]) -> Mapping[str, Any]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return described["components"]["schemas"][name] if name else schema


def _type(schema: Mapping[str, Any]) -> str:
    """What a field holds, in a few words."""
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"] if one.get("type") != "null")
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return "file" if schema.get("format") == "binary" else str(schema.get("type", "any"))
