"""The Node clients in one process of ``node/play.mjs``: OpenAI's and Anthropic's SDKs, the AI SDK."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.e2e.conftest import CALLER_KEY
from tests.matrix.cells import Play
from tests.matrix.python_clients import Exchange, Seen

HERE = Path(__file__).parent / "node"
CLIENTS = frozenset({"openai-node", "anthropic-node", "ai-sdk"})


def missing() -> str | None:
    """Why the Node clients cannot be used here. With GUARDRAIL_NODE=required that is an error."""
    reason = None
    if shutil.which("node") is None:
        reason = "node is not installed"
    elif not (HERE / "node_modules").is_dir():
        reason = "the packages of the Node clients are not installed: make node"
    if reason and os.environ.get("GUARDRAIL_NODE") == "required":
        raise RuntimeError(reason)
    return reason


@contextmanager
def playing(
    roots: Mapping[str, str], plays: Mapping[Play, tuple[str, dict[str, Any]]]
) -> Iterator[Callable[[], dict[Play, Seen]]]:
    """Node plays these meanwhile; calling what is given waits for it."""
    if not plays:
        yield dict
        return
    asked = {"roots": roots, "key": CALLER_KEY, "plays": [_asked(play, *plays[play]) for play in plays]}
    with tempfile.TemporaryFile("w+") as given, tempfile.TemporaryFile("w+") as told:
        json.dump(asked, given)
        given.seek(0)
        own = {"cwd": HERE, "stdin": given, "stdout": told, "env": {"PATH": os.environ["PATH"]}}
        process = subprocess.Popen(["node", "play.mjs"], **own)  # type: ignore[call-overload]

        def finish() -> dict[Play, Seen]:
            assert process.wait(120) == 0, "node/play.mjs failed"
            told.seek(0)
            found = {one["key"]: one for one in map(json.loads, told)}
            return {play: _seen(found[play.key]) for play in plays}

        with process:
            try:
                yield finish
            finally:
                process.kill()


def _asked(play: Play, proxy: str, request: dict[str, Any]) -> dict[str, Any]:
    cell = play.cell
    told = {"key": play.key, "client": play.client, "dialect": cell.dialect, "streaming": cell.streaming}
    return {**told, "proxy": proxy, "request": request}


def _seen(told: dict[str, Any]) -> Seen:
    exchanges = [
        Exchange(base64.b64decode(sent), headers, bytearray(base64.b64decode(got)))
        for sent, headers, got in told["exchanges"]
    ]
    return Seen(told["objects"], told["status"], told["error"], exchanges)
