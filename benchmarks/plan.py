"""What is measured: the candidates, the series, and the rounds in which they take turns."""

from __future__ import annotations

import asyncio
import http.client
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import uvloop

from benchmarks.load import BenchmarkError, Sample, Workload, run_load
from benchmarks.processes import (
    LOAD_CORE,
    ROOT,
    SERVER_CORE,
    Server,
    free_port,
    guardrail_serve,
    pin,
    running,
)
from guardrail.backends.policy_files import load_policy

JUDGE_MS: Final = 300
UPSTREAM_MS: Final = 500
PAUSE_MS: Final = 20
OPEN_PATH: Final = "/v1/benchmark"
RELEASES: Final = ("whole", "window", "live")
_POLICY: Final = "illicit-harm"


@dataclass(frozen=True, slots=True)
class Pace:
    """How long and how often: seconds of one run, rounds of each series, starts of the program."""

    seconds: float
    rounds: int
    slow_rounds: int
    starts: int


FULL: Final = Pace(seconds=2.0, rounds=7, slow_rounds=4, starts=7)
QUICK: Final = Pace(seconds=0.4, rounds=2, slow_rounds=1, starts=3)


@dataclass(frozen=True, slots=True)
class Series:
    """Candidates that take turns under one workload each, at each of some concurrencies."""

    name: str
    work: dict[str, Workload]
    at_once: tuple[int, ...]
    judge_calls: dict[str, int | None]  # a request; None where the number follows the judge's speed
    paced: bool = False


_CHAT: Final = Workload(unique=True)
_BURST: Final = Workload(stream=True, unique=True)
_PACED: Final = Workload(stream=True, unique=True, pause_ms=PAUSE_MS)
_SPREAD: Final = Workload(stream=True, unique=True, pause_ms=PAUSE_MS - 3, spread=4)
MEAN_PAUSE_MS: Final = PAUSE_MS - 1.5
_WAITING: Final = Workload(unique=True, delay_ms=UPSTREAM_MS)

SERIES: Final = (
    Series(
        "unary",
        {"bare": _CHAT, "unguarded": Workload(OPEN_PATH), "cached": Workload(), "judged": _CHAT},
        (1, 16, 64),
        {"unguarded": 0, "cached": 0, "judged": 2},
    ),
    Series("burst", {"bare": _BURST, "instant": _BURST}, (16, 64), {}),
    Series("paced", {"bare": _PACED, "instant": _PACED}, (16, 64), {}, paced=True),
    Series(
        "slow unary",
        {"bare": _WAITING, "slow": _WAITING, "slow beside": _WAITING},
        (4,),
        {"slow": 2, "slow beside": 2},
        paced=True,
    ),
    Series(
        "slow stream",
        dict.fromkeys(("bare", "slow", *RELEASES), _SPREAD),
        (4,),
        {"slow": None, "whole": 1, "window": None, "live": None},
        paced=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """What a ``guardrail serve`` under measure is told: the cache in entries, the rest as configured."""

    judge_ms: int = 0
    cache: int = 0
    stages: tuple[str, ...] = ("input", "output")
    input_check: str = "before"
    release: str = "window"


PROXIES: Final = {
    "unguarded": Proxy(cache=10_000),
    "cached": Proxy(cache=10_000),
    "judged": Proxy(),
    "slow": Proxy(JUDGE_MS),
    "slow beside": Proxy(JUDGE_MS, input_check="beside"),
    **{release: Proxy(JUDGE_MS, stages=("output",), release=release) for release in RELEASES},
}


@dataclass(slots=True)
class Results:
    """Samples by series, candidate and concurrency, round by round; and the single figures."""

    samples: dict[str, dict[str, dict[int, list[Sample]]]] = field(default_factory=dict)
    judge_calls: dict[str, float] = field(default_factory=dict)  # a request of "<series>/<candidate>"
    rss_mb: float = 0.0
    start_s: float = 0.0


class Bench:
    """The running mock and servers."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        policy = ROOT / "policies" / _POLICY / "policy.md"
        self._stack = stack
        self._folder = folder
        mock = [sys.executable, "-m", "benchmarks.mock"]
        self._mock = self._run(
            "mock", [*mock, str(port := free_port()), load_policy(policy).safe_label], port
        )
        self._url = f"http://127.0.0.1:{self._mock.port}/v1"
        self.servers: dict[str, Server] = {}
        for kind in ("bare", "instant"):
            own = [sys.executable, "-m", "benchmarks.servers", kind, str(port := free_port())]
            self.servers[kind] = self._run(kind, [*own, self._url, str(policy)], port)
        for name, proxy in PROXIES.items():
            port = free_port()
            self.servers[name] = self._run(name, guardrail_serve(self.config(name, proxy), port), port)

    def _run(self, name: str, command: Sequence[str], port: int) -> Server:
        core = LOAD_CORE if name == "mock" else SERVER_CORE
        log = self._folder / f"{name}.log"
        return self._stack.enter_context(running(command, port, log, core))

    def config(self, name: str, proxy: Proxy) -> Path:
        """A ``guardrail.yaml`` (JSON is YAML) against the mock."""
        file = self._folder / f"{name}.yaml"
        value: dict[str, Any] = {
            "version": 1,
            "upstream": {"base_url": self._url},
            "classifier": {"base_url": self._url, "model": f"judge-{proxy.judge_ms}-0"},
            "policies": {
                "directory": str(ROOT / "policies"),
                **{stage: [_POLICY] for stage in proxy.stages},
            },
            "cache": {"max_entries": proxy.cache},
            "paths": {"allow": [OPEN_PATH]},
            "input_check": proxy.input_check,
            "streaming": {"release": proxy.release},
        }
        file.write_text(json.dumps(value))
        return file

    def served(self, kind: str) -> int:
        """How many answers of one kind the mock has given so far."""
        connection = http.client.HTTPConnection("127.0.0.1", self._mock.port, timeout=10)
        connection.request("GET", "/served")
        count: int = json.load(connection.getresponse())[kind]
        connection.close()
        return count

    def start_s(self, config: Path) -> float:
        """From the start of ``guardrail serve`` to its first guarded answer."""
        port = free_port()
        started = time.perf_counter()
        with running(guardrail_serve(config, port), port, self._folder / "start.log", SERVER_CORE):
            before, after = Workload().template()
            head, _, body = (before + b"00000000" + after).partition(b"\r\n\r\n")
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            kind = {"Content-Type": "application/json"}
            connection.request("POST", head.split()[1].decode(), body, kind)
            answer = connection.getresponse()
            answer.read()
            elapsed = time.perf_counter() - started
            connection.close()
        if answer.status != 200 or answer.getheader("x-guardrail-decision") != "pass":
            raise BenchmarkError(f"the first answer was {answer.status}, or was not guarded")
        return elapsed


async def measure(bench: Bench, pace: Pace, say) -> Results:
    """Every series; ``say`` is told what runs."""
    results = Results()
    await _warm_up(bench)
    for series in SERIES:
        found = results.samples[series.name] = {
            name: {n: [] for n in series.at_once} for name in series.work
        }
        asked = dict.fromkeys(series.judge_calls, 0)
        for turn in range(pace.slow_rounds if series.paced else pace.rounds):
            say(f"{series.name}: round {turn + 1}")
            order = list(series.work)[:: -1 if turn % 2 else 1]
            for at_once in series.at_once:
                for name in order:
                    before = bench.served("judge")
                    seconds = 0.0 if series.paced else pace.seconds
                    found[name][at_once].append(
                        await _run(bench, series.work[name], name, at_once, seconds)
                    )
                    if name in asked:
                        asked[name] += bench.served("judge") - before
        for name, calls in asked.items():
            requests = sum(sample.requests for runs in found[name].values() for sample in runs)
            each = results.judge_calls[f"{series.name}/{name}"] = calls / requests
            expected = series.judge_calls[name]
            if expected is not None and each != expected:
                raise BenchmarkError(f"{series.name}/{name}: {each} judge calls a request, not {expected}")
    results.rss_mb = max(server.rss_mb() for name, server in bench.servers.items() if name != "bare")
    say("start-up")
    config = bench.config("start", PROXIES["cached"])
    results.start_s = median([bench.start_s(config) for _ in range(pace.starts)])
    return results


async def _warm_up(bench: Bench) -> None:
    work = {name: workload for series in reversed(SERIES) for name, workload in series.work.items()}
    for name, workload in work.items():
        await _run(bench, workload, name, 4, 0.2)
        if not workload.pause_ms and not workload.delay_ms:
            await _run(bench, workload, name, 64, 0.2)


async def _run(bench: Bench, workload: Workload, name: str, at_once: int, seconds: float) -> Sample:
    server = bench.servers[name]
    try:
        return await run_load(server.port, workload, at_once, seconds, server.cpu_s)
    except (BenchmarkError, TimeoutError) as error:
        raise BenchmarkError(f"{name} at {at_once}: {error}\n{server.log.read_text()[-2000:]}") from None


def run(pace: Pace, folder: Path, say) -> Results:
    """Start everything, measure, stop everything."""
    pin(LOAD_CORE)
    with ExitStack() as stack, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(measure(Bench(stack, folder), pace, say))
