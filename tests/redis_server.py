"""A real redis-server for tests: Debian's package, on a free port, its files in a temporary folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

START_S = 30.0  # far more than a start takes; only a hang reaches it


class RedisServer:
    """One server process. It can be frozen, killed and started again on its port."""

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.admin = Redis(port=self.port)

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += [
            "--dir",
            str(self._folder),
            "--logfile",
            str(self._folder / "redis.log"),
            *self._options,
        ]
        self._process = subprocess.Popen(command)
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.admin.ping()
            except RedisError:
                if time.monotonic() > deadline:
                    log = (self._folder / "redis.log").read_text()[-2000:]
                    raise AssertionError(f"redis-server did not start:\n{log}") from None
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """End it as a crash would. Nothing was written to disk, so it comes back empty."""
        self.admin.connection_pool.disconnect()
        if self._process is not None:
            self._process.kill()  # ends a frozen process as well
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """It stays connected and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def calls(self, command: str) -> int:
        """How often a command was called since the start or the last CONFIG RESETSTAT."""
        stats = self.admin.info("commandstats")
        return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))

    def keys(self) -> list[str]:
        return sorted(key.decode() for key in self.admin.scan_iter())


@pytest.fixture(scope="module")
def redis_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    if shutil.which("redis-server") is None:
        reason = "redis-server is not installed (apt-get install redis-server)"
        if os.environ.get("GUARDRAIL_REDIS") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis(redis_process: RedisServer) -> RedisServer:
    """The module's server, empty and with its defaults, whatever the test before did to it."""
    server = redis_process
    if server._process is None:
        server.start()
    server.thaw()
    server.admin.config_set("requirepass", "")
    server.admin.config_set("maxmemory", 0)
    server.admin.flushall()
    server.admin.config_resetstat()
    return server
