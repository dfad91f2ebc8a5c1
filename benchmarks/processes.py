"""Server processes: started on their own core, their CPU time and memory read from /proc."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
START_LIMIT_S: Final = 20.0
_TICK: Final = os.sysconf("SC_CLK_TCK")


_MINE: Final = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
SERVER_CORE: Final = set(_MINE[:1])
LOAD_CORE: Final = set(_MINE[1:2] or _MINE)


def pin(chosen: set[int]) -> None:
    """Keep this process, and those it starts from now on, on these cores."""
    if chosen:
        os.sched_setaffinity(0, chosen)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@dataclass(frozen=True, slots=True)
class Server:
    """One running process and its port."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def cpu_s(self) -> tuple[float, float]:
        """CPU time so far, user and system: of this process with all threads, and of its whole core."""
        own = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        core = next((f"cpu{number} " for number in SERVER_CORE), "cpu ")
        line = next(x for x in Path("/proc/stat").read_text().splitlines() if x.startswith(core))
        user, nice, system, _idle, _wait, irq, soft = map(int, line.split()[1:8])
        return (int(own[11]) + int(own[12])) / _TICK, (user + nice + system + irq + soft) / _TICK

    def rss_mb(self) -> float:
        """Resident memory now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(command: Sequence[str], port: int, log: Path) -> Server:
    """Start a process. Bytecode is cached: without that, start-up measures the compiler."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPATH"] = str(ROOT)
    with log.open("ab") as out:
        return Server(subprocess.Popen(command, env=env, stdout=out, stderr=out), port, log)


def wait_for(server: Server) -> None:
    """Until the port accepts a connection."""
    until = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until:
        if server.process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
        except OSError:
            time.sleep(0.002)
        else:
            return
    raise RuntimeError(f"{server.process.args} did not start:\n{server.log.read_text()[-2000:]}")


@contextmanager
def running(command: Sequence[str], port: int, log: Path, on: set[int]) -> Iterator[Server]:
    """A process on these cores until the block ends; this process stays on the load's."""
    pin(on)
    try:
        server = start(command, port, log)
    finally:
        pin(LOAD_CORE)
    try:
        wait_for(server)
        yield server
    finally:
        server.stop()


def guardrail_serve(config: Path, port: int) -> list[str]:
    """The command line of the proxy."""
    program = Path(sys.executable).with_name("guardrail")
    return [str(program), "serve", "-c", str(config), "--port", str(port)]
