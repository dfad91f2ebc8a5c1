"""Serves an ASGI app on a free port of this machine, in a thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn

__all__ = ["running"]

_START_S: Final = 20.0


@contextmanager
def running(app: Any, path: str = "/v1") -> Iterator[str]:
    """The base_url while the app is served. Raises ``RuntimeError`` when it does not start."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        until = time.monotonic() + _START_S
        while not server.started:
            if time.monotonic() > until or not thread.is_alive():
                raise RuntimeError("the simulator did not start")
            time.sleep(0.01)  # noqa: TID251 - a thread's start cannot be awaited
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}{path}"
        finally:
            server.should_exit = True
            thread.join(_START_S)
