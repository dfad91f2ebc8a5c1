"""The processes the tests start: llama.cpp's server with the tiny model, and ``guardrail serve``."""

from __future__ import annotations

import contextlib
import json
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = ["POLICIES", "JudgeServer", "guardrail_serve"]

POLICIES: Final = Path(__file__).parent / "policies"
START_S: Final = 60.0  # far more than a start takes on the slowest machine; only a hang reaches it


class JudgeServer:
    """llama.cpp's HTTP server as a process of its own; it can be killed and started again."""

    def __init__(self, model: Path, log: Path, *, context: int = 16_384) -> None:
        self._model = model
        self._log = log
        self._context = context
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.boot_s = 0.0

    @property
    def root(self) -> str:
        """Where the server's own paths begin, such as ``/tokenize``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """What ``classifier.base_url`` is set to."""
        return f"{self.root}/v1"

    @property
    def pid(self) -> int:
        """The process; another one after a restart."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start on a free port, or on the port it had before."""
        started = time.perf_counter()
        command = [sys.executable, str(Path(__file__).with_name("serve.py")), str(self._model)]
        command += ["--port", str(self.port), "--context", str(self._context)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], START_S)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self.kill()
            raise AssertionError(f"the real server did not start:\n{self._log.read_text()[-4000:]}")
        self.port = int(json.loads(line)["url"].rpartition(":")[2])
        self.boot_s = time.perf_counter() - started

    def wait_for_death(self, timeout_s: float) -> int | None:
        """The exit code if the process ends by itself in time (negative: the signal), else None."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def kill(self) -> None:
        """End it as a crash or the kernel's OOM killer would, in the midst of whatever it does."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process = None


@contextlib.contextmanager
def guardrail_serve(folder: Path, judge_url: str, upstream_url: str, **settings: Any) -> Iterator[str]:
    """A real ``guardrail serve`` on a free port; yields its root URL. ``settings`` are config keys."""
    config: Mapping[str, Any] = {
        "version": 1,
        "server": {"port": 0},
        "upstream": {"base_url": upstream_url},
        "classifier": {
            "preset": "generic",
            "base_url": judge_url,
            "model": "tiny-gpt-oss",
            "timeout_s": 20,
        },
        "policies": {"directory": str(POLICIES), "input": ["arms"], "output": ["arms"]},
        "audit": {"sinks": [{"kind": "jsonl", "path": str(folder / "audit.jsonl"), "content": "none"}]},
    } | settings
    file, log = folder / "guardrail.yaml", folder / "guardrail.log"
    file.write_text(yaml.safe_dump(config))
    program = "from guardrail.cli import main; main()"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", program, "serve", "-c", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield _address(process, log)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"guardrail serve did not stop:\n{log.read_text()[-4000:]}") from None


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """What uvicorn says about where it listens."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"running on (http://[\d.]+:\d+)", log.read_text()):
            return found[1]
        time.sleep(0.01)
    raise AssertionError(f"guardrail serve did not start:\n{log.read_text()[-4000:]}")
