"""The judge's server dies, hangs and comes back while requests go on. Nothing unjudged passes."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.fakes import FakeUpstream
from tests.real_server.conftest import StartServer
from tests.real_server.processes import guardrail_serve
from tests.real_server.script import TRIGGER

CALM = "All calm."
WORKERS = 4
ENOUGH = 8  # answers in each phase
PATIENCE_S = 60.0  # no request and no phase comes near it


@dataclass(frozen=True)
class Answer:
    """What one request came to, and the phases in which it began and ended."""

    began: str
    ended: str
    hot: bool
    status: int
    decision: str
    degraded: str | None


@dataclass
class Traffic:
    """Requests without end, half of them with the trigger, never twice the same text."""

    client: httpx.Client
    phase: str = "before"
    answers: list[Answer] = field(default_factory=list)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _over: threading.Event = field(default_factory=threading.Event)

    def go_on(self) -> None:
        """One worker: ask until told to stop. An answer that does not come raises."""
        while not self._over.is_set():
            number, began = next(self._numbers), self.phase
            hot = number % 2 == 1
            response = chat(self.client, f"Question {number}{' on a ' + TRIGGER if hot else ''}?")
            decision = response.headers["x-guardrail-decision"]
            degraded = response.headers.get("x-guardrail-degraded")
            self.answers.append(Answer(began, self.phase, hot, response.status_code, decision, degraded))

    def wait(self, done: Callable[[list[Answer]], bool]) -> None:
        """Until the answers so far satisfy ``done``."""
        deadline = time.monotonic() + PATIENCE_S
        while not done(list(self.answers)):
            assert time.monotonic() < deadline, Counter(self.answers)
            time.sleep(0.01)

    def enough_of(self, phase: str) -> None:
        """Until enough requests began and ended in ``phase``."""
        self.phase = phase
        self.wait(lambda answers: len([a for a in answers if a.began == a.ended == phase]) >= ENOUGH)

    def stop(self) -> None:
        """No further request begins."""
        self._over.set()


def chat(client: httpx.Client, text: str) -> httpx.Response:
    body = {"model": "m", "messages": [{"role": "user", "content": text}]}
    return client.post("/v1/chat/completions", json=body)


def test_the_server_is_killed_and_comes_back(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    with (
        FakeUpstream(CALM) as upstream,
        guardrail_serve(tmp_path, server.url, upstream.url) as proxy,
        httpx.Client(base_url=proxy, timeout=PATIENCE_S) as client,
        ThreadPoolExecutor(WORKERS) as pool,
    ):
        traffic = Traffic(client)
        workers = [pool.submit(traffic.go_on) for _ in range(WORKERS)]
        ready = []
        try:
            traffic.enough_of("up")
            ready.append(client.get("/readyz").status_code)
            traffic.phase = "dying"
            server.kill()
            traffic.enough_of("down")
            ready.append(client.get("/readyz").status_code)
            traffic.phase = "starting"
            server.start()
            # The breaker rests before it lets a call through again.
            traffic.wait(lambda answers: any(a.began == "starting" and not a.degraded for a in answers))
            traffic.enough_of("up again")
            ready.append(client.get("/readyz").status_code)
        finally:
            traffic.stop()
        for worker in workers:
            worker.result()
    seen = {(a.hot, a.status, a.decision, a.degraded) for a in traffic.answers}
    judged = {(False, 200, "pass", None), (True, 200, "block", None)}
    unjudged = {(hot, 503, "block", "arms=unavailable") for hot in (True, False)}
    assert seen <= judged | unjudged, "no answer of a third kind, whenever it began"
    for phase, expected in (("up", judged), ("down", unjudged), ("up again", judged)):
        whole = [a for a in traffic.answers if a.began == a.ended == phase]
        assert {(a.hot, a.status, a.decision, a.degraded) for a in whole} == expected
    assert ready == [200, 503, 200]
    assert not [request for request in upstream.seen if TRIGGER in request.body.decode()]


def test_the_server_hangs_and_goes_on(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    judge = {"preset": "generic", "base_url": server.url, "model": "tiny-gpt-oss", "timeout_s": 2}
    with (
        FakeUpstream(CALM) as upstream,
        guardrail_serve(tmp_path, server.url, upstream.url, classifier=judge) as proxy,
        httpx.Client(base_url=proxy, timeout=PATIENCE_S) as client,
    ):
        assert chat(client, "Old news?").status_code == 200
        os.kill(server.pid, signal.SIGSTOP)
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(chat, [client] * 2, ["Any news?", f"Any {TRIGGER}?"]))
        seen = [(answer.status_code, answer.headers["x-guardrail-degraded"]) for answer in answers]
        assert seen == [(503, "arms=timeout")] * 2
        os.kill(server.pid, signal.SIGCONT)
        decisions = [judged(client, text) for text in ("News?", TRIGGER)]
        assert decisions == ["pass", "block"]
        assert len(upstream.seen) == 2


def judged(client: httpx.Client, text: str) -> str:
    """What is decided once the judge has worked off what piled up."""
    deadline = time.monotonic() + PATIENCE_S
    while (answer := chat(client, text)).status_code == 503:
        assert time.monotonic() < deadline
    return answer.headers["x-guardrail-decision"]
