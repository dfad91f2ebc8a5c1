"""``guardrail serve``: the proxy."""

from __future__ import annotations

from pathlib import Path

import click
import uvicorn

from guardrail.build import build_proxy
from guardrail.config import load_config
from guardrail.frontends.asgi import ASGIApp

__all__ = ["command", "server"]


def server(app: ASGIApp, host: str, port: int, log_level: str = "info") -> uvicorn.Server:
    """A uvicorn server with the fast loop and parser, and without the access log."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="auto",
        http="httptools",
        access_log=False,
        server_header=False,
        log_level=log_level,
        timeout_graceful_shutdown=10,
    )
    return uvicorn.Server(config)


@click.command("serve")
@click.option(
    "-c",
    "--config",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    default="guardrail.yaml",
    show_default=True,
    help="The configuration file.",
)
@click.option("--host", help="Instead of server.host.")
@click.option("--port", type=click.IntRange(0, 65535), help="Instead of server.port; 0 picks one.")
def command(path: Path, host: str | None, port: int | None) -> None:
    """Serve the guarded proxy."""
    config = load_config(path)
    app = build_proxy(config)
    chosen = config.server.port if port is None else port
    server(app, host or config.server.host, chosen).run()
