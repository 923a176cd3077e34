"""`prismhub mcp`: the answers of `prismhub serve` as tools of an MCP server on stdin and stdout."""

from __future__ import annotations

from prismhub.progress import SILENT, Show
from prismhub.server.running import run_tools
from prismhub.server.settings import McpSettings


def mcp(settings: McpSettings, show: Show = SILENT) -> None:
    """Answer until stdin ends; stdout holds the protocol and nothing else.

    Raises:
        InputError: there is no such adapter, archive or root, or the extra is not installed.
    """
    run_tools(settings, show)


def print_mcp(settings: McpSettings) -> None:
    """Offer search, predict and zero-shot as tools to an MCP client, which starts this command.

    Example: prismhub mcp --adapter my-labels --archive archive --root my_videos/
    """
    mcp(settings, Show(settings.output.quiet))
