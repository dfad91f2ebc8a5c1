"""LiteLLM's proxy as a process, for what stands inside it or beside it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import Process, free_port, start_process

KEY = "sk-" + "litellm-master-0123456789"
# No network: LiteLLM would otherwise fetch its price list while it is imported.
ENVIRONMENT = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}


@cache
def _missing() -> str | None:
    command = [sys.executable, "-W", "ignore", "-c", "import litellm.proxy.proxy_server"]
    tried = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    return tried.stderr.strip().splitlines()[-1] if tried.returncode else None


def skip_without_litellm_proxy() -> None:
    """Skip the test where LiteLLM's proxy cannot be imported."""
    if reason := _missing():
        pytest.skip(f"LiteLLM's proxy cannot be imported: {reason}")


@contextmanager
def litellm_proxy(folder: Path, config: dict[str, Any]) -> Iterator[Process]:
    """One with this configuration, and ``KEY`` as its master key; its files are in ``folder``."""
    folder.mkdir()
    port = free_port()
    file = folder / "litellm.yaml"
    file.write_text(yaml.safe_dump({**config, "general_settings": {"master_key": KEY}}))
    serve = [sys.executable, "-W", "ignore", "-m", "litellm.proxy.proxy_cli", "--config", str(file)]
    serve += ["--host", "127.0.0.1", "--port", str(port)]
    process = start_process(serve, folder / "litellm.log", port, env=ENVIRONMENT)
    try:
        yield process
    finally:
        process.popen.terminate()
        process.popen.wait(20)
