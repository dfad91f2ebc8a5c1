"""The load generator: a closed loop of keep-alive connections on raw asyncio.Protocol.

Each connection sends its next request when the answer to the last one is complete; after the deadline
it stops. Loops are bounded by that deadline, and the whole run by ``LIMIT_S``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean
from typing import Final

import httptools

from benchmarks.mock import CHUNKS, MARK

LIMIT_S: Final = 60.0
_COUNTER: Final = "%%%%%%%%"
_HISTORY: Final = (
    (
        "system",
        "You are the assistant of a web shop. Answer in plain words, in at most two paragraphs. " * 4,
    ),
    ("user", "Which of your running shoes would you take for a first marathon in the autumn rain? " * 3),
    (
        "assistant",
        "For wet autumn roads take the trainer with the deep tread; it has grip and drains well. " * 4,
    ),
    ("user", f"And how do I wash them without ruining the foam? My order number is {_COUNTER}."),
)


class BenchmarkError(Exception):
    """A run did not do what it was meant to do, so that its figures would mean nothing."""


@dataclass(frozen=True, slots=True)
class Workload:
    """What is sent: ``unique`` bodies differ in a counter; delays are the mock's, in milliseconds.

    With ``spread`` the connections' pauses differ by 1 ms each, in that many steps: what depends on where
    in a judge call a stream ends is averaged.
    """

    path: str = "/v1/chat/completions"
    stream: bool = False
    unique: bool = False
    delay_ms: int = 0
    pause_ms: int = 0
    spread: int = 1

    def template(self, connection: int = 0) -> tuple[bytes, bytes]:
        """The request before and after the counter."""
        pause_ms = self.pause_ms + connection % self.spread
        messages = ",".join(f'{{"role":"{role}","content":"{text}"}}' for role, text in _HISTORY)
        stream = "true" if self.stream else "false"
        body = (
            f'{{"model":"chat-{self.delay_ms}-{pause_ms}","temperature":0.7,"stream":{stream},'
            f'"messages":[{messages}]}}'
        )
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            "Authorization: Bearer sk-test-1234\r\nAccept: */*\r\nUser-Agent: load/1\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        before, after = (head + body).encode().split(_COUNTER.encode())
        return before, after


@dataclass(slots=True)
class Sample:
    """One run. Times are means over its requests, in milliseconds.

    ``busy`` and ``others`` are the shares of the server's core that the server and other processes took.
    """

    requests: int
    rps: float
    cpu_ms: float
    busy: float
    others: float
    total_ms: float
    first_ms: float


@dataclass(slots=True)
class Run:
    """What the connections of one run share."""

    marks: int
    unique: bool
    deadline: float = 0.0
    sent: int = 0
    open: int = 0
    totals: list[float] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def fail(self, message: str) -> None:
        if not self.done.done():
            self.done.set_exception(BenchmarkError(message))


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, run: Run, template: tuple[bytes, bytes]) -> None:
        self.run = run
        self.before, self.after = template
        self.finished = False

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.parser = httptools.HttpResponseParser(self)

    def fire(self) -> None:
        run = self.run
        counter = run.sent if run.unique else 0
        run.sent += 1
        self.marks = 0
        self.first = 0.0
        self.started = time.perf_counter()
        self.transport.write(b"%s%08d%s" % (self.before, counter, self.after))

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        marks = data.count(MARK)
        if marks:
            self.first = self.first or time.perf_counter()
            self.marks += marks

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        run = self.run
        status = self.parser.get_status_code()
        if status != 200 or self.marks != run.marks:
            run.fail(f"status {status} with {self.marks} of {run.marks} chunks")
            return
        run.totals.append(now - self.started)
        run.firsts.append((self.first or now) - self.started)
        if now < run.deadline:
            self.fire()
            return
        run.open -= 1
        self.finished = True
        self.transport.close()
        if not run.open and not run.done.done():
            run.done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None or not self.finished:
            self.run.fail(f"the server hung up: {exc}")


_sent_before = 0


async def run_load(
    port: int, workload: Workload, at_once: int, seconds: float, cpu_s: Callable[[], tuple[float, float]]
) -> Sample:
    """Keep ``at_once`` requests running for ``seconds``.

    ``cpu_s`` reads the CPU time of the server and of its whole core, before the first request and after
    the last answer.
    """
    global _sent_before  # bodies stay unique over all runs of this process
    run = Run(CHUNKS if workload.stream else 0, workload.unique, sent=_sent_before, open=at_once)
    loop = asyncio.get_running_loop()
    clients = [Client(run, workload.template(index)) for index in range(at_once)]
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)
    await asyncio.sleep(0.02)  # the server has accepted them all
    before, started = cpu_s(), time.perf_counter()
    run.deadline = started + seconds
    for index, client in enumerate(clients):  # paced streams shall not tick together
        loop.call_later(workload.pause_ms / 1e3 * index / at_once, client.fire)
    await asyncio.wait_for(run.done, seconds + LIMIT_S)
    elapsed, after = time.perf_counter() - started, cpu_s()
    _sent_before = run.sent
    own, core = after[0] - before[0], after[1] - before[1]
    count = len(run.totals)
    return Sample(
        requests=count,
        rps=count / elapsed,
        cpu_ms=own * 1e3 / count,
        busy=own / elapsed,
        others=max(0.0, core - own) / elapsed,
        total_ms=fmean(run.totals) * 1e3,
        first_ms=fmean(run.firsts) * 1e3,
    )
