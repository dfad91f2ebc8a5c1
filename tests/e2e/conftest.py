"""A real ``guardrail serve`` process between real clients and real fakes, all on loopback.

The judge answers by trigger words (``WORDS``), read only in the text that it is asked to classify, so a
word in a prompt acts at the input stage and a word in an answer at the output stage. Servers are
started once per module and configuration; when the module ends each is stopped, and its log must hold
no traceback.
"""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml

from guardrail.simulator.judge import classified
from tests.fakes import FakeJudge, FakeUpstream, Say, Seen, completion, verdict

ROOT = Path(__file__).parents[2]
CHAT = "/v1/chat/completions"
CALM = "The weather is fine today."
REFUSAL = "I can't help with that."
MARK = "[REDACTED:RED]"
SERVER_KEY = "sk-" + "upstream-0123456789abcdef"
JUDGE_KEY = "sk-" + "judge-0123456789abcdef"
CALLER_KEY = "sk-" + "caller-0123456789abcdef"

POLICY = """\
---
id: {id}
title: {id}
version: 1.0.0
stages: [input, output]
labels:
  OK: {{violation: false}}
  FLG: {{violation: true, action: flag}}
  RED: {{violation: true, action: redact}}
  BLK: {{violation: true, action: block}}
answer: json
reasoning_effort: low
mode: {mode}
---
# {id}
Answer with one JSON object: {{"violation": 0 or 1, "label": "OK|FLG|RED|BLK", "excerpts": ["..."]}}
"""


def ruling(violation: int, label: str | None, **extra: Any) -> bytes:
    """A verdict without token counts: the fakes' constant one makes a long prompt look cut off."""
    body = json.loads(verdict(violation, label, **extra))
    del body["usage"]
    return json.dumps(body).encode()


WORDS: dict[str, Say] = {
    "blockword": Say(ruling(1, "BLK")),
    "redactword": Say(ruling(1, "RED", excerpts=["redactword"])),
    "flagword": Say(ruling(1, "FLG")),
    "outageword": Say(b'{"error": {"message": "down", "code": 503}}', status=503),
    "garbageword": Say(completion("It looks fine to me.")),
    "hangword": Say(ruling(0, None), delay_s=60),
    # A verdict that comes late: by then the rest of a stream has arrived.
    "lateword": Say(ruling(0, None), delay_s=0.2),
}


class WordJudge(FakeJudge):
    """Answers by the first trigger word in the classified text; without one, no violation."""

    def __init__(self) -> None:
        super().__init__()
        self.words = dict(WORDS)

    def _judge(self, seen: Seen) -> Say:
        if seen.method == "GET":
            return super()._judge(seen)
        text = classified(seen.json["messages"][-1]["content"])
        return next((say for word, say in self.words.items() if word in text), Say(ruling(0, None)))

    @property
    def judged(self) -> list[str]:
        """The classified texts so far."""
        return [classified(s.json["messages"][-1]["content"]) for s in self.seen if s.method == "POST"]


def until(condition: Callable[[], Any], what: str, bound_s: float = 15.0) -> Any:
    """Poll until the condition holds and return its value; fail after ``bound_s`` seconds."""
    end = time.monotonic() + bound_s
    while not (value := condition()):
        assert time.monotonic() < end, f"did not come true: {what}"
        time.sleep(0.01)
    return value


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def console_script() -> str:
    return str(Path(sysconfig.get_path("scripts")) / "guardrail")


@dataclass
class Process:
    """A server process, its log, and its end."""

    popen: subprocess.Popen[bytes]
    log_file: Path
    port: int

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def stop(self) -> None:
        """End it the way a service manager does; the log must tell of a clean end."""
        self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(20)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait(10)
            pytest.fail(f"the server did not end on SIGTERM:\n{self.log}")
        assert "Traceback" not in self.log, self.log
        assert "ASGI callable" not in self.log, self.log
        assert "never retrieved" not in self.log, self.log
        assert "Unclosed" not in self.log, self.log


def start_process(command: list[str], log_file: Path, port: int, **popen: Any) -> Process:
    """Start a server and wait until its port takes connections."""
    with log_file.open("wb") as log:
        process = Process(
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **popen),
            log_file,
            port,
        )

    def listening() -> bool:
        assert process.popen.poll() is None, f"the server ended at once:\n{process.log}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(listening, "the server listens", 60)
    except BaseException:
        process.popen.kill()
        process.popen.wait(10)
        raise
    return process


@dataclass
class Proxy:
    """One running proxy with its audit file, and the clients that speak to it."""

    process: Process
    folder: Path
    judge: WordJudge
    upstream: FakeUpstream
    clients: list[Any] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.process.port

    @property
    def root(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    @property
    def http(self) -> httpx.Client:
        """A raw client; closed with the proxy."""
        if not self.clients:
            self.clients.append(httpx.Client(base_url=self.root, timeout=30))
        return self.clients[0]

    def openai(self, **options: Any) -> openai.OpenAI:
        """The real SDK; to be closed by the caller."""
        return openai.OpenAI(base_url=self.url, api_key=CALLER_KEY, **options)

    def async_openai(self, **options: Any) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=self.url, api_key=CALLER_KEY, **options)

    def post(self, body: Any, **options: Any) -> httpx.Response:
        """POST to the chat route: a value as JSON, or bytes as they are."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"content-type": "application/json", **options.pop("headers", {})}
        return self.http.post(CHAT, content=raw, headers=headers, **options)

    def records(self, decision_id: str | None = None) -> list[dict[str, Any]]:
        """The audit records that stand in the file now."""
        text = (self.folder / "audit.jsonl").read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in lines if decision_id in (None, line["id"])]

    def recorded(self, decision_id: str, *stages: str) -> list[dict[str, Any]]:
        """The records of one request, once there are as many as ``stages``; they must be these stages."""
        until(lambda: len(self.records(decision_id)) >= len(stages), f"{stages} recorded for {decision_id}")
        records = self.records(decision_id)
        assert [record["stage"] for record in records] == list(stages)
        return records

    def stop(self) -> None:
        for client in self.clients:
            client.close()
        self.process.stop()


def write_policies(folder: Path, modes: dict[str, str]) -> None:
    for policy_id, mode in modes.items():
        (folder / policy_id).mkdir(parents=True)
        text = POLICY.format(id=policy_id, mode=mode)
        (folder / policy_id / "policy.md").write_text(text, encoding="utf-8")
    (folder / "stern").mkdir()  # one that redacts nothing
    text = POLICY.format(id="stern", mode="enforce").replace(
        "  RED: {violation: true, action: redact}\n", ""
    )
    (folder / "stern" / "policy.md").write_text(text, encoding="utf-8")


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    out = dict(base)
    for key, value in changes.items():
        known = out.get(key)
        out[key] = merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return out


class Proxies:
    """Starts proxies, one per configuration, all on the module's judge and upstream."""

    def __init__(self, folder: Path, judge: WordJudge, upstream: FakeUpstream) -> None:
        self.folder = folder
        self.judge = judge
        self.upstream = upstream
        self._running: dict[str, Proxy] = {}

    def __call__(self, **changes: Any) -> Proxy:
        """The proxy with these changes to the configuration; started on first use."""
        key = json.dumps(changes, sort_keys=True)
        if key not in self._running:
            folder = self.folder / f"proxy{len(self._running)}"
            self._running[key] = start_proxy(folder, self.judge, self.upstream, changes)
        return self._running[key]

    def stop(self) -> None:
        failures = []
        for proxy in self._running.values():
            try:
                proxy.stop()
            except BaseException as failure:
                failures.append(failure)
        if failures:
            raise failures[0]


def start_proxy(
    folder: Path,
    judge: WordJudge,
    upstream: FakeUpstream,
    changes: dict[str, Any],
    modes: dict[str, str] | None = None,
) -> Proxy:
    """Write a configuration and policies into ``folder`` and serve them; to be stopped by the caller."""
    folder.mkdir(parents=True)
    write_policies(folder / "policies", {"house": "enforce", "extra": "enforce", **(modes or {})})
    port = free_port()
    config = {
        "version": 1,
        "server": {"port": port},
        "upstream": {"base_url": upstream.url},
        "classifier": {
            "base_url": judge.url,
            "model": "fake-judge",
            "api_key": JUDGE_KEY,
            "timeout_s": 5,
            "warm_up": False,
            "breaker": {"failures": 10_000},  # the tests share a proxy
        },
        "policies": {"directory": "policies", "input": ["house"], "output": ["house"]},
        "streaming": {"window_chars": 50, "overlap_chars": 30},
        "cache": {"max_entries": 0},  # so that each test sees its own calls
        "history": {"max_entries": 0},
        "audit": {"sinks": [{"kind": "jsonl", "path": "audit.jsonl", "content": "fingerprint"}]},
    }
    file = folder / "guardrail.yaml"
    file.write_text(yaml.safe_dump(merged(config, changes)), encoding="utf-8")
    command = [console_script(), "serve", "-c", str(file)]
    return Proxy(start_process(command, folder / "server.log", port), folder, judge, upstream)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the examples beside the starter policies, so that audit files land outside the checkout."""
    root = tmp_path_factory.mktemp("examples")
    shutil.copytree(ROOT / "examples", root / "examples")
    (root / "policies").symlink_to(ROOT / "policies")
    return root / "examples"


@pytest.fixture(scope="module")
def judge() -> Iterator[WordJudge]:
    with WordJudge() as server:
        yield server


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream() as server:
        yield server


@pytest.fixture(scope="module")
def proxies(
    tmp_path_factory: pytest.TempPathFactory, judge: WordJudge, upstream: FakeUpstream
) -> Iterator[Proxies]:
    folder = tmp_path_factory.mktemp("e2e")
    started = Proxies(folder, judge, upstream)
    yield started
    started.stop()


@pytest.fixture(scope="module")
def proxy(proxies: Proxies) -> Proxy:
    """The proxy in its plain configuration: fails closed, window 50, overlap 30, no cache."""
    return proxies()


@pytest.fixture(autouse=True)
def _fresh_fakes(request: pytest.FixtureRequest) -> None:
    """Each test begins with fakes that have seen and been told nothing."""
    for name in ("judge", "upstream"):
        if name in request.fixturenames:
            fake = request.getfixturevalue(name)
            fake.seen.clear()
            fake.script.clear()
            if isinstance(fake, FakeUpstream):
                fake.text = CALM
                fake.pause_s = 0.0


@pytest.fixture
def client(proxy: Proxy) -> Iterator[openai.OpenAI]:
    """The real SDK without retries, on the plain proxy."""
    with proxy.openai(max_retries=0) as sdk:
        yield sdk
