"""Public test doubles: a classifier that follows a script, a sink that remembers, an ASGI driver."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import anyio

from guardrail.core.conversation import Subject
from guardrail.core.policy import Policy
from guardrail.core.record import DecisionRecord
from guardrail.core.verdict import Verdict
from guardrail.errors import ClassifierError
from guardrail.frontends.asgi import ASGIApp, Message

__all__ = ["MemorySink", "ScriptedClassifier", "drive_asgi"]

Answer = str | ClassifierError | Verdict
"""A label of the policy, an exception to raise, or a whole verdict."""


@dataclass
class ScriptedClassifier:
    """Answers by rules, first match wins: ``(substring of the judged text, answer)``.

    Without a match the policy's safe label is given. ``delay_s`` is the time a check takes, in
    seconds. ``asked`` remembers every call.
    """

    rules: Iterable[tuple[str, Answer]] = ()
    delay_s: float | Callable[[Subject], float] = 0.0
    asked: list[tuple[Policy, Subject]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rules = tuple(self.rules)  # a generator would serve the first call only

    def identity(self, policy: Policy) -> str:
        """A constant: the script does not change."""
        return "scripted"

    async def classify(self, policy: Policy, subject: Subject) -> Verdict:
        """The scripted answer. Raises ``ClassifierError`` where the script says so."""
        self.asked.append((policy, subject))
        delay = self.delay_s(subject) if callable(self.delay_s) else self.delay_s
        if delay:
            await anyio.sleep(delay)
        text = subject.text
        answer = next((answer for part, answer in self.rules if part in text), policy.safe_label)
        if isinstance(answer, ClassifierError):
            raise answer
        if isinstance(answer, Verdict):
            return answer
        return Verdict(policy, answer, policy.labels[answer].violation, judge="scripted")


@dataclass
class MemorySink:
    """An ``AuditSink`` that keeps its records in a list."""

    records: list[DecisionRecord] = field(default_factory=list)

    def record(self, record: DecisionRecord) -> None:
        """Keep one record."""
        self.records.append(record)


async def drive_asgi(
    app: ASGIApp,
    path: str = "/v1/chat/completions",
    body: bytes | list[bytes] = b"",
    *,
    method: str = "POST",
    headers: Iterable[tuple[bytes, bytes]] = ((b"content-type", b"application/json"),),
    hang_up_after: int | None = None,
) -> list[Message]:
    """Send one request to an ASGI app and return the messages it sent, in order.

    ``body`` may come in several pieces. With ``hang_up_after`` the client disconnects once it has got
    that many messages (0: right after its body).
    """
    pieces = [body] if isinstance(body, bytes) else list(body) or [b""]
    sent: list[Message] = []
    gone = anyio.Event()
    if hang_up_after == 0:
        gone.set()

    async def receive() -> Message:
        if pieces:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)
        if hang_up_after is not None and len(sent) >= hang_up_after:
            gone.set()

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [*headers],
        "server": ("testserver", 80),
        "client": ("testclient", 1),
    }
    await app(scope, receive, send)
    return sent
